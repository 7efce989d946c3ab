//! Disks that are full or read-only. In the real world that takes a file system of its own, which only root may mount:
//! without the right the tests say so, and pass.

use std::{fs, io, path::PathBuf};

use contact_cache::env::{Disk, DiskFile, Env, TokioEnv};
use seedbed_contact::world::{SimEnv, disk::Verb};

use crate::{
    mount::{Mount, mount, not_shown},
    place::{Simulation, runtime},
};

/// A disk that can be made full and read-only.
pub(crate) trait SmallDisk {
    type Env: Env;

    fn env(&self) -> &Self::Env;

    /// A directory on it that exists and is empty.
    fn dir(&self) -> PathBuf;

    /// Takes all the room that is left.
    fn fill(&self);

    /// Gives it back.
    fn free(&self);

    fn make_read_only(&self);
}

pub(crate) async fn a_full_disk_says_so_and_keeps_what_it_has(place: &impl SmallDisk) {
    let (disk, path) = (place.env().disk(), place.dir().join("file"));
    let file = disk.open(&path).expect("the directory is there");
    file.write_at(0, &[1; 4096]).and_then(|()| file.sync()).expect("there is room");
    place.fill();
    let error = file.write_at(4096, &vec![2; 100_000]).expect_err("there is no room");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("file"), "{error} does not name the file");
    assert_eq!(disk.free_bytes(&place.dir()).expect("it is there"), 0);
    // In place there is room.
    file.write_at(0, &[4; 4096]).and_then(|()| file.sync()).expect("it takes no more room");
    let mut bytes = [0; 4096];
    file.read_at(0, &mut bytes).expect("it is still there");
    assert_eq!(bytes, [4; 4096]);
    place.free();
    // A part of what failed may be there.
    file.set_len(4096).and_then(|()| file.write_at(4096, &[3; 4096])).expect("there is room again");
    file.sync().expect("there is room again");
    assert_eq!(file.len().expect("it is open"), 8192);
}

pub(crate) async fn a_read_only_disk_refuses_every_change_and_can_be_read(place: &impl SmallDisk) {
    let (disk, dir) = (place.env().disk(), place.dir());
    let path = dir.join("file");
    disk.open(&path).and_then(|file| file.write_at(0, b"x")).expect("it can be written to yet");
    place.make_read_only();
    let errors = [
        disk.open(&path).err(),
        disk.open(&dir.join("new")).err(),
        disk.rename(&path, &dir.join("other")).err(),
        disk.remove(&path).err(),
        disk.create_dir_all(&dir.join("inner")).err(),
        disk.open(&dir.join("lock")).and_then(|file| file.lock()).err(),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("change {number} was made"));
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "change {number}: {error}");
    }
    assert_eq!(disk.list(&dir).expect("it can be read"), ["file"]);
}

impl SmallDisk for Simulation {
    type Env = SimEnv;

    fn env(&self) -> &SimEnv {
        &self.env
    }

    fn dir(&self) -> PathBuf {
        "/data".into()
    }

    fn fill(&self) {
        self.world.disk(1).inject(Verb::Write, io::ErrorKind::StorageFull, u32::MAX);
    }

    fn free(&self) {
        self.world.disk(1).heal();
    }

    fn make_read_only(&self) {
        for verb in [Verb::Write, Verb::Name] {
            self.world.disk(1).inject(verb, io::ErrorKind::ReadOnlyFilesystem, u32::MAX);
        }
    }
}

/// A file system in memory, of 256 KiB.
pub(crate) struct Mounted {
    env: TokioEnv,
    mount: Mount,
}

/// Runs `test` on a mount of its own, if this process may make one.
pub(crate) fn on_a_small_disk(test: impl AsyncFnOnce(Mounted)) {
    match Mount::of_kib(256) {
        Ok(mount) => runtime().block_on(async { test(Mounted { env: TokioEnv::new(), mount }).await }),
        Err(why) => not_shown(&format!("a real disk that is full or read-only: {why}")),
    }
}

impl SmallDisk for Mounted {
    type Env = TokioEnv;

    fn env(&self) -> &TokioEnv {
        &self.env
    }

    fn dir(&self) -> PathBuf {
        self.mount.path().into()
    }

    fn fill(&self) {
        let error = fs::write(self.dir().join("filler"), vec![0; 1 << 20]).expect_err("it is smaller");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        fs::remove_file(self.dir().join("filler")).expect("it was written");
    }

    fn make_read_only(&self) {
        mount(&["-o", "remount,ro"], self.mount.path()).expect("who mounts may do it again");
    }
}
