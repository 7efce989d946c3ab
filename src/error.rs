//! What a call can fail with. Each error says what failed, where, and what cures it, and whether the call may have had
//! an effect all the same.

use std::{io, path::PathBuf};

use crate::{contact::Refusal, key::NameError, limits::TooLarge, shown::Line};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The patch cannot be kept exactly; nothing was written.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The record would be larger than its limits; nothing was stored or sent.
    #[error("refused: {0}")]
    TooLarge(#[from] TooLarge),
    /// A prefix or uid that is too long; nothing was done.
    #[error("refused: {0}")]
    Name(#[from] NameError),
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The deadline passed. The call may still take effect.
    #[error("the deadline of {deadline_ms} ms passed: is the disk of the local store stuck?")]
    DeadlineExceeded {
        /// The deadline, in milliseconds.
        deadline_ms: u128,
    },
    /// The background tasks have ended: with the tokio runtime that the cache was opened on, or in a panic. Nothing was done.
    #[error(
        "the background tasks of the cache have ended, with the runtime that it was opened on or in a panic: \
         open it again, on a runtime that lives as long as the cache"
    )]
    BackgroundEnded,
    /// Redis is away, and this instance has forgotten records to keep within `copies_bytes_max`: it cannot tell whether
    /// this is one of them, or not all of it.
    #[error("redis is away, and what is held locally of the record may not be all of it: raise copies_bytes_max")]
    Forgotten,
    /// Redis did not take the write, and pending writes have reached their limit. In most cases Redis is away. A write that other
    /// instances outran several times can meet the limit too.
    #[error(
        "redis did not take the write, and those kept locally have reached {limit_bytes} bytes: \
         see health() for why redis is away, or raise pending_bytes_max"
    )]
    PendingFull {
        /// The limit.
        limit_bytes: u64,
        /// Whether Redis was sent the write, which may take effect yet.
        sent: bool,
    },
    /// Redis's word was demanded, and could not be had.
    #[error("redis was asked for and cannot answer: {reason}")]
    NotShared {
        /// Why not.
        reason: String,
        /// Whether something was sent that may take effect yet.
        sent: bool,
    },
    /// Redis is away, and what is held here is older than was asked for.
    #[error(
        "redis is away, and the local copy is too old: {}, {max_ms} ms at most were asked for",
        age_ms.map_or("redis never confirmed it".to_owned(), |age| format!("confirmed {age} ms ago"))
    )]
    TooOld {
        /// How long ago Redis confirmed what is held, in milliseconds; none if it never did.
        age_ms: Option<u64>,
        /// The age asked for, in milliseconds.
        max_ms: u64,
    },
    /// A stamp at the end of time was seen (a clock somewhere is broken), so that nothing can be written above it.
    #[error("no stamp is left: another instance wrote with a clock at the end of time")]
    NoStampLeft,
    /// The record in Redis is not one that this version of the client wrote; it is left alone.
    #[error("key {key:?} in redis holds no contact record of this version: {reason}")]
    NotARecord {
        /// The key in Redis.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Whether a failed call left something behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It certainly had no effect, and will have none.
    None,
    /// It may have had an effect, or may have one later.
    Unknown,
}

impl Error {
    /// Whether the call may have had an effect. An error after anything was sent or handed to the disk says `Unknown`.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Refused(_)
            | Self::Name(_)
            | Self::TooLarge(_)
            | Self::TooOld { .. }
            | Self::Forgotten
            | Self::BackgroundEnded
            | Self::NotShared { sent: false, .. }
            | Self::PendingFull { sent: false, .. } => Effect::None,
            Self::Store(_)
            | Self::DeadlineExceeded { .. }
            | Self::NotShared { sent: true, .. }
            | Self::PendingFull { sent: true, .. }
            | Self::NoStampLeft
            | Self::NotARecord { .. } => Effect::Unknown,
        }
    }
}

/// Why a local store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system reported an error.
    // The message begins with the path, as the errors of every disk do.
    #[error("the local store failed to {verb} {}", Line(message))]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        message: String,
    },
    /// The disk has no room. What the call was to write may be written later, when there is room again.
    #[error("no space left to {verb} {path:?}: free some")]
    DiskFull {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// A write to disk failed before. What is on disk is not known any more; the store takes no more writes.
    #[error("the local store in {dir:?} stopped after an error ({cause}): open the cache again")]
    Poisoned {
        /// The directory of the store.
        dir: PathBuf,
        /// The first error.
        cause: String,
    },
    /// The name of the log leads to another file than the one that is open, or to none: it was removed, its directory was
    /// moved, replaced or unmounted. What is written would be found by nobody; the store takes no more writes.
    #[error(
        "the local store in {dir:?} is not there any more ({how}): put the directory back, or name another, and open the \
         cache again; what it had not merged into redis is lost with it"
    )]
    Displaced {
        /// The directory of the store.
        dir: PathBuf,
        /// What is there instead.
        how: &'static str,
    },
    /// Another process has opened the directory since, although this one has it locked: on another host, say, that does not see
    /// the locks of this one. The store is the other's from there on; here it takes no more writes.
    #[error(
        "the local store in {dir:?} was opened by another process, which did not see the lock of this one ({how}): give every \
         instance a directory of its own, and open the cache again"
    )]
    Taken {
        /// The directory of the store.
        dir: PathBuf,
        /// The sign of it.
        how: &'static str,
    },
    /// A symbolic link stands in the place of a file of the store. It is neither followed nor replaced.
    #[error(
        "{path:?} is a symbolic link: move the file that it leads to into its place, or name that file's directory"
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// Another process has the directory open.
    #[error("the local store in {dir:?} is in use by another process: give every instance a directory of its own")]
    Locked {
        /// The directory of the store.
        dir: PathBuf,
    },
    /// The directory holds a store of another prefix.
    #[error("the local store in {dir:?} belongs to prefix {found:?}, not {expected:?}: name another directory")]
    ForeignPrefix {
        /// The directory of the store.
        dir: PathBuf,
        /// The prefix that it was made for.
        found: String,
        /// The prefix that was asked for.
        expected: String,
    },
    /// The file is of a format that this version cannot read. It is left as it is.
    #[error("{path:?} has format version {found}, this client reads {expected}: use the client that wrote it")]
    Format {
        /// The file.
        path: PathBuf,
        /// The version found in it.
        found: u32,
        /// The version that this client reads.
        expected: u32,
    },
    /// A record on disk does not match its checksum; it is not served.
    #[error("{path:?} is damaged at byte {offset}: the record is not served; open the cache again to salvage the rest")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
    },
}

impl StoreError {
    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { verb, path },
            _ => Self::Io { verb, path, message: error.to_string() },
        }
    }
}
