//! One Redis, the instances and the network between them: what can happen next, and what it does.

mod action;
mod reply;
mod request;

pub use self::{
    action::{Action, CallFate, Op},
    request::{ModelCall, ModelRequest, RedisAnswer},
};
use crate::{
    held::Store,
    history::ModelHistory,
    interval::{Interval, Time},
    redis::{Merge, ModelStamp, Redis, Whole},
    rules::{Bounds, BrokenRule},
};

/// A process of the application with its store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelInstance {
    /// On disk.
    pub store: Store,
    /// The clock of its stamps: the last that it issued or saw. On disk (R4).
    pub seen: ModelStamp,
    /// By how much it is ahead in its stamps.
    pub skew: Time,
    /// By how much its estimate of Redis's clock is ahead of true time.
    pub off: Time,
    /// Whether it has met Redis since it started.
    pub met: bool,
    /// Which of the processes that did not meet Redis it is.
    pub process: u8,
    /// Whether it has a connection.
    pub connected: bool,
    /// Of the copies in its store.
    pub generation: u8,
    /// In the order of sending, which Redis keeps.
    pub flight: Vec<ModelRequest>,
    /// Upserts whose connection has ended, and whose callers wait yet: by their place in the history, with their lives.
    pub waiting: Vec<(usize, Interval)>,
}

