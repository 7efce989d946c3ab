//! The file behind the local tier: an append-only log that checks itself.
//!
//! ```text
//! header   "contactc"  version u32  crc32 u32                       (16 bytes, little endian)
//! entry    "CCLE"  crc32 u32  length u32  sequence u64  payload     (crc over all that follows it)
//! ```
//!
//! Sequence numbers have no gaps, so that a missing entry is noticed as well as a damaged one. Opening reads the file
//! once, front to back. An entry that does not verify is skipped by looking for the next that does: what follows is
//! salvaged. If none follows, it is a tail torn by a crash, never acknowledged, and is cut off before the first append
//! (an append behind garbage would be lost with it at the next opening).
//!
//! A key-value store (redb) was the first candidate. It verifies nothing on read, so that checksums, a chain, a panic
//! guard and a salvage would have been written around it all the same; ARCHITECTURE.md has the figures.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    env::{Disk, DiskFile},
    error::StoreError,
};

/// Version of the file format.
pub(super) const FORMAT: u32 = 1;

const FILE_MAGIC: &[u8; 8] = b"contactc";
const HEADER_LEN: usize = 16;
const ENTRY_MAGIC: &[u8; 4] = b"CCLE";
const ENTRY_HEADER_LEN: usize = 20;

/// An open log.
pub(super) struct Log<F> {
    file: F,
    path: PathBuf,
    tail: Mutex<Tail>,
}

#[derive(Clone, Copy)]
struct Tail {
    end: u64,
    sequence: u64,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// What an opening found.
pub(super) struct Scan {
    pub(super) entries: Vec<(Location, Vec<u8>)>,
    pub(super) damage: Damage,
}

/// What was wrong with a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes behind the last good entry: an append that a crash cut short, never acknowledged.
    pub torn_tail_bytes: u64,
    /// Unreadable stretches before good entries: first byte and length.
    pub unreadable: Vec<(u64, u64)>,
    /// Entries that are missing, by their numbers.
    pub missing_entries: u64,
}

impl Damage {
    /// Whether something that was once durable is gone. A torn tail alone is no damage.
    pub fn is_loss(&self) -> bool {
        !self.unreadable.is_empty() || self.missing_entries > 0
    }
}

impl<F: DiskFile> Log<F> {
    /// Writes a new log that holds `payloads`, synced, beside `path`. [`Log::put_in_place`] makes it the log: a reader
    /// finds the old one or the new one, each in full.
    pub(super) fn write_beside<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        payloads: &[Vec<u8>],
    ) -> Result<(Self, Vec<Location>), StoreError> {
        let beside = path.with_extension("new");
        let io = |verb| StoreError::io(verb, &beside);
        let file = disk.open(&beside).map_err(io("create"))?;
        file.set_len(0).map_err(io("truncate"))?;
        file.write_at(0, &header()).map_err(io("write to"))?;
        let tail = Mutex::new(Tail { end: HEADER_LEN as u64, sequence: 0 });
        let log = Self { file, path: path.to_owned(), tail };
        let locations = log.append(payloads)?;
        Ok((log, locations))
    }

    /// Renames the log written beside its path into place. After an error it is not known which of the two is there.
    pub(super) fn put_in_place<D: Disk<File = F>>(&self, disk: &D) -> Result<(), StoreError> {
        let beside = self.path.with_extension("new");
        disk.rename(&beside, &self.path).map_err(StoreError::io("rename", &beside))?;
        sync_parent(disk, &self.path)
    }

    /// Opens the log at `path` and reads it through. Changes nothing.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, path: &Path) -> Result<(Self, Scan), StoreError> {
        let io = |verb| StoreError::io(verb, path);
        let file = disk.open(path).map_err(io("open"))?;
        let len = file.len().map_err(io("measure"))?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        file.read_at(0, &mut bytes).map_err(io("read"))?;
        let (scan, tail) = scan(&bytes, path)?;
        Ok((Self { file, path: path.to_owned(), tail: Mutex::new(tail) }, scan))
    }

    /// Cuts off what stands behind the last good entry, so that appends are not lost behind garbage.
    pub(super) fn cut_tail(&self) -> Result<(), StoreError> {
        self.file.set_len(self.len()).map_err(StoreError::io("truncate", &self.path))?;
        self.file.sync().map_err(StoreError::io("sync", &self.path))
    }

    /// Appends entries and makes them durable. After an error the log must not be appended to again.
    pub(super) fn append(&self, payloads: &[Vec<u8>]) -> Result<Vec<Location>, StoreError> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        let mut locations = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let offset = tail.end + bytes.len() as u64;
            push_entry(&mut bytes, tail.sequence + locations.len() as u64, payload);
            locations.push(Location { offset, len: length(payload) });
        }
        self.file.write_at(tail.end, &bytes).map_err(StoreError::io("write to", &self.path))?;
        self.file.sync().map_err(StoreError::io("sync", &self.path))?;
        tail.end += bytes.len() as u64;
        tail.sequence += locations.len() as u64;
        Ok(locations)
    }

    /// The payload of an entry, verified.
    pub(super) fn read(&self, location: Location) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; ENTRY_HEADER_LEN + location.len as usize];
        match self.file.read_at(location.offset, &mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(StoreError::io("read", &self.path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        match entry(&bytes) {
            Some(entry) if entry.payload.len() == location.len as usize => Ok(entry.payload.to_vec()),
            _ => Err(self.damaged(location)),
        }
    }

    /// The error that says that what stands there is not served.
    pub(super) fn damaged(&self, location: Location) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), offset: location.offset }
    }

    /// The length of the file, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).end
    }
}

