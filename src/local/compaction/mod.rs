//! How a log is rewritten without what is dead: beside the old one, page by page, so that writes go on between pages and
//! no lock is held for long; then by one rename.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    LocalStore, Ticket,
    entry::{LogEntry, encode, encode_record, is_record},
    format::{ChecksumSeed, Location},
    slot::{Slot, read_record},
    state::{FileOf, LockOf, PAGE, StorePhase},
    storage::{self, LOG, LogFile},
};
use crate::{
    env::{Disk, DiskFile, Env},
    error::StoreError,
    key::Uid,
    telemetry::log,
};

/// Which client wrote the records of a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WrittenForm {
    /// One that wrote them as this one does.
    InThisForm,
    /// Perhaps an older one.
    InAnyForm,
}

/// A new log beside the old one.
pub(super) struct Rewritten<E: Env> {
    pub(super) log: Arc<LogFile<FileOf<E>>>,
    /// Nobody else appends to it.
    pub(super) lock: Arc<LockOf<E>>,
    pub(super) locations: Vec<(Uid, Location)>,
    /// Records that stayed behind because they are damaged.
    pub(super) damaged: Vec<Uid>,
}

impl<E: Env> Rewritten<E> {
    /// Begins the new log with these entries.
    pub(super) fn begin(
        disk: &E::Disk,
        path: &Path,
        seed: ChecksumSeed,
        head: &[LogEntry],
    ) -> Result<Self, StoreError> {
        let log = LogFile::begin_beside(disk, path, seed)?;
        let begun = log.lock().and_then(|lock| log.write(&encode(head)).map(|_| lock));
        let lock = Arc::new(begun.inspect_err(|_| log.abandon(disk))?);
        Ok(Self { log: Arc::new(log), lock, locations: Vec::new(), damaged: Vec::new() })
    }

    /// Copies records from the old log. Damaged ones stay behind.
    pub(super) fn copy(
        &mut self,
        old: &LogFile<FileOf<E>>,
        page: Vec<(Uid, Slot)>,
        written: WrittenForm,
    ) -> Result<(), StoreError> {
        let (mut uids, mut entries) = (Vec::with_capacity(page.len()), Vec::with_capacity(page.len()));
        for (uid, slot) in page {
            match entry_of(old, &uid, slot, written) {
                Ok(entry) => {
                    entries.push(entry);
                    uids.push(uid);
                }
                Err(StoreError::Damaged { .. }) => self.damaged.push(uid),
                Err(error) => return Err(error),
            }
        }
        let locations = self.log.write(&entries)?;
        self.locations.extend(uids.into_iter().zip(locations));
        Ok(())
    }
}

/// The entry for a new log with the record of this slot.
fn entry_of<F: DiskFile>(old: &LogFile<F>, uid: &Uid, slot: Slot, written: WrittenForm) -> Result<Vec<u8>, StoreError> {
    // A record that a generation marked is encoded anew, with its marks.
    if written == WrittenForm::InThisForm && slot.reclaim_since_ms.is_none() {
        let payload = old.read(slot.location)?;
        if is_record(&payload, uid) {
            return Ok(payload);
        }
    }
    read_record(old, uid, slot).map(|held| encode_record(uid, &held))
}

impl<E: Env> LocalStore<E> {
    /// Rewrites the log once most of it is dead, if there is room for what lives beside it.
    pub(super) async fn compact(&self) {
        let live_bytes = {
            let state = self.lock();
            let len = state.log.len();
            let due = len > self.compact_bytes.max(state.compact_above) && state.usage.live_bytes * 2 < len;
            if state.poisoned.is_some() || state.failed.is_some() || !due {
                return;
            }
            state.usage.live_bytes
        };
        let (disk, dir) = (self.env.disk().clone(), self.dir.clone());
        let lacks = self.blocking(move || lacks_room(&disk, &dir, live_bytes)).await;
        {
            let mut state = self.lock();
            match lacks {
                Ok(None) => state.postponed = None,
                Ok(Some(lacks)) => {
                    // Room is for others to make: it is looked for again soon.
                    state.compact_above = state.log.len() + state.log.len() / 8;
                    state.postponed = Some(lacks);
                    return;
                }
                Err(error) => return state.put_off(&error),
            }
            state.moved_since = Some(std::collections::BTreeSet::new());
        }
        let rewritten = self.copy_live().await;
        self.lock().moved_since = None;
        match rewritten {
            Ok(rewritten) => self.take_over(rewritten).await,
            // The old log is as good as before.
            Err(error) => self.lock().put_off(&error),
        }
    }

    /// Copies everything live to a new log, synced. One that fails is gone, and the room that it took is free.
    async fn copy_live(&self) -> Result<Rewritten<E>, StoreError> {
        let (disk, path) = (self.env.disk().clone(), self.dir.join(LOG));
        let (old, seed, head, generation) = {
            let state = self.lock();
            (state.log.clone(), self.seed, state.head(&self.prefix), state.generation_ticket)
        };
        let rewritten = self.blocking(move || Rewritten::<E>::begin(&disk, &path, seed, &head)).await?;
        let log = rewritten.log.clone();
        let copied = self.copy_pages(rewritten, &old, generation).await;
        if copied.is_err() {
            let disk = self.env.disk().clone();
            self.blocking(move || log.abandon(&disk)).await;
        }
        copied
    }

