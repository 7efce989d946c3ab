//! Many runs: a range of seeds, several at a time.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    num::NonZero,
    ops::ControlFlow,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use seedbed_world::seed::Seed;
use serde::Serialize;

use crate::{
    bed::Bed,
    checkers::{Judged, Verdict},
    player::RunPlace,
    run::Run,
    system::Workload,
};

/// How many seeds of one guarantee are told.
const SEEDS_TOLD_MAX: usize = 10;

/// What an exploration found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exploration {
    /// Runs that were played.
    pub runs: u64,
    /// Calls that they made.
    pub calls: u64,
    /// By guarantee.
    pub guarantees: BTreeMap<String, Tally>,
    /// By kind of fault: how often it came, and how often it had an effect.
    pub faults: BTreeMap<String, (u64, u64)>,
    /// By coverage point: how many runs met it.
    pub points: BTreeMap<String, u64>,
    /// Every run in which something did not hold or cannot be said, by seed.
    pub found: BTreeMap<u64, Found>,
}

/// What is known of one guarantee.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Runs in which it held.
    pub held: u64,
    /// Runs in which it did not.
    pub violated: u64,
    /// Runs of which it cannot be said.
    pub unknown: u64,
    /// How much was judged.
    pub judged: u64,
    /// How much was not, by reason.
    pub excused: BTreeMap<String, u64>,
}

/// A run that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The guarantee.
    pub guarantee: String,
    /// Whether it was violated; otherwise it cannot be said.
    pub is_violation: bool,
    /// What happened.
    pub what: String,
}

impl Exploration {
    /// The violations, by seed.
    pub fn violations(&self) -> impl Iterator<Item = (u64, &Found)> {
        self.found.iter().filter(|(_, found)| found.is_violation).map(|(seed, found)| (*seed, found))
    }

    /// The guarantees of which nothing was judged in any run: they held for want of anything to hold for.
    pub fn idle(&self) -> impl Iterator<Item = &str> {
        self.guarantees.iter().filter(|(_, tally)| tally.judged == 0).map(|(name, _)| name.as_str())
    }

    /// The coverage points that no run met.
    pub fn missed(&self) -> impl Iterator<Item = &str> {
        self.points.iter().filter(|(_, runs)| **runs == 0).map(|(name, _)| name.as_str())
    }

    /// The runs in which something did not hold or cannot be said, a line for each guarantee.
    pub(crate) fn seeds(&self) -> String {
        let mut by_guarantee: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (seed, found) in &self.found {
            by_guarantee.entry((!found.is_violation, &found.guarantee)).or_default().push((seed, found));
        }
        let mut text = String::new();
        for ((is_unknown, guarantee), found) in by_guarantee {
            let told: Vec<_> = found.iter().take(SEEDS_TOLD_MAX).map(|(seed, _)| seed.to_string()).collect();
            let more = found.len() - told.len();
            let (seeds, more) = (told.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() });
            let _ = if is_unknown {
                writeln!(text, "cannot say {guarantee:?}: seeds {seeds}{more}; the first: {}", found[0].1.what)
            } else {
                writeln!(text, "violates {guarantee:?}: seeds {seeds}{more}")
            };
        }
        text
    }

    fn add<W: Workload>(&mut self, seed: u64, run: &Run<W>) {
        self.runs += 1;
        self.calls += run.counts.calls;
        for (kind, (came, effects)) in &run.counts.faults {
            let all = self.faults.entry(kind.clone()).or_default();
            all.0 += came;
            all.1 += effects;
        }
        for point in &run.counts.points {
            *self.points.entry(point.clone()).or_default() += 1;
        }
        for (name, judged) in &run.verdicts {
            self.guarantees.entry(name.clone()).or_default().add(judged);
        }
        if let Some((guarantee, _, what)) = run.violation() {
            let (guarantee, what) = (guarantee.to_owned(), what.to_owned());
            self.found.insert(seed, Found { guarantee, is_violation: true, what });
        } else if let Some((guarantee, why)) = run.unknown() {
            let (guarantee, what) = (guarantee.to_owned(), why.to_owned());
            self.found.insert(seed, Found { guarantee, is_violation: false, what });
        }
    }
}

