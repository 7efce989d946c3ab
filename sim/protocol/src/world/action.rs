//! What can happen next, as the bounds allow it.

use super::ModelWorld;
use crate::{
    interval::Time,
    redis::{CELLS, Whole},
    rules::Bounds,
};

/// How a call in one step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFate {
    /// Executed, and the reply came.
    Answered,
    /// Executed, and the connection ended before the reply.
    ReplyLost,
    /// Given up before it was executed, which may happen later.
    Late,
    /// The steps follow one by one.
    UnderWay,
}

/// What an application or a task of the cache does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Of a cell.
    Upsert(usize),
    /// Of the record.
    Remove,
    /// Everything pending.
    Replay,
    /// Of the record.
    Read,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time goes on.
    Tick,
    /// A connected instance asks Redis.
    Ask {
        /// Which instance.
        by: usize,
        /// For what.
        op: Op,
        /// How that ends.
        fate: CallFate,
    },
    /// An instance without a connection writes.
    Local {
        /// Which instance.
        by: usize,
        /// What.
        op: Op,
    },
    /// Redis executes the next request of an instance.
    Execute {
        /// Which instance.
        by: usize,
    },
    /// The reply to the first request arrives.
    Deliver {
        /// Which instance.
        by: usize,
    },
    /// The connection ends.
    Disconnect {
        /// Which instance.
        by: usize,
        /// Whether what was not executed may execute yet.
        late: bool,
    },
    /// A new connection, or a probe on it: the clock is read, the generation compared.
    Connect {
        /// Which instance.
        by: usize,
    },
    /// A crash, and a restart.
    Restart {
        /// Which instance.
        by: usize,
        /// By how much its wall clock is ahead.
        off: Time,
        /// Whether what was not executed may execute yet.
        late: bool,
    },
    /// A caller whose connection has ended gives its upsert up.
    GiveUp {
        /// Which instance.
        by: usize,
    },
    /// The estimate of an instance that has met Redis goes wrong.
    Drift {
        /// Which instance.
        by: usize,
        /// By so much.
        off: Time,
    },
    /// A request that was given up executes.
    ExecuteLate {
        /// Which, of [`ModelWorld::late`].
        index: usize,
    },
    /// Redis loses its data.
    LoseData {
        /// Whether connections stay.
        connections: bool,
    },
    /// Redis loses the record.
    Evict,
    /// Redis's clock is set.
    Step {
        /// Ahead by so much.
        by: Time,
    },
}

impl ModelWorld {
    /// What can happen next.
    pub fn actions(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        if self.now < bounds.horizon {
            actions.push(Action::Tick);
        }
        for by in 0..self.instances.len() {
            self.actions_of(bounds, by, actions);
        }
        actions.extend((0..self.late.len()).map(|index| Action::ExecuteLate { index }));
        if self.left.losses > 0 {
            actions.extend([true, false].map(|connections| Action::LoseData { connections }));
        }
        if self.left.evictions > 0 && self.redis.whole != Whole::default() {
            actions.push(Action::Evict);
        }
        if self.left.steps > 0 {
            actions.extend(bounds.steps.iter().map(|by| Action::Step { by: *by }));
        }
    }

    fn actions_of(&self, bounds: &Bounds, by: usize, actions: &mut Vec<Action>) {
        let instance = &self.instances[by];
        let unexecuted = instance.flight.iter().any(|request| request.answer.is_none());
        let late = self.left.late > 0;
        if !instance.connected || instance.generation != self.redis.generation {
            actions.push(Action::Connect { by });
        }
        if !instance.connected && bounds.local_writes {
            actions.extend(self.writes().map(|op| Action::Local { by, op }));
        }
        if instance.connected && instance.flight.len() < 2 {
            self.asking(bounds, by, actions);
        }
        if instance.connected {
            actions.push(Action::Disconnect { by, late: false });
            if late && unexecuted {
                actions.push(Action::Disconnect { by, late: true });
            }
        }
        if unexecuted {
            actions.push(Action::Execute { by });
        }
        if instance.flight.first().is_some_and(|request| request.answer.is_some()) {
            actions.push(Action::Deliver { by });
        }
        if !instance.waiting.is_empty() {
            actions.push(Action::GiveUp { by });
        }
        if self.left.drifts > 0 && instance.met {
            actions.extend(bounds.drifts.iter().map(|off| Action::Drift { by, off: *off }));
        }
        if self.left.crashes > 0 {
            for off in [0].iter().chain(bounds.wrong_clocks) {
                actions.push(Action::Restart { by, off: *off, late: false });
                if late && unexecuted {
                    actions.push(Action::Restart { by, off: *off, late: true });
                }
            }
        }
    }

    fn asking(&self, bounds: &Bounds, by: usize, actions: &mut Vec<Action>) {
        let instance = &self.instances[by];
        let replay = instance.store.is_pending() && !instance.is_replaying();
        let ops = self.writes().chain(replay.then_some(Op::Replay)).chain([Op::Read]);
        for op in ops {
            if bounds.split {
                actions.push(Action::Ask { by, op, fate: CallFate::UnderWay });
                continue;
            }
            actions.push(Action::Ask { by, op, fate: CallFate::Answered });
            if op != Op::Read && self.left.lost_replies > 0 {
                actions.push(Action::Ask { by, op, fate: CallFate::ReplyLost });
            }
            if op != Op::Read && self.left.late > 0 {
                actions.push(Action::Ask { by, op, fate: CallFate::Late });
            }
        }
    }

    /// The cells are alike: the first write is of the first.
    fn writes(&self) -> impl Iterator<Item = Op> + use<> {
        let cells = if self.history.writes.is_empty() { 1 } else { CELLS - 1 };
        let upserts = if self.left.upserts > 0 { cells } else { 0 };
        (0..upserts).map(Op::Upsert).chain((self.left.removals > 0).then_some(Op::Remove))
    }
}
