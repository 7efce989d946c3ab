//! What a bed with a planted bug tells: for every guarantee the first run that breaks it. The bed that plants the bugs
//! reads it, line by line, so that a bed that never comes to its end has told what it had found.

use std::{
    collections::BTreeMap,
    io,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    checker::{Guarantee, Verdict},
    explore::{Common, Task, Tasks, Unjudged, explore},
    seed::Seed,
    worker::{End, Options},
    workload::Workload,
};

/// Runs that are made before it is looked whether there have been enough: few, so that not many are made in vain.
const CHUNK: u64 = 40;

/// A line of the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
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

/// Makes runs, and tells each first catch. With `expected`, no more than `further` runs after that has caught the bug.
#[expect(clippy::disallowed_methods, reason = "outside of any run: how long the runs take")]
///
/// # Errors
/// A worker process cannot be started, or a run spins: of a bug that makes one spin there will be more.
pub fn find(
    tasks: &Tasks,
    (expected, further): (Option<Guarantee>, u64),
    jobs: usize,
    options: &Options,
    mut tell: impl FnMut(&Line),
) -> io::Result<()> {
    let begun = Instant::now();
    let (mut first, mut panicked, mut run) = (BTreeMap::<Guarantee, u64>::new(), false, 0);
    let mut stuck = None;
    let mut left = tasks.clone();
    while left.count() > 0 {
        let enough = |first: &BTreeMap<Guarantee, u64>| {
            expected.and_then(|expected| first.get(&expected)).is_some_and(|caught| run >= caught + further)
        };
        if enough(&first) {
            break;
        }
        let (chunk, rest) = left.split_at(CHUNK);
        left = rest;
        let mut outcomes = BTreeMap::new();
        explore(&chunk, Common::default(), jobs, options, |judged| {
            if let Err(Unjudged::Ended(end @ End::Stuck(_))) = &judged.outcome {
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
                    tell(&Line::Panic { message: panic.to_string() });
                }
                Err(_) => {}
            }
        }
    }
    tell(&Line::End { runs: run, seconds: begun.elapsed().as_secs_f64() });
    Ok(())
}

fn caught(guarantee: Guarantee, (workload, seed): Task, run: u64, at: Duration, message: String) -> Line {
    Line::Catch(Catch { guarantee, run, seconds: at.as_secs_f64(), workload, seed, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_from_its_text() {
        let task = (Workload::Fallback, Seed(u64::MAX));
        let line = caught(Guarantee::Session, task, 7, Duration::from_millis(1500), "went back".to_owned());
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
