//! The properties. Each state is judged as if everything healed at that moment: every instance connects, replays what is
//! pending and reads; what Redis holds then is held against the history.

use std::fmt;

use crate::{
    history::ModelWrite,
    interval::Time,
    redis::Cells,
    rules::Bounds,
    world::{Action, CallFate, ModelWorld, Op},
};

/// A property that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokenProperty {
    /// (a) An acknowledged upsert with a right interval is gone before its time to live has passed.
    LostEarly,
    /// (b) One is gone although Redis has held the record since before the end of its time to live.
    LostWhileLiving,
    /// (c) Something is shown although its life, with all that overlap it, is over.
    ShownAfterItsTime,
    /// (c) Something is shown although a removal covers it.
    ShownAfterRemoval,
    /// A life in Redis lasts longer than a time to live from now.
    LivesTooLong,
    /// A local read of its author, whose clock is right, hides an acknowledged upsert before its time.
    HiddenFromAuthor,
    /// Replays never end, or the instances do not agree with Redis.
    Diverged,
}

/// What is broken, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which property.
    pub broken: BrokenProperty,
    /// The stamp concerned; zero if it is no write.
    pub stamp: u8,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (stamp {})", self.broken, self.stamp)
    }
}

/// How often everything is replayed and read before it must be at rest.
const ROUNDS: usize = 4;

/// The first property that does not hold in this state.
pub fn judge(bounds: &Bounds, world: &ModelWorld) -> Option<Finding> {
    let now = world.now;
    judge_life(bounds, world).or_else(|| judge_local_reads(bounds, world)).or_else(|| {
        let mut order: Vec<_> = (0..world.instances.len()).collect();
        for _ in 0..order.len().min(2) {
            // R6: what a new generation told to be lost is published again before anybody reads.
            let finding =
                (bounds.losses > 0).then(|| judge_writes(bounds, &replayed(bounds, world, &order), now)).flatten();
            let healed = heal(bounds, world, &order);
            let finding = finding.or_else(|| judge_rest(&healed)).or_else(|| judge_life(bounds, &healed));
            let finding = finding.or_else(|| judge_writes(bounds, &healed, now));
            if finding.is_some() {
                return finding;
            }
            order.reverse();
        }
        None
    })
}

/// Everything under way ends, and every instance meets Redis, in this order.
pub fn heal(bounds: &Bounds, world: &ModelWorld, order: &[usize]) -> ModelWorld {
    let mut healed = replayed(bounds, world, order);
    for _ in 0..ROUNDS {
        let before = healed.redis;
        for by in order {
            if healed.instances[*by].store.is_pending() {
                healed = healed.after(bounds, Action::Ask { by: *by, op: Op::Replay, fate: CallFate::Answered });
            }
            healed = healed.after(bounds, Action::Ask { by: *by, op: Op::Read, fate: CallFate::Answered });
        }
        let pending = healed.instances.iter().any(|instance| instance.store.is_pending());
        if healed.redis == before && !pending {
            break;
        }
    }
    healed
}

/// Everything under way ends, every instance meets Redis and replays what is pending. They read when they are asked to.
fn replayed(bounds: &Bounds, world: &ModelWorld, order: &[usize]) -> ModelWorld {
    let mut healed = world.clone();
    healed.late.clear();
    for by in order {
        healed.disconnect(bounds, *by, false);
        while !healed.instances[*by].waiting.is_empty() {
            healed = healed.after(bounds, Action::GiveUp { by: *by });
        }
        healed = healed.after(bounds, Action::Connect { by: *by });
        healed = healed.after(bounds, Action::Ask { by: *by, op: Op::Replay, fate: CallFate::Answered });
    }
    healed
}

fn judge_life(bounds: &Bounds, world: &ModelWorld) -> Option<Finding> {
    let life = world.redis.whole.life?;
    let limit = world.redis.clock(world.now) + bounds.ttl;
    let wrong = life.end > limit || life.begin > world.redis.clock(world.now);
    wrong.then_some(Finding { broken: BrokenProperty::LivesTooLong, stamp: 0 })
}

