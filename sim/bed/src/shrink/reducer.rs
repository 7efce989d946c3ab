//! The core of delta debugging, for scenarios of any kind.

use std::ops::Range;

/// Makes a scenario smaller as long as it fails. A smaller scenario takes its place if it fails too.
///
/// What is left out moves all chance behind it, so a race that the failure needs can be lost with a call that it does not need. Each
/// candidate therefore has several chances, with other draws of that chance.
pub struct Reducer<'a, S> {
    best: S,
    runs: u64,
    runs_max: u64,
    chances: u64,
    another: fn(&mut S, u64),
    fails: Box<dyn FnMut(&S) -> bool + 'a>,
}

impl<'a, S: Clone + PartialEq> Reducer<'a, S> {
    /// Of a scenario that fails. `fails` runs a candidate; `another` gives a candidate the draw of this number, from 1. A candidate has
    /// one chance at first, and at most `runs_max` candidates are run.
    pub fn new(scenario: S, runs_max: u64, another: fn(&mut S, u64), fails: impl FnMut(&S) -> bool + 'a) -> Self {
        Self { best: scenario, runs: 0, runs_max, chances: 1, another, fails: Box::new(fails) }
    }

    /// From now on a candidate has so many chances.
    pub fn set_chances(&mut self, chances: u64) {
        self.chances = chances;
    }

    /// The smallest scenario that failed so far.
    pub fn best(&self) -> &S {
        &self.best
    }

    /// How many candidates were run.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Whether no more may be run.
    pub fn is_used_up(&self) -> bool {
        self.runs >= self.runs_max
    }

    /// The smallest scenario that failed.
    pub fn into_best(self) -> S {
        self.best
    }

    /// Takes a candidate if it differs from the best scenario and fails, by one of its chances.
    pub fn accept(&mut self, candidate: &S) -> bool {
        if *candidate == self.best {
            return false;
        }
        for chance in 0..self.chances {
            if self.is_used_up() {
                return false;
            }
            let mut drawn = candidate.clone();
            if chance > 0 {
                (self.another)(&mut drawn, chance);
                if drawn == *candidate {
                    continue;
                }
            }
            self.runs += 1;
            if (self.fails)(&drawn) {
                self.best = drawn;
                return true;
            }
        }
        false
    }

    /// Takes the best scenario with a change, if it fails.
    pub fn change(&mut self, change: impl FnOnce(&mut S)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.accept(&candidate)
    }

    /// Leaves out items of a list: ranges of it, from the whole down to single items.
    pub fn take_out(&mut self, count: impl Fn(&S) -> usize, drain: impl Fn(&mut S, Range<usize>)) {
        let mut chunk = count(&self.best);
        while chunk > 0 && !self.is_used_up() {
            let mut start = 0;
            while start < count(&self.best) {
                let end = (start + chunk).min(count(&self.best));
                if !self.change(|scenario| drain(scenario, start..end)) {
                    start = end;
                }
            }
            chunk /= 2;
        }
    }

    /// Makes a number smaller: to its least value, or by halves of what is above that.
    pub fn lower(&mut self, least: u64, number: impl Fn(&mut S) -> &mut u64) {
        if self.change(|scenario| *number(scenario) = least) {
            return;
        }
        loop {
            let now = *number(&mut self.best.clone());
            let lower = least + now.saturating_sub(least) / 2;
            if lower == now || lower == least || !self.change(|scenario| *number(scenario) = lower) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Numbers {
        items: Vec<u64>,
        draw: u64,
    }

    fn reduced(runs_max: u64, chances: u64, fails: fn(&Numbers) -> bool) -> (Numbers, u64) {
        let all = Numbers { items: (0..100).collect(), draw: 0 };
        let mut reducer = Reducer::new(all, runs_max, |numbers, draw| numbers.draw = draw, fails);
        reducer.set_chances(chances);
        reducer.take_out(|numbers| numbers.items.len(), |numbers, range| drop(numbers.items.drain(range)));
        let runs = reducer.runs();
        (reducer.into_best(), runs)
    }

    #[test]
    fn what_a_failure_needs_is_left() {
        let (left, runs) = reduced(1_000, 1, |numbers| [7, 70].iter().all(|needed| numbers.items.contains(needed)));
        assert_eq!(left.items, [7, 70]);
        assert!(runs < 60, "{runs}");
    }

    #[test]
    fn no_more_runs_are_made_than_allowed() {
        let (left, runs) = reduced(5, 1, |numbers| numbers.items.contains(&7));
        assert_eq!(runs, 5);
        assert!(left.items.len() > 1 && left.items.contains(&7));
    }

    #[test]
    fn a_failure_by_chance_is_found_by_another_chance() {
        let needs_luck = |numbers: &Numbers| numbers.items.contains(&7) && numbers.draw == 2;
        assert_eq!(reduced(1_000, 1, needs_luck).0.items.len(), 100);
        assert_eq!(reduced(1_000, 3, needs_luck).0, Numbers { items: vec![7], draw: 2 });
    }

    #[test]
    fn a_number_is_lowered_as_far_as_it_fails() {
        let mut reducer = Reducer::new(1_000_u64, 100, |_, _| {}, |number| *number >= 100);
        reducer.lower(0, |number| number);
        assert_eq!(*reducer.best(), 125);
        let mut reducer = Reducer::new(1_000_u64, 100, |_, _| {}, |_| true);
        reducer.lower(3, |number| number);
        assert_eq!((*reducer.best(), reducer.runs()), (3, 1));
    }
}
