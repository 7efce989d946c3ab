//! What a bed with a planted bug tells: for every guarantee the first run that breaks it. The bed that plants the bugs
//! reads it, line by line, so that a bed that never comes to its end has told what it had found.

use std::{
    collections::BTreeMap,
    io,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::patch::number;
use crate::{
    checker::{Guarantee, Verdict},
    explore::{Tasks, Unjudged, explore},
    outcomes::{Common, SeedTask},
    seed::Seed,
    worker::{ProcessEnd, WorkerOptions},
    workload::Workload,
};

/// Runs that are made before it is looked whether there have been enough: few, so that not many are made in vain.
const CHUNK: u64 = 40;

/// A line of the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputLine {
    /// The first run that breaks a guarantee.
    Catch(Catch),
    /// The first run that panicked.
    Panic {
        /// What it said.
        message: String,
    },
    /// All runs that were to be made have been made.
    End {
        /// How many.
        runs: u64,
        /// How long they took.
        seconds: f64,
    },
}

/// The first run that breaks a guarantee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Catch {
    /// The guarantee.
    pub guarantee: Guarantee,
    /// The number of the run, from 1.
    pub run: u64,
    /// How long it took until then.
    pub seconds: f64,
    /// The workload of the run.
    pub workload: Workload,
    /// Its seed.
    pub seed: Seed,
    /// What the checker said.
    pub message: String,
}

/// How long runs are made.
#[derive(Args, Clone, Debug, Default)]
pub struct Until {
    /// The number of the guarantee that is to catch it
    #[arg(long, value_name = "G", value_parser = expected)]
    pub expected: Option<Guarantee>,
    /// How many runs after that
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub further: u64,
    /// Until the first catch of any guarantee
    #[arg(long)]
    pub first: bool,
}

fn expected(text: &str) -> Result<Guarantee, String> {
    let found = Guarantee::ALL.into_iter().find(|&guarantee| number(guarantee) == text);
    found.ok_or_else(|| format!("there are {}", Guarantee::ALL.map(number).join(", ")))
}

impl Until {
    /// Whether so many runs are enough, with these first catches.
    fn is_enough(&self, run: u64, first: &BTreeMap<Guarantee, u64>) -> bool {
        let caught = self.expected.and_then(|expected| first.get(&expected));
        self.first && !first.is_empty() || caught.is_some_and(|caught| run >= caught + self.further)
    }
}

/// Makes runs, and tells each first catch.
#[expect(clippy::disallowed_methods, reason = "outside of any run: how long the runs take")]
///
/// # Errors
/// A worker process cannot be started, or a run spins: of a bug that makes one spin there will be more.
pub fn find(
    tasks: &Tasks,
    until: &Until,
    jobs: usize,
    options: &WorkerOptions,
    mut tell: impl FnMut(&OutputLine),
) -> io::Result<()> {
    let begun = Instant::now();
    let (mut first, mut panicked, mut run) = (BTreeMap::<Guarantee, u64>::new(), false, 0);
    let mut stuck = None;
    let mut left = tasks.clone();
    while left.count() > 0 {
        if until.is_enough(run, &first) {
            break;
        }
        let (chunk, rest) = left.split_at(CHUNK);
        left = rest;
        let mut outcomes = BTreeMap::new();
        explore(&chunk, Common::default(), jobs, options, |judged| {
            if let Err(Unjudged::Ended(end @ ProcessEnd::Stuck(_))) = &judged.outcome {
                let (workload, seed) = judged.task;
                stuck = Some(format!("seed {seed} of {workload}: {end}"));
                return ControlFlow::Break(());
            }
            outcomes.insert(judged.task, (judged.outcome, begun.elapsed()));
            ControlFlow::Continue(())
        })?;
        if let Some(stuck) = stuck {
            return Err(io::Error::other(stuck));
        }
        // In the order of the tasks, whichever was done first: the same catches every time.
        for task in chunk.each() {
            run += 1;
            let Some((outcome, at)) = outcomes.remove(&task) else { continue };
            match outcome {
                Ok(outcomes) => {
                    for judgement in outcomes.judgements {
                        let Verdict::Violation { message, .. } = judgement.verdict else { continue };
                        if first.contains_key(&judgement.guarantee) {
                            continue;
                        }
                        first.insert(judgement.guarantee, run);
                        tell(&caught(judgement.guarantee, task, run, at, message));
                    }
                }
                Err(panic) if !panicked => {
                    panicked = true;
                    tell(&OutputLine::Panic { message: panic.to_string() });
                }
                Err(_) => {}
            }
        }
    }
    tell(&OutputLine::End { runs: run, seconds: begun.elapsed().as_secs_f64() });
    Ok(())
}

fn caught(guarantee: Guarantee, (workload, seed): SeedTask, run: u64, at: Duration, message: String) -> OutputLine {
    OutputLine::Catch(Catch { guarantee, run, seconds: at.as_secs_f64(), workload, seed, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_made_until_the_first_catch_or_so_many_after_the_one_expected() {
        let first = BTreeMap::from([(Guarantee::Session, 7)]);
        let any = Until { first: true, ..Until::default() };
        assert!(any.is_enough(7, &first) && !any.is_enough(40, &BTreeMap::new()));
        let expected = |guarantee| Until { expected: Some(guarantee), further: 3, first: false };
        assert!(
            expected(Guarantee::Session).is_enough(10, &first) && !expected(Guarantee::Session).is_enough(9, &first)
        );
        assert!(!expected(Guarantee::Durability).is_enough(40, &first) && !Until::default().is_enough(40, &first));
    }

    #[test]
    fn a_line_comes_back_from_its_text() {
        let task = (Workload::Fallback, Seed(u64::MAX));
        let line = caught(Guarantee::Session, task, 7, Duration::from_millis(1500), "went back".to_owned());
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<OutputLine>(&text).unwrap(), line);
    }
}
