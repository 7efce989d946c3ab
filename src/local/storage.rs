//! The file behind the local tier: an append-only log that checks itself. Its bytes are in `format`, how it is read
//! through in `scan`.
//!
//! A key-value store (redb) was the first candidate. It verifies nothing on read, so that checksums, a chain, a panic
//! guard and a salvage would have been written around it all the same; ARCHITECTURE.md has the figures.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    format::{
        ChecksumSeed, ENTRY_HEADER_LEN, FORMAT_UNSEEDED, HEADER_LEN, Location, Number, Tail, entry, header, length,
        push_entry,
    },
    scan::{Scan, Take, scan},
};
use crate::{
    env::{Disk, DiskFile, FileId, FileKind, Stat},
    error::StoreError,
};

/// The name of the log in its directory.
pub(super) const LOG: &str = "store.log";

/// An open log.
pub(super) struct LogFile<F> {
    file: F,
    /// Which file it is, whatever its name leads to by now.
    pub(super) id: FileId,
    path: PathBuf,
    seed: ChecksumSeed,
    tail: Mutex<Tail>,
}

/// How entries that are written together can get lost.
#[derive(Clone, Copy)]
enum Commits {
    /// Together: they are durable from the same sync on.
    One,
    /// One by one.
    Each,
}

/// Why entries were not appended.
pub(super) enum AppendError {
    /// The log is as it was: it may be tried again.
    Unchanged(StoreError),
    /// It is not known what is on disk: the log must not be appended to again.
    Lost(StoreError),
}

