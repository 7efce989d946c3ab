//! The barest exchange: the Redis crate's connection asks, a server answers the same words to everything. Once over
//! madsim's own network, which is the measure of all other rows, and once over the bed's.

use std::future::Future;

use futures_util::future::join_all;
use madsim::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};
use redis::{AsyncConnectionConfig, ConnectionInfo, IntoConnectionInfo, aio::MultiplexedConnection};
use seedbed_env::{Endpoint, Env as _, Listener as _, Network as _};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Spent, bed, timed};
use crate::{
    redis_host::REDIS,
    seed::Seed,
    world::{World, isolated, net::connect_in_turn},
};

const PORT: u16 = 6379;

/// Over madsim's `TcpStream`.
pub(super) fn on_madsim(clients: u32, each: u32) -> Spent {
    in_simulation(move || async move {
        let node = |address: &str| Handle::current().create_node().ip(address.parse().expect("an address")).build();
        let (server, client) = (node("10.0.0.1"), node("10.0.0.2"));
        server.spawn(async {
            let listener = TcpListener::bind(("0.0.0.0", PORT)).await.expect("the port is free");
            while let Ok((stream, _)) = listener.accept().await {
                madsim::task::spawn(echo(stream));
            }
        });
        // Binding takes a moment of madsim's.
        madsim::time::sleep(std::time::Duration::from_secs(1)).await;
        let asked = (0..clients).map(|_| {
            client.spawn(async move {
                let stream = TcpStream::connect(("10.0.0.1", PORT)).await.expect("the server listens");
                ask(stream, each, |driver| drop(madsim::task::spawn(driver))).await;
            })
        });
        join_all(asked.collect::<Vec<_>>()).await;
    })
}

/// Over the bed's network, each client on a host of its own.
pub(super) fn on_simnet(clients: u32, each: u32) -> Spent {
    in_simulation(move || async move {
        let world = World::new(Seed(1));
        drop(world.start(REDIS, |env| async move {
            let listener = env.network().listen(PORT).expect("the port is free");
            while let Ok(stream) = listener.accept().await {
                env.spawn(echo(stream));
            }
        }));
        let asked = (0..clients).map(|number| {
            world.start(number, |env| async move {
                let stream =
                    connect_in_turn(env.network(), &Endpoint::tcp("redis", PORT)).await.expect("the server listens");
                ask(stream, each, |driver| drop(env.spawn(driver))).await;
            })
        });
        join_all(asked.collect::<Vec<_>>()).await;
        world.end().await;
    })
}

/// Runs `scenario` as a run is run: on a thread and a runtime of its own.
fn in_simulation<F: Future<Output = ()>>(scenario: impl FnOnce() -> F + Send + 'static) -> Spent {
    let run = || isolated("echo".to_owned(), 1, |runtime| runtime.block_on(scenario())).expect("it ends");
    Spent { running: timed(run).1, ..Spent::default() }
}

/// Answers what Redis would say about a record, to every request.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let answer = bed::record_of_redis();
    let mut input = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut input).await {
        // Requests begin with a star, and none has another.
        for _ in input[..length].iter().filter(|byte| **byte == b'*') {
            stream.write_all(&answer).await.expect("the client waits");
        }
        stream.flush().await.expect("the client waits");
    }
}

/// Asks, one request after the other.
async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    times: u32,
    spawn: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
) {
    let info: ConnectionInfo = "redis://redis".into_connection_info().expect("a constant");
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    // As the client does: these timeouts need a reactor of tokio's.
    let timeouts = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let opened = MultiplexedConnection::new_with_config(&redis, stream, timeouts).await;
    let (mut connection, driver) = opened.expect("the server answers");
    spawn(Box::pin(driver));
    for _ in 0..times {
        let reply = redis::cmd("HGETALL").arg(bed::KEY).query_async::<redis::Value>(&mut connection).await;
        assert!(matches!(reply, Ok(redis::Value::Array(_))), "{reply:?}");
    }
}
