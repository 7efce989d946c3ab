//! Can a text be put together from parts, in any order, some of them exactly once and some at most once?
//!
//! That is what one get says of appends that ran at a time: they fix their order between them. The answer is found as an
//! exact cover is: what has the fewest ways to be covered comes first, be it the edge of a gap in the text or a part that
//! must stand somewhere. The question is NP-complete, so the search is bounded and may end without an answer.

use std::collections::{BTreeMap, BTreeSet};

/// Longer texts and larger sets of parts are not looked at.
const TEXT_BYTES_MAX: usize = 1 << 14;
const PARTS_MAX: usize = 256;

/// Parts by their text: how many must and how many may be used.
#[derive(Default)]
pub(super) struct Parts<'a> {
    kinds: BTreeMap<&'a [u8], PartsCount>,
}

#[derive(Clone, Copy, Default)]
struct PartsCount {
    must: u32,
    may: u32,
}

impl<'a> Parts<'a> {
    /// One more part. What is empty shows nowhere.
    pub(super) fn add(&mut self, part: &'a [u8], must: bool) {
        if !part.is_empty() {
            let count = self.kinds.entry(part).or_default();
            count.may += 1;
            count.must += u32::from(must);
        }
    }

    /// Every part may be left out.
    pub(super) fn let_go(&mut self) {
        self.kinds.values_mut().for_each(|count| count.must = 0);
    }

    /// Whether the text may be made of them, by what is seen at a glance: the parts in it, and their bytes.
    pub(super) fn may_make(&self, text: &[u8]) -> bool {
        let (mut must, mut may) = (0, 0);
        for (part, count) in &self.kinds {
            must += part.len() * count.must as usize;
            may += part.len() * count.may as usize;
        }
        if !(must..=may).contains(&text.len()) {
            return false;
        }
        let (mut must, mut may) = ([0; 256], [0; 256]);
        for (part, count) in &self.kinds {
            let is_in = part.len() <= text.len() && text.windows(part.len()).any(|window| window == *part);
            if !is_in && count.must > 0 {
                return false;
            }
            for &byte in part.iter().filter(|_| is_in) {
                must[usize::from(byte)] += count.must;
                may[usize::from(byte)] += count.may;
            }
        }
        let mut there = [0; 256];
        for &byte in text {
            there[usize::from(byte)] += 1;
        }
        (0..256).all(|byte| (must[byte]..=may[byte]).contains(&there[byte]))
    }

    /// Whether the text can be made of them; none if that was not found out within so many steps, which it takes.
    pub(super) fn make(&self, text: &[u8], steps: &mut u64) -> Option<bool> {
        if !self.may_make(text) {
            return Some(false);
        }
        let parts: u32 = self.kinds.values().map(|count| count.may).sum();
        if text.len() > TEXT_BYTES_MAX || parts as usize > PARTS_MAX {
            return None;
        }
        let kinds = self.kinds.iter().map(|(&part, &count)| {
            let starts = text.windows(part.len()).enumerate();
            let starts = starts.filter(|(_, window)| *window == part).map(|(start, _)| start).collect();
            EqualParts { length: part.len(), must: count.must, may: count.may, starts }
        });
        let mut cover = Cover { kinds: kinds.collect(), failed: BTreeSet::new(), steps };
        let gaps = if text.is_empty() { Vec::new() } else { vec![(0, text.len())] };
        cover.fill(&gaps)
    }
}

/// Equal parts: how many are left, and where in the text they can stand.
struct EqualParts {
    length: usize,
    must: u32,
    may: u32,
    starts: Vec<usize>,
}

/// From where to where nothing is covered yet.
type Gap = (usize, usize);

struct Cover<'a> {
    kinds: Vec<EqualParts>,
    /// What was tried in vain: the gaps, and how many of each kind were left.
    failed: BTreeSet<(Vec<Gap>, Vec<u32>)>,
    steps: &'a mut u64,
}

