//! Faults of disks.

use std::io;

use rand::{RngExt, seq::IndexedRandom};
use seedbed_world::{disk::Verb, seed::Stream};
use serde::{Deserialize, Serialize};

use super::{FaultKind, Frame, Part, Stage, process::OneInstance};

/// Operations on the disk of an instance fail until the end.
#[derive(Clone, Copy, Debug)]
pub struct DiskError;

/// The parameters of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failing {
    /// Whose disk.
    pub instance: u32,
    /// Which operations fail, and how.
    pub how: DiskFailure,
}

/// How operations fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFailure {
    /// The disk is full: what takes more room is refused.
    Full,
    /// A sync fails: what was not synced may be gone.
    Sync,
    /// Reads fail.
    Read,
    /// Writes fail.
    Write,
}

impl FaultKind for DiskError {
    type Parameters = Failing;

    fn name(&self) -> &'static str {
        "disk error"
    }

    fn part(&self) -> Part {
        Part::Disk
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Failing> {
        let OneInstance { instance } = OneInstance::draw(draw, frame)?;
        let how = *[DiskFailure::Full, DiskFailure::Sync, DiskFailure::Read, DiskFailure::Write].choose(draw)?;
        Some(Failing { instance, how })
    }

    fn victims(&self, failing: &Failing) -> Vec<String> {
        vec![failing.instance.to_string()]
    }

    fn begin(&self, failing: &Failing, stage: &Stage<'_>) {
        let disk = stage.world.disk(failing.instance);
        match failing.how {
            DiskFailure::Full => {
                for verb in [Verb::Write, Verb::Name] {
                    disk.inject(verb, io::ErrorKind::StorageFull, u32::MAX);
                }
            }
            DiskFailure::Sync => disk.inject(Verb::Sync, io::ErrorKind::Other, u32::MAX),
            DiskFailure::Read => disk.inject(Verb::Read, io::ErrorKind::Other, u32::MAX),
            DiskFailure::Write => disk.inject(Verb::Write, io::ErrorKind::Other, u32::MAX),
        }
    }

    fn end(&self, failing: &Failing, stage: &Stage<'_>) {
        stage.world.disk(failing.instance).heal();
    }

    fn effects(&self, failing: &Failing, stage: &Stage<'_>, _: bool) -> u64 {
        stage.world.disk(failing.instance).effects()
    }
}

/// Every sync of the disk of an instance takes longer, until the end.
#[derive(Clone, Copy, Debug)]
pub struct SlowDisk;

/// The parameters of a slow disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowSync {
    /// Whose disk.
    pub instance: u32,
    /// By so many microseconds.
    pub extra_us: u64,
}

impl FaultKind for SlowDisk {
    type Parameters = SlowSync;

    fn name(&self) -> &'static str {
        "slow disk"
    }

    fn part(&self) -> Part {
        Part::Disk
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<SlowSync> {
        let OneInstance { instance } = OneInstance::draw(draw, frame)?;
        Some(SlowSync { instance, extra_us: 1_000 << draw.random_range(0..11) })
    }

    fn victims(&self, slow: &SlowSync) -> Vec<String> {
        vec![slow.instance.to_string()]
    }

    fn begin(&self, slow: &SlowSync, stage: &Stage<'_>) {
        stage.world.disk(slow.instance).set_sync_extra_us(slow.extra_us);
    }

    fn end(&self, slow: &SlowSync, stage: &Stage<'_>) {
        stage.world.disk(slow.instance).heal();
    }

    fn effects(&self, slow: &SlowSync, stage: &Stage<'_>, _: bool) -> u64 {
        stage.world.disk(slow.instance).effects()
    }
}
