//! How a log is read through at opening: once, front to back.
//!
//! What does not verify is skipped, and what follows is salvaged. What is missing of the last commit alone was torn by a
//! crash and never acknowledged: a loss of power leaves any of its entries. It is gone before the first append: the tail
//! is cut off (an append behind garbage would be lost with it at the next opening), and of a commit with a hole inside
//! what is left is written anew.
//!
//! A disk that puts a write into another place leaves entries out of their order. They are sorted then, which takes a
//! second reading.

use std::{io, path::Path};

use super::{
    format::{
        ChecksumSeed, FILE_MAGIC, FORMAT, FORMAT_BEFORE, FORMAT_UNSEEDED, FORMAT_WITHOUT_COMMITS, HEADER_LEN, Location,
        Number, Tail,
    },
    walk::Walk,
};
use crate::{env::DiskFile, error::StoreError};

/// What the entries of a log are taken into.
pub(super) trait Take: Default {
    fn take(&mut self, location: Location, payload: &[u8]);
}

/// What reading a log through found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) format: u32,
    pub(super) damage: Damage,
    /// What is left does not stand as it should: with a hole in the last commit, or out of order.
    pub(super) misshapen: bool,
}

/// What was wrong with a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes of the last commit that do not verify, most often the end of the log: a crash cut it short, and it was never
    /// acknowledged.
    pub torn_tail_bytes: u64,
    /// Unreadable stretches before good entries: first byte and length.
    pub unreadable: Vec<(u64, u64)>,
    /// Entries that are missing, by their numbers.
    pub missing_entries: u64,
}

impl Damage {
    /// Whether something that was once durable is gone. A commit that a crash cut short is no damage.
    pub fn is_loss(&self) -> bool {
        !self.unreadable.is_empty() || self.missing_entries > 0
    }
}

/// Reads a log through, and takes every entry that verifies, in the order in which they were written.
pub(super) fn scan<F: DiskFile, C: Take>(
    file: &F,
    path: &Path,
    seed: ChecksumSeed,
) -> Result<(C, Scan, Tail), StoreError> {
    let io = || StoreError::io("read", path);
    let len = file.len().map_err(StoreError::io("measure", path))?;
    let mut walk = Walk::of(file, len, seed);
    let format = format(walk.bytes(0, HEADER_LEN).map_err(io())?, path)?;
    if format == Some(FORMAT_UNSEEDED) {
        walk.seed = ChecksumSeed(0);
    }
    let begin = if format.is_some() { HEADER_LEN as u64 } else { 0 };
    let found = match in_order(&mut walk, begin).map_err(io())? {
        Some(found) => found,
        None => out_of_order(&mut walk, begin).map_err(io())?,
    };
    let ScannedEntries { contents, mut damage, misshapen, tail } = found;
    if tail.next == 0 {
        // A log is born whole, by a rename, with its first entry: without any this is no torn tail but something else.
        damage.unreadable.push((0, len));
    } else {
        damage.torn_tail_bytes += len - tail.end;
    }
    Ok((contents, Scan { format: format.unwrap_or(FORMAT), damage, misshapen }, tail))
}

/// What the entries of a log are, and what is wrong up to the last of them.
struct ScannedEntries<C> {
    contents: C,
    damage: Damage,
    misshapen: bool,
    tail: Tail,
}

/// Takes the entries as they stand; none if they do not stand in their order.
fn in_order<F: DiskFile, C: Take>(walk: &mut Walk<'_, F>, begin: u64) -> io::Result<Option<ScannedEntries<C>>> {
    let (mut contents, mut missing) = (C::default(), Missing::default());
    let mut tail = Tail { end: begin, next: 0, ragged: false };
    while let Some((number, location)) = walk.next_entry(tail.end)? {
        if number.in_log() < tail.next {
            return Ok(None);
        }
        missing.before(number, location, tail);
        contents.take(location, walk.payload(location)?);
        tail = Tail { end: location.end(), next: number.in_log() + 1, ragged: false };
    }
    let Missing { mut damage, torn, .. } = missing;
    damage.torn_tail_bytes = torn.iter().map(|(_, len)| len).sum();
    Ok(Some(ScannedEntries { contents, damage, misshapen: !torn.is_empty(), tail }))
}