impl Cover<'_> {
    fn fill(&mut self, gaps: &[Gap]) -> Option<bool> {
        let Some(ways) = self.fewest_ways(gaps) else { return Some(true) };
        let state = (gaps.to_vec(), self.kinds.iter().map(|kind| kind.may).collect());
        if self.failed.contains(&state) {
            return Some(false);
        }
        for (kind, start) in ways {
            *self.steps = self.steps.checked_sub(1)?;
            let left = self.take(kind);
            let filled = self.fill(&without(gaps, (start, start + self.kinds[kind].length)));
            (self.kinds[kind].must, self.kinds[kind].may) = left;
            if filled != Some(false) {
                return filled;
            }
        }
        self.failed.insert(state);
        Some(false)
    }

    /// Uses a part. Answers how many there were to use.
    fn take(&mut self, kind: usize) -> (u32, u32) {
        let kind = &mut self.kinds[kind];
        let left = (kind.must, kind.may);
        (kind.must, kind.may) = (kind.must.saturating_sub(1), kind.may - 1);
        left
    }

    /// All ways to do what has to be done and has the fewest: which kind, and where it starts. None if all is done.
    fn fewest_ways(&self, gaps: &[Gap]) -> Option<Vec<(usize, usize)>> {
        let mut fewest: Option<Vec<_>> = None;
        let mut consider = |ways: &mut dyn Iterator<Item = (usize, usize)>| {
            let most = fewest.as_ref().map_or(usize::MAX, Vec::len);
            let ways: Vec<_> = ways.take(most).collect();
            if ways.len() < most {
                fewest = Some(ways);
            }
        };
        let fits = |kind: &EqualParts, start: usize| kind.may > 0 && kind.starts.binary_search(&start).is_ok();
        let kinds = || self.kinds.iter().enumerate();
        for &(from, to) in gaps {
            consider(&mut kinds().filter(|(_, it)| it.length <= to - from && fits(it, from)).map(|(at, _)| (at, from)));
            consider(&mut kinds().filter_map(|(at, it)| {
                let start = to.checked_sub(it.length).filter(|&start| start >= from && fits(it, start))?;
                Some((at, start))
            }));
        }
        for (at, kind) in kinds().filter(|(_, kind)| kind.must > 0) {
            let is_free = |start: &usize| gaps.iter().any(|&(from, to)| from <= *start && start + kind.length <= to);
            consider(&mut kind.starts.iter().copied().filter(is_free).map(|start| (at, start)));
        }
        fewest
    }
}

/// The gaps that are left when one is covered in part.
fn without(gaps: &[Gap], covered: Gap) -> Vec<Gap> {
    let parts = gaps.iter().flat_map(|&(from, to)| {
        if from <= covered.0 && covered.1 <= to { [(from, covered.0), (covered.1, to)] } else { [(from, to), (to, to)] }
    });
    parts.filter(|(from, to)| from < to).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, seq::SliceRandom};

    use super::*;
    use crate::draw::{Stream, stream};

    fn parts<'a>(must: &[&'a str], may: &[&'a str]) -> Parts<'a> {
        let mut parts = Parts::default();
        for part in must {
            parts.add(part.as_bytes(), true);
        }
        for part in may {
            parts.add(part.as_bytes(), false);
        }
        parts
    }

    /// Tries every order, from the start.
    fn by_force<'a>(text: &str, must: &mut Vec<&'a str>, may: &mut Vec<&'a str>) -> bool {
        if text.is_empty() && must.iter().all(|part| part.is_empty()) {
            return true;
        }
        for is_must in [true, false] {
            for at in 0..if is_must { must.len() } else { may.len() } {
                let from = if is_must { &mut *must } else { &mut *may };
                let part = from.remove(at);
                let fits = text.strip_prefix(part).filter(|_| !part.is_empty());
                let makes = fits.is_some_and(|rest| by_force(rest, must, may));
                if is_must {
                    must.insert(at, part);
                } else {
                    may.insert(at, part);
                }
                if makes {
                    return true;
                }
            }
        }
        false
    }

    fn drawn(draw: &mut Stream, most: usize) -> Vec<&'static str> {
        let pool = ["a", "b", "ab", "ba", "aa", "aab", "", "bb"];
        (0..draw.random_range(0..most)).map(|_| pool[draw.random_range(0..pool.len())]).collect()
    }

    #[test]
    fn texts_are_made_as_brute_force_makes_them() {
        let mut made = [0; 2];
        for seed in 0..3_000 {
            let draw = &mut stream(seed, "tiling");
            let (mut must, mut may) = (drawn(draw, 5), drawn(draw, 4));
            let mut all = [&must[..], &may[..may.len() / 2]].concat();
            all.shuffle(draw);
            let mut text = all.concat();
            if draw.random_bool(0.5) && !text.is_empty() {
                text.remove(draw.random_range(0..text.len()));
            }
            let expected = by_force(&text, &mut must, &mut may);
            let mut steps = 100_000;
            let found = parts(&must, &may).make(text.as_bytes(), &mut steps);
            assert_eq!(found, Some(expected), "seed {seed}: {text:?} of {must:?} and {may:?}");
            made[usize::from(expected)] += 1;
        }
        assert!(made.iter().all(|&count| count > 500), "{made:?}: the test has lost its point");
    }

    #[test]
    fn a_search_that_is_too_long_ends_without_an_answer() {
        let parts = parts(&["ab", "ba", "aab", "b"], &[]);
        assert_eq!(parts.make(b"abbaaabb", &mut 1), None);
        assert_eq!(parts.make(b"abbaaabb", &mut 100), Some(true));
    }
}
