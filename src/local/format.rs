//! The bytes of a log.
//!
//! ```text
//! header   "contactc"  version u32  crc32 u32                       (16 bytes, little endian)
//! entry    "CCLE"  crc32 u32  length u32  number u64  payload       (crc over all that follows it)
//! ```
//!
//! The low 40 bits of the number are the entry's place in the log: they have no gaps, so that a missing entry is noticed
//! as well as a damaged one. The high 24 are its place in its commit, the entries that one append made durable: a loss
//! of power during a commit leaves any part of it, and what is missing of the last commit is no damage. The checksum of
//! every entry but the first starts from a seed, which the store makes of its prefix: what another prefix wrote does not
//! verify. Format 1 had no seed, neither 1 nor 2 places in a commit, and 3 no word of the Redis that the store is for, and
//! records of one life with a deadline alone (`held_text`); all are read, and rewritten at opening.

/// Version of the file format.
pub(super) const FORMAT: u32 = 4;
/// The versions before it, which are read as well. This one had other entries.
pub(super) const FORMAT_BEFORE: u32 = 3;
/// In this one and the one before, every entry is a commit of its own.
pub(super) const FORMAT_WITHOUT_COMMITS: u32 = 2;
pub(super) const FORMAT_UNSEEDED: u32 = 1;

pub(super) const FILE_MAGIC: &[u8; 8] = b"contactc";
pub(super) const HEADER_LEN: usize = 16;
pub(super) const ENTRY_MAGIC: &[u8; 4] = b"CCLE";
pub(super) const ENTRY_HEADER_LEN: usize = 20;

/// What checksums start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChecksumSeed(pub(super) u32);

#[derive(Clone, Copy)]
pub(super) struct Tail {
    pub(super) end: u64,
    /// The place in the log of the next entry.
    pub(super) next: u64,
    /// A write failed and may have left a part behind the end: the next one must not stand in front of it.
    pub(super) ragged: bool,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) offset: u64,
    /// Of the payload.
    pub(super) len: u32,
}

impl Location {
    /// Bytes of the file.
    pub(super) fn bytes(self) -> u64 {
        ENTRY_HEADER_LEN as u64 + u64::from(self.len)
    }

    /// Where the next one begins.
    pub(super) fn end(self) -> u64 {
        self.offset + self.bytes()
    }
}

/// The number of an entry: its place in the log, and in its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u64);

impl Number {
    const LOG_BITS: u32 = 40;

    /// Places count from 0. A commit of more than 2^24 entries goes on as another one.
    pub(super) fn of(in_log: u64, in_commit: u64) -> Self {
        assert!(in_log >> Self::LOG_BITS == 0, "a log is rewritten long before it has a million million entries");
        Self((in_commit << Self::LOG_BITS) | in_log)
    }

    pub(super) fn in_log(self) -> u64 {
        self.0 & ((1 << Self::LOG_BITS) - 1)
    }

    /// The place in the log of the first entry of its commit; none if there can be no such entry.
    pub(super) fn commit(self) -> Option<u64> {
        self.in_log().checked_sub(self.0 >> Self::LOG_BITS)
    }
}

pub(super) fn header() -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(FILE_MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    let crc = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(super) fn length(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).expect("an entry is a record, and records are far below 4 GiB")
}

/// The first entry says whose log this is: whoever opens it has to be able to read that.
fn checksum(seed: ChecksumSeed, number: Number, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(if number == Number(0) { 0 } else { seed.0 });
    hasher.update(bytes);
    hasher.finalize()
}

pub(super) fn push_entry(bytes: &mut Vec<u8>, seed: ChecksumSeed, number: Number, payload: &[u8]) {
    bytes.extend_from_slice(ENTRY_MAGIC);
    let crc_at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&length(payload).to_le_bytes());
    bytes.extend_from_slice(&number.0.to_le_bytes());
    bytes.extend_from_slice(payload);
    let crc = checksum(seed, number, &bytes[crc_at + 4..]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// An entry that verifies.
pub(super) struct Verified<'a> {
    pub(super) number: Number,
    pub(super) payload: &'a [u8],
}

/// The length of the payload of the entry that begins with the first of `bytes`, if one may begin there.
pub(super) fn payload_len(bytes: &[u8]) -> Option<u32> {
    let (len, _) = bytes.strip_prefix(ENTRY_MAGIC)?.get(4..)?.split_first_chunk::<4>()?;
    (bytes.len() >= ENTRY_HEADER_LEN).then(|| u32::from_le_bytes(*len))
}

/// The entry that begins with the first of `bytes`, if it verifies.
pub(super) fn entry(bytes: &[u8], seed: ChecksumSeed) -> Option<Verified<'_>> {
    let len = usize::try_from(payload_len(bytes)?).ok()?;
    let (crc, rest) = bytes[ENTRY_MAGIC.len()..].split_first_chunk::<4>()?;
    let (number, after_number) = rest.get(4..)?.split_first_chunk::<8>()?;
    let (number, payload) = (Number(u64::from_le_bytes(*number)), after_number.get(..len)?);
    let verified = checksum(seed, number, rest.get(..12 + len)?) == u32::from_le_bytes(*crc);
    verified.then_some(Verified { number, payload })
}