/// A request whose sender has given it up. It may execute yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Late {
    /// What it asks for.
    pub merge: Merge,
    /// The removal that it is, by its place in the history.
    pub removal: Option<usize>,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActionsLeft {
    upserts: u8,
    removals: u8,
    crashes: u8,
    losses: u8,
    evictions: u8,
    late: u8,
    lost_replies: u8,
    steps: u8,
    drifts: u8,
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelWorld {
    /// True time.
    pub now: Time,
    /// The server.
    pub redis: Redis,
    /// The clients.
    pub instances: Vec<ModelInstance>,
    /// Given up, and still under way.
    pub late: Vec<Late>,
    /// For the judge.
    pub history: ModelHistory,
    /// How much of the bounds is left.
    pub left: ActionsLeft,
}

impl ModelInstance {
    fn new(skew: Time) -> Self {
        Self {
            store: Store::default(),
            seen: 0,
            skew,
            off: 0,
            met: false,
            process: 0,
            connected: false,
            generation: 0,
            flight: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Redis's clock, by its estimate.
    pub fn clock(&self, now: Time) -> Time {
        now + self.off
    }

    fn see(&mut self, stamp: ModelStamp) {
        self.seen = self.seen.max(stamp);
    }

    fn mark(&mut self) {
        for request in &mut self.flight {
            if let ModelCall::Replay { valid, .. } = &mut request.call {
                *valid = false;
            }
        }
    }

    fn is_replaying(&self) -> bool {
        self.flight.iter().any(|request| matches!(request.call, ModelCall::Replay { .. }))
    }
}

impl ModelWorld {
    /// Where a run begins, for each of the skews.
    pub fn beginnings(bounds: &Bounds) -> Vec<Self> {
        let left = ActionsLeft {
            upserts: bounds.upserts,
            removals: bounds.removals,
            crashes: bounds.crashes,
            losses: bounds.losses,
            evictions: bounds.evictions,
            late: bounds.late,
            lost_replies: bounds.lost_replies,
            steps: u8::from(!bounds.steps.is_empty()),
            drifts: u8::from(!bounds.drifts.is_empty()),
        };
        let world = |skew: &Time| Self {
            now: 0,
            redis: Redis::default(),
            instances: (0..bounds.instances).map(|by| ModelInstance::new(if by == 1 { *skew } else { 0 })).collect(),
            late: Vec::new(),
            history: ModelHistory::default(),
            left,
        };
        bounds.skews.iter().map(world).collect()
    }

    /// The state after the action.
    #[must_use]
    pub fn after(&self, bounds: &Bounds, action: Action) -> Self {
        let mut world = self.clone();
        match action {
            Action::Tick => world.now += 1,
            Action::Ask { by, op, fate } => world.ask(bounds, by, op, fate),
            Action::Local { by, op } => world.write_locally(bounds, by, op),
            Action::Execute { by } => world.execute(bounds, by),
            Action::Deliver { by } => world.deliver(bounds, by),
            Action::Disconnect { by, late } => world.disconnect(bounds, by, late),
            Action::Connect { by } => world.connect(bounds, by),
            Action::Restart { by, off, late } => world.restart(bounds, by, off, late),
            Action::GiveUp { by } => {
                let (write, life) = world.instances[by].waiting.remove(0);
                world.keep_upsert(bounds, by, write, life);
            }
            Action::Drift { by, off } => {
                world.left.drifts -= 1;
                world.instances[by].off += off;
            }
            Action::ExecuteLate { index } => {
                let late = world.late.remove(index);
                world.execute_merge(bounds, &late.merge, late.removal);
            }
            Action::LoseData { connections } => world.lose_data(bounds, connections),
            Action::Evict => {
                world.left.evictions -= 1;
                world.evict();
            }
            Action::Step { by } => {
                world.left.steps -= 1;
                world.redis.step += by;
            }
        }
        if bounds.steps.is_empty() {
            // The script does it before anything else, so an earlier time makes no difference, and fewer states.
            world.redis.expire(bounds, world.now);
        }
        world
    }

    /// R10: writes with an unknown outcome are pending, under the same stamp and with the same interval.
    pub(crate) fn disconnect(&mut self, bounds: &Bounds, by: usize, late: bool) {
        self.leave_late(by, late);
        self.instances[by].connected = false;
        for request in std::mem::take(&mut self.instances[by].flight) {
            match request.call {
                ModelCall::Upsert { write, life, .. } => {
                    let life = if bounds.has(BrokenRule::StampedAgain) {
                        self.stamp_upsert_again(bounds, by, write)
                    } else {
                        life
                    };
                    if bounds.slow_callers {
                        self.instances[by].waiting.push((write, life));
                    } else {
                        self.keep_upsert(bounds, by, write, life);
                    }
                }
                ModelCall::Remove { removal, .. } => self.keep_removal(by, removal),
                ModelCall::Replay { .. } | ModelCall::Read { .. } => {}
            }
        }
    }

    fn leave_late(&mut self, by: usize, late: bool) {
        if !late {
            return;
        }
        let mut unexecuted = self.instances[by].flight.iter().filter(|request| request.answer.is_none());
        let merge = unexecuted.find_map(|request| self.merge_of(&request.call));
        if let Some((merge, removal)) = merge {
            self.left.late -= 1;
            self.late.push(Late { merge, removal });
        }
    }

    /// L3: the clock is read, and corrects what was estimated before. R6: a new generation marks the copies.
    fn connect(&mut self, bounds: &Bounds, by: usize) {
        let (step, generation) = (self.redis.step, self.redis.generation);
        let instance = &mut self.instances[by];
        let ahead = step - instance.off;
        instance.store.correct(if bounds.has(BrokenRule::NeverCorrected) { 0 } else { ahead });
        for write in self.history.writes.iter_mut().filter(|write| write.by == by && write.provisional) {
            write.off += ahead;
            write.provisional = false;
        }
        (instance.off, instance.met, instance.process, instance.connected) = (step, true, 0, true);
        if instance.generation != generation {
            instance.generation = generation;
            if !bounds.has(BrokenRule::GenerationIgnored) {
                instance.store.reclaim_all(bounds, instance.off + self.now);
                instance.mark();
            }
        }
    }

    fn restart(&mut self, bounds: &Bounds, by: usize, off: Time, late: bool) {
        self.left.crashes -= 1;
        self.leave_late(by, late);
        let instance = &mut self.instances[by];
        instance.flight.clear();
        instance.waiting.clear();
        instance.connected = false;
        let waits = instance.store.lives.iter().any(|life| life.provisional.is_some());
        instance.process = if waits { instance.process + 1 } else { 0 };
        (instance.met, instance.off) = (false, off);
        if bounds.crash_loses_copies {
            instance.store.forget_copies();
        }
    }

    fn evict(&mut self) {
        self.redis.whole = Whole::default();
        (self.redis.forgotten_at, self.redis.held_since) = (0, 0);
    }

    fn lose_data(&mut self, bounds: &Bounds, connections: bool) {
        self.left.losses -= 1;
        self.evict();
        self.redis.generation += 1;
        if !connections {
            // It was started again.
            self.late.clear();
            for by in 0..self.instances.len() {
                self.disconnect(bounds, by, false);
            }
        }
    }
}
