//! Writes and reads of an instance: to Redis, or to its own store.

use super::{CallFate, ModelInstance, ModelWorld, Op};
use crate::{
    held::Store,
    history::{ModelWrite, Removal},
    interval::{Interval, Time},
    redis::{Cells, EXISTENCE, Merge, MergeMode, ModelStamp, ScriptReply, Whole},
    rules::Bounds,
};

/// What an instance asks Redis for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModelCall {
    /// One of the history.
    Upsert {
        /// Its place there.
        write: usize,
        /// What it asks for.
        life: Interval,
        /// How often it was stamped again.
        attempts: u8,
    },
    /// Likewise.
    Remove {
        /// Its place there.
        removal: usize,
        /// How often it was stamped again.
        attempts: u8,
    },
    /// What was pending.
    Replay {
        /// As it was sent.
        merge: Merge,
        /// Until something is marked pending again (R8).
        valid: bool,
    },
    /// Of the record.
    Read {
        /// What was held when it was sent (R7).
        asked: Store,
        /// Whether a replay was under way (R8).
        behind_replay: bool,
    },
}

/// What Redis says to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedisAnswer {
    /// To a merge.
    Merged(ScriptReply),
    /// To a read.
    Read(Whole),
}

/// A call on its way, or its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelRequest {
    /// What for.
    pub call: ModelCall,
    /// When it was sent, by the sender's clock.
    pub sent_at: Time,
    /// Of Redis's data, as the connection knew it (R6).
    pub generation: u8,
    /// Once it was executed.
    pub answer: Option<RedisAnswer>,
}

impl ModelWorld {
    pub(super) fn ask(&mut self, bounds: &Bounds, by: usize, op: Op, fate: CallFate) {
        let sent = self.instances[by].flight.len();
        self.send(bounds, by, op);
        match fate {
            CallFate::UnderWay => {}
            CallFate::Answered => self.run(bounds, by),
            CallFate::ReplyLost => {
                self.left.lost_replies -= 1;
                for _ in sent..self.instances[by].flight.len() {
                    self.execute(bounds, by);
                }
                self.disconnect(bounds, by, false);
            }
            CallFate::Late => self.disconnect(bounds, by, true),
        }
    }

    /// All that is in flight is executed and answered.
    fn run(&mut self, bounds: &Bounds, by: usize) {
        while self.instances[by].connected && !self.instances[by].flight.is_empty() {
            if self.instances[by].flight[0].answer.is_none() {
                self.execute(bounds, by);
            }
            self.deliver(bounds, by);
        }
    }

    fn send(&mut self, bounds: &Bounds, by: usize, op: Op) {
        let now = self.now;
        let calls = match op {
            Op::Upsert(cell) => {
                let write = self.begin_upsert(by, cell);
                let life = Interval::from_now(self.instances[by].clock(now), bounds.ttl);
                vec![ModelCall::Upsert { write, life, attempts: 0 }]
            }
            Op::Remove => vec![ModelCall::Remove { removal: self.begin_removal(by), attempts: 0 }],
            Op::Replay => {
                let instance = &self.instances[by];
                let merges = instance.store.to_send(bounds, instance.clock(now));
                merges.into_iter().map(|merge| ModelCall::Replay { merge, valid: true }).collect()
            }
            Op::Read => {
                let instance = &self.instances[by];
                vec![ModelCall::Read { asked: instance.store.clone(), behind_replay: instance.is_replaying() }]
            }
        };
        for call in calls {
            self.push(bounds, by, call);
        }
    }

    pub(super) fn push(&mut self, bounds: &Bounds, by: usize, call: ModelCall) {
        let instance = &mut self.instances[by];
        let sent_at = if bounds.counts_ages() { instance.clock(self.now) } else { 0 };
        instance.flight.push(ModelRequest { call, sent_at, generation: instance.generation, answer: None });
    }

