//! The bounds of a search, and the faults that can be planted in the rules.

use crate::interval::Time;

/// A rule left out or done wrong. The search must find what each breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BrokenRule {
    /// Against L2: a life that is over leaves a tombstone at its newest stamp.
    TombstoneOfExpired,
    /// Against L1: the interval of the larger stamp stands.
    DeadlineByStamp,
    /// Against L3: the script takes any end for true.
    EndNotClamped,
    /// Against L3: the script takes a begin in the future for true.
    BeginNotClamped,
    /// Against L4: the script joins a life that had ended before the present one began.
    EndedLifeJoined,
    /// Against L2: a write after the estimated end of a life forgets the pending cells before it.
    PendingForgotten,
    /// Against L4: a local store joins every write into one life.
    LivesInOne,
    /// Against L3: what is replayed asks for a life from the time of sending.
    IntervalOfSending,
    /// Against L3: a write of a process that has not met Redis joins the life that Redis told before.
    ProvisionalJoined,
    /// Against L3: an estimate from before the first contact is never corrected.
    NeverCorrected,
    /// Against L5: a copy of a life that ended joins the present one.
    CopiesOfEndedJoined,
    /// Against L4: a write that comes in after the present life began joins it, whenever it was made.
    LateWriteJoined,
    /// Against L1: an upsert of which every cell was outdone does not ask for its life any more.
    OutdoneNotAsked,
    /// Against L1: a cell that won over a pending one does not ask for the life that that one asked for.
    WinnerNotAsked,
    /// A definite refusal of a life that is over is taken for success.
    OverTakenForDone,
    /// Against R5: a copy that Redis lacks is dropped.
    NotReclaimed,
    /// Against R5: an interval that Redis lacks is not published again.
    IntervalNotReclaimed,
    /// Against R6: a new generation marks no copies.
    GenerationIgnored,
    /// Against R8: an acknowledgement clears whatever is pending.
    AcknowledgesAll,
    /// Against R9: a copy is published again however old.
    OldCopiesPublished,
    /// Against R10: after an unknown outcome a write is stamped again.
    StampedAgain,
}

/// How far a search goes.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a bound of its own, and a test names those that it sets")]
pub struct Bounds {
    /// How many instances there are.
    pub instances: usize,
    /// The time to live of an upsert.
    pub ttl: Time,
    /// The last moment.
    pub horizon: Time,
    /// How long Redis keeps a tombstone.
    pub tombstone_ttl: Time,
    /// A copy is published again if it was confirmed within that time (R9).
    pub republish_within: Time,
    /// By how much the stamps of the second instance are ahead of the first one's, in units of time.
    pub skews: &'static [Time],
    /// How many upserts.
    pub upserts: u8,
    /// How many removals.
    pub removals: u8,
    /// Whether instances without a connection write.
    pub local_writes: bool,
    /// How many restarts after a crash.
    pub crashes: u8,
    /// By how much the wall clock may be wrong at a restart.
    pub wrong_clocks: &'static [Time],
    /// By how much an estimate may go wrong after Redis was met (a suspend, a wall clock that is set), once.
    pub drifts: &'static [Time],
    /// Whether a crash may take the copies that were not synced.
    pub crash_loses_copies: bool,
    /// How many times the data of Redis is lost as a whole.
    pub losses: u8,
    /// How many times the record alone is evicted.
    pub evictions: u8,
    /// How many requests may execute after their sender gave them up.
    pub late: u8,
    /// How many replies may be lost after their request executed.
    pub lost_replies: u8,
    /// Whether requests and replies take steps of their own; else a call is one step.
    pub split: bool,
    /// Whether callers of a connection that has ended give their writes up one by one, while others write already.
    pub slow_callers: bool,
    /// By how much Redis's clock may step, once.
    pub steps: &'static [Time],
    /// What is done wrong.
    pub fault: Option<BrokenRule>,
}

impl Bounds {
    /// Two instances, right clocks, a Redis that keeps its data, calls in one step.
    pub const PLAIN: Self = Self {
        instances: 2,
        ttl: 2,
        horizon: 5,
        tombstone_ttl: 100,
        republish_within: 100,
        skews: &[0],
        upserts: 3,
        removals: 0,
        local_writes: true,
        crashes: 0,
        wrong_clocks: &[],
        drifts: &[],
        crash_loses_copies: false,
        losses: 0,
        evictions: 0,
        late: 0,
        lost_replies: 0,
        split: false,
        slow_callers: false,
        steps: &[],
        fault: None,
    };

    /// Whether the rule is broken that way.
    pub fn has(&self, fault: BrokenRule) -> bool {
        self.fault == Some(fault)
    }

    /// Whether all that is acknowledged outlives a loss of Redis's data: copies are never too old to be published again.
    pub fn outlives_loss(&self) -> bool {
        !self.counts_ages() || (self.losses == 0 && self.evictions == 0)
    }

    /// Whether the age of a copy can matter. If not it is left out of the state, which makes fewer of them.
    pub fn counts_ages(&self) -> bool {
        self.republish_within < self.horizon
    }
}