/// Takes the entries in the order of their numbers, each once: an older one must not win over what followed it, and a
/// younger one must not hide what it stands before.
fn out_of_order<F: DiskFile, C: Take>(walk: &mut Walk<'_, F>, begin: u64) -> io::Result<ScannedEntries<C>> {
    let (mut found, mut end) = (Vec::new(), begin);
    while let Some((number, location)) = walk.next_entry(end)? {
        found.push((number.in_log(), location));
        end = location.end();
    }
    found.sort_by_key(|(number, _)| *number);
    found.dedup_by_key(|(number, _)| *number);
    let mut contents = C::default();
    for (_, location) in &found {
        contents.take(*location, walk.payload(*location)?);
    }
    let next = found.last().map_or(0, |(last, _)| last + 1);
    let mut damage = Damage { missing_entries: next - found.len() as u64, ..Damage::default() };
    found.sort_by_key(|(_, location)| location.offset);
    let mut end = begin;
    for (_, location) in found {
        damage.unreadable.extend(stretch(end, location));
        end = location.end();
    }
    Ok(ScannedEntries { contents, damage, misshapen: true, tail: Tail { end, next, ragged: false } })
}

/// What stands before an entry and behind what ends there.
fn stretch(end: u64, location: Location) -> Option<(u64, u64)> {
    (location.offset > end).then(|| (end, location.offset - end))
}

/// What is missing in front of the entries read so far.
#[derive(Default)]
struct Missing {
    damage: Damage,
    /// The commit of the last entry read, by the place in the log of its first.
    commit: Option<u64>,
    /// Unreadable stretches in that commit: torn, if it turns out to be the last.
    torn: Vec<(u64, u64)>,
    torn_entries: u64,
}

impl Missing {
    /// Takes note of what is missing between an entry and those before it: an unreadable stretch, entries, or both.
    fn before(&mut self, found: Number, location: Location, tail: Tail) {
        let unreadable = stretch(tail.end, location);
        let (entries, commit) = (found.in_log() - tail.next, found.commit());
        if self.commit != commit {
            // The commit before was durable when this one began.
            self.damage.unreadable.append(&mut self.torn);
            self.damage.missing_entries += std::mem::take(&mut self.torn_entries);
            self.commit = commit;
        }
        // A commit that is torn leaves its bytes, and nothing is missing of the one before it.
        let is_torn = entries > 0 && commit.is_some_and(|commit| commit <= tail.next);
        match unreadable {
            Some(stretch) if is_torn => {
                self.torn.push(stretch);
                self.torn_entries += entries;
            }
            _ => {
                self.damage.unreadable.extend(unreadable);
                self.damage.missing_entries += entries;
            }
        }
    }
}

