//! What another process of the host does to files under the feet of the one that has them open: an operator who tidies up,
//! a backup that is put back, a volume that is mounted elsewhere. Durable at once.

use std::path::Path;

use super::{Disk, DiskState};

impl Disk {
    /// Gives the disk this much room, in bytes, for all files together.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.state().image.used_bytes()
    }

    /// Whether there is such a directory.
    pub fn has_dir(&self, path: &Path) -> bool {
        self.state().image.is_dir(path)
    }

    /// Makes a directory.
    pub fn create_dir(&self, path: &Path) {
        self.state().image.create_dir_all(path);
    }

    /// Removes a file, or a directory with all in it. Who has a file open goes on with it.
    pub fn remove(&self, path: &Path) {
        let mut state = self.state();
        state.trouble.effects += 1;
        state.image.move_dir(path, None);
    }

    /// Moves a file, or a directory with all in it, to a name that is free.
    pub fn rename(&self, from: &Path, to: &Path) {
        let mut state = self.state();
        state.trouble.effects += 1;
        state.image.move_dir(from, Some(to));
    }

    /// Copies a directory with all in it to a name that is free.
    pub fn copy(&self, from: &Path, to: &Path) {
        self.state().image.copy_dir(from, to);
    }

    /// Puts a copy of a directory of another disk on this one, under a name that is free: file by file, as `cp` and a
    /// backup make it, with what the page cache holds; the copies have other numbers than the files. Or with the whole volume, as a
    /// snapshot makes it: with what a loss of power at this moment could have left, and under the numbers that the files had.
    pub fn copy_from(&self, other: &Self, from: &Path, to: &Path, whole_volume: bool) {
        let mut copied = other.state();
        let files = {
            let DiskState { image, chance, .. } = &mut *copied;
            if whole_volume { image.snapshot(from, chance) } else { image.read_all(from) }
        };
        let numbers = copied.image.numbers();
        drop(copied);
        let mut state = self.state();
        state.trouble.effects += 1;
        state.image.put(to, files, numbers);
    }

    /// Cuts a file to this length.
    pub fn cut(&self, path: &Path, len: usize) {
        let mut state = self.state();
        state.trouble.effects += 1;
        if let Some(file) = state.image.file(path) {
            let mut content = file.content();
            content.cut(len);
        }
    }
}
