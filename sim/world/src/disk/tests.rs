//! What the simulated disk does that a real one does not do on demand: power losses, failed syncs, crash points, rot.

use std::{collections::BTreeSet, io, path::Path};

use seedbed_env::{Disk as _, DiskFile as _, Env as _};

use super::Verb;
use crate::{SimDisk, SimEnv, Stop, World, disk::BadWrite, simulate};

const PATH: &str = "/data/file";

/// The disk of a fresh process on host 1, with a durable file of 4 sectors of ones.
fn prepared(world: &World) -> SimDisk {
    let disk = world.boot(1).disk().clone();
    disk.create_dir_all(Path::new("/data")).expect("the disk works");
    let file = disk.open(Path::new(PATH)).expect("the disk works");
    file.write_at(0, &[1; 2_048]).expect("the disk works");
    file.sync().expect("the disk works");
    disk.sync_dir(Path::new("/data")).expect("the disk works");
    disk
}

fn restarted(world: &World, how: Stop) -> SimDisk {
    world.kill(1, how);
    world.boot(1).disk().clone()
}

fn contents(disk: &SimDisk) -> Vec<u8> {
    let file = disk.open(Path::new(PATH)).expect("the disk works");
    let mut bytes = vec![0; usize::try_from(file.len().expect("the disk works")).expect("it is small")];
    file.read_at(0, &mut bytes).expect("the file is that long");
    bytes
}

#[test]
fn the_death_of_a_process_keeps_unsynced_writes() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        disk.open(Path::new(PATH)).and_then(|file| file.write_at(512, &[2; 512])).expect("the disk works");
        let disk = restarted(&world, Stop::Killed);
        assert_eq!(contents(&disk)[512..1_024], [2; 512]);
    });
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_any_of_the_rest_torn() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let bytes = simulate(seed, async |world| {
            let disk = prepared(&world);
            let file = disk.open(Path::new(PATH)).expect("the disk works");
            file.write_at(512, &[2; 1_024]).expect("the disk works");
            file.write_at(2_048, &[2; 512]).expect("the disk works");
            contents(&restarted(&world, Stop::PowerLost))
        });
        assert_eq!(bytes[..512], [1; 512]);
        assert_eq!(bytes[1_536..2_048], [1; 512]);
        let sector = |at: usize| match (bytes[at], bytes[at + 511]) {
            (2, 2) => "new",
            (1, 1) => "old",
            (2, 1) => "torn",
            _ => "damaged",
        };
        outcomes.insert((sector(512), sector(1_024), bytes.len()));
    }
    let kinds = ["new", "old", "torn"];
    let all = kinds.iter().flat_map(|first| kinds.iter().map(move |second| (*first, *second)));
    let lengths = all.flat_map(|(first, second)| [(first, second, 2_048), (first, second, 2_560)]);
    assert_eq!(outcomes, lengths.collect());
}

#[test]
fn what_was_synced_outlives_a_power_loss_whole() {
    for seed in 0..50 {
        simulate(seed, async |world| {
            let disk = prepared(&world);
            let file = disk.open(Path::new(PATH)).expect("the disk works");
            file.write_at(700, &[3; 5_000]).expect("the disk works");
            file.set_len(3_000).expect("the disk works");
            file.sync().expect("the disk works");
            let bytes = contents(&restarted(&world, Stop::PowerLost));
            assert_eq!(bytes.len(), 3_000);
            assert!(bytes[..700].iter().all(|byte| *byte == 1) && bytes[700..].iter().all(|byte| *byte == 3));
        });
    }
}

/// The names in `/data` after `act` and a power loss, over many seeds.
fn names_after(act: fn(&SimDisk) -> io::Result<()>) -> BTreeSet<Vec<String>> {
    let names = |seed| {
        simulate(seed, async move |world| {
            let disk = prepared(&world);
            act(&disk).expect("the disk works");
            restarted(&world, Stop::PowerLost).list(Path::new("/data")).expect("the directory is durable")
        })
    };
    (0..50).map(names).collect()
}

#[test]
fn names_are_durable_only_after_the_directory_is_synced() {
    let [file, other] = ["file", "other"].map(|name| vec![name.to_owned()]);
    let renamed = names_after(|disk| disk.rename(Path::new(PATH), Path::new("/data/other")));
    assert_eq!(renamed, [file.clone(), other.clone()].into());
    let synced = names_after(|disk| {
        disk.rename(Path::new(PATH), Path::new("/data/other"))?;
        disk.sync_dir(Path::new("/data"))
    });
    assert_eq!(synced, [other].into());
    let removed = names_after(|disk| disk.remove(Path::new(PATH)));
    assert_eq!(removed, [file.clone(), Vec::new()].into());
    let created = names_after(|disk| disk.open(Path::new("/data/new")).and_then(|new| new.sync()));
    assert_eq!(created, [file.clone(), [file, vec!["new".to_owned()]].concat()].into());
}