impl<F: DiskFile> LogFile<F> {
    /// Begins a new, empty log beside `path`, not yet durable. [`LogFile::put_in_place`] makes it the log: a reader finds the
    /// old one or the new one, each in full.
    pub(super) fn begin_beside<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        seed: ChecksumSeed,
    ) -> Result<Self, StoreError> {
        let beside = beside(path);
        let io = |verb| StoreError::io(verb, &beside);
        // What a crash has left there, or a link that leads who knows where: the name goes, what it leads to stays.
        if found(disk, &beside)?.is_some() {
            disk.remove(&beside).map_err(io("remove"))?;
        }
        let file = disk.create(&beside).map_err(io("create"))?;
        file.write_at(0, &header()).map_err(io("write to"))?;
        let tail = Mutex::new(Tail { end: HEADER_LEN as u64, next: 0, ragged: false });
        let id = file.id().map_err(io("look at"))?;
        Ok(Self { file, id, path: path.to_owned(), seed, tail })
    }

    /// Renames the log begun beside its path into place. After an error it is not known which of the two is there.
    pub(super) fn put_in_place<D: Disk<File = F>>(&self, disk: &D) -> Result<(), StoreError> {
        let beside = beside(&self.path);
        disk.rename(&beside, &self.path).map_err(StoreError::io("rename", &beside))?;
        sync_parent(disk, &self.path)
    }

    /// Removes the log begun beside its path, which keeps the room that it took, if it is still there.
    pub(super) fn abandon<D: Disk<File = F>>(&self, disk: &D) {
        let beside = beside(&self.path);
        if disk.stat(&beside).is_ok_and(|found| found.id == self.id) {
            // If it stays, the next opening removes it.
            let _ = disk.remove(&beside);
        }
    }

    /// Whether whoever opens the path finds this log.
    ///
    /// # Errors
    /// [`StoreError::Displaced`] if not.
    pub(super) fn check_place<D: Disk<File = F>>(&self, disk: &D) -> Result<(), StoreError> {
        let dir = parent(&self.path);
        let displaced = |how| Err(StoreError::Displaced { dir: dir.to_owned(), how });
        match found(disk, &self.path)? {
            Some(found) if found.id == self.id => Ok(()),
            Some(Stat { kind: FileKind::Link, .. }) => displaced("its log has been replaced by a symbolic link"),
            Some(_) => displaced("another log stands in its place"),
            None if found(disk, dir)?.is_some() => displaced("its log has been removed"),
            None => displaced("the directory has been removed or moved away"),
        }
    }

    /// Checks that no other process has written behind the last entry: the next entry would overwrite its bytes.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if another process has.
    pub(super) fn check_end(&self) -> Result<(), StoreError> {
        let tail = *self.tail();
        if tail.ragged || self.file_len()? <= tail.end {
            return Ok(());
        }
        Err(StoreError::Taken {
            dir: parent(&self.path).to_owned(),
            how: "its log is longer than this process wrote it",
        })
    }

    /// Locks the file, whatever its name: nobody else may append to it.
    pub(super) fn lock(&self) -> Result<F::Lock, StoreError> {
        self.file.lock().map_err(|error| locked(&self.path, error))
    }

    /// Opens the log at `path` and reads it through. Changes nothing.
    pub(super) fn open<D: Disk<File = F>, C: Take>(
        disk: &D,
        path: &Path,
        seed: ChecksumSeed,
    ) -> Result<(Self, C, Scan), StoreError> {
        Self::read_through(disk.open(path).map_err(StoreError::io("open", path))?, path, seed)
    }

    /// As [`LogFile::open`], of an open file.
    pub(super) fn read_through<C: Take>(
        file: F,
        path: &Path,
        seed: ChecksumSeed,
    ) -> Result<(Self, C, Scan), StoreError> {
        let (contents, scan, tail) = scan(&file, path, seed)?;
        let seed = if scan.format == FORMAT_UNSEEDED { ChecksumSeed(0) } else { seed };
        let id = file.id().map_err(StoreError::io("look at", path))?;
        Ok((Self { file, id, path: path.to_owned(), seed, tail: Mutex::new(tail) }, contents, scan))
    }

    /// Cuts off what stands behind the last good entry, so that appends are not lost behind garbage.
    pub(super) fn cut_tail(&self) -> Result<(), StoreError> {
        self.file.set_len(self.len()).map_err(StoreError::io("truncate", &self.path))?;
        self.sync()
    }

    /// Appends entries as one commit, and makes it durable.
    pub(super) fn append(&self, payloads: &[Vec<u8>]) -> Result<Vec<Location>, AppendError> {
        let locations = self.write_behind(payloads, Commits::One).map_err(AppendError::Unchanged)?;
        self.sync().map_err(AppendError::Lost)?;
        Ok(locations)
    }

    /// Writes entries behind the last, all or none, into a log that is synced before it is put in place: whatever is
    /// missing there was lost later.
    pub(super) fn write(&self, payloads: &[Vec<u8>]) -> Result<Vec<Location>, StoreError> {
        self.write_behind(payloads, Commits::Each)
    }

    fn write_behind(&self, payloads: &[Vec<u8>], commits: Commits) -> Result<Vec<Location>, StoreError> {
        let mut tail = self.tail();
        if tail.ragged {
            self.file.set_len(tail.end).map_err(StoreError::io("truncate", &self.path))?;
            tail.ragged = false;
        }
        let mut bytes = Vec::new();
        let mut locations = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let offset = tail.end + bytes.len() as u64;
            let written = locations.len() as u64;
            let in_commit = match commits {
                Commits::One => written,
                Commits::Each => 0,
            };
            push_entry(&mut bytes, self.seed, Number::of(tail.next + written, in_commit), payload);
            locations.push(Location { offset, len: length(payload) });
        }
        tail.ragged = true;
        self.file.write_at(tail.end, &bytes).map_err(StoreError::io("write to", &self.path))?;
        *tail = Tail { end: tail.end + bytes.len() as u64, next: tail.next + locations.len() as u64, ragged: false };
        Ok(locations)
    }

    /// Makes what was written durable. After an error it is not known what is on disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync().map_err(StoreError::io("sync", &self.path))
    }

    /// The payload of an entry, verified. A read that fails says nothing of what is on disk: it is an error of its own.
    pub(super) fn read(&self, location: Location) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; ENTRY_HEADER_LEN + location.len as usize];
        self.file.read_at(location.offset, &mut bytes).map_err(StoreError::io("read", &self.path))?;
        match entry(&bytes, self.seed) {
            Some(entry) if entry.payload.len() == location.len as usize => Ok(entry.payload.to_vec()),
            _ => Err(self.damaged(location)),
        }
    }

    /// The error that says that what stands there is not served.
    pub(super) fn damaged(&self, location: Location) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), offset: location.offset }
    }

    /// The length of the file, what stands behind the last good entry included.
    pub(super) fn file_len(&self) -> Result<u64, StoreError> {
        self.file.len().map_err(StoreError::io("measure", &self.path))
    }

    /// Where the last good entry ends, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.tail().end
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the name of the file at `path` durable.
pub(super) fn sync_parent<D: Disk>(disk: &D, path: &Path) -> Result<(), StoreError> {
    let dir = parent(path);
    disk.sync_dir(dir).map_err(StoreError::io("sync the directory", dir))
}

/// Why a file that belongs to one process cannot be locked.
pub(super) fn locked(path: &Path, error: std::io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::WouldBlock => StoreError::Locked { dir: parent(path).to_owned() },
        _ => StoreError::io("lock", path)(error),
    }
}

/// What has this name; none if nothing has.
pub(super) fn found<D: Disk>(disk: &D, path: &Path) -> Result<Option<Stat>, StoreError> {
    match disk.stat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) => match error.kind() {
            // The last: of a file system that another host serves, and took away.
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::StaleNetworkFileHandle => Ok(None),
            _ => Err(StoreError::io("look for", path)(error)),
        },
    }
}

/// Where a log begins that is to take the place of the one at `path`.
pub(super) fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// The directory of a file.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
