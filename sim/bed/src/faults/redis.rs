//! Faults of the Redis server.

use rand::{RngExt, seq::IndexedRandom};
use seedbed_redis::{Engine, REFUSALS, Refusal};
use seedbed_world::{Stop, seed::Stream};
use serde::{Deserialize, Serialize};

use super::{Budget, FaultKind, Frame, Part, Stage};
use crate::redis_host::{NAME, Persistence, RedisHost};

/// The Redis of the run. Only plans of runs that have one strike it.
fn redis<'s>(stage: &Stage<'s>) -> &'s RedisHost {
    stage.redis.expect("a plan strikes a Redis only where there is one")
}

/// Redis is killed, and starts again at the end, with its data or without.
#[derive(Clone, Copy, Debug)]
pub struct RedisCrash;

/// The parameters of a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crashed {
    /// What it holds afterwards.
    pub data: Persistence,
}

impl FaultKind for RedisCrash {
    type Parameters = Crashed;

    fn name(&self) -> &'static str {
        "redis crash"
    }

    fn part(&self) -> Part {
        Part::Process
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Crashed> {
        let may_lose = frame.budget == Budget::RedisMayLoseData;
        let data = if may_lose && draw.random() { Persistence::Lost } else { Persistence::Kept };
        frame.has_redis.then_some(Crashed { data })
    }

    fn victims(&self, _: &Crashed) -> Vec<String> {
        vec![NAME.to_owned()]
    }

    fn begin(&self, crashed: &Crashed, stage: &Stage<'_>) {
        redis(stage).crash(stage.world, Stop::Killed, crashed.data);
    }

    fn end(&self, _: &Crashed, stage: &Stage<'_>) {
        redis(stage).start(stage.world);
    }

    fn effects(&self, _: &Crashed, _: &Stage<'_>, has_begun: bool) -> u64 {
        u64::from(has_begun)
    }
}

/// The process of Redis is stopped (SIGSTOP), and goes on at the end: its kernel takes connections that are not answered.
#[derive(Clone, Copy, Debug)]
pub struct RedisPause;

impl FaultKind for RedisPause {
    type Parameters = ();

    fn name(&self) -> &'static str {
        "redis pause"
    }

    fn part(&self) -> Part {
        Part::Process
    }

    fn draw(&self, _: &mut Stream, frame: &Frame) -> Option<()> {
        frame.has_redis.then_some(())
    }

    fn victims(&self, (): &()) -> Vec<String> {
        vec![NAME.to_owned()]
    }

    fn begin(&self, (): &(), stage: &Stage<'_>) {
        stage.world.pause(redis(stage).host());
    }

    fn end(&self, (): &(), stage: &Stage<'_>) {
        stage.world.resume(redis(stage).host());
    }

    fn effects(&self, (): &(), _: &Stage<'_>, has_begun: bool) -> u64 {
        u64::from(has_begun)
    }
}

/// Redis answers with an error until the end: loading, out of memory, read-only..
#[derive(Clone, Copy, Debug)]
pub struct RedisRefuses;

/// The parameters of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The state that it is in.
    pub with: Refusal,
}

impl FaultKind for RedisRefuses {
    type Parameters = Refused;

    fn name(&self) -> &'static str {
        "redis refuses"
    }

    fn part(&self) -> Part {
        Part::Service
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Refused> {
        let with = *REFUSALS.choose(draw)?;
        frame.has_redis.then_some(Refused { with })
    }

    fn victims(&self, _: &Refused) -> Vec<String> {
        vec![NAME.to_owned()]
    }

    fn begin(&self, refused: &Refused, stage: &Stage<'_>) {
        redis(stage).with_engine(|engine| engine.refuse(Some(refused.with)));
    }

    fn end(&self, _: &Refused, stage: &Stage<'_>) {
        redis(stage).with_engine(|engine| engine.refuse(None));
    }

    fn effects(&self, _: &Refused, stage: &Stage<'_>, _: bool) -> u64 {
        redis(stage).with_engine(|engine| engine.refusals())
    }
}

/// An operator empties Redis.
#[derive(Clone, Copy, Debug)]
pub struct FlushAll;

impl FaultKind for FlushAll {
    type Parameters = ();

    fn name(&self) -> &'static str {
        "flushall"
    }

    fn part(&self) -> Part {
        Part::Service
    }

    fn is_momentary(&self) -> bool {
        true
    }

    fn draw(&self, _: &mut Stream, frame: &Frame) -> Option<()> {
        (frame.has_redis && frame.budget == Budget::RedisMayLoseData).then_some(())
    }

    fn victims(&self, (): &()) -> Vec<String> {
        vec![NAME.to_owned()]
    }

    fn begin(&self, (): &(), stage: &Stage<'_>) {
        redis(stage).with_engine(Engine::flush_all);
    }

    fn effects(&self, (): &(), _: &Stage<'_>, has_begun: bool) -> u64 {
        u64::from(has_begun)
    }
}
