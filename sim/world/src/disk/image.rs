//! What is on a disk: for every file what the page cache shows and what is durable, and the same for the names.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::RngExt;

use super::BadWrite;
use crate::{Host, seed::Stream};

/// What a disk writes in one piece, or tears.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file, whatever its name.
#[derive(Debug)]
pub(super) struct FileData {
    /// No other file of the disk ever has it.
    pub(super) number: u64,
    content: Mutex<FileBytes>,
}

/// A file for those who hold it: names, and open handles.
pub(super) type FileRef = Arc<FileData>;

impl FileData {
    pub(super) fn content(&self) -> MutexGuard<'_, FileBytes> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file for another disk: its path below the directory that is copied, its number if it keeps that, and its bytes.
pub(super) type CopiedFile = (PathBuf, Option<u64>, Vec<u8>);

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct FileBytes {
    /// What every process sees.
    cached: Vec<u8>,
    /// What a power loss leaves at least.
    durable: Vec<u8>,
    unsynced: Sectors,
    /// Where the file is other than its writers made it.
    damaged: Vec<Range<usize>>,
    /// Whether an operator or another process has ever cut off its end.
    is_cut: bool,
    /// Who holds the lock on the file, on each host that has the disk: a number that is drawn for each lock.
    pub(super) locked_by: BTreeMap<Host, u64>,
}

impl FileBytes {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.cached
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        let old = self.cached.len();
        if end > old {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(bytes);
        self.unsynced.insert(offset.min(old)..end);
        self.damaged.retain(|damaged| damaged.start < offset || end < damaged.end);
    }

    /// A write that is acknowledged: its place keeps what it held, zeros beyond the end. A misdirected one lands in
    /// sectors that hold something else.
    pub(super) fn write_badly(&mut self, offset: usize, bytes: &[u8], how: BadWrite, stream: &mut Stream) {
        let (old, end) = (self.cached.len(), offset + bytes.len());
        if end > old {
            self.set_len(end);
        }
        if how == BadWrite::Misdirected {
            let at = stream.random_range(0..=old / SECTOR_BYTES) * SECTOR_BYTES;
            let landed = &bytes[..bytes.len().min(old.saturating_sub(at))];
            if at != offset && !landed.is_empty() {
                self.write(at, landed);
                self.damaged.push(at..at + landed.len());
            }
        }
        self.damaged.push(offset..end);
    }

    /// Whether the file holds bytes that no process has written there, or lacks bytes that one has.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_cut || self.damaged.iter().any(|damaged| damaged.start < self.cached.len())
    }

    pub(super) fn set_len(&mut self, len: usize) {
        let old = self.cached.len();
        self.cached.resize(len, 0);
        self.unsynced.insert(old.min(len)..len);
        self.damaged.retain(|damaged| damaged.start < len);
    }

    /// An operator or another process cuts off the end of the file, durably.
    pub(super) fn cut(&mut self, len: usize) {
        self.is_cut |= len < self.cached.len();
        self.set_len(len);
        self.sync();
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for sector in self.unsynced.take() {
            copy(&self.cached, &mut self.durable, sector, SECTOR_BYTES);
        }
    }

    /// A sync failed: what was not durable is gone from the cache too.
    pub(super) fn lose_unsynced(&mut self) {
        self.unsynced = Sectors::default();
        self.cached.clone_from(&self.durable);
    }

    /// Keeps what is durable and any of the rest: all, nothing, or each sector by itself, whole, torn or not at all; and
    /// the one length or the other. Says how many sectors were not kept whole.
    fn lose_power(&mut self, stream: &mut Stream) -> u64 {
        let mut lost = 0;
        let len = if stream.random() { self.durable.len() } else { self.cached.len() };
        self.durable.resize(len, 0);
        let mood = stream.random_range(0..4);
        for sector in self.unsynced.take() {
            let kept = match (mood, stream.random_range(0..3)) {
                (0, _) | (2.., 0) => 0,
                (1, _) | (2.., 1) => SECTOR_BYTES,
                _ => stream.random_range(1..SECTOR_BYTES),
            };
            copy(&self.cached, &mut self.durable, sector, kept);
            lost += u64::from(kept < SECTOR_BYTES);
        }
        self.cached.clone_from(&self.durable);
        lost
    }

    /// Flips one bit of the durable bytes and of the cache, as rot does that is noticed after a restart.
    pub(super) fn flip_bit(&mut self, stream: &mut Stream) -> Option<u64> {
        let len = self.cached.len().min(self.durable.len());
        if len == 0 {
            return None;
        }
        let (at, bit) = (stream.random_range(0..len), 1 << stream.random_range(0..8));
        self.cached[at] ^= bit;
        self.durable[at] ^= bit;
        self.damaged.push(at..at + 1);
        Some(at as u64)
    }
}

