//! The lock file of a store, and what it remembers for the day on which the log beside it cannot be asked.
//!
//! ```text
//! 0, 4096   "CCLK"  crc32 u32  sequence u64  number u64  ceiling u64     written in turn, each synced
//! 8192      "CCLX"  crc32 u32  number u64  length u64                    written after each commit, not synced
//! 8704      "CCLO"  crc32 u32  opening u64                               written at each opening, synced
//! ```
//!
//! (Little endian; each crc is over what follows it.) The file has its full size before it is needed, so that a full disk
//! takes what is written to it in place. It answers four questions:
//!
//! - *Was there a log?* A file that is not empty says so: it is written only once a log is in place.
//! - *How high is the clock's ceiling (R4)?* The log says it first; what the log could not take stands here. Two places in
//!   turn, in a page each: a write that is torn leaves the one before.
//! - *How long was the log?* As long at least as the third page says, of the file with this number: a log that ends before
//!   was cut. Not synced, since it need not be exact: after a loss of power it may name an earlier length, never a later
//!   one. It is taken back, and synced, before another log takes the place.
//!
//! - *Who opened the store last?* The lock keeps out the processes of this host. On a volume that several hosts have mounted it may
//!   be unseen by the others. So each opening leaves its id here before it reads the log, and a process that finds
//!   another id writes no more (`check_opener`).
//!
//! The number of the lock file itself tells a copy of a directory from the directory.

use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{env::DiskFile, error::StoreError, stamp::StampHead, telemetry::log};

/// The name of the lock file in the directory of a store.
pub(super) const LOCK: &str = "lock";

const PAGE: usize = 4096;
const CEILING_PAGES: [u64; 2] = [0, PAGE as u64];
const EXTENT_PAGE: u64 = 2 * PAGE as u64;
/// In a sector of its own, of a page that is there in stores of earlier clients.
const OPENING_AT: u64 = EXTENT_PAGE + 512;
const LEN: usize = 3 * PAGE;

const CEILING_MAGIC: &[u8; 4] = b"CCLK";
const EXTENT_MAGIC: &[u8; 4] = b"CCLX";
const OPENING_MAGIC: &[u8; 4] = b"CCLO";

/// An open lock file.
pub(super) struct Note<F> {
    file: F,
    path: PathBuf,
    /// The number of the file.
    number: u64,
    /// The id of this opening.
    opening: u64,
    kept: Mutex<Kept>,
}

/// The content of the file, as far as this process wrote it.
#[derive(Clone, Copy, Default)]
struct Kept {
    sequence: u64,
    ceiling: StampHead,
    /// The opening that stands there, and the one before it, if that may have stayed.
    opening: Option<u64>,
    opening_before: Option<u64>,
    /// Whether the file has its full size.
    is_whole: bool,
}

/// What a lock file remembered when it was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remembered {
    /// There was a log.
    pub(super) had_log: bool,
    /// No stamp at or above it was issued, as far as this file knows.
    pub(super) ceiling: StampHead,
    /// The file was copied, or put back from a copy, since it was written.
    pub(super) is_copy: bool,
    pub(super) extent: Option<Extent>,
}

/// How long a log is at least, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The number of its file.
    pub(super) number: u64,
    pub(super) len: u64,
}

impl Remembered {
    /// Reads a lock file. What does not verify says nothing.
    pub(super) fn read<F: DiskFile>(file: &F) -> std::io::Result<Self> {
        let (remembered, ..) = read(file)?;
        Ok(remembered)
    }
}

impl<F: DiskFile> Note<F> {
    /// Reads a lock file, and leaves the id of this opening there if there is room set aside for it: before the log is read, so
    /// that no other process acknowledges a write after that.
    pub(super) fn open(file: F, path: PathBuf, opening: u64) -> Result<(Self, Remembered), StoreError> {
        let (remembered, mut kept) = read(&file).map_err(StoreError::io("read", &path))?;
        let number = file.id().map_err(StoreError::io("look at", &path))?.number;
        let has_room = kept.is_whole;
        kept.is_whole &= !remembered.is_copy;
        let note = Self { file, path, number, opening, kept: Mutex::new(kept) };
        if has_room {
            let before = note.read_opening()?;
            let left = note.write(OPENING_AT, &opening_page(opening)).and_then(|()| note.sync());
            // A disk may acknowledge a write and lose it. A third id is that of a process that came later.
            let is_lost = note.read_opening()? == before;
            note.kept().opening = Some(opening);
            if left.is_err() || is_lost {
                // The id may be there or not, now or later: neither is the id of another process.
                note.kept().opening_before = before;
                let error = left.err().map_or_else(|| "the disk lost it".to_owned(), |error| error.to_string());
                log!(warn, %error, "a process on another host that has the local store open may not notice this one");
            }
        }
        Ok((note, remembered))
    }

    /// Checks that no other process has opened the store since. An id that does not verify is ignored.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if another process has.
    pub(super) fn check_opener(&self) -> Result<(), StoreError> {
        let found = self.read_opening()?;
        let kept = *self.kept();
        if found.is_none() || found == kept.opening || found == kept.opening_before {
            return Ok(());
        }
        let dir = self.path.parent().unwrap_or(&self.path).to_owned();
        Err(StoreError::Taken { dir, how: "its lock file names another opening" })
    }

