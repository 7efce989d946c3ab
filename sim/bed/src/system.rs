//! What is under test, and what it is asked.

use std::{fmt::Debug, future::Future};

use seedbed_world::{SimEnv, seed::Stream};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Plain data: it is saved, edited, shrunk and compared.
pub trait Data: Serialize + DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static> Data for T {}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<R> {
    /// It did what was asked, and answered this.
    Ok(R),
    /// It certainly had no effect, and never will have one.
    Fail(String),
    /// It may have had an effect, or have one later.
    Unknown(String),
}

impl<R> Outcome<R> {
    /// It certainly had no effect, for this reason.
    #[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
    pub fn fail(why: impl ToString) -> Self {
        Self::Fail(why.to_string())
    }

    /// It may have had an effect, or have one later, for this reason.
    #[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
    pub fn unknown(why: impl ToString) -> Self {
        Self::Unknown(why.to_string())
    }

    /// The answer, if there is one.
    pub fn ok(&self) -> Option<&R> {
        match self {
            Self::Ok(ret) => Some(ret),
            Self::Fail(_) | Self::Unknown(_) => None,
        }
    }
}

/// So that `?` works within a call.
impl<R> From<Result<R, Outcome<R>>> for Outcome<R> {
    fn from(ended: Result<R, Self>) -> Self {
        ended.map_or_else(|ended| ended, Self::Ok)
    }
}

/// One opened instance of what is under test.
pub trait System: Send + Sync + 'static {
    /// What it can be asked.
    type Op: Data;
    /// What it answers.
    type Ret: Data;

    /// Does what is asked. The future is dropped where it stands when the process of the instance ends. It may take for ever,
    /// which is a finding unless something went wrong at that time.
    fn call(&self, op: &Self::Op) -> impl Future<Output = Outcome<Self::Ret>> + Send;

    /// Ends in order: at the end of a run.
    ///
    /// # Errors
    /// Why it could not, which is a finding.
    fn close(&self) -> impl Future<Output = Result<(), String>> + Send {
        async { Ok(()) }
    }

    /// Whether it has nothing left to do by itself, after everything has healed: a run waits for that before its last calls.
    ///
    /// # Errors
    /// What it has left to do.
    fn at_rest(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What a system is asked in a run, and how it is opened.
pub trait Workload: Send + Sync + 'static {
    /// What is under test.
    type System: System;
    /// Settings of the system that differ from run to run; `()` if there are none.
    type Tuning: Data + Default;

    /// Draws the plan of a run. The same stream gives the same plan.
    fn plan(&self, draw: &mut Stream) -> Plan<OpOf<Self>, Self::Tuning>;

    /// Opens the system in a process that has just started: at the beginning of a run, and again after each crash. What it opens
    /// has to reach the world through `env` alone; its background tasks too.
    ///
    /// # Errors
    /// Why it could not be opened. The bed asks again after 100 ms.
    fn open(
        &self,
        env: SimEnv,
        at: &Instance<Self::Tuning>,
    ) -> impl Future<Output = Result<Self::System, String>> + Send;
}

/// What the system of a workload is asked.
pub type OpOf<W> = <<W as Workload>::System as System>::Op;
/// What the system of a workload answers.
pub type RetOf<W> = <<W as Workload>::System as System>::Ret;

/// Which of the instances is opened.
#[derive(Clone, Debug)]
pub struct Instance<T = ()> {
    /// Its number, from 0, which is its name on the network as well.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// Counts the starts of its process, from 1.
    pub start: u32,
    /// The tuning of the run.
    pub tuning: T,
}

/// What is asked in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan<Op, T = ()> {
    /// How many instances there are.
    pub instances: u32,
    /// What is asked while faults come and go, in any order.
    pub calls: Vec<Planned<Op>>,
    /// What is asked when everything has healed and is at rest, one after the other.
    pub last: Vec<Planned<Op>>,
    /// The tuning of the system.
    pub tuning: T,
}

/// One call of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned<Op> {
    /// When, in simulated microseconds after the start of the phase of faults. For a last call: after everything is at rest, and
    /// later if the one before has not ended by then.
    pub at_us: u64,
    /// Whom it is asked of.
    pub instance: u32,
    /// What is asked.
    pub op: Op,
}

impl<Op> Planned<Op> {
    /// A call at this many simulated milliseconds.
    pub fn at_ms(at_ms: u64, instance: u32, op: Op) -> Self {
        Self { at_us: at_ms * 1_000, instance, op }
    }
}
