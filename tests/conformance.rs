//! The contract of `Env`, held against both worlds: what holds in the simulated one must hold in the real one, or a run
//! of the bed says nothing about production. Each test is written once, against a [`Place`], and runs on both.

#![expect(clippy::disallowed_methods, reason = "the tests themselves run in the real world")]

use std::{
    future::{Future, poll_fn},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use contact_cache::env::{Disk, DiskFile, Endpoint, Env, Network, Task, TokioEnv};
use seedbed::{
    seed::Seed,
    world::{Host, SimEnv, SimListener, SimStream, World},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A world to test, with a peer in it that is not under test.
trait Place: Send + Sync + 'static {
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

    /// Listens on the peer's host; says at which port.
    fn listen(&self) -> impl Future<Output = (Self::Listener, u16)> + Send;

    fn accept(listener: &Self::Listener) -> impl Future<Output = Self::Peer> + Send;

    /// Ends a connection with a reset.
    fn reset(&self, peer: Self::Peer);
}

/// Declares the suite: each test in both places.
macro_rules! conformance {
    ($($test:ident)*) => {
        mod simulated {
            $(#[test] fn $test() { super::in_simulation(async |place| super::$test(&place).await) })*
        }
        mod real {
            $(#[test] fn $test() { super::for_real(async |place| super::$test(&place).await) })*
        }
    };
}

conformance! {
    connecting_where_nobody_listens_is_refused
    bytes_come_back_in_order
    an_orderly_close_reads_as_the_end_behind_all_data
    half_closing_leaves_the_other_direction_open
    a_reset_reads_as_an_error
    dropping_a_stream_ends_it_for_the_peer
    writes_wait_for_a_peer_that_does_not_read
    dropping_a_connect_harms_nothing
    a_file_is_what_was_written_to_it
    reading_past_the_end_fails_and_names_the_file
    names_are_listed_renamed_and_removed
    what_does_not_exist_is_not_found
    a_lock_keeps_others_out_until_it_is_dropped
    blocking_work_runs_to_its_end_though_nobody_waits
    blocking_work_gives_its_result
    a_sleep_lasts_at_least_as_long_as_asked
    an_aborted_task_does_no_more
    a_task_goes_on_without_its_handle
    random_bits_differ_from_draw_to_draw
}

async fn connecting_where_nobody_listens_is_refused(place: &impl Place) {
    let (listener, port) = place.listen().await;
    drop(listener);
    let error = place.env().network().connect(&Endpoint::tcp(place.host(), port)).await.err().expect("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

async fn bytes_come_back_in_order(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let copy = place.env().spawn(async move {
        let (mut from, mut to) = tokio::io::split(&mut peer);
        tokio::io::copy(&mut from, &mut to).await.expect("the stream stays open");
    });
    let mut received = Vec::new();
    for chunk in sent.chunks(30_000) {
        stream.write_all(chunk).await.expect("the stream stays open");
        let mut reply = vec![0; chunk.len()];
        stream.read_exact(&mut reply).await.expect("the stream stays open");
        received.extend(reply);
    }
    assert!(received == sent, "the bytes were changed on the way");
    copy.abort();
}

async fn an_orderly_close_reads_as_the_end_behind_all_data(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    peer.write_all(b"last words").await.expect("the stream is open");
    peer.shutdown().await.expect("the stream is open");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.expect("the close is orderly");
    assert_eq!(heard, b"last words");
    assert_eq!(stream.read(&mut [0; 8]).await.expect("the end stays the end"), 0);
}

async fn half_closing_leaves_the_other_direction_open(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    stream.shutdown().await.expect("the stream is open");
    assert_eq!(peer.read(&mut [0; 8]).await.expect("the close is orderly"), 0);
    peer.write_all(b"reply").await.expect("this direction is open");
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).await.expect("this direction is open");
    assert_eq!(&reply, b"reply");
    assert_eq!(stream.write(b"x").await.expect_err("it was shut down").kind(), io::ErrorKind::BrokenPipe);
}

async fn a_reset_reads_as_an_error(place: &impl Place) {
    let (mut stream, peer) = connected(place).await;
    place.reset(peer);
    let error = stream.read(&mut [0; 8]).await.expect_err("it was reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

async fn dropping_a_stream_ends_it_for_the_peer(place: &impl Place) {
    let (stream, mut peer) = connected(place).await;
    drop(stream);
    assert_eq!(peer.read(&mut [0; 8]).await.expect("the close is orderly"), 0);
}

async fn writes_wait_for_a_peer_that_does_not_read(place: &impl Place) {
    const BYTES: usize = 32 * 1024 * 1024;
    let (mut stream, mut peer) = connected(place).await;
    let written = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&written);
    place.env().spawn(async move {
        let block = vec![7; BYTES / 32];
        for _ in 0..32 {
            stream.write_all(&block).await.expect("the stream stays open");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    place.env().sleep(Duration::from_millis(100)).await;
    assert!(written.load(Ordering::Relaxed) < 32, "everything was written though nothing was read");
    let mut read = Vec::new();
    peer.read_to_end(&mut read).await.expect("the close is orderly");
    assert_eq!((read.len(), written.load(Ordering::Relaxed)), (BYTES, 32));
}

async fn dropping_a_connect_harms_nothing<P: Place>(place: &P) {
    let (listener, port) = place.listen().await;
    for _ in 0..3 {
        let endpoint = Endpoint::tcp(place.host(), port);
        let mut connect = Box::pin(place.env().network().connect(&endpoint));
        let polled = poll_fn(|context| Poll::Ready(connect.as_mut().poll(context).is_ready())).await;
        assert!(!polled, "a connect takes a round trip");
    }
    let mut stream = place.env().network().connect(&Endpoint::tcp(place.host(), port)).await.expect("the peer listens");
    stream.write_all(b"x").await.expect("the stream is open");
    loop {
        // The abandoned ones may be there too, at their end.
        let mut peer = P::accept(&listener).await;
        if peer.read(&mut [0; 8]).await.is_ok_and(|count| count == 1) {
            break;
        }
    }
}

async fn a_file_is_what_was_written_to_it(place: &impl Place) {
    let (disk, path) = (place.env().disk(), place.dir().join("file"));
    let file = disk.open(&path).expect("the directory is there");
    assert_eq!(file.len().expect("it is open"), 0);
    file.write_at(10, b"later").expect("it is open");
    file.write_at(3, b"first").expect("it is open");
    file.sync().expect("it is open");
    disk.sync_dir(&place.dir()).expect("it is there");
    drop(file);
    let file = disk.open(&path).expect("it is there");
    let mut bytes = [9; 15];
    file.read_at(0, &mut bytes).expect("it is that long");
    assert_eq!(&bytes, b"\0\0\0first\0\0later");
    file.set_len(4).expect("it is open");
    file.set_len(6).expect("it is open");
    let mut bytes = [9; 6];
    file.read_at(0, &mut bytes).expect("it is that long");
    assert_eq!((&bytes, file.len().expect("it is open")), (b"\0\0\0f\0\0", 6));
}

async fn reading_past_the_end_fails_and_names_the_file(place: &impl Place) {
    let file = place.env().disk().open(&place.dir().join("short")).expect("the directory is there");
    file.write_at(0, b"12345").expect("it is open");
    for offset in [1, 5, 1_000] {
        let error = file.read_at(offset, &mut [0; 5]).expect_err("the file ends before");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("short"), "{error} does not name the file");
    }
}

async fn names_are_listed_renamed_and_removed(place: &impl Place) {
    let (disk, dir) = (place.env().disk(), place.dir());
    disk.create_dir_all(&dir.join("inner/most")).expect("the disk works");
    disk.create_dir_all(&dir.join("inner")).expect("it is no error if it exists");
    for name in ["b", "a", "c", "inner/d"] {
        disk.open(&dir.join(name)).and_then(|file| file.write_at(0, name.as_bytes())).expect("the disk works");
    }
    assert_eq!(disk.list(&dir).expect("it is there"), ["a", "b", "c"]);
    let replaced = disk.open(&dir.join("c")).expect("it is there");
    disk.rename(&dir.join("a"), &dir.join("c")).expect("it is there");
    disk.remove(&dir.join("b")).expect("it is there");
    disk.sync_dir(&dir).expect("it is there");
    assert_eq!(disk.list(&dir).expect("it is there"), ["c"]);
    let mut byte = [0];
    disk.open(&dir.join("c")).and_then(|file| file.read_at(0, &mut byte)).expect("it is there");
    assert_eq!(&byte, b"a");
    replaced.read_at(0, &mut byte).expect("an open file stays though its name is gone");
    assert_eq!(&byte, b"c");
}

async fn what_does_not_exist_is_not_found(place: &impl Place) {
    let (disk, dir) = (place.env().disk(), place.dir());
    let missing = dir.join("missing");
    let errors = [
        disk.open(&missing.join("file")).err(),
        disk.list(&missing).err(),
        disk.sync_dir(&missing).err(),
        disk.rename(&missing, &dir.join("other")).err(),
        disk.remove(&missing).err(),
        disk.lock(&missing.join("lock")).err(),
    ];
    for error in errors {
        let error = error.expect("it does not exist");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing"), "{error} does not name what is missing");
    }
}

async fn a_lock_keeps_others_out_until_it_is_dropped(place: &impl Place) {
    let (disk, path) = (place.env().disk(), place.dir().join("lock"));
    let lock = disk.lock(&path).expect("it is free");
    assert_eq!(disk.lock(&path).err().expect("it is held").kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    disk.lock(&path).expect("it was released");
}

async fn blocking_work_runs_to_its_end_though_nobody_waits(place: &impl Place) {
    let (env, path) = (place.env().clone(), place.dir().join("file"));
    let disk = env.disk().clone();
    let (done, is_done) = tokio::sync::oneshot::channel();
    let mut work = Box::pin(env.blocking(move || {
        let file = disk.open(&path).expect("the directory is there");
        (0..20).for_each(|number| file.write_at(number, b"x").and_then(|()| file.sync()).expect("the disk works"));
        done.send(file.len().expect("it is open")).expect("the test waits");
    }));
    assert!(!poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await, "syncs take time");
    drop(work);
    assert_eq!(is_done.await.expect("the work ends"), 20);
}

async fn blocking_work_gives_its_result(place: &impl Place) {
    assert_eq!(place.env().blocking(|| 6 * 7).await, 42);
}

async fn a_sleep_lasts_at_least_as_long_as_asked(place: &impl Place) {
    let env = place.env();
    for duration in [Duration::ZERO, Duration::from_nanos(1_500), Duration::from_millis(3)] {
        let before = env.now();
        env.sleep(duration).await;
        assert!(env.now() >= before + duration);
    }
    let wall_ms = env.wall_ms();
    assert!(wall_ms > 1_700_000_000_000, "{wall_ms} is long ago");
}

async fn an_aborted_task_does_no_more(place: &impl Place) {
    let env = place.env().clone();
    let (hold, dropped) = tokio::sync::oneshot::channel::<()>();
    let task = env.spawn(async move {
        let _hold = hold;
        std::future::pending::<()>().await;
    });
    env.sleep(Duration::from_millis(1)).await;
    task.abort();
    assert!(dropped.await.is_err(), "what the task held is dropped");
    task.abort();
}

async fn a_task_goes_on_without_its_handle(place: &impl Place) {
    let env = place.env().clone();
    let (done, is_done) = tokio::sync::oneshot::channel();
    drop(place.env().spawn(async move {
        env.sleep(Duration::from_millis(1)).await;
        done.send(()).expect("the test waits");
    }));
    is_done.await.expect("the task ends");
}

async fn random_bits_differ_from_draw_to_draw(place: &impl Place) {
    let drawn: std::collections::BTreeSet<u64> = (0..100).map(|_| place.env().random()).collect();
    assert_eq!(drawn.len(), 100);
}

/// A connection, and the peer's end of it.
async fn connected<P: Place>(place: &P) -> (<<P::Env as Env>::Network as Network>::Stream, P::Peer) {
    let (listener, port) = place.listen().await;
    let stream = place.env().network().connect(&Endpoint::tcp(place.host(), port)).await.expect("the peer listens");
    (stream, P::accept(&listener).await)
}

/// The simulated world: the environment of instance 1, and a peer on the host of Redis.
struct Simulation {
    world: World,
    env: SimEnv,
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

    async fn listen(&self) -> (SimListener, u16) {
        let port = 6379 + u16::try_from(self.ports.fetch_add(1, Ordering::Relaxed)).expect("tests use few ports");
        (self.peer.network().listen(port).expect("the port is free"), port)
    }

    async fn accept(listener: &SimListener) -> SimStream {
        listener.accept().await.expect("the process runs")
    }

    fn reset(&self, peer: SimStream) {
        self.world.net().reset_between(Host::Redis, 1);
        drop(peer);
    }
}

/// Runs `test` in a simulation of its own, on a thread of its own.
fn in_simulation(test: impl AsyncFnOnce(Simulation) + Send + 'static) {
    let run = move || {
        let runtime = madsim::runtime::Runtime::with_seed_and_config(1, madsim::Config::default());
        runtime.block_on(async move {
            let world = World::new(Seed(1));
            let (env, peer) = (world.boot(1), world.boot(Host::Redis));
            env.disk().create_dir_all("/data".as_ref()).expect("the disk works");
            test(Simulation { world: world.clone(), env, peer, ports: AtomicU32::new(0) }).await;
            world.end().await;
        });
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// The real world: the loopback interface, and a directory of its own.
struct Reality {
    env: TokioEnv,
    dir: tempfile::TempDir,
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
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("there are free ports");
        let port = listener.local_addr().expect("it is bound").port();
        (listener, port)
    }

    async fn accept(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
        listener.accept().await.expect("the listener is open").0
    }

    fn reset(&self, peer: tokio::net::TcpStream) {
        peer.set_zero_linger().expect("the stream is open");
    }
}

/// Runs `test` on a runtime of tokio's.
fn for_real(test: impl AsyncFnOnce(Reality)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let dir = tempfile::tempdir().expect("there is room for a directory");
    runtime.expect("there is room for a runtime").block_on(async {
        test(Reality { env: TokioEnv::new(), dir }).await;
    });
}