/// The version in a header; none if it is damaged.
fn format(header: &[u8], path: &Path) -> Result<Option<u32>, StoreError> {
    let Some((fields, crc)) = header.split_at_checked(HEADER_LEN - 4) else { return Ok(None) };
    if crc != crc32fast::hash(fields).to_le_bytes() || !fields.starts_with(FILE_MAGIC) {
        return Ok(None);
    }
    match u32::from_le_bytes(fields[8..].try_into().expect("four bytes")) {
        version @ (FORMAT_UNSEEDED | FORMAT_WITHOUT_COMMITS | FORMAT_BEFORE | FORMAT) => Ok(Some(version)),
        found => Err(StoreError::Format { path: path.to_owned(), found, expected: FORMAT }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use crate::env::FileId;

    use super::{
        super::{
            format::{ENTRY_HEADER_LEN, header, push_entry},
            walk::WINDOW,
        },
        *,
    };

    const SEED: ChecksumSeed = ChecksumSeed(7);

    /// A file in memory.
    struct Bytes(Mutex<Vec<u8>>);

    impl DiskFile for Bytes {
        type Lock = ();

        fn id(&self) -> io::Result<FileId> {
            panic!("a scan asks for no name")
        }

        fn lock(&self) -> io::Result<()> {
            panic!("a scan changes nothing")
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.0.lock().unwrap().len() as u64)
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            let bytes = self.0.lock().unwrap();
            let from = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(bytes.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            panic!("a scan changes nothing")
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            panic!("a scan changes nothing")
        }

        fn sync(&self) -> io::Result<()> {
            panic!("a scan changes nothing")
        }
    }

    #[derive(Default)]
    struct Entries(Vec<Vec<u8>>);

    impl Take for Entries {
        fn take(&mut self, _: Location, payload: &[u8]) {
            self.0.push(payload.to_vec());
        }
    }

    fn image(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = header().to_vec();
        for (place, payload) in (0..).zip(payloads) {
            push_entry(&mut bytes, SEED, Number::of(place, 0), payload);
        }
        bytes
    }

    /// Entries with a place in their commit each, and where they begin.
    fn committed(places: &[u64]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut begins) = (header().to_vec(), Vec::new());
        for (in_log, in_commit) in (0..).zip(places) {
            begins.push(bytes.len());
            push_entry(&mut bytes, SEED, Number::of(in_log, *in_commit), &[b'a' + u8::try_from(in_log).unwrap()]);
        }
        (bytes, begins)
    }

    fn try_read(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, Damage, u64), StoreError> {
        let file = Bytes(Mutex::new(bytes.to_vec()));
        let (Entries(entries), scan, tail) = scan(&file, Path::new("store.log"), SEED)?;
        Ok((entries, scan.damage, tail.end))
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Damage, u64) {
        try_read(bytes).unwrap()
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let bytes = image(&[b"one", b"", b"three"]);
        let (entries, damage, end) = read(&bytes);
        assert_eq!(entries, [b"one".to_vec(), vec![], b"three".to_vec()]);
        assert_eq!((damage, end), (Damage::default(), bytes.len() as u64));
    }

    #[test]
    fn entries_and_garbage_across_the_edges_of_the_window_are_read_all_the_same() {
        let large = vec![b'C'; WINDOW * 2 + 5];
        let filler = vec![1; WINDOW - HEADER_LEN - 2 * ENTRY_HEADER_LEN - 1];
        let mut bytes = image(&[b"", &filler, b"edge", &large, b"last"]);
        let (entries, damage, _) = read(&bytes);
        assert_eq!((entries.len(), damage), (5, Damage::default()));
        let in_large = bytes.len() - 1000;
        bytes[in_large] ^= 1;
        let (entries, damage, _) = read(&bytes);
        assert_eq!((entries.len(), entries[3].as_slice(), damage.missing_entries), (4, &b"last"[..], 1));
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
    fn what_is_missing_of_the_last_commit_is_torn_and_the_rest_of_it_is_kept() {
        const LEN: u64 = ENTRY_HEADER_LEN as u64 + 1;
        // Commits of entries 0, 1 to 2, and 3 to 6.
        let (bytes, begins) = committed(&[0, 0, 1, 0, 1, 2, 3]);
        for (bad, kept, torn) in [(&[3][..], 6, 1), (&[3, 4], 5, 2), (&[3, 5], 5, 2), (&[4], 6, 1), (&[4, 6], 5, 2)] {
            let mut bytes = bytes.clone();
            for bad in bad {
                bytes[begins[*bad]..][..ENTRY_HEADER_LEN].fill(0);
            }
            let (entries, damage, _) = read(&bytes);
            assert_eq!(entries.len(), kept);
            assert_eq!(damage, Damage { torn_tail_bytes: torn * LEN, ..Damage::default() }, "{bad:?}");
        }
    }

    #[test]
    fn what_is_missing_of_a_commit_that_another_followed_is_damage() {
        let (bytes, begins) = committed(&[0, 0, 1, 0, 1, 2, 3]);
        // Of the last two commits one stretch is missing: the first of them was durable.
        for (bad, missing, stretches) in
            [(&[1][..], 1, 1), (&[2], 1, 1), (&[2, 3], 2, 1), (&[1, 2, 3], 3, 1), (&[1, 4], 1, 1)]
        {
            let mut bytes = bytes.clone();
            for bad in bad {
                bytes[begins[*bad]] ^= 1;
            }
            let (_, damage, _) = read(&bytes);
            assert_eq!((damage.missing_entries, damage.unreadable.len()), (missing, stretches), "{bad:?}");
            assert_eq!(damage.torn_tail_bytes > 0, bad.contains(&4));
        }
        let without_a_trace = [&bytes[..begins[4]], &bytes[begins[5]..]].concat();
        assert_eq!(read(&without_a_trace).1, Damage { missing_entries: 1, ..Damage::default() });
        let with_garbage = [&bytes[..begins[4]], b"garbage", &bytes[begins[4]..]].concat();
        assert_eq!(read(&with_garbage).1.unreadable, [(begins[4] as u64, 7)]);
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
    fn an_older_entry_in_a_later_place_is_not_taken() {
        let (first, all) = (image(&[b"one"]), image(&[b"one", b"two"]));
        let bytes = [&all[..], &first[HEADER_LEN..]].concat();
        let (entries, damage, end) = read(&bytes);
        assert_eq!((entries.len(), end), (2, all.len() as u64));
        assert_eq!(damage.torn_tail_bytes, (first.len() - HEADER_LEN) as u64);
    }

    #[test]
    fn an_entry_that_the_disk_put_in_the_place_of_others_hides_none_that_it_stands_before() {
        let (bytes, begins) = committed(&[0, 0, 0, 0, 0]);
        // The last one was to stand behind the others, and stands in the place of the second.
        let last = bytes[begins[4]..].to_vec();
        let bytes = [&bytes[..begins[1]], &last, &bytes[begins[2]..begins[4]]].concat();
        let (entries, damage, _) = read(&bytes);
        assert_eq!(entries, [b"a", b"c", b"d", b"e"]);
        assert_eq!(damage, Damage { missing_entries: 1, ..Damage::default() });
    }

    #[test]
    fn a_file_of_another_format_version_is_left_alone_with_an_error_that_names_both() {
        let mut bytes = image(&[b"one"]);
        bytes[8..12].copy_from_slice(&9_u32.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let error = try_read(&bytes).unwrap_err().to_string();
        assert_eq!(error, r#""store.log" has format version 9, this client reads 4: use the client that wrote it"#);
    }

    #[test]
    fn a_file_that_is_no_log_at_all_is_damage_and_not_a_torn_tail() {
        for bytes in [&b""[..], b"x", &[7; 4000]] {
            let (entries, damage, _) = read(bytes);
            assert_eq!((entries.len(), damage.is_loss(), damage.torn_tail_bytes), (0, true, 0));
        }
    }

    #[test]
    fn what_another_prefix_wrote_does_not_verify_but_its_name() {
        let mut bytes = header().to_vec();
        push_entry(&mut bytes, ChecksumSeed(8), Number::of(0, 0), b"whose");
        push_entry(&mut bytes, ChecksumSeed(8), Number::of(1, 0), b"secret");
        assert_eq!(read(&bytes).0, [b"whose".to_vec()]);
    }

    proptest! {
        #[test]
        fn no_flipped_bit_is_ever_served(at in 0_usize..1000, bit in 0_u8..8) {
            let payloads: [&[u8]; 4] = [b"alpha", b"beta", b"gamma CCLE", b"delta"];
            let mut bytes = image(&payloads);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok((entries, damage, _)) = try_read(&bytes) {
                prop_assert!(entries.iter().all(|payload| payloads.contains(&payload.as_slice())));
                prop_assert!(damage.is_loss() || damage.torn_tail_bytes > 0);
            }
        }
    }
}