impl Tally {
    fn add(&mut self, judged: &Judged) {
        match judged.verdict {
            Verdict::Held => self.held += 1,
            Verdict::Violated { .. } => self.violated += 1,
            Verdict::Unknown { .. } => self.unknown += 1,
        }
        self.judged += judged.judged;
        for (reason, count) in &judged.excused {
            *self.excused.entry(reason.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Exploration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} runs, {} calls", self.runs, self.calls)?;
        writeln!(f, "\nGuarantees:")?;
        for (name, tally) in &self.guarantees {
            let verdict = match tally {
                Tally { violated: 1.., .. } => "VIOLATED",
                Tally { unknown: 1.., .. } => "UNKNOWN",
                _ => "held",
            };
            write!(
                f,
                "  {verdict:<9} {name}: {} judged in {} runs",
                tally.judged,
                tally.held + tally.violated + tally.unknown
            )?;
            if tally.violated > 0 {
                write!(f, ", violated in {}", tally.violated)?;
            }
            if tally.unknown > 0 {
                write!(f, ", cannot be said in {}", tally.unknown)?;
            }
            for (reason, count) in &tally.excused {
                write!(f, "; {count} not judged: {reason}")?;
            }
            writeln!(f)?;
        }
        if !self.faults.is_empty() {
            writeln!(f, "\nFaults:          came    had an effect")?;
        }
        for (kind, (came, effects)) in &self.faults {
            writeln!(f, "  {kind:<18} {came:>6}  {effects:>6}")?;
        }
        if !self.points.is_empty() {
            writeln!(f, "\nCoverage points:  runs that met it")?;
        }
        for (name, runs) in &self.points {
            writeln!(f, "  {runs:>6}  {name}")?;
        }
        Ok(())
    }
}

impl<W: Workload> Bed<W> {
    /// Plays and checks the runs of so many seeds from the first on, as many at a time as the machine has cores, in this process.
    /// After each run `told` may end it: the runs that have begun by then are played to their end.
    pub fn explore(
        &self,
        first: Seed,
        seeds: u64,
        told: impl Fn(Seed, &Run<W>) -> ControlFlow<()> + Sync,
    ) -> Exploration {
        self.explore_at(&RunPlace::Here, first, seeds, told)
    }

    pub(crate) fn explore_at(
        &self,
        place: &RunPlace,
        first: Seed,
        seeds: u64,
        told: impl Fn(Seed, &Run<W>) -> ControlFlow<()> + Sync,
    ) -> Exploration {
        let (next, has_ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let points = self.coverage_points().into_iter().map(|name| (name.to_owned(), 0)).collect();
        let found = Mutex::new(Exploration { points, ..Exploration::default() });
        let at_once = thread::available_parallelism().map_or(1, NonZero::get);
        let work = || {
            let mut player = place.player(self);
            while !has_ended.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= seeds {
                    return;
                }
                let seed = Seed(first.0.wrapping_add(number));
                let run = player.seed(seed);
                if told(seed, &run).is_break() {
                    has_ended.store(true, Ordering::Relaxed);
                }
                found.lock().unwrap_or_else(PoisonError::into_inner).add(seed.0, &run);
            }
        };
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(work);
            }
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays so many seeds from the first on, until one violates something: the smallest such seed, and what it violates. What a test
    /// of the checkers asks of a system with a planted bug.
    pub fn first_violation(&self, first: Seed, seeds: u64) -> Option<(Seed, Found)> {
        let explored = self.explore(first, seeds, |_, run| match run.violation() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        });
        explored.violations().next().map(|(seed, found)| (Seed(seed), found.clone()))
    }

    /// Whether a seed gives the same run again: the same history and the same bytes on the network and on disks.
    ///
    /// # Errors
    /// The first line of the history that differs.
    pub fn is_determined(&self, seed: Seed) -> Result<(), String> {
        let (one, other) = (self.run(seed), self.run(seed));
        let (texts, traces) = ([one.history.to_string(), other.history.to_string()], [one.trace, other.trace]);
        let [one, other] = &texts;
        let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
        match differs {
            Some((one, other)) => Err(format!("once: {one}\nagain: {other}")),
            None if one != other => Err("one history is longer than the other".to_owned()),
            None if traces[0] != traces[1] => Err("other bytes crossed the network or reached a disk".to_owned()),
            None => Ok(()),
        }
    }
}