/// Makes the name of the file at `path` durable.
pub(super) fn sync_parent<D: Disk>(disk: &D, path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            disk.sync_dir(parent).map_err(StoreError::io("sync the directory", parent))
        }
        _ => Ok(()),
    }
}

struct Entry<'a> {
    sequence: u64,
    payload: &'a [u8],
}

fn header() -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(FILE_MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    let crc = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn length(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).expect("an entry is a record, and records are far below 4 GiB")
}

fn push_entry(bytes: &mut Vec<u8>, sequence: u64, payload: &[u8]) {
    bytes.extend_from_slice(ENTRY_MAGIC);
    let crc_at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&length(payload).to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(payload);
    let crc = crc32fast::hash(&bytes[crc_at + 4..]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The entry that begins with the first of `bytes`, if it verifies.
fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let rest = bytes.strip_prefix(ENTRY_MAGIC)?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (len, after_len) = rest.split_first_chunk::<4>()?;
    let (sequence, after_sequence) = after_len.split_first_chunk::<8>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let payload = after_sequence.get(..len)?;
    let verified = crc32fast::hash(rest.get(..12 + len)?) == u32::from_le_bytes(*crc);
    verified.then_some(Entry { sequence: u64::from_le_bytes(*sequence), payload })
}

fn scan(bytes: &[u8], path: &Path) -> Result<(Scan, Tail), StoreError> {
    let mut damage = Damage::default();
    let mut entries = Vec::new();
    let mut at = 0;
    let mut bad_since = None;
    match bytes.get(..HEADER_LEN) {
        Some(found) if found == header() => at = HEADER_LEN,
        Some(found) => {
            let version = u32::from_le_bytes(found[8..12].try_into().expect("four bytes"));
            let intact = crc32fast::hash(&found[..12]).to_le_bytes() == found[12..];
            if intact && found.starts_with(FILE_MAGIC) {
                return Err(StoreError::Format { path: path.to_owned(), found: version, expected: FORMAT });
            }
            bad_since = Some(0);
        }
        None => bad_since = Some(0),
    }
    let (mut end, mut sequence) = (at, 0);
    while at < bytes.len() {
        let Some(found) = entry(&bytes[at..]) else {
            bad_since.get_or_insert(at);
            // The next place that could be an entry; `entry` verifies it.
            at += 1 + bytes[at + 1..].windows(4).position(|w| w == ENTRY_MAGIC).unwrap_or(bytes.len() - at - 1);
            continue;
        };
        if let Some(bad) = bad_since.take() {
            damage.unreadable.push((bad as u64, (at - bad) as u64));
        }
        damage.missing_entries += found.sequence.saturating_sub(sequence);
        let location = Location { offset: at as u64, len: length(found.payload) };
        entries.push((location, found.payload.to_vec()));
        at += ENTRY_HEADER_LEN + found.payload.len();
        (end, sequence) = (at, found.sequence + 1);
    }
    if entries.is_empty() {
        // A log is born whole, by a rename, with its first entry: without any this is no torn tail but something else.
        damage.unreadable.push((0, bytes.len() as u64));
    } else {
        damage.torn_tail_bytes = (bytes.len() - end) as u64;
    }
    Ok((Scan { entries, damage }, Tail { end: end as u64, sequence }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = header().to_vec();
        for (sequence, payload) in (0..).zip(payloads) {
            push_entry(&mut bytes, sequence, payload);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Damage, u64) {
        let (scan, tail) = scan(bytes, Path::new("store.log")).unwrap();
        (scan.entries.into_iter().map(|(_, payload)| payload).collect(), scan.damage, tail.end)
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let bytes = image(&[b"one", b"", b"three"]);
        let (entries, damage, end) = read(&bytes);
        assert_eq!(entries, [b"one".to_vec(), vec![], b"three".to_vec()]);
        assert_eq!((damage, end), (Damage::default(), bytes.len() as u64));
    }

    #[test]
    fn a_torn_tail_is_cut_and_is_no_loss() {
        let whole = image(&[b"one"]).len();
        let bytes = image(&[b"one", b"two"]);
        for len in whole + 1..bytes.len() {
            let (entries, damage, end) = read(&bytes[..len]);
            assert_eq!((entries.len(), end), (1, whole as u64));
            assert!(!damage.is_loss() && damage.torn_tail_bytes == (len - whole) as u64);
        }
    }

    #[test]
    fn a_damaged_entry_in_the_middle_is_skipped_and_what_follows_is_salvaged() {
        let mut bytes = image(&[b"one", b"two", b"three"]);
        let at = image(&[b"one"]).len();
        bytes[at + ENTRY_HEADER_LEN] ^= 1;
        let (entries, damage, _) = read(&bytes);
        assert_eq!(entries, [b"one".to_vec(), b"three".to_vec()]);
        assert_eq!(damage.unreadable, [(at as u64, (ENTRY_HEADER_LEN + 3) as u64)]);
        assert_eq!(damage.missing_entries, 1);
    }

    #[test]
    fn an_entry_that_is_missing_without_a_trace_is_noticed() {
        let (first, all) = (image(&[b"one"]), image(&[b"one", b"two", b"three"]));
        let second_len = ENTRY_HEADER_LEN + 3;
        let bytes = [&first[..], &all[first.len() + second_len..]].concat();
        let (entries, damage, _) = read(&bytes);
        assert_eq!((entries.len(), damage.missing_entries, damage.is_loss()), (2, 1, true));
    }

    #[test]
    fn a_file_of_another_format_version_is_left_alone_with_an_error_that_names_both() {
        let mut bytes = image(&[b"one"]);
        bytes[8..12].copy_from_slice(&9_u32.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let error = scan(&bytes, Path::new("store.log")).err().unwrap().to_string();
        assert_eq!(error, r#""store.log" has format version 9, this client reads 1: use the client that wrote it"#);
    }

    #[test]
    fn a_file_that_is_no_log_at_all_is_damage_and_not_a_torn_tail() {
        for bytes in [&b""[..], b"x", &[7; 4000]] {
            let (entries, damage, _) = read(bytes);
            assert_eq!((entries.len(), damage.is_loss(), damage.torn_tail_bytes), (0, true, 0));
        }
    }

    proptest! {
        #[test]
        fn no_flipped_bit_is_ever_served(at in 0_usize..1000, bit in 0_u8..8) {
            let payloads: [&[u8]; 4] = [b"alpha", b"beta", b"gamma CCLE", b"delta"];
            let mut bytes = image(&payloads);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok((scan, _)) = scan(&bytes, Path::new("store.log")) {
                prop_assert!(scan.entries.iter().all(|(_, payload)| payloads.contains(&payload.as_slice())));
                prop_assert!(scan.damage.is_loss() || scan.damage.torn_tail_bytes > 0);
            }
        }
    }
}
