//! Files: names, bytes, locks.

use std::io;

use contact_cache::env::{Disk, DiskFile, Env, FileKind};

use crate::place::Place;

pub(crate) async fn a_file_is_what_was_written_to_it(place: &impl Place) {
    let (disk, path) = (place.env().disk(), place.dir().join("file"));
    let file = disk.open(&path).expect("the directory is there");
    assert_eq!(file.len().expect("it is open"), 0);
    file.write_at(10, b"later").expect("it is open");
    file.write_at(3, b"first").expect("it is open");
    file.sync().expect("it is open");
    disk.sync_dir(&place.dir()).expect("it is there");
    drop(file);
    let file = disk.open(&path).expect("it is there");
    let mut bytes = [9; 15];
    file.read_at(0, &mut bytes).expect("it is that long");
    assert_eq!(&bytes, b"\0\0\0first\0\0later");
    file.set_len(4).expect("it is open");
    file.set_len(6).expect("it is open");
    let mut bytes = [9; 6];
    file.read_at(0, &mut bytes).expect("it is that long");
    assert_eq!((&bytes, file.len().expect("it is open")), (b"\0\0\0f\0\0", 6));
}

pub(crate) async fn reading_past_the_end_fails_and_names_the_file(place: &impl Place) {
    let file = place.env().disk().open(&place.dir().join("short")).expect("the directory is there");
    file.write_at(0, b"12345").expect("it is open");
    for offset in [1, 5, 1_000] {
        let error = file.read_at(offset, &mut [0; 5]).expect_err("the file ends before");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("short"), "{error} does not name the file");
    }
}

pub(crate) async fn names_are_listed_renamed_and_removed(place: &impl Place) {
    let (disk, dir) = (place.env().disk(), place.dir());
    disk.create_dir_all(&dir.join("inner/most")).expect("the disk works");
    disk.create_dir_all(&dir.join("inner")).expect("it is no error if it exists");
    for name in ["b", "a", "c", "inner/d"] {
        disk.open(&dir.join(name)).and_then(|file| file.write_at(0, name.as_bytes())).expect("the disk works");
    }
    assert_eq!(disk.list(&dir).expect("it is there"), ["a", "b", "c"]);
    let replaced = disk.open(&dir.join("c")).expect("it is there");
    disk.rename(&dir.join("a"), &dir.join("c")).expect("it is there");
    disk.remove(&dir.join("b")).expect("it is there");
    disk.sync_dir(&dir).expect("it is there");
    assert_eq!(disk.list(&dir).expect("it is there"), ["c"]);
    let mut byte = [0];
    disk.open(&dir.join("c")).and_then(|file| file.read_at(0, &mut byte)).expect("it is there");
    assert_eq!(&byte, b"a");
    replaced.read_at(0, &mut byte).expect("an open file stays though its name is gone");
    assert_eq!(&byte, b"c");
}

pub(crate) async fn what_does_not_exist_is_not_found(place: &impl Place) {
    let (disk, dir) = (place.env().disk(), place.dir());
    let missing = dir.join("missing");
    let errors = [
        disk.open(&missing.join("file")).err(),
        disk.list(&missing).err(),
        disk.sync_dir(&missing).err(),
        disk.rename(&missing, &dir.join("other")).err(),
        disk.remove(&missing).err(),
        disk.open(&missing.join("lock")).and_then(|file| file.lock()).err(),
    ];
    for error in errors {
        let error = error.expect("it does not exist");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing"), "{error} does not name what is missing");
    }
}

pub(crate) async fn a_lock_keeps_others_out_until_it_is_dropped(place: &impl Place) {
    let (disk, path) = (place.env().disk(), place.dir().join("lock"));
    let lock = disk.open(&path).and_then(|file| file.lock()).expect("it is free");
    assert_eq!(
        disk.open(&path).and_then(|file| file.lock()).err().expect("it is held").kind(),
        io::ErrorKind::WouldBlock
    );
    drop(lock);
    disk.open(&path).and_then(|file| file.lock()).expect("it was released");
}

pub(crate) async fn a_lock_goes_with_its_file_and_not_with_the_name(place: &impl Place) {
    let (disk, dir) = (place.env().disk(), place.dir());
    let held = disk.open(&dir.join("log")).expect("the directory is there");
    let lock = held.lock().expect("it is free");
    disk.rename(&dir.join("log"), &dir.join("elsewhere")).expect("it is there");
    let moved = disk.open(&dir.join("elsewhere")).expect("it is there");
    assert_eq!(moved.lock().err().expect("it is held").kind(), io::ErrorKind::WouldBlock);
    disk.open(&dir.join("log")).and_then(|file| file.lock()).expect("another file");
    drop(held);
    assert_eq!(moved.lock().err().expect("the lock is held yet").kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    moved.lock().expect("it was released");
}

pub(crate) async fn what_has_a_name_is_told_and_what_is_open_is_known(place: &impl Place) {
    let (disk, dir) = (place.env().disk(), place.dir());
    let path = dir.join("file");
    assert_eq!(disk.stat(&path).expect_err("nothing has it").kind(), io::ErrorKind::NotFound);
    let file = disk.open(&path).expect("the directory is there");
    let found = disk.stat(&path).expect("it is there");
    assert_eq!((found.id, found.kind, found.mode), (file.id().expect("it is open"), FileKind::File, 0o600));
    disk.create_dir_all(&dir.join("inner")).expect("the disk works");
    let inner = disk.stat(&dir.join("inner")).expect("it is there");
    assert_eq!((inner.kind, inner.mode, inner.id == found.id), (FileKind::Directory, 0o700, false));
    disk.rename(&path, &dir.join("inner/file")).expect("it is there");
    assert_eq!(disk.stat(&dir.join("inner/file")).expect("it is there").id, found.id);
    let other = disk.open(&path).expect("the directory is there");
    assert!(other.id().expect("it is open") != found.id);
    assert_eq!(file.id().expect("it is open"), found.id);
}

pub(crate) async fn a_file_is_created_only_where_nothing_has_its_name(place: &impl Place) {
    let (disk, dir) = (place.env().disk(), place.dir());
    disk.create_dir_all(&dir.join("inner")).expect("the disk works");
    let file = disk.create(&dir.join("file")).expect("nothing has the name");
    file.write_at(0, b"x").expect("it is open");
    for name in ["file", "inner"] {
        let error = disk.create(&dir.join(name)).err().expect("something has the name");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}: {error}");
    }
    assert_eq!(file.len().expect("it is open"), 1);
}
