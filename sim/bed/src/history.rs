//! What happened in a run, as the checkers see it.

use std::{collections::BTreeMap, fmt};

use seedbed_world::Stop;
use serde::{Deserialize, Serialize};

use crate::{
    faults::PlannedFault,
    milliseconds::Ms,
    system::{OpOf, Outcome, RetOf},
};

/// What happened in a run of a workload, in order.
pub type History<W> = Log<OpOf<W>, RetOf<W>>;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Log<Op, Ret> {
    /// The events.
    pub events: Vec<Event<Op, Ret>>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event<Op, Ret> {
    /// When, in simulated microseconds since the start of the run.
    pub at_us: u64,
    /// What.
    pub what: What<Op, Ret>,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What<Op, Ret> {
    /// A phase begins.
    Phase(Phase),
    /// An instance is open.
    Opened {
        /// Which.
        instance: u32,
        /// Counts its starts, from 1.
        start: u32,
    },
    /// An instance could not be opened. It is tried again.
    OpenFailed {
        /// Which.
        instance: u32,
        /// Why.
        error: String,
    },
    /// The process of an instance ended.
    Stopped {
        /// Which.
        instance: u32,
        /// How.
        how: Stop,
        /// What went wrong as it closed.
        error: Option<String>,
    },
    /// A call was made.
    Called {
        /// Its number.
        call: u32,
        /// Of whom.
        instance: u32,
        /// What was asked.
        op: Op,
    },
    /// A call was not made, since its instance was not open.
    Skipped {
        /// Whom it was for.
        instance: u32,
        /// What would have been asked.
        op: Op,
    },
    /// A call has ended.
    Returned {
        /// Its number.
        call: u32,
        /// How.
        outcome: Outcome<Ret>,
    },
    /// A fault begins.
    FaultBegan {
        /// Its number in the plan.
        fault: u32,
        /// What it is.
        planned: PlannedFault,
        /// The instances whose processes stand still while it lasts.
        held_up: Vec<u32>,
    },
    /// A fault ends.
    FaultEnded {
        /// Its number in the plan.
        fault: u32,
        /// How often it changed what a process sees.
        effects: u64,
    },
    /// The simulated Redis was asked for commands that it lacks and a real one has.
    MissingCommands {
        /// Their names.
        names: Vec<String>,
    },
    /// Instances that had something left to do when the wait for them was over.
    NotAtRest {
        /// Which.
        instance: u32,
        /// What it had left to do.
        why: String,
    },
}

/// The phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Servers start, instances open.
    SetUp,
    /// Calls are made, beside faults.
    Faults,
    /// All faults have ended; what was begun may end.
    Heal,
    /// The last calls are made.
    Last,
    /// Instances are closed.
    End,
}

/// A call, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Call<'h, Op, Ret> {
    /// Its number, by which events name it.
    pub number: u32,
    /// Of whom.
    pub instance: u32,
    /// What was asked.
    pub op: &'h Op,
    /// When, in simulated microseconds since the start of the run.
    pub called_us: u64,
    /// When it ended, and how. `None`: it never did, or the process of its instance ended before.
    pub returned: Option<(u64, &'h Outcome<Ret>)>,
}

impl<'h, Op, Ret> Call<'h, Op, Ret> {
    /// What it answered, if it did what was asked.
    pub fn answer(&self) -> Option<&'h Ret> {
        self.returned.and_then(|(_, outcome)| outcome.ok())
    }

    /// Whether it certainly had no effect.
    pub fn has_failed(&self) -> bool {
        matches!(self.returned, Some((_, Outcome::Fail(_))))
    }
}

impl<Op, Ret> Log<Op, Ret> {
    /// Every call, in the order in which they were made.
    pub fn calls(&self) -> Vec<Call<'_, Op, Ret>> {
        let mut calls = Vec::new();
        let mut places = BTreeMap::new();
        for event in &self.events {
            match &event.what {
                What::Called { call, instance, op } => {
                    places.insert(*call, calls.len());
                    let (number, instance) = (*call, *instance);
                    calls.push(Call { number, instance, op, called_us: event.at_us, returned: None });
                }
                What::Returned { call, outcome } => {
                    if let Some(place) = places.get(call) {
                        calls[*place].returned = Some((event.at_us, outcome));
                    }
                }
                _ => {}
            }
        }
        calls
    }

    /// When this phase began, in simulated microseconds since the start of the run.
    pub fn phase_us(&self, phase: Phase) -> Option<u64> {
        self.events.iter().find(|event| matches!(event.what, What::Phase(its) if its == phase)).map(|event| event.at_us)
    }

    /// Whether the process of an instance stood still at some time between these, in simulated microseconds since the start of
    /// the run.
    pub fn stood_still(&self, instance: u32, from_us: u64, to_us: u64) -> bool {
        let mut begun = BTreeMap::new();
        for event in &self.events {
            match &event.what {
                What::FaultBegan { fault, held_up, .. } if held_up.contains(&instance) => {
                    begun.insert(*fault, event.at_us);
                }
                What::FaultEnded { fault, .. } => {
                    let overlaps = |began_us: u64| began_us <= to_us && event.at_us >= from_us;
                    if begun.remove(fault).is_some_and(overlaps) {
                        return true;
                    }
                }
                _ => {}
            }
        }
        begun.values().any(|began_us| *began_us <= to_us)
    }

    /// Whether a call was cut off: the process of its instance crashed before it returned. One that was still running when its
    /// instance was closed in order was not.
    pub fn is_cut_off(&self, call: &Call<'_, Op, Ret>) -> bool {
        call.returned.is_none()
            && self.events.iter().any(|event| {
                matches!(event.what, What::Stopped { instance, how, .. } if instance == call.instance && how != Stop::Closed)
                    && event.at_us >= call.called_us
            })
    }
}

impl<Op: fmt::Debug, Ret: fmt::Debug> fmt::Display for Log<Op, Ret> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            writeln!(f, "{event}")?;
        }
        Ok(())
    }
}

impl<Op: fmt::Debug, Ret: fmt::Debug> fmt::Display for Event<Op, Ret> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>16}  ", Ms(self.at_us))?;
        match &self.what {
            What::Phase(phase) => write!(f, "--- {phase:?}"),
            What::Opened { instance, start } => write!(f, "{instance:>3}  opened, start {start}"),
            What::OpenFailed { instance, error } => write!(f, "{instance:>3}  could not be opened: {error}"),
            What::Stopped { instance, how, error: None } => write!(f, "{instance:>3}  stopped: {how:?}"),
            What::Stopped { instance, how, error: Some(error) } => {
                write!(f, "{instance:>3}  stopped: {how:?}, and closing failed: {error}")
            }
            What::Called { call, instance, op } => write!(f, "{instance:>3}  call {call}: {op:?}"),
            What::Skipped { instance, op } => write!(f, "{instance:>3}  is not open, so not asked: {op:?}"),
            What::Returned { call, outcome } => write!(f, "     call {call} returns {outcome:?}"),
            What::FaultBegan { fault, planned, .. } => write!(f, "     fault {fault} begins: {planned}"),
            What::FaultEnded { fault, effects } => write!(f, "     fault {fault} ends, effects: {effects}"),
            What::MissingCommands { names } => write!(f, "     the simulated Redis has no {}", names.join(", ")),
            What::NotAtRest { instance, why } => write!(f, "{instance:>3}  is not at rest: {why}"),
        }
    }
}
