//! The smallest scenario that still fails: delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing
//! input", IEEE TSE 28(2), 2002) over faults, calls, instances, the tuning and durations. [`Reducer`] is its core.
//!
//! What is left out has to leave the same guarantee violated for the same object: otherwise one bug would be shrunk into another.

mod reducer;

pub use self::reducer::Reducer;
use crate::{bed::Bed, player::RunPlace, scenario::ScenarioOf, system::Workload};

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
    /// Leaves out of a scenario that violates something what the violation does not need, in at most so many runs of this process.
    /// None if it violates nothing.
    pub fn shrink(&self, scenario: &ScenarioOf<W>, runs_max: u64) -> Option<Shrunk<W>> {
        self.shrink_at(&RunPlace::Here, scenario, runs_max)
    }

    pub(crate) fn shrink_at(&self, place: &RunPlace, scenario: &ScenarioOf<W>, runs_max: u64) -> Option<Shrunk<W>> {
        let mut player = place.player(self);
        let run = player.scenario(scenario, false);
        let (guarantee, object, _) = run.violation()?;
        if player.was_stuck() {
            // Each attempt could take as long.
            return Some(Shrunk { scenario: scenario.clone(), runs: 1, is_smallest: false });
        }
        let its = self.checkers.iter().find(|checker| checker.name() == guarantee);
        let needs_last_calls = its.is_some_and(|checker| checker.needs_last_calls());
        let (guarantee, object) = (guarantee.to_owned(), object.to_owned());
        let fails = move |smaller: &ScenarioOf<W>| {
            self.check_scenario(smaller).is_ok()
                && player.scenario(smaller, false).violation().is_some_and(|(its_guarantee, its_object, _)| {
                    // The number of a call is another where calls are left out.
                    let is_call = object.starts_with("call ") && its_object.starts_with("call ");
                    its_guarantee == guarantee && (its_object == object || is_call)
                })
        };
        let another = |scenario: &mut ScenarioOf<W>, chance| scenario.seed = scenario.seed.wrapping_add(chance);
        let mut reducer = Reducer::new(scenario.clone(), runs_max.saturating_sub(1), another, fails);
        reduce::<W>(&mut reducer, needs_last_calls);
        let (runs, is_smallest) = (reducer.runs() + 1, !reducer.is_used_up());
        Some(Shrunk { scenario: reducer.into_best(), runs, is_smallest })
    }
}

/// What one pass leaves out may let another leave out more.
fn reduce<W: Workload>(reducer: &mut Reducer<'_, ScenarioOf<W>>, needs_last_calls: bool) {
    for chances in [1, CHANCES] {
        reducer.set_chances(chances);
        loop {
            let before = reducer.best().clone();
            reducer.take_out(|scenario| scenario.faults.len(), |scenario, range| drop(scenario.faults.drain(range)));
            reducer.take_out(
                |scenario| scenario.plan.calls.len(),
                |scenario, range| drop(scenario.plan.calls.drain(range)),
            );
            if !needs_last_calls {
                reducer.take_out(
                    |scenario| scenario.plan.last.len(),
                    |scenario, range| drop(scenario.plan.last.drain(range)),
                );
            }
            // Those that are asked for nothing have the last numbers, or stay.
            while reducer.best().plan.instances > 1 && reducer.change(|scenario| scenario.plan.instances -= 1) {}
            reducer.change(|scenario| scenario.plan.tuning = W::Tuning::default());
            for fault in 0..reducer.best().faults.len() {
                let start_us = reducer.best().faults[fault].start_us;
                if reducer.best().faults[fault].end_us > start_us {
                    reducer.lower(start_us + 1, |scenario| &mut scenario.faults[fault].end_us);
                }
            }
            if *reducer.best() == before {
                break;
            }
        }
    }
}
