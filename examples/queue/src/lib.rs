//! A job queue over Redis, on the bed. A job is in one of three lists: `jobs` (waiting), `taken` and `done`. A worker takes
//! a job with a lease. Whoever asks for work first gives back the jobs whose lease is over: those of crashed workers too.
//!
//! Entering a job in `done` stands for its effect. It has to happen once, so it is one transaction with the acknowledgement,
//! and only while the worker still has its own lease.

use std::time::Duration;

use redis::{AsyncCommands, AsyncConnectionConfig, RedisConnectionInfo, RedisResult, Script, aio, cmd, pipe};
use seedbed::{Bed, Checker, History, Instance, Judged, Outcome, Plan, Planned, SimEnv, Stream, System, Workload};
use seedbed::{connect, deadline, env::Env, env::timeout, eventually_after_heal, history::Call, rand::RngExt};
use serde::{Deserialize, Serialize};

const CALL_MS: u64 = 2_000;
const CALLS: u32 = 40;
const LEASE_MS: u64 = 300;
// A lease is a key that expires by Redis's own clock, so that no clock of a worker matters.
const GIVE_BACK: &str = "for _, job in ipairs(redis.call('LRANGE', 'taken', 0, -1)) do
    if redis.call('EXISTS', 'lease:' .. job) == 0 then
        redis.call('LREM', 'taken', 1, job) redis.call('RPUSH', 'jobs', job) end end";
const TAKE: &str = "local job = redis.call('LMOVE', 'jobs', 'taken', 'RIGHT', 'LEFT') if not job then return end ";
// Each lease has a token, since another worker may take the same job again.
const LEASE: &str = "local token = redis.call('INCR', 'token') redis.call('SET', 'lease:' .. job, token, 'PX', ARGV[1])
    return {job, token}";
const LEFT: &str =
    "return {redis.call('LLEN', 'jobs') + redis.call('LLEN', 'taken'), redis.call('LRANGE', 'done', 0, -1)}";
// What a mistake does instead of TAKE, after an RPOP.
const PUSH: &str = "local job = ARGV[2] redis.call('LPUSH', 'taken', job) ";

/// A mistake, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A job leaves `jobs` in one request and enters `taken` in the next.
    PopThenPush,
    /// A job is done in one request and acknowledged in the next.
    DoThenAcknowledge,
    /// A job is done without a look at the lease.
    NoFencing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    Push(u32),
    Work { takes_ms: u64 },
    Drain,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    Pushed,
    Idle,
    Did(u32),
    TooLate(u32),
    Drained(Vec<u32>),
}

/// The client of one process.
pub struct Client {
    env: SimEnv,
    bug: Option<Bug>,
}

type Redis = aio::MultiplexedConnection;

impl Client {
    /// Takes a job. Answers it with the token of its lease.
    async fn take(&self, redis: &mut Redis) -> RedisResult<Option<(u32, u64)>> {
        let _: () = Script::new(GIVE_BACK).invoke_async(redis).await?;
        if self.bug != Some(Bug::PopThenPush) {
            return Script::new(&[TAKE, LEASE].concat()).arg(LEASE_MS).invoke_async(redis).await;
        }
        let Some(job) = redis.rpop::<_, Option<u32>>("jobs", None).await? else { return Ok(None) };
        Script::new(&[PUSH, LEASE].concat()).arg(LEASE_MS).arg(job).invoke_async(redis).await
    }

    /// Does a job, unless its lease is over. Answers whether it was done.
    async fn finish(&self, redis: &mut Redis, job: u32, token: u64) -> RedisResult<bool> {
        let lease = format!("lease:{job}");
        // EXEC does nothing if the lease ends, or becomes another's, after this.
        cmd("WATCH").arg(&lease).exec_async(redis).await?;
        if redis.get::<_, Option<u64>>(&lease).await? != Some(token) && self.bug != Some(Bug::NoFencing) {
            return cmd("UNWATCH").exec_async(redis).await.map(|()| false);
        }
        if self.bug == Some(Bug::DoThenAcknowledge) {
            let _: () = redis.rpush("done", job).await?;
            return pipe().lrem("taken", 1, job).del(lease).exec_async(redis).await.map(|()| true);
        }
        // `atomic` would send MULTI together with the rest. Where Redis refuses MULTI (NOPERM), the rest then runs as single
        // commands, and redis 1.8.1 panics in a debug build.
        cmd("MULTI").exec_async(redis).await?;
        let mut finish = pipe();
        finish.lrem("taken", 1, job).ignore().del(lease).ignore().rpush("done", job).ignore().cmd("EXEC");
        let (done,): (Option<(u32, u32, u32)>,) = finish.query_async(redis).await?;
        Ok(done.is_some())
    }