#[test]
fn a_file_renamed_between_directories_is_in_one_of_them() {
    for seed in 0..20 {
        simulate(seed, async |world| {
            let disk = prepared(&world);
            disk.create_dir_all(Path::new("/else/where")).expect("the disk works");
            disk.open(Path::new("/data/new")).expect("the disk works");
            disk.rename(Path::new("/data/new"), Path::new("/else/where/new")).expect("the disk works");
            disk.sync_dir(Path::new("/else/where")).expect("the disk works");
            let disk = restarted(&world, Stop::PowerLost);
            assert_eq!(disk.list(Path::new("/data")).expect("it is there"), ["file"]);
            assert_eq!(disk.list(Path::new("/else/where")).expect("it is there"), ["new"]);
        });
    }
}

#[test]
fn after_a_failed_sync_the_unsynced_bytes_are_gone_though_the_next_succeeds() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        let file = disk.open(Path::new(PATH)).expect("the disk works");
        file.write_at(0, &[9; 100]).expect("the disk works");
        world.disk(1).inject(Verb::Sync, io::ErrorKind::Other, 1);
        let error = file.sync().expect_err("an error was injected");
        assert!(error.to_string().contains(PATH), "{error} does not name the file");
        file.sync().expect("the next one works");
        assert_eq!(contents(&disk), [1; 2_048]);
    });
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        let file = disk.open(Path::new(PATH)).expect("the disk works");
        world.disk(1).inject(Verb::Write, io::ErrorKind::StorageFull, u32::MAX);
        assert_eq!(file.write_at(2_048, b"x").expect_err("it is full").kind(), io::ErrorKind::StorageFull);
        assert_eq!((contents(&disk), disk.free_bytes(Path::new("/data")).expect("it is there")), (vec![1; 2_048], 0));
        file.write_at(0, b"x").expect("it takes no room");
        world.disk(1).heal();
        file.write_at(2_048, b"x").expect("there is room");
    });
}

#[test]
fn a_disk_takes_no_more_than_its_capacity_and_what_is_removed_makes_room() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        world.disk(1).set_capacity(3_000);
        let other = disk.open(Path::new("/data/other")).expect("a name takes no room");
        assert_eq!(other.write_at(0, &[2; 1_000]).expect_err("too much").kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.free_bytes(Path::new("/data")).expect("it is there"), 952);
        other.write_at(0, &[2; 952]).expect("it fits");
        world.disk(1).remove(Path::new(PATH));
        other.write_at(952, &[2; 1_000]).expect("there is room");
    });
}

#[test]
fn a_directory_that_another_process_moves_takes_its_open_files_along() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        let file = disk.open(Path::new(PATH)).expect("the disk works");
        world.disk(1).copy(Path::new("/data"), Path::new("/copy"));
        world.disk(1).rename(Path::new("/data"), Path::new("/moved"));
        assert_eq!(disk.stat(Path::new(PATH)).expect_err("it is gone").kind(), io::ErrorKind::NotFound);
        file.write_at(0, &[7]).and_then(|()| file.sync()).expect("it is open yet");
        let name = Path::new(PATH).file_name().expect("a file");
        let (moved, copied) = (Path::new("/moved").join(name), Path::new("/copy").join(name));
        assert_eq!(disk.stat(&moved).expect("it is there").id, file.id().expect("it is open"));
        assert!(disk.stat(&copied).expect("it is there").id != file.id().expect("it is open"));
        let disk = restarted(&world, Stop::PowerLost);
        let first = |path: &Path| {
            let mut byte = [0];
            disk.open(path).and_then(|file| file.read_at(0, &mut byte)).map(|()| byte[0])
        };
        assert_eq!((first(&moved).expect("it is there"), first(&copied).expect("it is there")), (7, 1));
    });
}

#[test]
fn at_a_crash_point_the_image_freezes_and_the_process_is_dead() {
    for ops in 0..6 {
        simulate(1, async move |world| {
            let reached = world.crash_after_disk_ops(1, 4 + ops);
            let disk = prepared_until_crash(&world, 4);
            let file = disk.open(Path::new(PATH)).expect("it is there");
            let written = (0..5_u8).filter(|number| file.write_at(u64::from(*number), &[9]).is_ok()).count() as u64;
            assert_eq!(written, ops.min(5));
            if ops < 5 {
                reached.await;
                assert!(!world.env(1).is_alive());
                assert!(file.sync().is_err());
            }
            let bytes = contents(&restarted(&world, Stop::Killed));
            let kept = bytes.into_iter().filter(|byte| *byte == 9).collect::<Vec<_>>();
            assert_eq!(kept.len() as u64, written);
        });
    }
}

