//! The real world, on tokio and `std::fs`: what production runs on, and the other half of the conformance suite.

#![expect(clippy::disallowed_methods, reason = "this is the one place where the client touches the real world")]

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError},
    future::{self, Future},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, FileExt, MetadataExt as _, OpenOptionsExt as _},
    panic::{self, AssertUnwindSafe},
    path::Path,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand::{Rng, TryRng, rngs::SysRng};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream},
    runtime::{Builder, Handle},
    sync::oneshot,
    task::AbortHandle,
};
use tokio_rustls::{client::TlsStream, rustls::pki_types::ServerName};

use super::{Address, Disk, DiskFile, Endpoint, Env, FileId, FileKind, Listener, Network, Stat, Task, tls};

/// How many connections wait to be accepted before the kernel drops more (it may hold fewer: `net.core.somaxconn`).
const BACKLOG: i32 = 1_024;
/// How long a connection is silent before the kernel asks whether the peer is still there, in seconds.
const KEEPALIVE_IDLE_S: u64 = 10;
/// Time between two unanswered questions, in seconds.
const KEEPALIVE_INTERVAL_S: u64 = 5;
/// Unanswered questions after which the peer is dead. (On Linux the user timeout overrides this number.)
const KEEPALIVE_PROBES: u32 = 3;
/// How long sent data, or a question, may stay unacknowledged before the connection fails, in seconds (RFC 5482).
#[cfg(target_os = "linux")]
const USER_TIMEOUT_S: u64 = 30;

/// The environment of production.
///
/// Tasks and sockets live on the runtime that it was made on, and end with it. Timers live on a thread of the process, so that
/// a deadline is kept also where that runtime is idle (one of `current_thread` outside of `block_on`) or has ended, and where the
/// caller's has no time driver.
#[derive(Clone, Debug)]
pub struct TokioEnv {
    runtime: Handle,
    timers: &'static Handle,
    origin: Instant,
}

impl TokioEnv {
    /// An environment whose tasks live on the current tokio runtime, which must have its I/O driver enabled.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if the system has no room for one thread more, at the first of a process.
    pub fn new() -> Self {
        Self { runtime: Handle::current(), timers: timers(), origin: Instant::now() }
    }
}

impl Default for TokioEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for TokioEnv {
    type Network = TokioNetwork;
    type Disk = TokioDisk;
    type Task = TokioTask;

    fn network(&self) -> &TokioNetwork {
        &TokioNetwork
    }

    fn disk(&self) -> &TokioDisk {
        &TokioDisk
    }

    /// `CLOCK_MONOTONIC` on Linux, which stands still while the machine sleeps or its image lies on a disk.
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        // Before 1970 is as wrong as any other wrong clock: the contract allows it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let _context = self.timers.enter();
        tokio::time::sleep(duration)
    }

    fn random(&self) -> u64 {
        // The kernel's, which hears that a machine was resumed from an image. A generator in the memory of this process would
        // repeat what its twin draws.
        SysRng.try_next_u64().unwrap_or_else(|_| rand::rng().next_u64())
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> TokioTask {
        TokioTask(self.runtime.spawn(future).abort_handle())
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let runtime = self.runtime.clone();
        async move {
            // A runtime that is ending drops what it has not begun.
            let slot = Arc::new(Mutex::new(Some(work)));
            let taken = Arc::clone(&slot);
            match runtime.spawn_blocking(move || take(&taken).map(|work| work())).await {
                Ok(Some(output)) => output,
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                Ok(None) | Err(_) => match take(&slot) {
                    Some(work) => on_a_thread(work).await,
                    // It was begun, and nobody will hear how it ended.
                    None => future::pending().await,
                },
            }
        }
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Runs `work` on a thread of its own. Without room for one, the caller's deadline answers.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, output) = oneshot::channel();
    let run = move || {
        let output = panic::catch_unwind(AssertUnwindSafe(work));
        // Nobody may wait any more.
        let _ = done.send(output);
    };
    let started = thread::Builder::new().name("env-blocking".to_owned()).spawn(run);
    match (started, output.await) {
        (Ok(_), Ok(Ok(output))) => output,
        (Ok(_), Ok(Err(panic))) => panic::resume_unwind(panic),
        (Err(_), _) | (_, Err(_)) => future::pending().await,
    }
}

/// The runtime of all timers of the process. It does nothing else, on a thread that ends with the process.
fn timers() -> &'static Handle {
    static TIMERS: LazyLock<Handle> = LazyLock::new(|| {
        let runtime =
            Builder::new_current_thread().enable_time().build().expect("a runtime without I/O needs no system");
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new().name("env-timers".to_owned());
        let started = thread.spawn(move || runtime.block_on(future::pending::<()>()));
        started.expect("the system has room for a thread");
        handle
    });
    &TIMERS
}

