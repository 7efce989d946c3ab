//! Can the operations on one register be put in an order that explains every read? The search of Wing and Gong, with
//! the memory of Lowe: a state that was left once without success is not entered again.
//!
//! An order must keep what is certain: an operation that returned before another was called stands before it. Definite
//! operations stand in it once. Optional writes stand in it at most once, anywhere after they became possible.
//!
//! Optional writes are tried only right before a read that needs their value. Nothing is missed by that: take any order
//! that explains all reads, and strike each optional write whose value no read sees before the next write. No read
//! changes. Between an optional write that is left and the first read that sees it stands nothing, since a write there
//! would hide it and a read there would be the first. Where the register already has the value, the optional write can
//! be struck as well. And of several optional writes of one value the one that became possible first is as good as
//! any: none of them ever ceases to be possible.

use std::collections::{BTreeMap, BTreeSet};

use seedbed_linearize::placed::Placed;

use super::{
    operation::Seen,
    sources,
    span::{RegisterAct, RegisterHistory, RegisterSpan, SearchOutcome},
};

/// How far a search has come.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RegisterSearchState {
    placed: Placed,
    value: Seen,
    /// How many optional writes of each value are placed, by value.
    used: Vec<(Seen, usize)>,
}

impl RegisterHistory {
    pub(super) fn new(mut definite: Vec<RegisterSpan>, mut optional: BTreeMap<Seen, Vec<u64>>) -> Self {
        definite.sort_by_key(|span| span.called);
        for possible in optional.values_mut() {
            possible.sort_unstable();
        }
        Self { definite, optional }
    }

    /// Decides by the zone test where it applies, else by the search. Debug builds have each check the other.
    pub(super) fn judge(&self, steps_max: u32) -> SearchOutcome {
        match sources::zone_test(self) {
            Some(found) => {
                if cfg!(debug_assertions) {
                    let searched = self.search(steps_max);
                    assert!(
                        searched == found || searched == SearchOutcome::TooHard,
                        "zones: {found:?}, search: {searched:?}"
                    );
                }
                found
            }
            None => self.search(steps_max),
        }
    }

    /// Searches for an order, in at most `steps_max` steps.
    pub(super) fn search(&self, steps_max: u32) -> SearchOutcome {
        let mut stack = vec![RegisterSearchState { placed: Placed::default(), value: Seen::Absent, used: Vec::new() }];
        let mut left = BTreeSet::new();
        let mut steps = 0;
        while let Some(mut state) = stack.pop() {
            loop {
                steps += 1;
                if steps > steps_max {
                    return SearchOutcome::TooHard;
                }
                let frontier = self.place_reads(&mut state);
                if state.placed.is_all(&self.definite) {
                    return SearchOutcome::Explained;
                }
                let mut next = self.successors(&state, frontier);
                if next.len() == 1 {
                    state = next.remove(0);
                    continue;
                }
                // Only branching states are remembered: a chain leads from one to the next in one way.
                if !next.is_empty() && left.insert(state) {
                    stack.extend(next.into_iter().rev());
                }
                break;
            }
        }
        SearchOutcome::Unexplained
    }

    /// Places every read that may be next and sees its value: it may as well be next, since it changes nothing.
    fn place_reads(&self, state: &mut RegisterSearchState) -> u64 {
        loop {
            let frontier = state.placed.frontier(&self.definite);
            let sees =
                |&index: &usize| matches!(self.definite[index].act, RegisterAct::Read(value) if value == state.value);
            let Some(read) = state.placed.candidates(&self.definite, frontier).find(sees) else { return frontier };
            state.placed.place(read);
        }
    }

    /// Every state that one more write leads to: definite ones by their call, then optional ones that a read needs.
    fn successors(&self, state: &RegisterSearchState, frontier: u64) -> Vec<RegisterSearchState> {
        let mut writes = Vec::new();
        let mut needed = Vec::new();
        for index in state.placed.candidates(&self.definite, frontier) {
            match self.definite[index].act {
                RegisterAct::Write(value) => {
                    let mut next = state.clone();
                    next.value = value;
                    next.placed.place(index);
                    writes.push(next);
                }
                RegisterAct::Read(value) => {
                    if !needed.contains(&value) {
                        needed.push(value);
                    }
                }
            }
        }
        writes.extend(needed.into_iter().filter_map(|value| self.optional_write(state, frontier, value)));
        writes
    }

