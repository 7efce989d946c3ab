//! The disk of a host: a small file system whose page cache and durable image are kept apart.
//!
//! The death of a process loses nothing. A power loss keeps what was synced and, of the rest, what the stream
//! `disk <host>` says: any subset of the unsynced 512-byte sectors, each whole or torn, an unsynced length or the one
//! before, and the first of the unsynced changes of names. Locks end with the process that took them. A sync that fails
//! drops the unsynced sectors from the cache, as Linux may.
//!
//! Verbs are synchronous, so they cannot let time pass: each adds its latency to an account, which `Env::blocking`
//! sleeps off after the work is done. Reads cost nothing: they come from the page cache.
//!
//! A crash can be set for "after n more operations" (those that change something): the operation after them fails,
//! nothing changes any more, and the process counts as dead from that instant, on the network too, although it is
//! `World::kill` that ends it.
//!
//! A disk can be in trouble (`trouble.rs`): verbs that fail, for a number of times or until it is healed (full, read-only,
//! a device error), slow syncs, a stall (what is asked is done, and answered only when the stall ends), locks held by
//! another process. And it can lie: a bit rots; a write is acknowledged and forgotten, or lands elsewhere in its file, for
//! the page cache as for the durable image. It remembers what it damaged, so that a judge can demand that it was noticed.
//!
//! Another process of the host may do to a directory what an operator does by mistake (`meddling.rs`): remove it, move it,
//! put a copy in its place, cut a file. A disk may have a capacity; where `StorageFull` is injected it has no room left. In
//! either case bytes that are there can be replaced.
//!
//! A disk may be a volume that several hosts have mounted ([`World::mount`]). They see each other's writes at once, and no lock of
//! each other's. A loss of power on one of them then counts for the volume.
//! Not modelled: links, permissions, reads that come back short.

mod image;
mod meddling;
mod trouble;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use rand::RngExt;
use seedbed_env::{FileId, FileKind, Stat};
use serde::{Deserialize, Serialize};

use self::{
    image::{FileRef, Image},
    trouble::DiskTroubles,
};
pub use super::moments::Verb;
use super::{
    Host, Trace, World,
    clock::Clock,
    held::{Holdable, HoldingGuard},
    incarnation::Incarnation,
    moments::{Moments, Step},
};
use crate::{
    Stop,
    seed::{Seed, Stream},
};

/// How long a sync takes, in simulated microseconds: a data centre's SSD.
const SYNC_US: std::ops::RangeInclusive<u64> = 100..=800;
/// How long any other change takes.
const CHANGE_US: std::ops::RangeInclusive<u64> = 2..=10;

/// What becomes of a write that is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadWrite {
    /// It is forgotten.
    Lost,
    /// It lands elsewhere in its file.
    Misdirected,
}

/// The disk of a host, whichever process runs there. Cloning gives the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<DiskState>>);

struct DiskState {
    image: Image,
    latency: Stream,
    chance: Stream,
    /// Time that the verbs since the last [`SimDisk::take_account_us`] would have taken.
    account_us: u64,
    trouble: DiskTroubles,
    crash: Option<(u64, Arc<CrashPoint>)>,
    locks: u64,
    /// Bytes that the files of the disk may have together.
    capacity: u64,
}

