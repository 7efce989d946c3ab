//! How a store is opened: the directory becomes this process's own, the log is looked for and read through, and what is not
//! as it was left is told.

use std::path::{Path, PathBuf};

use super::{
    compaction::{self, Rewritten, WrittenForm},
    contents::Contents,
    entry::{encode, seed},
    exposed::{Exposed, exposed},
    format::FORMAT,
    note::{Extent, LOCK, Note, Remembered},
    scan::Damage,
    state::{FileOf, LockOf, Locks, StoreState},
    storage::{LOG, LogFile, beside, found, locked},
};
use crate::{
    env::{Disk, DiskFile, Env, FileKind},
    error::StoreError,
    key::Prefix,
    telemetry::log,
};

/// What opening a store found.
#[expect(clippy::struct_excessive_bools, reason = "each says of itself what was found")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Records held.
    pub records: u64,
    /// Whether the store was closed in order. If not, what is torn is what a crash cut short, or rot of the very last
    /// commit: the two cannot be told apart.
    pub clean_end: bool,
    /// Whether everything that was ever durable can be read, as far as the store itself can tell: nothing is damaged, and the
    /// log was closed in order or is as long as its lock file remembers.
    pub is_whole: bool,
    /// There was a log in the directory, and it is gone: the store begins anew, without what it held.
    pub lost_log: bool,
    /// The directory was copied, or put back from a copy, since the store was last open. What is pending in it may be
    /// merged into Redis by the original as well, which does no harm.
    pub is_copy: bool,
    /// Damage found in the log.
    pub damage: Damage,
    /// Where the damaged log was set aside, whole. What verified was salvaged into a new one.
    pub set_aside: Option<PathBuf>,
    /// What others than the owner of the files may read or write.
    pub exposed: Vec<Exposed>,
}

/// What a store is opened for.
pub(super) struct Purpose<'a> {
    pub(super) dir: &'a Path,
    pub(super) prefix: &'a Prefix,
    /// Endpoint and database of the Redis that it is for.
    pub(super) redis: &'a str,
    /// The id of this opening.
    pub(super) opening: u64,
    pub(super) now_ms: u64,
}

impl<E: Env> StoreState<E> {
    pub(super) fn open(disk: &E::Disk, purpose: &Purpose<'_>) -> Result<(Self, OpenReport), StoreError> {
        let dir = purpose.dir;
        disk.create_dir_all(dir).map_err(StoreError::io("create the directory", dir))?;
        let (note, remembered, lock) = take_directory(disk, dir, purpose.opening)?;
        let path = dir.join(LOG);
        // A crash while the log was rewritten leaves it. What cannot be removed now is in the way of the next rewriting.
        if found(disk, &beside(&path))?.is_some() {
            let _ = disk.remove(&beside(&path));
        }
        let exposed = exposed(disk, dir)?;
        let (mut state, mut report) = match found(disk, &path)?.map(|found| found.kind) {
            None => Self::begin(disk, purpose, note, lock, remembered)?,
            Some(FileKind::Link) => return Err(StoreError::Link { path }),
            Some(_) => Self::reopen(disk, purpose, note, lock, remembered)?,
        };
        report.exposed = exposed;
        state.exposed.clone_from(&report.exposed);
        state.ceiling = state.ceiling.max(remembered.ceiling);
        if let Err(error) = state.note.settle(state.ceiling, state.extent()) {
            log!(warn, %error, "no room to keep the clock's ceiling if the disk of the local store is full");
        }
        report.tell(dir);
        Ok((state, report))
    }

