//! What an instance does with the reply of Redis.

use super::{ModelCall, ModelWorld, RedisAnswer};
use crate::{
    held::AskedWhen,
    history::ModelWrite,
    interval::{Interval, Time},
    redis::{EXISTENCE, Merge, ScriptReply, Whole},
    rules::{Bounds, BrokenRule},
};

/// How often a write is stamped again after a definite refusal, before it is kept locally.
const STAMPED_AGAIN_MAX: u8 = 2;

impl ModelWorld {
    pub(super) fn deliver(&mut self, bounds: &Bounds, by: usize) {
        let request = self.instances[by].flight.remove(0);
        let Some(answer) = request.answer else { return };
        // R6: a reply from before the data was lost says nothing.
        let known = request.generation == self.instances[by].generation;
        match (request.call, answer) {
            (ModelCall::Read { asked, behind_replay }, RedisAnswer::Read(whole)) if known => {
                let instance = &mut self.instances[by];
                instance.see(whole.newest().max(whole.tombstone));
                let now = instance.clock(self.now);
                let asking = AskedWhen { asked: &asked, sent_at: request.sent_at, now, behind_replay };
                if instance.store.take_reply(bounds, &whole, asking) {
                    instance.mark();
                }
            }
            (ModelCall::Replay { merge, valid }, RedisAnswer::Merged(reply)) if known => {
                self.take_merged(bounds, by, &merge, reply, request.sent_at, valid);
            }
            (ModelCall::Upsert { write, life, attempts }, RedisAnswer::Merged(reply)) => {
                self.take_upsert(bounds, by, (write, life, attempts), reply, request.sent_at, known);
            }
            (ModelCall::Remove { removal, attempts }, RedisAnswer::Merged(reply)) => {
                self.take_removal(bounds, by, (removal, attempts), reply, request.sent_at, known);
            }
            _ => {}
        }
    }

    fn take_merged(
        &mut self,
        bounds: &Bounds,
        by: usize,
        sent: &Merge,
        reply: ScriptReply,
        sent_at: Time,
        valid: bool,
    ) {
        let instance = &mut self.instances[by];
        let now = instance.clock(self.now);
        if valid || bounds.has(BrokenRule::AcknowledgesAll) {
            instance.store.acknowledge(bounds, sent, &reply, sent_at);
        }
        let told = match reply {
            ScriptReply::Outdone(whole) => whole,
            ScriptReply::Applied(life) => Whole { cells: sent.cells, tombstone: sent.tombstone, life },
            ScriptReply::Conflict(_) | ScriptReply::Over => return,
        };
        instance.see(told.newest().max(told.tombstone));
        instance.store.confirm(bounds, &told, sent_at, now);
    }

    fn take_upsert(
        &mut self,
        bounds: &Bounds,
        by: usize,
        (write, life, attempts): (usize, Interval, u8),
        reply: ScriptReply,
        sent_at: Time,
        known: bool,
    ) {
        let ModelWrite { cell, stamp, .. } = self.history.writes[write];
        match reply {
            ScriptReply::Applied(told) if known => {
                self.history.writes[write].acknowledged = true;
                let mut whole = Whole { life: told, ..Whole::default() };
                (whole.cells[cell], whole.cells[EXISTENCE]) = (stamp, stamp);
                let instance = &mut self.instances[by];
                instance.store.confirm(bounds, &whole, sent_at, instance.clock(self.now));
            }
            ScriptReply::Over if bounds.has(BrokenRule::OverTakenForDone) => {
                // Its caller was told that Redis has it, now.
                let written = &mut self.history.writes[write];
                (written.acknowledged, written.at, written.off) = (true, self.now, 0);
            }
            ScriptReply::Conflict(_) | ScriptReply::Over => {
                if let ScriptReply::Conflict(in_the_way) = reply {
                    self.instances[by].see(in_the_way);
                }
                let life = self.stamp_upsert_again(bounds, by, write);
                if attempts < STAMPED_AGAIN_MAX {
                    self.push(bounds, by, ModelCall::Upsert { write, life, attempts: attempts + 1 });
                } else {
                    self.keep_upsert(bounds, by, write, life);
                }
            }
            ScriptReply::Applied(_) | ScriptReply::Outdone(_) => self.keep_upsert(bounds, by, write, life),
        }
    }

    /// After a definite refusal: with a fresh interval.
    pub(super) fn stamp_upsert_again(&mut self, bounds: &Bounds, by: usize, write: usize) -> Interval {
        // The refusal says Redis's clock.
        self.instances[by].off = self.redis.step;
        let stamp = self.stamp(by);
        let written = &mut self.history.writes[write];
        (written.stamp, written.at, written.off) = (stamp, self.now, 0);
        Interval::from_now(self.instances[by].clock(self.now), bounds.ttl)
    }

    fn take_removal(
        &mut self,
        bounds: &Bounds,
        by: usize,
        (removal, attempts): (usize, u8),
        reply: ScriptReply,
        sent_at: Time,
        known: bool,
    ) {
        let stamp = self.history.removals[removal].stamp;
        match reply {
            ScriptReply::Applied(_) if known => {
                let whole = Whole { tombstone: stamp, ..Whole::default() };
                let instance = &mut self.instances[by];
                instance.store.confirm(bounds, &whole, sent_at, instance.clock(self.now));
            }
            ScriptReply::Conflict(in_the_way) => {
                self.instances[by].see(in_the_way);
                let stamp = self.stamp(by);
                let removed = &mut self.history.removals[removal];
                (removed.stamp, removed.at) = (stamp, self.now);
                if attempts < STAMPED_AGAIN_MAX {
                    self.push(bounds, by, ModelCall::Remove { removal, attempts: attempts + 1 });
                } else {
                    self.keep_removal(by, removal);
                }
            }
            _ => self.keep_removal(by, removal),
        }
    }
}