/// Copies the first `kept` bytes of a sector, as far as both files reach.
fn copy(from: &[u8], to: &mut [u8], sector: usize, kept: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + kept).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

/// A set of sectors, by number: one bit each.
#[derive(Clone, Debug, Default)]
struct Sectors(Vec<u64>);

impl Sectors {
    /// Adds the sectors that these bytes touch.
    fn insert(&mut self, bytes: Range<usize>) {
        if bytes.is_empty() {
            return;
        }
        let last = (bytes.end - 1) / SECTOR_BYTES;
        if self.0.len() <= last / 64 {
            self.0.resize(last / 64 + 1, 0);
        }
        for sector in bytes.start / SECTOR_BYTES..=last {
            self.0[sector / 64] |= 1 << (sector % 64);
        }
    }

    /// Empties the set; gives its members in order.
    fn take(&mut self) -> impl Iterator<Item = usize> + use<> {
        let words = std::mem::take(&mut self.0).into_iter().enumerate();
        words.flat_map(|(index, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit))
    }
}

/// A change of a name that is not durable yet.
#[derive(Debug)]
enum Change {
    Create { path: PathBuf, file: FileRef },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

impl Change {
    fn dirs(&self) -> impl Iterator<Item = &Path> {
        let (path, other) = match self {
            Self::Create { path, .. } | Self::Remove { path } => (path, None),
            Self::Rename { from, to } => (from, Some(to)),
        };
        [Some(path), other].into_iter().flatten().filter_map(|path| path.parent())
    }

    fn touches(&self, dirs: &BTreeSet<PathBuf>) -> bool {
        self.dirs().any(|dir| dirs.contains(dir))
    }
}

/// The directories and files of one disk.
#[derive(Debug)]
pub(super) struct Image {
    /// With their numbers, as files have them.
    dirs: BTreeMap<PathBuf, u64>,
    names: BTreeMap<PathBuf, FileRef>,
    durable_names: BTreeMap<PathBuf, FileRef>,
    /// What leads from the durable names to the others, in order.
    changes: Vec<Change>,
    /// Numbers given so far.
    numbers: u64,
}

impl Image {
    pub(super) fn new() -> Self {
        Self {
            dirs: [(PathBuf::new(), 0), (PathBuf::from("/"), 1)].into(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            numbers: 1,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Directories are durable at once, as the contract has it.
    pub(super) fn create_dir_all(&mut self, dir: &Path) {
        for dir in dir.ancestors() {
            if !self.dirs.contains_key(dir) {
                let number = self.number();
                self.dirs.insert(dir.into(), number);
            }
        }
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.dirs.contains_key(path)
    }

    /// The number of a directory.
    pub(super) fn dir_number(&self, path: &Path) -> Option<u64> {
        self.dirs.get(path).copied()
    }

    /// Bytes of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| file.content().bytes().len() as u64).sum()
    }

    /// What another process does to a directory and all in it, durably: it is gone, or stands elsewhere.
    pub(super) fn move_dir(&mut self, from: &Path, to: Option<&Path>) {
        self.settle();
        for names in [&mut self.names, &mut self.durable_names] {
            move_below(names, from, to);
        }
        move_below(&mut self.dirs, from, to);
    }

    /// A copy of a directory as it is, durable, under another name: other files, with the same bytes.
    pub(super) fn copy_dir(&mut self, from: &Path, to: &Path) {
        self.create_dir_all(to);
        let inside: Vec<_> = self.names.iter().filter(|(path, _)| path.starts_with(from)).map(clone_of).collect();
        for (path, file) in inside {
            let copy = self.create(&to.join(below(&path, from)));
            copy.content().write(0, file.content().bytes());
            copy.content().sync();
        }
        self.settle();
    }

    /// The files below a directory as every process sees them.
    pub(super) fn read_all(&self, dir: &Path) -> Vec<CopiedFile> {
        let inside = self.names.iter().filter(|(path, _)| path.starts_with(dir));
        inside.map(|(path, file)| (below(path, dir), None, file.content().bytes().to_vec())).collect()
    }

    /// The files below a directory as a loss of power could have left them now, with their numbers. Changes nothing.
    pub(super) fn snapshot(&self, dir: &Path, stream: &mut Stream) -> Vec<CopiedFile> {
        let inside = self.durable_names.iter().filter(|(path, _)| path.starts_with(dir));
        inside
            .map(|(path, file)| {
                let mut content = file.content().clone();
                content.lose_power(stream);
                (below(path, dir), Some(file.number), content.cached)
            })
            .collect()
    }

    /// The largest number of a file so far.
    pub(super) fn numbers(&self) -> u64 {
        self.numbers
    }

    /// Puts files of another disk, which has given so many numbers, below a directory, durably. Who keeps its number comes with
    /// its volume, and nothing of the volume before is left.
    pub(super) fn put(&mut self, dir: &Path, files: Vec<CopiedFile>, numbers: u64) {
        self.numbers = self.numbers.max(numbers);
        self.create_dir_all(dir);
        for (path, number, bytes) in files {
            let number = number.unwrap_or_else(|| self.number());
            let file = self.create_as(number, &dir.join(path));
            file.content().write(0, &bytes);
            file.content().sync();
        }
        self.settle();
    }

    /// Makes every name durable.
    fn settle(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            self.make_durable(change);
        }
    }

    pub(super) fn file(&self, path: &Path) -> Option<&FileRef> {
        self.names.get(path)
    }

    /// All files with their paths, in the order of these.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &FileRef)> {
        self.names.iter().map(|(path, file)| (path.as_path(), file))
    }