    /// A store without a log: a new one, or one that has lost it.
    fn begin(
        disk: &E::Disk,
        purpose: &Purpose<'_>,
        note: Note<FileOf<E>>,
        lock: LockOf<E>,
        remembered: Remembered,
    ) -> Result<(Self, OpenReport), StoreError> {
        let path = purpose.dir.join(LOG);
        let log = LogFile::begin_beside(disk, &path, seed(purpose.prefix))?;
        let locks = Locks::new(lock, log.lock()?);
        let mut state = Self::empty(log, note, locks);
        state.redis = Some(purpose.redis.to_owned());
        state.ceiling = remembered.ceiling;
        // What is not held may have been.
        state.forgot = remembered.had_log;
        let written = state.log.write(&encode(&state.head(purpose.prefix))).and_then(|_| state.log.sync());
        if let Err(error) = written.and_then(|()| state.log.put_in_place(disk)) {
            state.log.abandon(disk);
            return Err(error);
        }
        let is_new = !remembered.had_log;
        let report = OpenReport {
            clean_end: is_new,
            is_whole: is_new,
            lost_log: !is_new,
            is_copy: remembered.is_copy,
            ..OpenReport::default()
        };
        Ok((state, report))
    }

    fn reopen(
        disk: &E::Disk,
        purpose: &Purpose<'_>,
        note: Note<FileOf<E>>,
        lock: LockOf<E>,
        remembered: Remembered,
    ) -> Result<(Self, OpenReport), StoreError> {
        let Purpose { dir, prefix, .. } = *purpose;
        let (log, mut contents, scan) = LogFile::open::<_, Contents>(disk, &dir.join(LOG), seed(prefix))?;
        let locks = Locks::new(lock, log.lock()?);
        log.check_place(disk)?;
        if let Some(found) = contents.prefix.take().filter(|found| found != prefix.as_str()) {
            let expected = prefix.as_str().to_owned();
            return Err(StoreError::ForeignPrefix { dir: dir.to_owned(), found, expected });
        }
        let mut damage = scan.damage;
        damage.unreadable.append(&mut contents.unreadable);
        let reaches = remembered.extent.filter(|extent| extent.number == log.id.number);
        let is_known = reaches.is_some() && !remembered.is_copy;
        damage.note_cut(log.len(), reaches.filter(|_| is_known));
        let clean_end = contents.is_clean_end(&damage);
        let mut state = Self::empty(log, note, locks);
        state.take_contents(contents, purpose.now_ms);
        state.belong(purpose.redis);
        let set_aside = if damage.is_loss() {
            state.check_room(disk, dir, state.log.file_len()?)?;
            let aside = compaction::set_aside(disk, dir)?;
            state.usage.quarantined += 1;
            state.rewrite_now(disk, dir, prefix)?;
            Some(aside)
        } else {
            if scan.format != FORMAT || scan.misshapen {
                state.check_room(disk, dir, 0)?;
                state.rewrite_now(disk, dir, prefix)?;
            } else if damage.torn_tail_bytes > 0 {
                state.log.cut_tail()?;
            } else if reaches.is_none_or(|synced| synced.len < state.log.len()) {
                // A killed process may leave bytes unsynced. They are read like the rest, and a sync that fails later drops them. If
                // the length of the log had been noted with them, the log would then count as cut.
                state.log.sync()?;
            }
            None
        };
        let report = OpenReport {
            records: state.index.len() as u64,
            clean_end,
            is_whole: !damage.is_loss() && (clean_end || is_known),
            is_copy: remembered.is_copy,
            damage,
            set_aside,
            ..OpenReport::default()
        };
        Ok((state, report))
    }

    /// Takes in what a log holds, at opening.
    fn take_contents(&mut self, contents: Contents, now_ms: u64) {
        let Contents { index, pending, ceiling, generation, clocks, forgot, oldest_owed_ms, redis, .. } = contents;
        self.clocks = clocks;
        (self.index, self.pending, self.ceiling, self.generation) = (index, pending, ceiling, generation);
        (self.forgot, self.redis) = (forgot, redis);
        self.pending_since_ms = (!self.pending.is_empty()).then(|| oldest_owed_ms.unwrap_or(now_ms));
        for slot in self.index.values() {
            self.usage.add(slot.weight);
            self.usage.live_bytes += slot.location.bytes();
        }
    }

