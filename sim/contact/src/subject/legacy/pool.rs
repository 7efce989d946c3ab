//! Connections as redis-py 5 keeps them with its default settings: a call takes the idle connection that was used last,
//! or opens one, and gives it back after its reply. Nothing has a timeout, nothing is tried again.
//!
//! One kindness: the stream is the [`Env`]'s, whose kernel gives up a peer that is silent for 30 s. redis-py sets neither
//! keepalive nor a user timeout, and would wait for a quarter of an hour, or for ever.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisResult, Value,
    aio::MultiplexedConnection,
};
use seedbed_env::{Endpoint, Env, Task};

use crate::world::net::connect_in_turn;

pub(super) struct Pool<E: Env> {
    env: E,
    info: ConnectionInfo,
    endpoint: Endpoint,
    idle: Mutex<Vec<PooledConnection<E>>>,
}

struct PooledConnection<E: Env> {
    multiplexed: MultiplexedConnection,
    driver: E::Task,
    has_ended: Arc<AtomicBool>,
}

impl<E: Env> Pool<E> {
    /// Opens no connection yet.
    pub(super) fn new(env: E, url: &str) -> Self {
        let info = url.into_connection_info().expect("the bed names a Redis by its URL");
        let endpoint = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Endpoint::tcp(host, *port),
            other => panic!("the bed reaches Redis over TCP alone, not at {other}"),
        };
        Self { env, info, endpoint, idle: Mutex::default() }
    }

    /// The reply to a command, whenever it comes.
    ///
    /// Cancellation: the connection is closed, since its reply is still to come.
    pub(super) async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // What the peer has closed meanwhile is noticed when it is taken, not when it ends.
        let mut connection = match idle.filter(|connection| !connection.has_ended.load(Ordering::Relaxed)) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let reply = command.query_async(&mut connection.multiplexed).await;
        if reply.as_ref().err().is_none_or(|error| error.code().is_some()) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        reply
    }

    async fn connect(&self) -> RedisResult<PooledConnection<E>> {
        let stream = connect_in_turn(self.env.network(), &self.endpoint).await?;
        // The crate's timeouts need a tokio reactor, and redis-py has none by default.
        let timeouts = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let opened = MultiplexedConnection::new_with_config(self.info.redis_settings(), stream, timeouts).await;
        let (multiplexed, driver) = opened?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let flag = has_ended.clone();
        let driver = self.env.spawn(async move {
            driver.await;
            flag.store(true, Ordering::Relaxed);
        });
        Ok(PooledConnection { multiplexed, driver, has_ended })
    }
}

impl<E: Env> Drop for PooledConnection<E> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
