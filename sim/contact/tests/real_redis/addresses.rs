//! Redis's name has two addresses, and the first is silent: over real sockets of loopback. Which addresses the name has
//! is the test's to say; all else is [`TokioEnv`].

use std::{future::Future, io, net::SocketAddr, path::Path, pin::pin, time::Duration};

use contact_cache::{
    ContactCache, Placement,
    env::{Address, Endpoint, Env, Network, TokioDisk, TokioEnv, TokioListener, TokioNetwork, TokioStream, TokioTask},
};
use futures_util::future::{Either, select};
use redis_launcher::{Program, Server};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::client::{PATIENCE, config, directory, named, uid};

/// A world in which every name has these addresses.
#[derive(Clone)]
struct Named {
    env: TokioEnv,
    network: Names,
}

#[derive(Clone)]
struct Names(Vec<Address>);

impl Network for Names {
    type Stream = TokioStream;
    type Listener = TokioListener;

    async fn resolve(&self, _: &Endpoint) -> io::Result<Vec<Address>> {
        Ok(self.0.clone())
    }

    async fn connect(&self, endpoint: &Endpoint, address: &Address) -> io::Result<TokioStream> {
        TokioNetwork.connect(endpoint, address).await
    }

    fn listen(&self, port: u16) -> io::Result<TokioListener> {
        TokioNetwork.listen(port)
    }
}

impl Env for Named {
    type Network = Names;
    type Disk = TokioDisk;
    type Task = TokioTask;

    fn network(&self) -> &Names {
        &self.network
    }

    fn disk(&self) -> &TokioDisk {
        self.env.disk()
    }

    fn now(&self) -> Duration {
        self.env.now()
    }

    fn wall_ms(&self) -> u64 {
        self.env.wall_ms()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.env.sleep(duration)
    }

    fn random(&self) -> u64 {
        self.env.random()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> TokioTask {
        self.env.spawn(future)
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        self.env.blocking(work)
    }
}

/// The server's port on another address of loopback.
fn silent_address(server: &Server) -> SocketAddr {
    ([127, 0, 0, 2], server.port()).into()
}

async fn open(server: &Server, directory: &Path) -> ContactCache<Named> {
    let addresses = [silent_address(server), ([127, 0, 0, 1], server.port()).into()].map(Address::Tcp);
    let env = Named { env: TokioEnv::new(), network: Names(addresses.to_vec()) };
    ContactCache::open(env, config(&server.url(), directory)).await.expect("a directory of its own")
}

/// Its kernel drops every SYN, since as many connections wait to be accepted as it was asked to keep.
pub(crate) async fn a_first_address_that_loses_every_syn_is_passed_over_within_the_attempt(redis: &Program) {
    let server = Server::running(redis);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(silent_address(&server)).expect("all of 127.0.0.0/8 is this machine");
    let _listener = socket.listen(1).expect("nobody else listens");
    let mut waiting = Vec::new();
    while let Some(stream) = within(Duration::from_millis(300), connect(silent_address(&server))).await {
        waiting.push(stream.expect("it listens"));
    }
    let directory = directory();
    let cache = open(&server, directory.path()).await;
    assert_eq!((cache.health().attempts, cache.health().connections), (1, 1), "{:?}", cache.health());
    let written = cache.upsert(&uid("ada"), &named("Ada")).await.expect("the disk works");
    assert_eq!(written.placement, Placement::Shared);
}

pub(crate) async fn a_first_address_that_accepts_and_says_nothing_costs_one_attempt(redis: &Program) {
    let server = Server::running(redis);
    // Its kernel accepts, and the process never looks.
    let _listener = TcpListener::bind(silent_address(&server)).await.expect("all of 127.0.0.0/8 is this machine");
    let directory = directory();
    let cache = open(&server, directory.path()).await;
    assert_eq!(cache.health().connections, 0, "the first attempt is spent");
    let env = TokioEnv::new();
    while cache.health().connections == 0 {
        assert!(env.now() < PATIENCE && cache.health().attempts <= 2, "{:?}", cache.health());
        env.sleep(Duration::from_millis(5)).await;
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpSocket::new_v4()?.connect(address).await
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), pin!(TokioEnv::new().sleep(limit))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}
