//! The smallest scenario that still fails: delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing
//! input", IEEE TSE 28(2), 2002) over faults, calls and their times.
//!
//! A call less also moves all chance after it, so a race that the violation needs may be lost with a call that it does not need. What
//! cannot be left out is tried again with other seeds of the world.
//!
//! What is left out has to leave the same guarantee violated for the same object: otherwise one bug would be shrunk into another.

use crate::{bed::Bed, scenario::ScenarioOf, system::Workload};

/// How many seeds of the world a smaller scenario is tried with, once it is as small as it can be with its own.
const CHANCES: u64 = 6;

/// A scenario that was made smaller.
pub struct Shrunk<W: Workload> {
    /// The scenario.
    pub scenario: ScenarioOf<W>,
    /// How many runs that took.
    pub runs: u64,
    /// Whether nothing more can be left out; otherwise the runs were used up before.
    pub is_smallest: bool,
}

impl<W: Workload> Bed<W> {
    /// Leaves out of a scenario that violates something what the violation does not need, in at most so many runs. None if it
    /// violates nothing.
    pub fn shrink(&self, scenario: &ScenarioOf<W>, runs_max: u64) -> Option<Shrunk<W>> {
        let run = self.play(scenario);
        let (guarantee, object, _) = run.violation()?;
        let its = self.checkers.iter().find(|checker| checker.name() == guarantee);
        let needs_last_calls = its.is_some_and(|checker| checker.needs_last_calls());
        let mut shrinker = Shrinker {
            bed: self,
            violates: (guarantee.to_owned(), object.to_owned()),
            best: scenario.clone(),
            runs: 1,
            runs_max,
            chances: 1,
        };
        // A call less may make a fault needless, and the other way round.
        let mut size = usize::MAX;
        while (shrinker.size() < size || shrinker.chances == 1) && shrinker.runs < runs_max {
            if shrinker.size() == size {
                shrinker.chances = CHANCES;
            }
            size = shrinker.size();
            shrinker.thin(|scenario| scenario.faults.len(), |scenario, kept| keep(&mut scenario.faults, kept));
            shrinker.thin(|scenario| scenario.plan.calls.len(), |scenario, kept| keep(&mut scenario.plan.calls, kept));
            if !needs_last_calls {
                shrinker
                    .thin(|scenario| scenario.plan.last.len(), |scenario, kept| keep(&mut scenario.plan.last, kept));
            }
            shrinker.shorten();
        }
        let is_smallest = shrinker.runs < runs_max;
        Some(Shrunk { scenario: shrinker.best, runs: shrinker.runs, is_smallest })
    }
}

/// Keeps the items of these places.
fn keep<T>(items: &mut Vec<T>, kept: &[usize]) {
    let mut place = 0;
    items.retain(|_| {
        place += 1;
        kept.binary_search(&(place - 1)).is_ok()
    });
}

struct Shrinker<'b, W: Workload> {
    bed: &'b Bed<W>,
    violates: (String, String),
    best: ScenarioOf<W>,
    runs: u64,
    runs_max: u64,
    chances: u64,
}

impl<W: Workload> Shrinker<'_, W> {
    fn size(&self) -> usize {
        self.best.faults.len() + self.best.plan.calls.len() + self.best.plan.last.len()
    }

    /// Takes a smaller scenario if it can be played and fails in the same way, by one of its chances.
    fn takes(&mut self, mut smaller: ScenarioOf<W>) -> bool {
        for _ in 0..self.chances {
            if self.fails(&smaller) {
                self.best = smaller;
                return true;
            }
            smaller.seed = smaller.seed.wrapping_add(1);
        }
        false
    }

    fn fails(&mut self, smaller: &ScenarioOf<W>) -> bool {
        if self.runs >= self.runs_max || self.bed.check_scenario(smaller).is_err() {
            return false;
        }
        self.runs += 1;
        // The number of a call is another where calls are left out.
        let is_call = self.violates.1.starts_with("call ");
        let run = self.bed.play(smaller);
        run.violation().is_some_and(|(guarantee, object, _)| {
            guarantee == self.violates.0 && (object == self.violates.1 || is_call && object.starts_with("call "))
        })
    }

    /// Leaves out parts, first large ones and then smaller ones, until no single one can be left out.
    fn thin(&mut self, length: impl Fn(&ScenarioOf<W>) -> usize, keep: impl Fn(&mut ScenarioOf<W>, &[usize])) {
        let mut part = length(&self.best);
        while part > 0 && self.runs < self.runs_max {
            let mut from = 0;
            while from < length(&self.best) {
                let to = (from + part).min(length(&self.best));
                let kept: Vec<_> = (0..length(&self.best)).filter(|place| !(from..to).contains(place)).collect();
                let mut smaller = self.best.clone();
                keep(&mut smaller, &kept);
                if !self.takes(smaller) {
                    from = to;
                }
            }
            part /= 2;
        }
    }

    /// Shortens faults, by halves.
    fn shorten(&mut self) {
        for index in 0..self.best.faults.len() {
            loop {
                let mut smaller = self.best.clone();
                let fault = &mut smaller.faults[index];
                let lasts_us = fault.end_us - fault.start_us;
                if lasts_us < 2 {
                    break;
                }
                fault.end_us = fault.start_us + lasts_us / 2;
                if !self.takes(smaller) {
                    break;
                }
            }
        }
    }
}
