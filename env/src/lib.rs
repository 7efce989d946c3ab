//! The seam: everything that a program under test may do to the world outside its own memory.
//!
//! A program that reaches the network, the disk, the clocks, randomness and the task spawner through [`Env`], and through
//! nothing else, runs unchanged in the real world ([`TokioEnv`]) and inside a deterministic simulation. The traits are
//! handfuls of dumb verbs; the doc comment of each says what an implementation must honour, above all what survives a
//! crash. One conformance suite (`tests/conformance/main.rs`) runs on both implementations.
//!
//! ```
//! use std::time::Duration;
//! use seedbed_env::{Env, TokioEnv, timeout};
//!
//! async fn patient<E: Env>(env: &E) -> Option<()> {
//!     timeout(env, Duration::from_millis(10), std::future::pending()).await
//! }
//!
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! assert_eq!(runtime.block_on(async { patient(&TokioEnv::new()).await }), None);
//! ```

mod tls;
mod tokio;

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    task::Poll,
    time::Duration,
};

use ::tokio::io::{AsyncRead, AsyncWrite};

pub use self::tokio::{TokioDisk, TokioEnv, TokioFile, TokioListener, TokioLock, TokioNetwork, TokioStream, TokioTask};

/// The world as one instance of the application sees it. Cloning is cheap and gives the same world.
pub trait Env: Clone + Send + Sync + 'static {
    /// The network of this environment.
    type Network: Network;
    /// The disk of this environment.
    type Disk: Disk;
    /// A spawned task.
    type Task: Task;

    /// The network.
    fn network(&self) -> &Self::Network;

    /// The disk.
    fn disk(&self) -> &Self::Disk;

    /// Monotonic time since an arbitrary origin. Never goes back, is not affected by steps of the wall clock, and says
    /// nothing across a restart. It may stand still while the machine sleeps, as `CLOCK_MONOTONIC` of Linux does.
    fn now(&self) -> Duration;

    /// Wall clock, in milliseconds since the Unix epoch. May be wrong, and may jump in either direction.
    fn wall_ms(&self) -> u64;

    /// Completes once `duration` of monotonic time has passed, also where the runtime of the tasks is idle or has ended.
    /// Dropping the future cancels the timer.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static;

    /// 64 uniformly random bits, different on every instance and at every start.
    fn random(&self) -> u64;

    /// Runs `future` in the background until it ends or its [`Task`] is aborted. A task whose handle is dropped goes on.
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Self::Task;

    /// Runs `work`, which may block on the disk, without holding up other tasks. It starts when the returned future is
    /// first polled; once started, `work` runs to its end even if the future is dropped. Its panic is the caller's.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static;
}

/// A background task.
pub trait Task: Send + Sync + 'static {
    /// Ends the task at its next suspension point. Has no effect on a task that has ended.
    fn abort(&self);

    /// Whether it has ended: by itself, by an abort, or with the runtime that it ran on.
    fn is_finished(&self) -> bool;
}

/// Connections to servers.
pub trait Network: Send + Sync + 'static {
    /// An ordered, reliable stream of bytes that does not delay small writes (`TCP_NODELAY`), and on which a dead peer
    /// is noticed in bounded time (keepalive, user timeout) even while nothing is sent.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// A port of this host that takes connections.
    type Listener: Listener<Stream = Self::Stream>;

    /// The addresses of an endpoint, in the order in which the system prefers them (RFC 6724). It may take for ever: the
    /// caller brings its own deadline, and drops the future.
    ///
    /// # Errors
    /// The name cannot be resolved, or [`io::ErrorKind::Unsupported`]: a kind of endpoint that this network does not have.
    fn resolve(&self, endpoint: &Endpoint) -> impl Future<Output = io::Result<Vec<Address>>> + Send;

    /// Opens a connection to one address of an endpoint. It may take for ever (a lost SYN is silent): the caller brings its
    /// own deadline, and drops the future, which abandons the attempt.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] where nobody listens; [`io::ErrorKind::InvalidInput`] for an address of another
    /// kind than the endpoint's; others as the operating system reports them.
    fn connect(&self, endpoint: &Endpoint, address: &Address) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Listens on a TCP port of this host, on all of its addresses, until the listener is dropped or the process ends. The kernel
    /// takes connections from now on, and they wait for [`Listener::accept`].
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if another socket listens there; others as the operating system reports them.
    fn listen(&self, port: u16) -> io::Result<Self::Listener>;
}