/// Like [`prepared`], and says that this takes so many operations.
fn prepared_until_crash(world: &World, ops: usize) -> SimDisk {
    let disk = world.boot(1).disk().clone();
    disk.create_dir_all(Path::new("/data")).expect("operation 1");
    let file = disk.open(Path::new(PATH)).expect("operation 2");
    file.write_at(0, &[1; 2_048]).expect("operation 3");
    file.sync().expect("operation 4");
    assert_eq!(ops, 4);
    disk
}

#[test]
fn a_flipped_bit_is_one_bit() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        let at = world.disk(1).rot(Path::new(PATH)).expect("there is a file");
        assert!(world.disk(1).is_damaged(Path::new(PATH)));
        let damaged: Vec<_> = (0_u64..).zip(contents(&disk)).filter(|(_, byte)| *byte != 1).collect();
        assert_eq!(damaged.len(), 1);
        assert_eq!((damaged[0].0, (damaged[0].1 ^ 1).count_ones()), (at, 1));
    });
}

#[test]
fn a_lost_write_is_acknowledged_and_its_place_stays_as_it_was_until_it_is_written_again() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        let file = disk.open(Path::new(PATH)).expect("the disk works");
        world.disk(1).spoil_writes(BadWrite::Lost, 1);
        file.write_at(1_024, &[2; 2_048]).expect("it is acknowledged");
        file.sync().expect("it is acknowledged");
        assert_eq!(contents(&disk), [[1; 2_048].as_slice(), &[0; 1_024]].concat());
        let disk = restarted(&world, Stop::PowerLost);
        assert!(world.disk(1).is_damaged(Path::new(PATH)));
        disk.open(Path::new(PATH)).and_then(|file| file.write_at(1_024, &[3; 2_048])).expect("the disk works");
        assert!(!world.disk(1).is_damaged(Path::new(PATH)));
    });
}

#[test]
fn a_misdirected_write_lands_in_sectors_of_something_else() {
    let mut places = BTreeSet::new();
    for seed in 0..20 {
        let bytes = simulate(seed, async |world| {
            let disk = prepared(&world);
            let file = disk.open(Path::new(PATH)).expect("the disk works");
            world.disk(1).spoil_writes(BadWrite::Misdirected, 1);
            file.write_at(1_536, &[2; 512]).expect("it is acknowledged");
            contents(&disk)
        });
        places.insert(bytes.iter().position(|byte| *byte == 2));
    }
    assert_eq!(places, BTreeSet::from([None, Some(0), Some(512), Some(1_024)]));
}

#[test]
fn a_stalled_disk_answers_everything_when_it_goes_on() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        world.disk(1).stall_until_us(world.now_us() + 5_000_000);
        let work = move || (0..10).try_for_each(|_| disk.open(Path::new(PATH))?.sync());
        let before_us = world.now_us();
        world.env(1).blocking(work).await.expect("the disk works");
        assert!((5_000_000..5_010_000).contains(&(world.now_us() - before_us)));
        assert_eq!(world.disk(1).effects(), 10);
    });
}

#[test]
fn a_lock_of_another_process_outlives_a_restart() {
    simulate(1, async |world| {
        prepared(&world);
        world.disk(1).hold_locks();
        let disk = restarted(&world, Stop::Killed);
        let path = Path::new("/data/lock");
        assert_eq!(
            disk.open(path).and_then(|file| file.lock()).err().expect("it is held").kind(),
            io::ErrorKind::WouldBlock
        );
        world.disk(1).heal();
        disk.open(path).and_then(|file| file.lock()).expect("it was released");
    });
}

#[test]
fn a_lock_ends_with_the_process_that_took_it_and_its_destructor_does_not_take_it_from_the_next() {
    simulate(1, async |world| {
        let path = Path::new("/data/lock");
        let old = prepared(&world).open(path).and_then(|file| file.lock()).expect("it is free");
        let disk = restarted(&world, Stop::Killed);
        let fresh = disk.open(path).and_then(|file| file.lock()).expect("its process died");
        drop(old);
        assert_eq!(
            disk.open(path).and_then(|file| file.lock()).err().expect("it is held").kind(),
            io::ErrorKind::WouldBlock
        );
        drop(fresh);
        disk.open(path).and_then(|file| file.lock()).expect("it was released");
    });
}

#[test]
fn blocking_work_takes_the_time_of_its_syncs() {
    simulate(1, async |world| {
        let disk = prepared(&world);
        let env: SimEnv = world.env(1);
        let work = move || (0..10).try_for_each(|_| disk.open(Path::new(PATH))?.sync());
        let before_us = world.now_us();
        env.blocking(work).await.expect("the disk works");
        let us = world.now_us() - before_us;
        assert!((1_000..=8_000).contains(&us), "ten syncs take {us} us");
    });
}