    async fn work(&self, redis: &mut Redis, takes_ms: u64) -> RedisResult<Ret> {
        let Some((job, token)) = self.take(redis).await? else { return Ok(Ret::Idle) };
        self.env.sleep(Duration::from_millis(takes_ms)).await;
        Ok(if self.finish(redis, job, token).await? { Ret::Did(job) } else { Ret::TooLate(job) })
    }

    /// Works until there are no jobs, taken ones included. Answers which are done.
    async fn drain(&self, redis: &mut Redis) -> RedisResult<Ret> {
        loop {
            match Script::new(LEFT).invoke_async(redis).await? {
                (0, done) => return Ok(Ret::Drained(done)),
                _ => self.work(redis, 0).await?,
            };
        }
    }
}

impl System for Client {
    type Op = Op;
    type Ret = Ret;

    async fn call(&self, op: &Op) -> Outcome<Ret> {
        let asked = async {
            let stream = connect(&self.env, "redis", 6379).await.map_err(Outcome::fail)?;
            let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let opened = Redis::new_with_config(&RedisConnectionInfo::default(), stream, config).await;
            let (mut redis, driver) = opened.map_err(Outcome::fail)?;
            // It ends with the connection.
            drop(self.env.spawn(driver));
            let answer = match *op {
                Op::Push(job) => redis.lpush("jobs", job).await.map(|()| Ret::Pushed),
                Op::Work { takes_ms } => self.work(&mut redis, takes_ms).await,
                Op::Drain => self.drain(&mut redis).await,
            };
            answer.map_err(Outcome::unknown)
        };
        let ended = timeout(&self.env, Duration::from_millis(CALL_MS), asked).await;
        ended.unwrap_or(Err(Outcome::unknown("no answer"))).into()
    }
}

pub struct Queue(pub Option<Bug>);

impl Workload for Queue {
    type System = Client;
    type Tuning = ();

    fn plan(&self, draw: &mut Stream) -> Plan<Op> {
        let instances = draw.random_range(2..=4);
        let call = |job| {
            // Some work takes longer than its lease.
            let takes_ms = draw.random_range(0..LEASE_MS * 3 / 2);
            let op = if draw.random() { Op::Push(job) } else { Op::Work { takes_ms } };
            Planned::at_ms(draw.random_range(0..3_000), draw.random_range(0..instances), op)
        };
        let calls = (0..CALLS).map(call).collect();
        Plan { instances, calls, last: vec![Planned::at_ms(0, 0, Op::Drain)], tuning: () }
    }

    async fn open(&self, env: SimEnv, _: &Instance) -> Result<Client, String> {
        Ok(Client { env, bug: self.0 })
    }
}

/// Something holds for the push of a job, if there was one, and how often the job was done.
struct EachJob(&'static str, fn(Option<&Call<'_, Op, Ret>>, usize) -> bool);

impl Checker<Queue> for EachJob {
    fn name(&self) -> &str {
        self.0
    }

    fn check(&self, history: &History<Queue>) -> Judged {
        let calls = history.calls();
        let pushes = calls.iter().filter(|call| matches!(call.op, Op::Push(_))).count() as u64;
        let Some(Ret::Drained(done)) = calls.last().and_then(Call::answer) else {
            return Judged::held(0).excusing("not drained", pushes);
        };
        for job in 0..CALLS {
            let push = calls.iter().find(|call| *call.op == Op::Push(job));
            let times = done.iter().filter(|done| **done == job).count();
            if !(self.1)(push, times) {
                return Judged::violated(format!("job {job}"), format!("job {job} was done {times} times: {push:?}"));
            }
        }
        Judged::held(pushes)
    }
}

/// The queue on the bed: with a Redis that keeps what it has acknowledged.
pub fn bed(bug: Option<Bug>) -> Bed<Queue> {
    Bed::new(Queue(bug))
        .redis()
        .check(EachJob("no job is lost", |push, times| times > 0 || push.is_none_or(|push| push.answer().is_none())))
        .check(EachJob("no job is done twice", |_, times| times < 2))
        .check(EachJob("no other job is done", |push, times| times == 0 || push.is_some_and(|push| !push.has_failed())))
        .check(eventually_after_heal("drained", 10_000, |_, ret| matches!(ret, Ret::Drained(_))))
        .check(deadline(CALL_MS + 100))
}