    pub(super) fn create(&mut self, path: &Path) -> FileRef {
        let number = self.number();
        self.create_as(number, path)
    }

    fn create_as(&mut self, number: u64, path: &Path) -> FileRef {
        let file = Arc::new(FileData { number, content: Mutex::default() });
        self.names.insert(path.into(), Arc::clone(&file));
        self.changes.push(Change::Create { path: path.into(), file: Arc::clone(&file) });
        file
    }

    /// Whether there was such a file.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let Some(file) = self.names.remove(from) else { return false };
        self.names.insert(to.into(), file);
        self.changes.push(Change::Rename { from: from.into(), to: to.into() });
        true
    }

    /// Whether there was such a file.
    pub(super) fn remove(&mut self, path: &Path) -> bool {
        let existed = self.names.remove(path).is_some();
        if existed {
            self.changes.push(Change::Remove { path: path.into() });
        }
        existed
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        // A rename ties two directories together: neither is durable without what the other needs for it.
        let mut dirs = BTreeSet::from([dir.to_path_buf()]);
        let mut known = 0;
        while known < dirs.len() {
            known = dirs.len();
            for change in &self.changes {
                if change.touches(&dirs) {
                    dirs.extend(change.dirs().map(PathBuf::from));
                }
            }
        }
        let (durable, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changes).into_iter().partition(|change| change.touches(&dirs));
        self.changes = later;
        for change in durable {
            self.make_durable(change);
        }
    }

    /// Keeps the durable names and the first of the later changes, and of every file what [`FileBytes::lose_power`] says.
    /// Answers how many changes and sectors are gone.
    pub(super) fn lose_power(&mut self, stream: &mut Stream) -> u64 {
        let kept = stream.random_range(0..=self.changes.len());
        let changes = std::mem::take(&mut self.changes);
        let mut lost = (changes.len() - kept) as u64;
        changes.into_iter().take(kept).for_each(|change| self.make_durable(change));
        self.names.clone_from(&self.durable_names);
        for file in self.names.values() {
            lost += file.content().lose_power(stream);
        }
        lost
    }

    fn make_durable(&mut self, change: Change) {
        match change {
            Change::Create { path, file } => {
                self.durable_names.insert(path, file);
            }
            Change::Rename { from, to } => {
                if let Some(file) = self.durable_names.remove(&from) {
                    self.durable_names.insert(to, file);
                }
            }
            Change::Remove { path } => {
                self.durable_names.remove(&path);
            }
        }
    }
}

/// Moves what stands at or below a path, or removes it.
fn move_below<T>(names: &mut BTreeMap<PathBuf, T>, from: &Path, to: Option<&Path>) {
    for (path, thing) in std::mem::take(names) {
        match (path.strip_prefix(from), to) {
            (Err(_), _) => drop(names.insert(path, thing)),
            (Ok(_), None) => {}
            (Ok(below), Some(to)) if below.as_os_str().is_empty() => drop(names.insert(to.into(), thing)),
            (Ok(below), Some(to)) => drop(names.insert(to.join(below), thing)),
        }
    }
}

fn below(path: &Path, dir: &Path) -> PathBuf {
    path.strip_prefix(dir).expect("it is below").into()
}

fn clone_of((path, file): (&PathBuf, &FileRef)) -> (PathBuf, FileRef) {
    (path.clone(), Arc::clone(file))
}