    /// What is written meanwhile goes to the old log first, then to the new.
    async fn copy_pages(
        &self,
        mut rewritten: Rewritten<E>,
        old: &Arc<LogFile<FileOf<E>>>,
        generation: Ticket,
    ) -> Result<Rewritten<E>, StoreError> {
        let mut after = None;
        loop {
            let page = {
                let mut state = self.lock();
                let page = state.page(after.as_ref());
                state.prune(&page, self.limits, self.env.wall_ms());
                after = page.last().map(|(uid, _)| uid.clone());
                page.into_iter().filter(|(uid, _)| state.index.contains_key(uid)).collect::<Vec<_>>()
            };
            rewritten = self.copy_page(rewritten, old, page).await?;
            if after.is_none() {
                break;
            }
            if self.lock().is_wanted() {
                self.flush().await;
            }
        }
        // Nobody but this task writes to a log, so nothing comes in between any more.
        let (entries, records, same) = {
            let mut state = self.lock();
            let (entries, records) = state.meanwhile(&self.prefix);
            (entries, records, state.generation_ticket == generation && state.phase == StorePhase::Open)
        };
        if !same {
            // A new generation marks what stands before it in the log, and the end of the old one may be written. Another
            // time.
            let message = "redis lost its data, or the store was closed meanwhile".to_owned();
            return Err(StoreError::Io { verb: "rewrite", path: self.dir.join(LOG), message });
        }
        rewritten = self.copy_page(rewritten, old, records).await?;
        let log = rewritten.log.clone();
        self.blocking(move || log.write(&encode(&entries))).await?;
        let log = rewritten.log.clone();
        self.blocking(move || log.sync()).await?;
        Ok(rewritten)
    }

    async fn copy_page(
        &self,
        mut rewritten: Rewritten<E>,
        old: &Arc<LogFile<FileOf<E>>>,
        page: Vec<(Uid, Slot)>,
    ) -> Result<Rewritten<E>, StoreError> {
        let old = old.clone();
        self.blocking(move || rewritten.copy(&old, page, WrittenForm::InThisForm).map(|()| rewritten)).await
    }

    /// Puts the new log in the place of the old one.
    async fn take_over(&self, rewritten: Rewritten<E>) {
        let (disk, dir, lossy) = (self.env.disk().clone(), self.dir.clone(), !rewritten.damaged.is_empty());
        let log = rewritten.log.clone();
        let (old, note) = {
            let state = self.lock();
            (state.log.clone(), state.note.clone())
        };
        let placed = self.blocking(move || {
            // What stands there if not the old log is another's, and not to be replaced.
            note.check_opener().and_then(|()| old.check_place(&disk)).inspect_err(|_| log.abandon(&disk))?;
            if lossy {
                set_aside(&disk, &dir)?;
            }
            note.forget_extent()?;
            log.put_in_place(&disk)
        });
        if let Err(error) = placed.await {
            log!(error, %error, "the local store takes no more writes until it is opened again");
            self.lock().poisoned = Some(error);
            self.flushed.notify_waiters();
            return;
        }
        let mut state = self.lock();
        state.usage.quarantined += u64::from(lossy);
        state.usage.rewrites += 1;
        state.switch(rewritten.log, rewritten.lock);
        drop(state);
        for page in rewritten.locations.chunks(PAGE) {
            let mut state = self.lock();
            for (uid, location) in page {
                state.relocate(uid, *location);
            }
        }
        self.lock().switched(rewritten.damaged);
    }
}

/// Copies the log to a name that nothing has yet.
pub(super) fn set_aside<D: Disk>(disk: &D, dir: &Path) -> Result<PathBuf, StoreError> {
    let (from, names) = (dir.join(LOG), disk.list(dir).map_err(StoreError::io("list", dir))?);
    let source = disk.open(&from).map_err(StoreError::io("open", &from))?;
    // One number more than there are names, and a name may be a directory's.
    let free = (0..=names.len()).map(|number| format!("damaged-{number}.log")).filter(|name| !names.contains(name));
    let to =
        free.map(|name| dir.join(name)).find(|to| disk.stat(to).is_err()).unwrap_or_else(|| dir.join("damaged.log"));
    let target = disk.create(&to).map_err(StoreError::io("create", &to))?;
    let copied = copy(&source, &from, &target, &to).and_then(|()| storage::sync_parent(disk, &to));
    if copied.is_err() {
        // A part of it is no help, and takes room.
        let _ = disk.remove(&to);
    }
    copied.map(|()| to)
}

fn copy<F: DiskFile>(source: &F, from: &Path, target: &F, to: &Path) -> Result<(), StoreError> {
    const PIECE: u64 = 1 << 20;
    let (len, mut at) = (source.len().map_err(StoreError::io("measure", from))?, 0);
    while at < len {
        let mut piece = vec![0; usize::try_from(PIECE.min(len - at)).unwrap_or(usize::MAX)];
        source.read_at(at, &mut piece).map_err(StoreError::io("read", from))?;
        target.write_at(at, &piece).map_err(StoreError::io("write to", to))?;
        at += piece.len() as u64;
    }
    target.sync().map_err(StoreError::io("sync", to))
}

/// Why a log with that many bytes in use is not rewritten on the volume of `dir`; none if there is room. A quarter of what is
/// free stays free: others write there too, and what is written meanwhile goes to both logs.
#[expect(clippy::unnecessary_debug_formatting, reason = "a path may hold what a terminal obeys: it is escaped")]
pub(super) fn lacks_room<D: Disk>(disk: &D, dir: &Path, bytes: u64) -> Result<Option<String>, StoreError> {
    let free = disk.free_bytes(dir).map_err(StoreError::io("measure the volume of", dir))?;
    let lacks = bytes > free - free / 4;
    Ok(lacks.then(|| {
        format!(
            "the log in {dir:?} is not rewritten: it holds {bytes} bytes that are in use, and {free} are free on its volume, \
             of which a quarter is left alone; free some"
        )
    }))
}

#[cfg(test)]
mod tests;
