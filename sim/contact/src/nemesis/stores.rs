//! Changes to the directory of an instance's store by an operator or another process: a cleanup, a volume that is taken away, a
//! backup that is put back.

use std::path::{Path, PathBuf};

use super::{Nemesis, start_instance};
use crate::{
    contents,
    faults::{Fault, StoreChange},
    history::{StoreNow, What},
    world::disk::Disk,
};

/// How long an opening may take: it waits for the first attempt to connect, at most a second.
const OPENING_US_MAX: u64 = 2_000_000;

/// How often the nemesis looks whether it is over.
const OPENING_POLL_US: u64 = 100;

/// The path of a directory while it is moved away.
const AWAY: &str = "/away";

impl Nemesis<'_> {
    /// Copies a store that is to take the place of an instance's own one, for the fault of this number.
    pub(super) fn copy_store(&self, number: u32, fault: &Fault) {
        let Fault::StoreChange { instance, change, .. } = fault else { unreachable!("other faults copy no store") };
        let (disk, directory) = (self.world.disk(*instance), self.directory(*instance));
        match change {
            StoreChange::CopyOf { original, volume, .. } => {
                let [own, other] = [*instance, *original].map(|instance| &self.instances.settings(instance).prefix);
                if own == other {
                    disk.copy_from(&self.world.disk(*original), &self.directory(*original), &copy_of(number), *volume);
                }
            }
            _ => disk.copy(&directory, &copy_of(number)),
        }
    }

    /// Changes the store of an instance. Returns 1, or 0 if there was no store that could be changed in this way.
    pub(super) async fn change_store(&self, number: u32, instance: u32, change: StoreChange, running: bool) -> u64 {
        if !running {
            self.stop_in_order(instance).await;
        } else if !self.instances.is_open(instance) {
            // An opening under way may read the store before or after the change: a checker could not know which report to expect.
            return 0;
        }
        let (disk, directory, log) =
            (self.world.disk(instance), self.directory(instance), self.instances.store(instance));
        let Some(len) = disk.content(&log).map(|bytes| bytes.len()) else { return 0 };
        let now = match change {
            StoreChange::Removed => {
                disk.remove(&directory);
                StoreNow::Gone
            }
            StoreChange::Emptied => {
                disk.remove(&directory);
                disk.create_dir(&directory);
                StoreNow::Gone
            }
            StoreChange::LogRemoved => {
                disk.remove(&log);
                StoreNow::LogGone
            }
            StoreChange::MovedAway => {
                disk.rename(&directory, Path::new(AWAY));
                StoreNow::Away
            }
            StoreChange::CopiedBack { .. } | StoreChange::CopyOf { .. } => {
                let copy = copy_of(number);
                if disk.content(&copy.join(log.strip_prefix(&directory).expect("it is in there"))).is_none() {
                    return 0;
                }
                disk.remove(&directory);
                disk.rename(&copy, &directory);
                if matches!(change, StoreChange::CopyOf { volume: true, .. }) {
                    StoreNow::Clone
                } else {
                    StoreNow::Copy
                }
            }
            StoreChange::Cut { per_mille } => {
                let left = len * per_mille as usize / 1000;
                if left == len {
                    return 0;
                }
                disk.cut(&log, left);
                StoreNow::Cut
            }
        };
        self.recorder.note(What::StoreChanged { instance, now });
        if matches!(now, StoreNow::Copy | StoreNow::Clone) {
            contents::note_store(self.world, self.redis, self.instances, self.recorder, instance);
        }
        1
    }

    /// Puts a directory back that was moved away. No process has it open.
    pub(super) fn change_store_back(&self, instance: u32, change: StoreChange) {
        let disk = self.world.disk(instance);
        if change != StoreChange::MovedAway || !disk.has_dir(Path::new(AWAY)) {
            return;
        }
        disk.rename(Path::new(AWAY), &self.directory(instance));
        self.recorder.note(What::StoreChanged { instance, now: StoreNow::Back });
    }

    /// The second instance opens the store of the first, which runs. Returns its own disk; `None` if the first is not open, or the
    /// second does not run.
    pub(super) async fn share_store(&self, instances: &[u32]) -> Option<Disk> {
        let [first, second] = *instances else { return None };
        let [one, other] = [first, second].map(|instance| &self.instances.settings(instance).prefix);
        if one != other || !self.instances.is_open(first) || !self.world.is_running(second) {
            return None;
        }
        self.stop_in_order(second).await;
        let disk = self.world.mount(second, self.world.disk(first));
        self.recorder.note(What::StoreChanged { instance: second, now: StoreNow::Other });
        start_instance(self.world, self.instances, second);
        self.note_when_open(second, first).await;
        Some(disk)
    }

    /// The second instance has its own store again, and the first is restarted.
    pub(super) async fn share_store_no_more(&self, instances: &[u32], taken_back: bool, disk: Disk) {
        let [first, second] = *instances else { return };
        if taken_back {
            self.stop_in_order(first).await;
            self.start(first);
            self.note_when_open(first, second).await;
        }
        self.stop_in_order(second).await;
        self.world.mount(second, disk);
        self.recorder.note(What::StoreChanged { instance: second, now: StoreNow::Other });
        self.start(second);
        if !taken_back {
            self.stop_in_order(first).await;
            self.start(first);
        }
    }

    /// Waits until an instance has opened the store that another has open too, and notes that this one's is taken then.
    async fn note_when_open(&self, later: u32, earlier: u32) {
        let end_us = self.world.now_us() + OPENING_US_MAX;
        while !self.instances.is_open(later) {
            if self.world.now_us() >= end_us {
                return;
            }
            self.world.sleep_us(OPENING_POLL_US).await;
        }
        self.recorder.note(What::StoreChanged { instance: earlier, now: StoreNow::Taken });
    }

    /// The directory of an instance's store, with all that belongs to it.
    fn directory(&self, instance: u32) -> PathBuf {
        self.instances.settings(instance).directory.clone()
    }
}

fn copy_of(number: u32) -> PathBuf {
    format!("/copies/{number}").into()
}
