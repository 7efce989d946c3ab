//! Changes to the directory of an instance's store by an operator or another process: a cleanup, a volume that is taken away, a
//! backup that is put back.

use std::path::{Path, PathBuf};

use super::Nemesis;
use crate::{
    contents,
    faults::StoreChange,
    history::{StoreNow, What},
};

/// The path of a directory while it is moved away.
const AWAY: &str = "/away";

impl Nemesis<'_> {
    /// Copies the store of an instance, for the fault of this number.
    pub(super) fn copy_store(&self, number: u32, instance: u32) {
        self.world.disk(instance).copy(&self.directory(instance), &copy_of(number));
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
            StoreChange::CopiedBack { .. } => {
                let copy = copy_of(number);
                if disk.content(&copy.join(log.strip_prefix(&directory).expect("it is in there"))).is_none() {
                    return 0;
                }
                disk.remove(&directory);
                disk.rename(&copy, &directory);
                StoreNow::Copy
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
        if now == StoreNow::Copy {
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

    /// The directory of an instance's store, with all that belongs to it.
    fn directory(&self, instance: u32) -> PathBuf {
        self.instances.settings(instance).directory.clone()
    }
}

fn copy_of(number: u32) -> PathBuf {
    format!("/copies/{number}").into()
}