/// A port that takes connections.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// As the operating system reports them: no more descriptors, or the process has ended. Some of them pass.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// One of the places that an endpoint's name leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// An address and port of TCP.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `host:port`, as it is.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// `host:port`, through TLS. The server has to show a certificate for `host`.
    Tls {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// Who is trusted, and who this instance is.
        tls: Tls,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Endpoint {
    /// `host:port`, as it is.
    pub fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp { host: host.to_owned(), port }
    }
}

/// Who is trusted, and who this instance is. Files in PEM, read at every connection, so that they can be renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that may vouch for the server; those of the system if none are named.
    pub ca_file: Option<PathBuf>,
    /// The certificate that this instance shows, if the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// A file system. Its verbs block; call them within [`Env::blocking`], save for reads and for writes that only reach
/// the page cache, which are as quick as memory.
///
/// What a crash of the process keeps: every write, sync or no sync. What a power loss keeps: of a file's bytes, what
/// [`DiskFile::sync`] returned `Ok` for, and any subset of the 512-byte sectors written since, torn and out of order; of
/// created, renamed and removed names, those before a [`Disk::sync_dir`] that returned `Ok`, and any of the later ones.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Creates the directory and its parents, durably: no [`Disk::sync_dir`] is needed for directories. It is no error if
    /// it exists. A directory that is created is its owner's alone (mode 0700).
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Opens a file for reading and writing; creates it, empty and its owner's alone (mode 0600), if it does not exist. A
    /// symbolic link in the place of the file is an error; it is not followed.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// As [`Disk::open`], of a file that does not exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something has the name, be it a link that leads nowhere.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// What has this name. A symbolic link in its place is told, not followed. Asks the names that processes see now,
    /// synced or not.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if nothing has the name.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// Bytes that this process may still write to the volume of `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// The names in `dir`, sorted; neither those of directories nor those that are not Unicode.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames a file; an existing file of the new name is replaced. A reader sees the one or the other.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// Which file or directory something is, whatever its name. Two that exist at the same time differ. A number may be given
/// again to a later file; a device may have another number after a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// The volume.
    pub device: u64,
    /// The file on it (its inode).
    pub number: u64,
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Which file or directory it is.
    pub id: FileId,
    /// Of which kind.
    pub kind: FileKind,
    /// Who may do what with it: the nine permission bits.
    pub mode: u32,
}

/// What kind of thing has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, a device, or the like.
    Other,
}

/// An open file. Positions and lengths are in bytes.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Send + Sync + 'static {
    /// An exclusive lock, held until dropped or until the process ends.
    type Lock: Send + Sync + 'static;

    /// Which file it is.
    fn id(&self) -> io::Result<FileId>;

    /// Locks the file against every other process and handle. The lock is the file's, not its name's: it goes with a file
    /// that is renamed, and keeps nobody from another file of the same name.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another holds the lock.
    fn lock(&self) -> io::Result<Self::Lock>;

    /// The length of the file.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; a gap behind the end reads as zeros. Durable after [`DiskFile::sync`]. A full
    /// disk takes what replaces bytes that were written before (unless its file system never writes in place).
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros. Durable after [`DiskFile::sync`].
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable. After an error the unsynced bytes may be gone for good, even if a
    /// later sync returns `Ok`: the caller must not go on as if they were there.
    fn sync(&self) -> io::Result<()>;
}

/// Runs `future` for at most `limit`; `None` if it did not end in time, in which case it is dropped.
///
/// The future is polled before the timer (a `select!` without fixed order would not replay), so a result that is there
/// at the deadline wins.
pub async fn timeout<E: Env, F: Future>(env: &E, limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(env.sleep(limit));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Lets other tasks run.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
