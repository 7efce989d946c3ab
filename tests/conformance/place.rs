//! The two worlds that the suite runs in, behind one trait, and what tests do in either.

use std::{
    future::{Future, poll_fn},
    os::fd::OwnedFd,
    path::PathBuf,
    pin::pin,
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    task::Poll,
    time::Duration,
};

use contact_cache::env::{Disk, Endpoint, Env, Listener as _, Network, TokioEnv};
use seedbed_contact::{
    history::Stop,
    redis_host::REDIS,
    world::{SimEnv, SimListener, SimStream, World, net::connect_in_turn, simulate},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Connections that may wait to be accepted: what Redis asks for.
pub(crate) const BACKLOG: u32 = 511;

/// A world to test, with a peer in it that is not under test.
pub(crate) trait Place: Send + Sync + 'static {
    type Env: Env;
    /// The peer's end of a connection.
    type Peer: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Where the peer listens.
    type Listener: Send + Sync + 'static;

    fn env(&self) -> &Self::Env;

    /// A directory that exists and is empty.
    fn dir(&self) -> PathBuf;

    /// The name of the peer's host.
    fn host(&self) -> &'static str;

    /// The name of this host.
    fn own_host(&self) -> &'static str {
        self.host()
    }

    /// Listens on the peer's host; says at which port.
    fn listen(&self) -> impl Future<Output = (Self::Listener, u16)> + Send;

    fn accept(listener: &Self::Listener) -> impl Future<Output = Self::Peer> + Send;

    /// Ends a connection with a reset.
    fn reset(&self, peer: Self::Peer);

    /// Kills the process that holds this end of a connection.
    fn kill(&self, peer: Self::Peer);
}

/// A connection, and the peer's end of it.
pub(crate) async fn connected<P: Place>(place: &P) -> (<<P::Env as Env>::Network as Network>::Stream, P::Peer) {
    let (listener, port) = place.listen().await;
    let stream =
        connect_in_turn(place.env().network(), &Endpoint::tcp(place.host(), port)).await.expect("the peer listens");
    (stream, P::accept(&listener).await)
}

/// The simulated world: the environment of instance 1, and a peer on the host of Redis.
pub(crate) struct Simulation {
    pub(crate) world: World,
    pub(crate) env: SimEnv,
    peer: SimEnv,
    ports: AtomicU32,
}

impl Place for Simulation {
    type Env = SimEnv;
    type Peer = SimStream;
    type Listener = SimListener;

    fn env(&self) -> &SimEnv {
        &self.env
    }

    fn dir(&self) -> PathBuf {
        "/data".into()
    }

    fn host(&self) -> &'static str {
        "redis"
    }

    fn own_host(&self) -> &'static str {
        "1"
    }

    async fn listen(&self) -> (SimListener, u16) {
        let port = 6379 + u16::try_from(self.ports.fetch_add(1, Ordering::Relaxed)).expect("tests use few ports");
        (self.peer.network().listen(port).expect("the port is free"), port)
    }

    async fn accept(listener: &SimListener) -> SimStream {
        listener.accept().await.expect("the process runs")
    }

    fn reset(&self, peer: SimStream) {
        self.world.net().reset_between(REDIS, 1);
        drop(peer);
    }

    fn kill(&self, peer: SimStream) {
        self.world.kill(REDIS, Stop::Killed);
        drop(peer);
    }
}

/// Runs `test` in a simulation of its own, on a thread of its own.
pub(crate) fn in_simulation(test: impl AsyncFnOnce(Simulation) + Send + 'static) {
    on_seed(1, test);
}

/// Runs `test` in the simulation of a seed.
pub(crate) fn on_seed<T: Send + 'static>(seed: u64, test: impl AsyncFnOnce(Simulation) -> T + Send + 'static) -> T {
    simulate(seed, async move |world| {
        let (env, peer) = (world.boot(1), world.boot(REDIS));
        env.disk().create_dir_all("/data".as_ref()).expect("the disk works");
        test(Simulation { world, env, peer, ports: AtomicU32::new(0) }).await
    })
}

/// The real world: the loopback interface, and a directory of its own.
pub(crate) struct Reality {
    pub(crate) env: TokioEnv,
    pub(crate) dir: tempfile::TempDir,
}

impl Place for Reality {
    type Env = TokioEnv;
    type Peer = tokio::net::TcpStream;
    type Listener = tokio::net::TcpListener;

    fn env(&self) -> &TokioEnv {
        &self.env
    }

    fn dir(&self) -> PathBuf {
        self.dir.path().into()
    }

    fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    async fn listen(&self) -> (tokio::net::TcpListener, u16) {
        let socket = tokio::net::TcpSocket::new_v4().expect("there is room for a socket");
        socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).expect("there are free ports");
        let listener = socket.listen(BACKLOG).expect("the port is free");
        let port = listener.local_addr().expect("it is bound").port();
        (listener, port)
    }

    async fn accept(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
        listener.accept().await.expect("the listener is open").0
    }

    fn reset(&self, peer: tokio::net::TcpStream) {
        peer.set_zero_linger().expect("the stream is open");
    }

    fn kill(&self, peer: tokio::net::TcpStream) {
        kill(peer);
    }
}

/// Runs `test` on a runtime of tokio's.
pub(crate) fn for_real(test: impl AsyncFnOnce(Reality)) {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    runtime().block_on(async {
        test(Reality { env: TokioEnv::new(), dir }).await;
    });
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("there is room for a runtime")
}

/// Hands a stream to a process that does nothing with it, and kills that.
pub(crate) fn kill(stream: tokio::net::TcpStream) {
    let stream = OwnedFd::from(stream.into_std().expect("it is a socket"));
    let mut holder = holder_of(stream);
    holder.kill().and_then(|()| holder.wait()).expect("it is ours");
}

/// A process that holds an open file, and nobody else does.
pub(crate) fn holder_of(file: OwnedFd) -> Child {
    // Its standard input: the one file that a program inherits without being told.
    Command::new("sleep").arg("1000").stdin(file).spawn().expect("a program that every system has")
}

/// What `future` gives within a time of the environment.
pub(crate) async fn within<E: Env, F: Future>(env: &E, limit: Duration, future: F) -> Option<F::Output> {
    let (mut future, mut timer) = (pin!(future), pin!(env.sleep(limit)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
    .await
}