/// A task of tokio's runtime.
#[derive(Debug)]
pub struct TokioTask(AbortHandle);

impl Task for TokioTask {
    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// The operating system's sockets. Names are resolved by the operating system too.
#[derive(Clone, Copy, Debug)]
pub struct TokioNetwork;

impl Network for TokioNetwork {
    type Stream = TokioStream;
    type Listener = TokioListener;

    async fn resolve(&self, endpoint: &Endpoint) -> io::Result<Vec<Address>> {
        match endpoint {
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => {
                let found = tokio::net::lookup_host((host.as_str(), *port)).await;
                let found = found.map_err(|error| io::Error::new(error.kind(), format!("{host}: {error}")))?;
                Ok(found.map(Address::Tcp).collect())
            }
            Endpoint::Unix(path) => Ok(vec![Address::Unix(path.clone())]),
        }
    }

    async fn connect(&self, endpoint: &Endpoint, address: &Address) -> io::Result<TokioStream> {
        match (endpoint, address) {
            (Endpoint::Tcp { .. }, Address::Tcp(address)) => Ok(TokioStream::Tcp(tcp(*address).await?)),
            (Endpoint::Tls { host, tls, .. }, Address::Tcp(address)) => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let tls = tls.clone();
                let connector = tokio::task::spawn_blocking(move || tls::connector(&tls)).await??;
                let stream = connector.connect(name, tcp(*address).await?).await;
                let stream = stream.map_err(|error| tls::explained(error, host))?;
                Ok(TokioStream::Tls(Box::new(stream)))
            }
            (Endpoint::Unix(_), Address::Unix(path)) => Ok(TokioStream::Unix(UnixStream::connect(path).await?)),
            (endpoint, address) => {
                let message = format!("{address} is no address of {endpoint:?}");
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }

    /// As [`Network::listen`]. Port 0 is one that is free.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as everything of this network.
    fn listen(&self, port: u16) -> io::Result<TokioListener> {
        // Both families where the machine has them, as servers listen by default.
        let (domain, any) = match Socket::new(Domain::IPV6, Type::STREAM, None) {
            Ok(_) => (Domain::IPV6, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
            Err(_) => (Domain::IPV4, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        // A port whose last connections linger in TIME_WAIT is free.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(any, port).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TokioListener(TcpListener::from_std(socket.into())?))
    }
}

/// A port of [`TokioNetwork`].
#[derive(Debug)]
pub struct TokioListener(TcpListener);

impl Listener for TokioListener {
    type Stream = TokioStream;

    async fn accept(&self) -> io::Result<TokioStream> {
        let (stream, _) = self.0.accept().await?;
        watched(stream).map(TokioStream::Tcp)
    }
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    watched(TcpStream::connect(address).await?)
}

/// A connection on which a dead peer is noticed.
fn watched(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(KEEPALIVE_IDLE_S))
        .with_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S))
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(USER_TIMEOUT_S)))?;
    Ok(stream)
}

/// A connection of [`TokioNetwork`].
#[derive(Debug)]
pub enum TokioStream {
    /// As it is.
    Tcp(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Within the machine. There is no peer to be lost.
    Unix(UnixStream),
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Self::Tcp($inner) => $call,
            Self::Tls($inner) => $call,
            Self::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for TokioStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(context, buffer))
    }
}

impl AsyncWrite for TokioStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(context))
    }
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug)]
pub struct TokioDisk;

impl TokioDisk {
    /// Opens a file that is there, for reading alone: every verb of it that would change something fails.
    ///
    /// # Errors
    /// As the operating system reports them.
    pub fn open_to_read(&self, path: &Path) -> io::Result<TokioFile> {
        let file = File::open(path).map_err(naming(path))?;
        Ok(TokioFile { file: Arc::new(file), path: path.into() })
    }
}