fn judge_rest(healed: &ModelWorld) -> Option<Finding> {
    let whole = healed.redis.whole;
    let differs = healed.instances.iter().any(|instance| {
        instance.store.is_pending() || instance.store.shown_at(instance.clock(healed.now)) != whole.cells
    });
    differs.then_some(Finding { broken: BrokenProperty::Diverged, stamp: 0 })
}

/// Of what Redis holds after all has healed.
fn judge_writes(bounds: &Bounds, healed: &ModelWorld, now: Time) -> Option<Finding> {
    let whole = healed.redis.whole;
    for write in &healed.history.writes {
        let kept = whole.cells[write.cell] == write.stamp;
        if let Some(broken) =
            if kept { judge_kept(bounds, healed, write) } else { judge_gone(bounds, healed, write, now) }
        {
            return Some(Finding { broken, stamp: write.stamp });
        }
    }
    None
}

fn judge_kept(bounds: &Bounds, healed: &ModelWorld, write: &ModelWrite) -> Option<BrokenProperty> {
    if healed.history.must_be_removed(write, bounds.tombstone_ttl) {
        return Some(BrokenProperty::ShownAfterRemoval);
    }
    (healed.history.reach(write, bounds.ttl) <= healed.now).then_some(BrokenProperty::ShownAfterItsTime)
}

fn judge_gone(bounds: &Bounds, healed: &ModelWorld, write: &ModelWrite, now: Time) -> Option<BrokenProperty> {
    let above = healed.redis.whole.cells[write.cell] > write.stamp;
    if !bounds.outlives_loss()
        || !write.acknowledged
        || !write.is_right()
        || above
        || healed.history.is_removed(write.stamp)
    {
        return None;
    }
    let end = write.interval(bounds.ttl).end;
    if now < end {
        return Some(BrokenProperty::LostEarly);
    }
    let lived = healed.redis.whole.life.is_some() && healed.redis.held_since < end;
    lived.then_some(BrokenProperty::LostWhileLiving)
}

/// Of what an instance with a right clock answers without Redis.
fn judge_local_reads(bounds: &Bounds, world: &ModelWorld) -> Option<Finding> {
    for (by, instance) in world.instances.iter().enumerate() {
        if instance.off != world.redis.step {
            continue;
        }
        let shown = instance.store.shown_at(instance.clock(world.now));
        for write in &world.history.writes {
            let broken = judge_shown(bounds, world, write, shown).or_else(|| {
                let own = write.by == by && !bounds.crash_loses_copies && bounds.outlives_loss();
                (own && is_hidden(bounds, world, write, shown)).then_some(BrokenProperty::HiddenFromAuthor)
            });
            if let Some(broken) = broken {
                return Some(Finding { broken, stamp: write.stamp });
            }
        }
    }
    None
}

fn judge_shown(bounds: &Bounds, world: &ModelWorld, write: &ModelWrite, shown: Cells) -> Option<BrokenProperty> {
    let is_in = shown[write.cell] == write.stamp;
    // What is pending with a wrong interval is corrected when its author meets Redis.
    let unsettled = world.history.writes.iter().any(|write| write.off != 0);
    let over = world.history.reach(write, bounds.ttl) <= world.now;
    (is_in && !unsettled && over).then_some(BrokenProperty::ShownAfterItsTime)
}

fn is_hidden(bounds: &Bounds, world: &ModelWorld, write: &ModelWrite, shown: Cells) -> bool {
    let lives = write.acknowledged && write.is_right() && world.now < write.interval(bounds.ttl).end;
    let removed = world.history.removals.iter().any(|removal| removal.stamp >= write.stamp);
    let covered = shown[write.cell] >= write.stamp || removed;
    lives && !covered
}
