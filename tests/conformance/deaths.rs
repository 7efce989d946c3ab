//! What the death of a process or of a host leaves behind. A real host cannot lose its power in a test: what an unsynced
//! change of names may look like afterwards is shown in the simulated world alone.

use std::{collections::BTreeSet, fs::File, io, os::fd::OwnedFd, path::Path, time::Duration};

use contact_cache::env::{Disk, DiskFile, Env};
use seedbed_contact::{history::Stop, world::SimDisk};

use crate::place::{Place, Reality, Simulation, for_real, holder_of, in_simulation, on_seed, within};

#[test]
fn a_lock_of_another_process_is_held_until_that_is_killed() {
    for_real(async |place| held_by_another_process(&place).await);
}

async fn held_by_another_process(place: &Reality) {
    let path = place.dir().join("lock");
    let file = File::create(&path).expect("the directory is there");
    file.lock().expect("it is free");
    let mut holder = holder_of(OwnedFd::from(file));
    let lock = || place.env().disk().open(&path).and_then(|file| file.lock());
    assert_eq!(lock().expect_err("another process holds it").kind(), io::ErrorKind::WouldBlock);
    holder.kill().and_then(|()| holder.wait()).expect("it is ours");
    // A program that another test is starting may hold a copy of the file until it runs.
    let free = async {
        while lock().is_err() {
            place.env().sleep(Duration::from_millis(1)).await;
        }
    };
    within(place.env(), Duration::from_secs(10), free).await.expect("its holder is dead");
}

#[test]
fn a_lock_of_a_killed_process_is_free_for_the_next() {
    in_simulation(async |place| held_by_a_killed_process(&place));
}

fn held_by_a_killed_process(place: &Simulation) {
    let path = Path::new("/data/lock");
    let held = place.env().disk().open(path).and_then(|file| file.lock()).expect("it is free");
    place.world.kill(1, Stop::Killed);
    let next = place.world.boot(1);
    let lock = next.disk().open(path).and_then(|file| file.lock()).expect("its holder is dead");
    drop(held);
    assert_eq!(
        next.disk().open(path).and_then(|file| file.lock()).err().expect("it is held").kind(),
        io::ErrorKind::WouldBlock
    );
    drop(lock);
}

#[test]
fn a_rename_without_a_sync_of_its_directory_is_whole_or_not_at_all_after_a_power_loss() {
    let seen: BTreeSet<_> = (0..40).map(|seed| renamed_and_lost(seed, false)).collect();
    assert_eq!(seen, BTreeSet::from([(b"new".to_vec(), false), (b"old".to_vec(), true)]));
}

#[test]
fn a_rename_whose_directory_was_synced_survives_a_power_loss() {
    let seen: BTreeSet<_> = (0..40).map(|seed| renamed_and_lost(seed, true)).collect();
    assert_eq!(seen, BTreeSet::from([(b"new".to_vec(), false)]));
}

/// What is under the new name after a power loss, and whether the old name is still there.
fn renamed_and_lost(seed: u64, synced: bool) -> (Vec<u8>, bool) {
    on_seed(seed, async move |place: Simulation| {
        let dir = Path::new("/data");
        let (from, to) = (dir.join("from"), dir.join("to"));
        let write = |disk: &SimDisk, path: &Path, bytes: &[u8]| {
            disk.open(path)
                .and_then(|file| file.write_at(0, bytes).and_then(|()| file.sync()))
                .expect("the disk works");
        };
        let disk = place.env().disk();
        write(disk, &from, b"new");
        write(disk, &to, b"old");
        disk.sync_dir(dir).and_then(|()| disk.rename(&from, &to)).expect("the disk works");
        if synced {
            disk.sync_dir(dir).expect("the disk works");
        }
        place.world.kill(1, Stop::PowerLost);
        let next = place.world.boot(1);
        let mut bytes = vec![0; 3];
        next.disk().open(&to).and_then(|file| file.read_at(0, &mut bytes)).expect("one or the other is there");
        (bytes, next.disk().list(dir).expect("it is there").contains(&"from".to_owned()))
    })
}
