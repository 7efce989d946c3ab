//! A lock with a lease and fencing over Redis, on the bed. A client that holds the lock has a token; the store that the lock
//! protects takes no write with a token below one that it has seen.

use std::{sync::Mutex, time::Duration};

use redis::{AsyncConnectionConfig, RedisConnectionInfo, Script, aio::MultiplexedConnection};
use seedbed::{
    Bed, Instance, Outcome, Plan, Planned, SimEnv, Stream, System, Workload, connect, deadline,
    env::{Env, Task, timeout},
    eventually_after_heal, linearizable,
    linearize::{Model, When},
    rand::RngExt,
};
use serde::{Deserialize, Serialize};

const LEASE_MS: u64 = 300;
// The token is the value of the lock, so that a release that comes late frees no later holder.
const ACQUIRE: &str = "if redis.call('EXISTS', 'lock') == 1 then return 0 end local token = redis.call('INCR', 'token')
    redis.call('SET', 'lock', token, 'PX', ARGV[2]) return token";
const RELEASE: &str = "if redis.call('GET', 'lock') == ARGV[1] then redis.call('DEL', 'lock') end return 1";
const WRITE: &str = "if tonumber(ARGV[1]) < tonumber(redis.call('GET', 'seen') or '0') then return 0 end
    redis.call('SET', 'seen', ARGV[1]) return 1";
// What the mistakes do instead.
const RELEASE_ANY: &str = "redis.call('DEL', 'lock') return 1";
const WRITE_ANY: &str = "redis.call('SET', 'seen', ARGV[1]) return 1";
const INCR: &str = "return redis.call('INCR', 'lock')";
const EXPIRE: &str = "redis.call('PEXPIRE', 'lock', ARGV[2]) return redis.call('INCR', 'token')";

/// A mistake, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    NoFencing,
    UnlockWithoutCompare,
    IncrThenExpire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    Acquire,
    Write,
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    Token(u64),
    Busy,
    Wrote(u64),
    Stale(u64),
    Released(u64),
}

/// The client of one process.
pub struct Client {
    env: SimEnv,
    token: Mutex<u64>,
    bug: Option<Bug>,
}

impl Client {
    /// Runs a script. The error is `Fail` as long as nothing was sent.
    async fn ask(&self, script: &str, token: u64) -> Result<u64, Outcome<Ret>> {
        let asked = async {
            let stream = connect(&self.env, "redis", 6379).await.map_err(Outcome::fail)?;
            let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let opened = MultiplexedConnection::new_with_config(&RedisConnectionInfo::default(), stream, config).await;
            let (mut connection, driver) = opened.map_err(Outcome::fail)?;
            let driver = self.env.spawn(driver);
            let answer = Script::new(script).arg(token).arg(LEASE_MS).invoke_async(&mut connection).await;
            driver.abort();
            answer.map_err(Outcome::unknown)
        };
        timeout(&self.env, Duration::from_secs(1), asked).await.unwrap_or(Err(Outcome::unknown("no answer")))
    }

    async fn acquire(&self) -> Result<Ret, Outcome<Ret>> {
        let token = if self.bug == Some(Bug::IncrThenExpire) {
            if self.ask(INCR, 0).await? == 1 { self.ask(EXPIRE, 0).await? } else { 0 }
        } else {
            self.ask(ACQUIRE, 0).await?
        };
        *self.token.lock().unwrap() = token;
        Ok(if token == 0 { Ret::Busy } else { Ret::Token(token) })
    }
}

impl System for Client {
    type Op = Op;
    type Ret = Ret;

    async fn call(&self, op: &Op) -> Outcome<Ret> {
        let token = *self.token.lock().unwrap();
        let ended = match op {
            Op::Acquire => self.acquire().await,
            _ if token == 0 => Err(Outcome::fail("it has no token")),
            Op::Write => {
                let script = if self.bug == Some(Bug::NoFencing) { WRITE_ANY } else { WRITE };
                self.ask(script, token).await.map(|took| if took == 1 { Ret::Wrote(token) } else { Ret::Stale(token) })
            }
            Op::Release => {
                let script = if self.bug == Some(Bug::UnlockWithoutCompare) { RELEASE_ANY } else { RELEASE };
                *self.token.lock().unwrap() = 0;
                self.ask(script, token).await.map(|_| Ret::Released(token))
            }
        };
        ended.into()
    }
}

pub struct Locks {
    pub bug: Option<Bug>,
}

impl Workload for Locks {
    type System = Client;
    type Tuning = ();

    fn plan(&self, draw: &mut Stream) -> Plan<Op> {
        let instances = draw.random_range(2..=4);
        let call = |_| {
            let op = [Op::Acquire, Op::Acquire, Op::Write, Op::Release][draw.random_range(0..4)];
            Planned::at_ms(draw.random_range(0..3_000), draw.random_range(0..instances), op)
        };
        let calls = (0..40).map(call).collect();
        // After everything has healed, and the last lease is over.
        let last = vec![Planned::at_ms(2 * LEASE_MS, 0, Op::Acquire)];
        Plan { instances, calls, last, tuning: () }
    }

    async fn open(&self, env: SimEnv, _: &Instance) -> Result<Client, String> {
        Ok(Client { env, token: Mutex::new(0), bug: self.bug })
    }
}

/// What the lock may answer. A lease ends by itself.
pub struct Lock;

/// When the lease ends, the last token, and the largest that the store has seen.
type State = (Option<When>, u64, u64);

impl Model for Lock {
    type Op = Op;
    type Ret = Ret;
    type State = State;
    const LAPSES: bool = true;

    fn initial(&self) -> State {
        (None, 0, 0)
    }

    fn step(
        &self,
        &(ends, token, seen): &State,
        op: &Op,
        ret: Option<&Ret>,
        when: When,
    ) -> impl IntoIterator<Item = State> {
        let may_be_free = ends.is_none_or(|ends| when.may_be_after(ends));
        let may_be_held = ends.is_some_and(|ends| when.may_be_before(ends));
        // Redis's clock counts milliseconds, so a lease may be over one too early.
        let lease =
            When { earliest: when.earliest + (LEASE_MS - 1) * 1_000, latest: when.later(LEASE_MS * 1_000).latest };
        match (op, ret) {
            (Op::Acquire, None) if may_be_free => vec![(Some(lease), token + 1, seen)],
            (Op::Acquire, Some(Ret::Token(got))) if may_be_free && *got == token + 1 => vec![(Some(lease), *got, seen)],
            (Op::Acquire, Some(Ret::Busy)) if may_be_held => vec![(ends, token, seen)],
            (Op::Write, None) => (seen..=token).map(|seen| (ends, token, seen)).collect(),
            (Op::Write, Some(Ret::Wrote(with))) if *with >= seen => vec![(ends, token, *with)],
            (Op::Write, Some(Ret::Stale(with))) if *with < seen => vec![(ends, token, seen)],
            (Op::Release, None) => vec![(None, token, seen)],
            (Op::Release, Some(Ret::Released(with))) => vec![(if *with == token { None } else { ends }, token, seen)],
            _ => vec![],
        }
    }
}

/// The lock on the bed: with a Redis that keeps what it has acknowledged.
pub fn bed(bug: Option<Bug>) -> Bed<Locks> {
    let free_again = eventually_after_heal("free again", 10_000, |_, ret| matches!(ret, Ret::Token(_)));
    Bed::new(Locks { bug }).redis().check(linearizable(Lock)).check(deadline(1_100)).check(free_again)
}