impl Disk for TokioDisk {
    type File = TokioFile;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        // Without the sync of its parent, a directory can vanish in a power loss, and all that is in it.
        let missing: Vec<&Path> =
            dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(naming(dir))?;
        missing.into_iter().rev().try_for_each(|created| self.sync_dir(parent(created)))
    }

    fn open(&self, path: &Path) -> io::Result<TokioFile> {
        let file = options().create(true).truncate(false).open(path).map_err(naming(path))?;
        Ok(TokioFile { file: Arc::new(file), path: path.into() })
    }

    fn create(&self, path: &Path) -> io::Result<TokioFile> {
        let file = options().create_new(true).open(path).map_err(naming(path))?;
        Ok(TokioFile { file: Arc::new(file), path: path.into() })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let metadata = fs::symlink_metadata(path).map_err(naming(path))?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => FileKind::File,
            kind if kind.is_dir() => FileKind::Directory,
            kind if kind.is_symlink() => FileKind::Link,
            _ => FileKind::Other,
        };
        Ok(Stat { id: id_of(&metadata), kind, mode: metadata.mode() & 0o777 })
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(dir).map_err(|error| naming(dir)(error.into()))?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(naming(dir))? {
            let entry = entry.map_err(naming(dir))?;
            if !entry.file_type().map_err(naming(&entry.path()))?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(naming(from))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(naming(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(naming(dir))
    }
}

/// An open file of the operating system.
#[derive(Clone, Debug)]
pub struct TokioFile {
    file: Arc<File>,
    path: Arc<Path>,
}

impl DiskFile for TokioFile {
    type Lock = TokioLock;

    fn id(&self) -> io::Result<FileId> {
        self.file.metadata().map(|metadata| id_of(&metadata)).map_err(naming(&self.path))
    }

    fn lock(&self) -> io::Result<TokioLock> {
        match self.file.try_lock() {
            Ok(()) => Ok(TokioLock { file: self.file.clone() }),
            Err(TryLockError::WouldBlock) => Err(naming(&self.path)(io::ErrorKind::WouldBlock.into())),
            Err(TryLockError::Error(error)) => Err(naming(&self.path)(error)),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(naming(&self.path))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(naming(&self.path))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(naming(&self.path))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(naming(&self.path))
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync: a changed length counts as data, times do not.
        self.file.sync_data().map_err(naming(&self.path))
    }
}

/// A lock on a file (`flock`), which the operating system releases when its process ends.
#[derive(Debug)]
pub struct TokioLock {
    file: Arc<File>,
}

impl Drop for TokioLock {
    fn drop(&mut self) {
        // Closing the file is not enough: while the application starts another program, that process holds a copy of
        // every open file, and the lock with it, from its fork to its exec.
        let _ = self.file.unlock();
    }
}

/// For reading and writing. A link in the place of the file is `ELOOP`.
fn options() -> OpenOptions {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(no_follow.cast_signed());
    options
}

fn id_of(metadata: &Metadata) -> FileId {
    FileId { device: metadata.dev(), number: metadata.ino() }
}

/// The directory that `path` is named in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Puts the path in front of an error, which the operating system's errors do not name.
fn naming(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_monotonic_clock_begins_with_the_environment_and_knows_no_date() {
        let before = Instant::now();
        let env = TokioEnv::new();
        env.sleep(Duration::from_millis(20)).await;
        let now = env.now();
        assert!(now >= Duration::from_millis(20) && now <= before.elapsed(), "{now:?}");
    }

    /// The kernel's own file system takes no sync of a directory or a file: an error shows that it was asked.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_or_a_file_that_the_system_does_not_sync_is_an_error_that_names_it() {
        let (dir, file) = (Path::new("/proc/self"), Path::new("/proc/self/comm"));
        let error = TokioDisk.sync_dir(dir).expect_err("it cannot be synced");
        assert!(error.to_string().contains("/proc/self"), "{error}");
        TokioDisk.open(file).expect("it is there").sync().expect_err("it cannot be synced");
        TokioDisk.sync_dir(Path::new("/proc/self/no such directory")).expect_err("it is not there");
        TokioDisk.sync_dir(&std::env::temp_dir()).expect("it can be synced");
    }
}
