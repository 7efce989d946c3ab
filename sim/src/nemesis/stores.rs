//! What somebody else does to the directory of an instance's store: an operator who tidies up, a volume that is taken away, a
//! backup that is put back.

use std::path::{Path, PathBuf};

use super::Nemesis;
use crate::{
    contents,
    faults::StoreChange,
    history::{StoreNow, What},
};

/// Where a directory is meanwhile that was moved away.
const AWAY: &str = "/away";

impl Nemesis<'_> {
    /// Copies the store of an instance, for the fault of this number.
    pub(super) fn copy_store(&self, number: u32, instance: u32) {
        self.world.disk(instance).copy(&self.directory(instance), &copy_of(number));
    }

    /// Changes the store of an instance. Answers whether there was one that could be changed so.
    pub(super) async fn change_store(&self, number: u32, instance: u32, change: StoreChange, running: bool) -> u64 {
        if !running {
            self.stop_in_order(instance).await;
        } else if !self.instances.is_open(instance) {
            // An opening under way has met the store as it was, or will meet the change: nobody could say what it must tell.
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

    /// Puts back what was moved away. Nobody has it open.
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