    fn optional_write(&self, state: &RegisterSearchState, frontier: u64, value: Seen) -> Option<RegisterSearchState> {
        let place = state.used.binary_search_by_key(&value, |&(value, _)| value);
        let used = place.map_or(0, |place| state.used[place].1);
        let possible = *self.optional.get(&value)?.get(used)?;
        // It became possible at the end of some event, so all that had returned by then stands before it.
        (possible < frontier).then(|| {
            let mut next = state.clone();
            next.value = value;
            match place {
                Ok(place) => next.used[place].1 += 1,
                Err(place) => next.used.insert(place, (value, 1)),
            }
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, seq::SliceRandom};

    use super::*;
    use crate::seed::{Seed, Stream};

    const STEPS_MAX: u32 = 100_000;

    /// Tries every order and every choice of optional writes, with nothing clever in it.
    fn brute_force(definite: &[RegisterSpan], optional: &[(Seen, u64)], value: Seen) -> bool {
        if definite.is_empty() {
            return true;
        }
        let may_be_next = |called: u64, is_optional: bool| {
            definite.iter().all(|other| if is_optional { called < other.returned } else { called <= other.returned })
        };
        for (index, span) in definite.iter().enumerate().filter(|(_, span)| may_be_next(span.called, false)) {
            let mut rest = definite.to_vec();
            rest.remove(index);
            let explained = match span.act {
                RegisterAct::Write(written) => brute_force(&rest, optional, written),
                RegisterAct::Read(seen) => seen == value && brute_force(&rest, optional, value),
            };
            if explained {
                return true;
            }
        }
        optional.iter().enumerate().filter(|(_, (_, possible))| may_be_next(*possible, true)).any(|(index, write)| {
            let mut rest = optional.to_vec();
            rest.remove(index);
            brute_force(definite, &rest, write.0)
        })
    }

    fn search(definite: &[RegisterSpan], optional: &[(Seen, u64)]) -> SearchOutcome {
        let mut by_value: BTreeMap<Seen, Vec<u64>> = BTreeMap::new();
        for &(value, possible) in optional {
            by_value.entry(value).or_default().push(possible);
        }
        let register = RegisterHistory::new(definite.to_vec(), by_value);
        let found = register.search(STEPS_MAX);
        if let Some(zoned) = sources::zone_test(&register) {
            assert!(
                found == zoned || found == SearchOutcome::TooHard,
                "zones: {zoned:?}, search: {found:?}: {definite:?} {optional:?}"
            );
        }
        found
    }

    /// Overlapping operations on an atomic register, each with a moment at which it happens; some writes are optional,
    /// and happen late or never; once in a while all is lost, and what was written before may come back.
    /// An operation overlaps at most some `overlap` others.
    fn atomic(stream: &mut Stream, ops: u64, overlap: u64) -> (Vec<RegisterSpan>, Vec<(Seen, u64)>) {
        let mut keys: Vec<(u64, usize)> = (0..ops * 3).zip(0..).map(|(slot, place)| (slot / 3, place)).collect();
        for (key, _) in &mut keys {
            *key += stream.random_range(0..=overlap);
        }
        keys.shuffle(stream);
        keys.sort_by_key(|&(key, _)| key);
        let mut times = vec![0; keys.len()];
        for (time, (_, place)) in (0..).step_by(2).zip(keys) {
            times[place] = time;
        }
        let mut effects = BTreeMap::new();
        let mut optional = Vec::new();
        let mut definite = Vec::new();
        let mut possible_again = Vec::new();
        for (number, times) in times.chunks_exact_mut(3).enumerate() {
            times.sort_unstable();
            let [called, moment, returned] = [times[0], times[1], times[2]];
            let value = if stream.random_bool(0.3) { Seen::Absent } else { Seen::Tagged(number as u64) };
            match stream.random_range(0..8) {
                0..4 => {
                    let span = RegisterSpan { called, returned, act: RegisterAct::Read(Seen::Absent) };
                    effects.insert(moment, (None, span));
                }
                4..6 => {
                    effects.insert(
                        moment,
                        (Some(value), RegisterSpan { called, returned, act: RegisterAct::Write(value) }),
                    );
                    possible_again.push((value, called));
                }
                6 => {
                    let span = RegisterSpan { called: moment, returned: moment, act: RegisterAct::Write(Seen::Absent) };
                    effects.insert(moment, (Some(Seen::Absent), span));
                    for &(value, _) in possible_again.iter().filter(|(_, written)| *written < moment) {
                        optional.push((value, moment));
                        let late = moment + 1 + 2 * stream.random_range(0..ops);
                        let span = RegisterSpan { called: moment, returned: late, act: RegisterAct::Write(value) };
                        effects.insert(late, (Some(value), span));
                    }
                }
                _ => {
                    optional.push((value, called));
                    if stream.random_bool(0.7) {
                        effects.insert(
                            returned,
                            (Some(value), RegisterSpan { called, returned, act: RegisterAct::Write(value) }),
                        );
                    }
                }
            }
        }
        let mut now = Seen::Absent;
        for (moment, (written, mut span)) in effects {
            let is_optional = span.returned == moment && span.called != moment;
            now = written.unwrap_or(now);
            if written.is_none() {
                span.act = RegisterAct::Read(now);
            }
            if !is_optional {
                definite.push(span);
            }
        }
        (definite, optional)
    }

    #[test]
    fn histories_of_an_atomic_register_are_always_explained() {
        for seed in 0..400 {
            let stream = &mut Seed(seed).stream("register");
            let (ops, overlap) = (stream.random_range(2..120), stream.random_range(0..10));
            let (definite, optional) = atomic(stream, ops, overlap);
            assert_eq!(
                search(&definite, &optional),
                SearchOutcome::Explained,
                "seed {seed}: {definite:?} {optional:?}"
            );
        }
    }

    #[test]
    fn a_corrupted_read_is_judged_as_brute_force_judges_it() {
        let mut refuted = 0;
        for seed in 0..3_000 {
            let stream = &mut Seed(seed).stream("register");
            let ops = stream.random_range(2..8);
            let (mut definite, optional) = atomic(stream, ops, 4);
            let reads = definite.iter_mut().filter(|span| matches!(span.act, RegisterAct::Read(_)));
            for read in reads.take(1) {
                let stale = Seen::Tagged(stream.random_range(0..ops));
                read.act = RegisterAct::Read(if stream.random_bool(0.2) { Seen::Absent } else { stale });
            }
            let explained = brute_force(&definite, &optional, Seen::Absent);
            let expected = if explained { SearchOutcome::Explained } else { SearchOutcome::Unexplained };
            assert_eq!(search(&definite, &optional), expected, "seed {seed}: {definite:?} {optional:?}");
            refuted += u32::from(!explained);
        }
        assert!(
            (300..2_700).contains(&refuted),
            "of 3000 histories {refuted} were refuted: the test has lost its point"
        );
    }

    #[test]
    fn the_zone_test_applies_to_many_histories_with_removals_and_losses() {
        let is_judged = |seed: &u64| {
            let stream = &mut Seed(*seed).stream("register");
            let (definite, optional) = atomic(stream, 10, 4);
            let mut by_value: BTreeMap<Seen, Vec<u64>> = BTreeMap::new();
            for (value, possible) in optional {
                by_value.entry(value).or_default().push(possible);
            }
            sources::zone_test(&RegisterHistory::new(definite, by_value)).is_some()
        };
        let judged = (0..1_000).filter(is_judged).count();
        assert!(judged > 100, "it judged {judged} of 1000 histories");
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        let writes =
            (0..40).map(|n| RegisterSpan { called: n, returned: 100 + n, act: RegisterAct::Write(Seen::Tagged(n)) });
        let reads = (0..2).map(|n| RegisterSpan {
            called: 200 + n * 10,
            returned: 205 + n * 10,
            act: RegisterAct::Read(Seen::Tagged(n)),
        });
        let definite: Vec<RegisterSpan> = writes.chain(reads).collect();
        assert_eq!(search(&definite, &[]), SearchOutcome::TooHard);
    }
}
