//! What is wrong with a disk: errors, waits and bad writes that the nemesis has asked for, and how often each was met.

use std::io;

use super::{BadWrite, Verb};

/// The troubles of one disk. None at first.
#[derive(Default)]
pub(super) struct DiskTroubles {
    /// Errors to come: the verb, the kind, how many times more.
    errors: Vec<(Verb, io::ErrorKind, u32)>,
    pub(super) sync_extra_us: u64,
    /// Nothing is done before this instant.
    pub(super) stalled_until_us: u64,
    /// Writes to come that are acknowledged and go wrong.
    bad_writes: Option<(BadWrite, u32)>,
    /// Another process holds every lock.
    pub(super) locks_are_held: bool,
    /// How often any of it, or a loss of power, changed what a process sees.
    pub(super) effects: u64,
}

impl DiskTroubles {
    pub(super) fn inject(&mut self, verb: Verb, error: io::ErrorKind, times: u32) {
        self.errors.push((verb, error, times));
    }

    pub(super) fn spoil(&mut self, how: BadWrite, times: u32) {
        self.bad_writes = Some((how, times));
    }

    /// Ends all of it; what was done stays done.
    pub(super) fn heal(&mut self) {
        *self = Self { effects: self.effects, ..Self::default() };
    }

    /// The error that was injected for this verb, if any. A full disk refuses only what takes more room.
    pub(super) fn error(&mut self, verb: Verb, grows: bool) -> Option<io::ErrorKind> {
        let meets = |error: io::ErrorKind| grows || error != io::ErrorKind::StorageFull;
        let (_, error, times) =
            self.errors.iter_mut().find(|(of, error, times)| *of == verb && *times > 0 && meets(*error))?;
        *times -= 1;
        self.effects += 1;
        Some(*error)
    }

    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.errors.iter().any(|(_, error, times)| *error == io::ErrorKind::StorageFull && *times > 0)
    }

    /// Whether changes are refused as those of a read-only file system.
    pub(super) fn is_read_only(&self) -> bool {
        self.errors.iter().any(|(_, error, times)| *error == io::ErrorKind::ReadOnlyFilesystem && *times > 0)
    }

    /// How long an operation has to wait beyond its usual time: for a slow sync, and until the disk goes on.
    pub(super) fn delay_us(&mut self, verb: Verb, now_us: u64) -> (u64, u64) {
        let slow_us = if verb == Verb::Sync { self.sync_extra_us } else { 0 };
        let stalled_us = self.stalled_until_us.saturating_sub(now_us);
        self.effects += u64::from(slow_us > 0 || stalled_us > 0);
        (slow_us, stalled_us)
    }

    /// How this write goes wrong, if it does.
    pub(super) fn bad_write(&mut self) -> Option<BadWrite> {
        let (how, times) = self.bad_writes.as_mut().filter(|(_, times)| *times > 0)?;
        *times -= 1;
        self.effects += 1;
        Some(*how)
    }
}