    /// A store that says of no Redis that it is for it, or that has nothing of any, is for the one that it is opened for.
    fn belong(&mut self, redis: &str) {
        if self.redis.as_deref() != Some(redis) && (self.redis.is_none() || self.index.is_empty()) {
            self.take_redis(redis);
        }
    }

    /// # Errors
    /// [`StoreError::DiskFull`] if what lives, and this much besides, would leave too little room on the volume.
    fn check_room(&self, disk: &E::Disk, dir: &Path, besides: u64) -> Result<(), StoreError> {
        match compaction::lacks_room(disk, dir, self.usage.live_bytes.saturating_add(besides))? {
            None => Ok(()),
            Some(_) => Err(StoreError::DiskFull { verb: "rewrite", path: dir.join(LOG) }),
        }
    }

    /// Goes on with a new log that holds what could be read, at opening: nobody else reads or writes.
    fn rewrite_now(&mut self, disk: &E::Disk, dir: &Path, prefix: &Prefix) -> Result<(), StoreError> {
        let rewritten = Rewritten::<E>::begin(disk, &dir.join(LOG), seed(prefix), &self.head(prefix))?;
        let log = rewritten.log.clone();
        let rewritten = self.copy_all(rewritten).and_then(|rewritten| {
            // Its length is no news of the new one, which may get the number of the old.
            self.note.forget_extent()?;
            rewritten.log.put_in_place(disk).map(|()| rewritten)
        });
        let rewritten = rewritten.inspect_err(|_| log.abandon(disk))?;
        self.switch(rewritten.log, rewritten.lock);
        for (uid, location) in rewritten.locations {
            self.relocate(&uid, location);
        }
        self.switched(rewritten.damaged);
        Ok(())
    }

    fn copy_all(&self, mut rewritten: Rewritten<E>) -> Result<Rewritten<E>, StoreError> {
        let mut after = None;
        loop {
            let page = self.page(after.as_ref());
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            rewritten.copy(&self.log, page, WrittenForm::InAnyForm)?;
        }
        rewritten.log.sync()?;
        Ok(rewritten)
    }
}

impl OpenReport {
    /// Whether all is as it was left.
    fn tell(&self, dir: &Path) {
        if self.lost_log {
            log!(error, ?dir, "the log of the local store is gone: what it held, and had not merged, is lost with it");
        }
        if self.damage.is_loss() {
            log!(error, ?dir, set_aside = ?self.set_aside, "the local store is damaged: the rest was salvaged");
        }
        if self.is_copy {
            log!(warn, ?dir, "the local store is a copy of another, or was put back from one");
        }
        for exposed in &self.exposed {
            log!(warn, %exposed, "the local store holds personal data: take the permission away");
        }
    }
}

impl Damage {
    /// Takes note of an end that is missing: the log reached further when its last commit was durable.
    pub(super) fn note_cut(&mut self, end: u64, reached: Option<Extent>) {
        let missing = reached.map_or(0, |reached| reached.len.saturating_sub(end));
        if missing > 0 {
            self.torn_tail_bytes = self.torn_tail_bytes.saturating_sub(missing);
            self.unreadable.push((end, missing));
        }
        self.unreadable.sort_unstable();
    }
}

/// The lock file of a directory, what it remembers, and the lock on it.
type TakenDirectory<D> = (Note<<D as Disk>::File>, Remembered, <<D as Disk>::File as DiskFile>::Lock);

/// Locks a directory for this process.
fn take_directory<D: Disk>(disk: &D, dir: &Path, opening: u64) -> Result<TakenDirectory<D>, StoreError> {
    let path = dir.join(LOCK);
    if found(disk, &path)?.is_some_and(|found| found.kind == FileKind::Link) {
        return Err(StoreError::Link { path });
    }
    let file = disk.open(&path).map_err(StoreError::io("lock", &path))?;
    let lock = file.lock().map_err(|error| locked(&path, error))?;
    let (note, remembered) = Note::open(file, path, opening)?;
    Ok((note, remembered, lock))
}