    fn read_opening(&self) -> Result<Option<u64>, StoreError> {
        let mut page = [0; OPENING_LEN];
        match self.file.read_at(OPENING_AT, &mut page) {
            Ok(()) => Ok(opened(&page, *OPENING_MAGIC).map(|[opening]| opening)),
            // No room has been set aside.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }

    /// Says that there is a log now, durably, and how long it is. After an error the store has no reserve.
    pub(super) fn settle(&self, ceiling: StampHead, extent: Extent) -> Result<(), StoreError> {
        let mut kept = self.kept();
        if !kept.is_whole {
            kept.sequence += 1;
            kept.ceiling = kept.ceiling.max(ceiling);
            let mut bytes = vec![0; LEN];
            let page = self.ceiling_page(&kept);
            for at in CEILING_PAGES.map(|at| usize::try_from(at).unwrap_or_default()) {
                bytes[at..at + page.len()].copy_from_slice(&page);
            }
            let (page, at) = (opening_page(self.opening), usize::try_from(OPENING_AT).unwrap_or_default());
            bytes[at..at + page.len()].copy_from_slice(&page);
            self.write(0, &bytes)?;
            kept.opening = Some(self.opening);
            self.sync()?;
            kept.is_whole = true;
        }
        self.write(EXTENT_PAGE, &extent_page(extent))
    }

    /// Makes a ceiling durable (R4).
    pub(super) fn keep_ceiling(&self, ceiling: StampHead) -> Result<(), StoreError> {
        let mut kept = self.kept();
        if ceiling <= kept.ceiling {
            return Ok(());
        }
        let next = Kept { sequence: kept.sequence + 1, ceiling, ..*kept };
        self.write(CEILING_PAGES[usize::from(next.sequence % 2 == 1)], &self.ceiling_page(&next))?;
        // A sync that failed leaves the page in doubt: the next one goes to the other page only if this one is durable.
        self.sync()?;
        *kept = next;
        Ok(())
    }

    /// The log is that long, synced.
    pub(super) fn keep_extent(&self, extent: Extent) {
        // Without it, a log that is cut is found out by its missing end alone.
        let _ = self.write(EXTENT_PAGE, &extent_page(extent));
    }

    /// Another log is about to take the place of the one whose length is kept: its file may have the same number.
    pub(super) fn forget_extent(&self) -> Result<(), StoreError> {
        self.write(EXTENT_PAGE, &[0; EXTENT_LEN])?;
        self.sync()
    }

    fn ceiling_page(&self, kept: &Kept) -> [u8; CEILING_LEN] {
        let mut page = [0; CEILING_LEN];
        for (at, field) in [(8, kept.sequence), (16, self.number), (24, kept.ceiling.0)] {
            page[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        sealed(page, *CEILING_MAGIC)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_at(at, bytes).map_err(StoreError::io("write to", &self.path))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.file.sync().map_err(StoreError::io("sync", &self.path))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CEILING_LEN: usize = 32;
const EXTENT_LEN: usize = 24;
const OPENING_LEN: usize = 16;

fn read<F: DiskFile>(file: &F) -> std::io::Result<(Remembered, Kept)> {
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX).min(LEN);
    let mut bytes = vec![0; len];
    file.read_at(0, &mut bytes)?;
    bytes.resize(LEN, 0);
    let (mut kept, mut written_as) = (Kept { is_whole: len == LEN, ..Kept::default() }, None);
    for at in CEILING_PAGES.map(|at| usize::try_from(at).unwrap_or_default()) {
        let Some([sequence, number, ceiling]) = opened(&bytes[at..at + CEILING_LEN], *CEILING_MAGIC) else { continue };
        kept.ceiling = kept.ceiling.max(StampHead(ceiling));
        if sequence >= kept.sequence {
            (kept.sequence, written_as) = (sequence, Some(number));
        }
    }
    let own = file.id()?.number;
    let is_copy = written_as.is_some_and(|number| number != own);
    let at = usize::try_from(EXTENT_PAGE).unwrap_or_default();
    let extent = opened(&bytes[at..at + EXTENT_LEN], *EXTENT_MAGIC).map(|[number, len]| Extent { number, len });
    Ok((Remembered { had_log: len > 0, ceiling: kept.ceiling, is_copy, extent }, kept))
}

fn extent_page(extent: Extent) -> [u8; EXTENT_LEN] {
    let mut page = [0; EXTENT_LEN];
    page[8..16].copy_from_slice(&extent.number.to_le_bytes());
    page[16..24].copy_from_slice(&extent.len.to_le_bytes());
    sealed(page, *EXTENT_MAGIC)
}

fn opening_page(opening: u64) -> [u8; OPENING_LEN] {
    let mut page = [0; OPENING_LEN];
    page[8..].copy_from_slice(&opening.to_le_bytes());
    sealed(page, *OPENING_MAGIC)
}

fn sealed<const N: usize>(mut page: [u8; N], magic: [u8; 4]) -> [u8; N] {
    let crc = crc32fast::hash(&page[8..]);
    page[..4].copy_from_slice(&magic);
    page[4..8].copy_from_slice(&crc.to_le_bytes());
    page
}

/// The numbers on a page, if it verifies.
fn opened<const N: usize>(page: &[u8], magic: [u8; 4]) -> Option<[u64; N]> {
    let rest = page.strip_prefix(&magic)?;
    let (crc, fields) = rest.split_first_chunk::<4>()?;
    if crc32fast::hash(fields) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut numbers = [0; N];
    for (number, field) in numbers.iter_mut().zip(fields.chunks_exact(8)) {
        *number = u64::from_le_bytes(field.try_into().ok()?);
    }
    Some(numbers)
}