impl Disk {
    pub(super) fn new(seed: Seed, host: Host) -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            image: Image::new(),
            latency: seed.stream(&format!("disk {host} latency")),
            chance: seed.stream(&format!("disk {host}")),
            account_us: 0,
            trouble: DiskTroubles::default(),
            crash: None,
            locks: 0,
            capacity: u64::MAX,
        })))
    }

    /// Makes the next `times` uses of `verb` fail: [`io::ErrorKind::StorageFull`] for a full disk, `ReadOnlyFilesystem`,
    /// `Other` for a device error.
    pub fn inject(&self, verb: Verb, error: io::ErrorKind, times: u32) {
        self.state().trouble.inject(verb, error, times);
    }

    /// Ends every trouble that has not happened yet.
    pub fn heal(&self) {
        self.state().trouble.heal();
    }

    /// Makes every sync take this much longer, in simulated microseconds.
    pub fn set_sync_extra_us(&self, extra_us: u64) {
        self.state().trouble.sync_extra_us = extra_us;
    }

    /// Lets nothing be answered before this instant of the run.
    pub fn stall_until_us(&self, at_us: u64) {
        self.state().trouble.stalled_until_us = at_us;
    }

    /// Makes the next `times` writes go wrong, although they are acknowledged.
    pub fn spoil_writes(&self, how: BadWrite, times: u32) {
        self.state().trouble.spoil(how, times);
    }

    /// Another process takes every lock that is free, until the disk is healed.
    pub fn hold_locks(&self) {
        self.state().trouble.locks_are_held = true;
    }

    /// How often a trouble of the disk, or what a loss of power took from it, changed what a process sees.
    pub fn effects(&self) -> u64 {
        self.state().trouble.effects
    }

    /// Whether the file of this name holds what no process has written there.
    pub fn is_damaged(&self, path: &Path) -> bool {
        self.state().image.file(path).is_some_and(|file| file.content().is_damaged())
    }

    /// The bytes of a file as every process of the host sees them, read past all troubles.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.state().image.file(path)?.content().bytes().to_vec())
    }

    /// Flips one random bit of a file. Says where; none if it has no durable byte.
    pub fn rot(&self, path: &Path) -> Option<u64> {
        let mut state = self.state();
        let DiskState { image, chance, trouble, .. } = &mut *state;
        let at = image.file(path)?.content().flip_bit(chance)?;
        trouble.effects += 1;
        Some(at)
    }

    /// Sets a crash after `ops` more operations that change something; see the file header.
    pub(super) fn crash_after(&self, ops: u64) -> Arc<CrashPoint> {
        let point = Arc::new(CrashPoint::default());
        self.state().crash = Some((ops, Arc::clone(&point)));
        point
    }

    /// Takes back a crash that has not come.
    pub(super) fn cancel_crash(&self) {
        self.state().crash = None;
    }

    /// The process of this host has ended.
    pub(super) fn stop(&self, host: Host, how: Stop) {
        let mut state = self.state();
        let DiskState { image, chance, crash, account_us, trouble, .. } = &mut *state;
        *crash = None;
        *account_us = 0;
        if how == Stop::PowerLost {
            trouble.effects += image.lose_power(chance);
        }
        for (_, file) in image.files() {
            file.content().locked_by.remove(&host);
        }
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A crash to come, at an operation on a disk.
#[derive(Default)]
pub(super) struct CrashPoint(Mutex<(bool, Option<Waker>)>);

impl CrashPoint {
    /// Completes when the operation is asked for.
    pub(super) async fn reached(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.1 = Some(context.waker().clone());
            if state.0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn reach(&self) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl DiskState {
    /// Bytes that there is room for.
    fn free_bytes(&self) -> u64 {
        if self.trouble.is_full() { 0 } else { self.capacity.saturating_sub(self.image.used_bytes()) }
    }

    fn charge(&mut self, verb: Verb, now_us: u64) {
        let (slow_us, stalled_us) = self.trouble.delay_us(verb, now_us);
        self.account_us += match verb {
            Verb::Read => 0,
            Verb::Write | Verb::Name => self.latency.random_range(CHANGE_US),
            Verb::Sync => self.latency.random_range(SYNC_US) + slow_us,
        };
        // All that waits for a stalled disk waits for the same moment.
        self.account_us = self.account_us.max(stalled_us);
    }

    /// Whether the crash that was set comes before this operation.
    fn crashes(&mut self, verb: Verb) -> bool {
        match &mut self.crash {
            Some((0, point)) if verb != Verb::Read => {
                point.reach();
                self.crash = None;
                true
            }
            Some((left, _)) if verb != Verb::Read => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }
}

/// The disk as one incarnation of a host's process sees it.
#[derive(Clone)]
pub struct SimDisk {
    disk: Disk,
    incarnation: Arc<Incarnation>,
    clock: Clock,
    trace: Arc<Trace>,
    moments: Moments,
}

impl SimDisk {
    pub(super) fn new(world: &World, disk: Disk, incarnation: Arc<Incarnation>) -> Self {
        let (clock, trace, moments) = (world.clock().clone(), Arc::clone(&world.0.trace), world.moments().clone());
        Self { disk, incarnation, clock, trace, moments }
    }

    /// How long the verbs since the last call would have taken, in simulated microseconds.
    pub(super) fn take_account_us(&self) -> u64 {
        std::mem::take(&mut self.disk.state().account_us)
    }

    /// Lets an operation begin, or says why it cannot.
    fn begin(&self, verb: Verb, path: &Path, at: u64, bytes: &[u8]) -> io::Result<MutexGuard<'_, DiskState>> {
        self.begin_to_grow(verb, path, at, bytes, u64::MAX)
    }

    /// As [`Self::begin`], of an operation that makes a file longer by this much. One that makes it no longer meets no
    /// full disk.
    fn begin_to_grow(
        &self,
        verb: Verb,
        path: &Path,
        at: u64,
        bytes: &[u8],
        grows_by: u64,
    ) -> io::Result<MutexGuard<'_, DiskState>> {
        self.incarnation.check()?;
        let mut state = self.disk.state();
        if state.crashes(verb) {
            self.incarnation.end();
            return Err(named(path, io::ErrorKind::BrokenPipe.into()));
        }
        self.trace.fold(
            [self.incarnation.host.code(), self.clock.now_us(), verb as u64, at],
            path.as_os_str().as_encoded_bytes(),
        );
        if !bytes.is_empty() {
            self.trace.fold([bytes.len() as u64; 4], bytes);
        }
        state.charge(verb, self.clock.now_us());
        if let Some(error) = state.trouble.error(verb, grows_by > 0) {
            return Err(named(path, error.into()));
        }
        Ok(state)
    }

    /// Opens a file, and makes it if need be.
    fn open_file(&self, path: &Path) -> io::Result<FileRef> {
        self.incarnation.check()?;
        {
            let state = self.disk.state();
            if let Some(file) = state.image.file(path) {
                // It is opened for writing too.
                return if state.trouble.is_read_only() {
                    Err(named(path, io::ErrorKind::ReadOnlyFilesystem.into()))
                } else {
                    Ok(Arc::clone(file))
                };
            }
        }
        let mut state = self.begin(Verb::Name, path, 0, &[])?;
        has_parent(&state.image, path)?;
        if state.image.is_dir(path) {
            return Err(named(path, io::ErrorKind::IsADirectory.into()));
        }
        Ok(state.image.create(path))
    }
}

impl seedbed_env::Disk for SimDisk {
    type File = SimFile;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.begin(Verb::Name, dir, 1, &[])?;
        if dir.ancestors().any(|dir| state.image.file(dir).is_some()) {
            return Err(named(dir, io::ErrorKind::NotADirectory.into()));
        }
        state.image.create_dir_all(dir);
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let file = self.open_file(path)?;
        let holding = Arc::new(HoldingGuard::new(&self.incarnation.gauges, Holdable::File));
        Ok(SimFile { file, path: path.into(), disk: self.clone(), holding })
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        self.incarnation.check()?;
        {
            let state = self.disk.state();
            if state.image.file(path).is_some() || state.image.is_dir(path) {
                return Err(named(path, io::ErrorKind::AlreadyExists.into()));
            }
        }
        self.open(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.incarnation.check()?;
        let state = self.disk.state();
        let (number, kind, mode) = match (state.image.file(path), state.image.dir_number(path)) {
            (Some(file), _) => (file.number, FileKind::File, 0o600),
            (None, Some(number)) => (number, FileKind::Directory, 0o700),
            (None, None) => return Err(named(path, io::ErrorKind::NotFound.into())),
        };
        Ok(Stat { id: FileId { device: 1, number }, kind, mode })
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.incarnation.check()?;
        let state = self.disk.state();
        if !state.image.is_dir(dir) {
            return Err(named(dir, io::ErrorKind::NotFound.into()));
        }
        Ok(state.free_bytes())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.begin(Verb::Read, dir, 0, &[])?;
        if !state.image.is_dir(dir) {
            return Err(named(dir, io::ErrorKind::NotFound.into()));
        }
        let inside = state.image.files().filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside.filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.moments.come(&Step::Renames(from), self.incarnation.host);
        let mut state = self.begin(Verb::Name, from, 2, to.as_os_str().as_encoded_bytes())?;
        has_parent(&state.image, to)?;
        if state.image.rename(from, to) { Ok(()) } else { Err(named(from, io::ErrorKind::NotFound.into())) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Verb::Name, path, 3, &[])?;
        if state.image.remove(path) { Ok(()) } else { Err(named(path, io::ErrorKind::NotFound.into())) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.begin(Verb::Sync, dir, 0, &[])?;
        if !state.image.is_dir(dir) {
            return Err(named(dir, io::ErrorKind::NotFound.into()));
        }
        state.image.sync_dir(dir);
        Ok(())
    }
}

/// An open file.
#[derive(Clone)]
pub struct SimFile {
    file: FileRef,
    path: Arc<Path>,
    disk: SimDisk,
    holding: Arc<HoldingGuard>,
}

impl seedbed_env::DiskFile for SimFile {
    type Lock = SimLock;

    fn id(&self) -> io::Result<FileId> {
        self.disk.incarnation.check()?;
        Ok(FileId { device: 1, number: self.file.number })
    }

    fn lock(&self) -> io::Result<SimLock> {
        self.disk.incarnation.check()?;
        let number = {
            let mut state = self.disk.disk.state();
            if state.trouble.locks_are_held {
                state.trouble.effects += 1;
                return Err(named(&self.path, io::ErrorKind::WouldBlock.into()));
            }
            state.locks += 1;
            state.locks
        };
        let host = self.disk.incarnation.host;
        let holder = *self.file.content().locked_by.entry(host).or_insert(number);
        if holder != number {
            return Err(named(&self.path, io::ErrorKind::WouldBlock.into()));
        }
        Ok(SimLock { file: Arc::clone(&self.file), host, number, _holding: Arc::clone(&self.holding) })
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.incarnation.check()?;
        Ok(self.file.content().bytes().len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let _state = self.disk.begin(Verb::Read, &self.path, offset, &[])?;
        let content = self.file.content();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(buffer.len()).and_then(|end| content.bytes().get(start..end));
        let bytes = bytes.ok_or_else(|| named(&self.path, io::ErrorKind::UnexpectedEof.into()))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = self.position(offset)?;
        let grows_by = self.grows_by(offset + bytes.len() as u64);
        let mut state = self.disk.begin_to_grow(Verb::Write, &self.path, offset, bytes, grows_by)?;
        self.fits(&state, grows_by)?;
        let mut content = self.file.content();
        let DiskState { trouble, chance, .. } = &mut *state;
        match trouble.bad_write() {
            None => content.write(at, bytes),
            Some(how) => content.write_badly(at, bytes, how, chance),
        }
        drop(content);
        self.note(&state, Verb::Write);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let grows_by = self.grows_by(len);
        let state = self.disk.begin_to_grow(Verb::Write, &self.path, len, &[], grows_by)?;
        self.fits(&state, grows_by)?;
        self.file.content().set_len(self.position(len)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let state = self.disk.begin(Verb::Sync, &self.path, 0, &[]).inspect_err(|_| {
            if self.disk.incarnation.check().is_ok() {
                self.file.content().lose_unsynced();
            }
        })?;
        self.file.content().sync();
        self.note(&state, Verb::Sync);
        Ok(())
    }
}

impl SimFile {
    /// Tells whoever waits for it what has become of the file.
    fn note(&self, state: &DiskState, verb: Verb) {
        let moments = &self.disk.moments;
        if moments.is_listened_to() {
            let has_path = state.image.file(&self.path).is_some_and(|named| Arc::ptr_eq(named, &self.file));
            moments.come(&Step::File { path: &self.path, has_path, verb }, self.disk.incarnation.host);
        }
    }

    /// By how much a file that ends there is longer than it is now.
    fn grows_by(&self, end: u64) -> u64 {
        end.saturating_sub(self.file.content().bytes().len() as u64)
    }

    fn fits(&self, state: &DiskState, grows_by: u64) -> io::Result<()> {
        if grows_by > 0 && state.capacity != u64::MAX && grows_by > state.free_bytes() {
            return Err(named(&self.path, io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    }

    /// A position, if a simulated file may be that large.
    fn position(&self, at: u64) -> io::Result<usize> {
        const FILE_BYTES_MAX: u64 = 1 << 32;
        match usize::try_from(at) {
            Ok(position) if at <= FILE_BYTES_MAX => Ok(position),
            _ => Err(named(&self.path, io::ErrorKind::FileTooLarge.into())),
        }
    }
}

/// A lock on a file.
pub struct SimLock {
    file: FileRef,
    host: Host,
    number: u64,
    /// The file stays open as long.
    _holding: Arc<HoldingGuard>,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        // After the end of its process another may hold it.
        let mut content = self.file.content();
        if content.locked_by.get(&self.host) == Some(&self.number) {
            content.locked_by.remove(&self.host);
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("of", &self.incarnation).finish_non_exhaustive()
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).field("disk", &self.disk).finish_non_exhaustive()
    }
}

fn has_parent(image: &Image, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if image.is_dir(parent) => Ok(()),
        _ => Err(named(path, io::ErrorKind::NotFound.into())),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is made to be given away")]
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