    pub(super) fn stamp(&mut self, by: usize) -> ModelStamp {
        let now = self.now;
        let instance = &mut self.instances[by];
        instance.see(instance.store.newest());
        let wall = ModelStamp::try_from(now + instance.skew).unwrap_or(0);
        let head = wall.max((instance.seen >> 2) + 1);
        instance.seen = (head << 2) | ModelStamp::try_from(by).unwrap_or(3);
        instance.seen
    }

    fn begin_upsert(&mut self, by: usize, cell: usize) -> usize {
        self.left.upserts -= 1;
        let stamp = self.stamp(by);
        let ModelInstance { off, met, .. } = self.instances[by];
        let off = off - self.redis.step;
        let write = ModelWrite { cell, stamp, at: self.now, by, acknowledged: false, off, provisional: !met };
        self.history.writes.push(write);
        self.history.writes.len() - 1
    }

    fn begin_removal(&mut self, by: usize) -> usize {
        self.left.removals -= 1;
        let stamp = self.stamp(by);
        self.history.removals.push(Removal { stamp, at: self.now, effective: false });
        self.history.removals.len() - 1
    }

    pub(super) fn write_locally(&mut self, bounds: &Bounds, by: usize, op: Op) {
        match op {
            Op::Upsert(cell) => {
                let write = self.begin_upsert(by, cell);
                let life = Interval::from_now(self.instances[by].clock(self.now), bounds.ttl);
                self.keep_upsert(bounds, by, write, life);
            }
            Op::Remove => {
                let removal = self.begin_removal(by);
                self.keep_removal(by, removal);
            }
            Op::Replay | Op::Read => {}
        }
    }

    pub(super) fn keep_upsert(&mut self, bounds: &Bounds, by: usize, write: usize, life: Interval) {
        let written = &mut self.history.writes[write];
        written.acknowledged = true;
        let instance = &mut self.instances[by];
        let clock = (!instance.met).then_some(instance.process);
        instance.store.upsert(bounds, written.cell, written.stamp, life, clock);
    }

    pub(super) fn keep_removal(&mut self, by: usize, removal: usize) {
        let removal = &mut self.history.removals[removal];
        removal.effective = true;
        self.instances[by].store.remove(removal.stamp);
    }

    /// What the script is sent for it; none for a read.
    pub(super) fn merge_of(&self, call: &ModelCall) -> Option<(Merge, Option<usize>)> {
        let all = Merge { mode: MergeMode::All, cells: Cells::default(), tombstone: 0, told: None, written: None };
        match call {
            ModelCall::Upsert { write, life, .. } => {
                let ModelWrite { cell, stamp, .. } = self.history.writes[*write];
                let mut cells = Cells::default();
                (cells[cell], cells[EXISTENCE]) = (stamp, stamp);
                Some((Merge { cells, written: Some(*life), ..all }, None))
            }
            ModelCall::Remove { removal, .. } => {
                Some((Merge { tombstone: self.history.removals[*removal].stamp, ..all }, Some(*removal)))
            }
            ModelCall::Replay { merge, .. } => Some((*merge, None)),
            ModelCall::Read { .. } => None,
        }
    }

    pub(super) fn execute(&mut self, bounds: &Bounds, by: usize) {
        let Some(next) = self.instances[by].flight.iter().position(|request| request.answer.is_none()) else { return };
        let answer = match self.merge_of(&self.instances[by].flight[next].call) {
            Some((merge, removal)) => RedisAnswer::Merged(self.execute_merge(bounds, &merge, removal)),
            None => RedisAnswer::Read(self.redis.read(bounds, self.now)),
        };
        self.instances[by].flight[next].answer = Some(answer);
    }

    pub(super) fn execute_merge(&mut self, bounds: &Bounds, merge: &Merge, removal: Option<usize>) -> ScriptReply {
        let reply = self.redis.merge(bounds, self.now, merge);
        if let (Some(removal), ScriptReply::Applied(_)) = (removal, &reply) {
            self.history.removals[removal].effective = true;
        }
        reply
    }
}
