//! The real file system, without Redis: these caches stay local.

#![expect(clippy::disallowed_methods, reason = "files changed from outside")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use contact_cache::{Config, ContactCache, Error, OpenError, Patch, Placement, Uid, env::TokioEnv, error::StoreError};
use serde_json::json;

use crate::mount::{Mount, mount, not_shown, unmount};

/// A cache whose Redis refuses connections: nothing listens on port 1.
async fn try_open(directory: &Path) -> Result<ContactCache, OpenError> {
    let redis = "redis://127.0.0.1:1".parse().expect("a url");
    ContactCache::open(TokioEnv::new(), Config::new(redis, "p".parse().expect("a prefix"), directory)).await
}

async fn open(directory: &Path) -> ContactCache {
    try_open(directory).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Opens a store whose cache was dropped, as a crash of its process leaves it, once the last of its tasks has ended.
async fn open_after(dropped: ContactCache, directory: &Path) -> ContactCache {
    drop(dropped);
    loop {
        match try_open(directory).await {
            Err(OpenError::Store(StoreError::Locked { .. })) => tokio::task::yield_now().await,
            opened => return opened.unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

fn uid(name: &str) -> Uid {
    name.parse().expect("a uid")
}

fn patch(value: &str) -> Patch {
    let mut patch = Patch::default();
    patch.profile.insert("v".to_owned(), json!(value));
    patch
}

async fn write(cache: &ContactCache, name: &str) -> Result<Placement, Error> {
    Ok(cache.upsert(&uid(name), &patch("1")).await?.placement)
}

/// The typed error of a store that is not where it was: it names the directory and how to go on.
#[track_caller]
fn is_displaced(error: &Error, directory: &Path) {
    let Error::Store(StoreError::Displaced { dir, .. }) = error else { panic!("{error:?}") };
    assert_eq!(dir, directory);
    let text = error.to_string();
    assert!(
        text.contains(directory.to_str().expect("a path in UTF-8")) && text.contains("open the cache again"),
        "{text}"
    );
}

/// Opens a store, acknowledges a write, does something to its files, and demands that the next write notices.
async fn notices(change: impl FnOnce(&Path)) {
    let parent = tempfile::tempdir().expect("room for a directory");
    let store = parent.path().join("store");
    let cache = open(&store).await;
    assert_eq!(write(&cache, "before").await.expect("the disk works"), Placement::Local);
    change(&store);
    is_displaced(&write(&cache, "after").await.expect_err("nobody would find it"), &store);
    is_displaced(&write(&cache, "later").await.expect_err("nobody would find it"), &store);
    let said = cache.health().store_error.expect("the store has stopped");
    assert!(said.contains(store.to_str().expect("a path in UTF-8")), "{said}");
    is_displaced(&cache.close().await.expect_err("not all that it held is where it was"), &store);
}

/// As [`notices`]; and closing notices it too, if nothing was written since.
async fn is_noticed(change: impl Fn(&Path)) {
    notices(&change).await;
    let parent = tempfile::tempdir().expect("room for a directory");
    let store = parent.path().join("store");
    let cache = open(&store).await;
    write(&cache, "before").await.expect("the disk works");
    change(&store);
    is_displaced(&cache.close().await.expect_err("not all that it held is where it was"), &store);
}

#[tokio::test]
async fn a_removed_directory_is_noticed() {
    is_noticed(|store| fs::remove_dir_all(store).expect("it is there")).await;
}

#[tokio::test]
async fn a_removed_log_is_noticed() {
    is_noticed(|store| fs::remove_file(store.join("store.log")).expect("it is there")).await;
}

#[tokio::test]
async fn a_directory_that_was_moved_away_is_noticed() {
    is_noticed(|store| fs::rename(store, store.with_file_name("moved")).expect("it is there")).await;
}

#[tokio::test]
async fn a_directory_that_was_replaced_by_its_own_copy_is_noticed() {
    is_noticed(|store| {
        copy(store, &store.with_file_name("copy"));
        fs::rename(store, store.with_file_name("moved")).expect("it is there");
        fs::rename(store.with_file_name("copy"), store).expect("it is there");
    })
    .await;
}

#[tokio::test]
async fn a_log_that_was_replaced_by_its_own_copy_is_noticed() {
    is_noticed(|store| {
        fs::copy(store.join("store.log"), store.join("copy")).expect("room for a file");
        fs::rename(store.join("copy"), store.join("store.log")).expect("it is there");
    })
    .await;
}

#[tokio::test]
async fn a_log_that_was_replaced_by_a_link_to_itself_is_noticed() {
    is_noticed(|store| {
        fs::rename(store.join("store.log"), store.join("elsewhere")).expect("it is there");
        symlink("elsewhere", store.join("store.log")).expect("the name is free");
    })
    .await;
}

#[tokio::test]
async fn a_volume_that_was_mounted_over_the_directory_is_noticed() {
    let over = ["-t", "tmpfs", "-o", "size=64k", "test"];
    let probe = tempfile::tempdir().expect("room for a directory");
    if let Err(why) = mount(&over, probe.path()).and_then(|()| unmount(probe.path())) {
        return not_shown(&format!("a volume that is mounted over a store: {why}"));
    }
    let parent = tempfile::tempdir().expect("room for a directory");
    let store = parent.path().join("store");
    let cache = open(&store).await;
    write(&cache, "before").await.expect("the disk works");
    mount(&over, &store).expect("who mounts may do it again");
    let noticed = write(&cache, "after").await;
    unmount(&store).expect("it was mounted");
    is_displaced(&noticed.expect_err("nobody would find it"), &store);
    is_displaced(&cache.close().await.expect_err("what was written is in doubt"), &store);
}

#[tokio::test]
async fn a_volume_that_was_unmounted_is_noticed_and_holds_what_was_acknowledged() {
    let small = match Mount::of_kib(256) {
        Ok(small) => small,
        Err(why) => return not_shown(&format!("a volume that is unmounted: {why}")),
    };
    let (parent, bound) = (small.path().to_owned(), tempfile::tempdir().expect("room for a directory"));
    mount(&["--bind", parent.to_str().expect("a path in UTF-8")], bound.path()).expect("who mounts may do it again");
    let store = bound.path().join("store");
    let cache = open(&store).await;
    write(&cache, "before").await.expect("the disk works");
    unmount(bound.path()).expect("it was mounted");
    is_displaced(&write(&cache, "after").await.expect_err("nobody would find it"), &store);
    cache.close().await.expect_err("what was written is in doubt");
    let again = open(&parent.join("store")).await;
    assert!(again.get(&uid("before")).await.expect("the disk works").record.is_some());
}

#[tokio::test]
async fn a_store_whose_log_has_vanished_opens_and_is_not_called_clean() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let cache = open(directory.path()).await;
    assert!(cache.open_report().clean_end && cache.open_report().is_whole && !cache.open_report().lost_log);
    write(&cache, "a").await.expect("the disk works");
    cache.close().await.expect("the disk works");
    fs::remove_file(directory.path().join("store.log")).expect("it is there");

    let cache = open(directory.path()).await;
    let report = cache.open_report();
    assert!(report.lost_log && !report.clean_end && !report.is_whole, "{report:?}");
    // What is not held may have been.
    assert!(matches!(cache.get(&uid("a")).await, Err(Error::Forgotten)));
    write(&cache, "a").await.expect("it goes on");
    cache.close().await.expect("the disk works");
    let cache = open(directory.path()).await;
    assert!(!cache.open_report().lost_log && cache.open_report().clean_end, "{:?}", cache.open_report());
}

#[tokio::test]
async fn a_log_that_was_cut_between_two_entries_is_damaged_though_every_entry_left_is_sound() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let log = directory.path().join("store.log");
    for cut_closed in [true, false] {
        let cache = open(directory.path()).await;
        write(&cache, "a").await.expect("the disk works");
        let len = fs::metadata(&log).expect("it is there").len();
        write(&cache, "b").await.expect("the disk works");
        let cut = || {
            fs::OpenOptions::new().write(true).open(&log).and_then(|log| log.set_len(len)).expect("it is there");
        };
        let cache = if cut_closed {
            cache.close().await.expect("the disk works");
            cut();
            open(directory.path()).await
        } else {
            cut();
            open_after(cache, directory.path()).await
        };
        let report = cache.open_report();
        assert!(report.damage.is_loss() && !report.is_whole && report.set_aside.is_some(), "{report:?}");
        assert!(cache.get(&uid("a")).await.expect("it was left").record.is_some());
        cache.close().await.expect("the disk works");
        let cache = open(directory.path()).await;
        assert!(cache.open_report().is_whole, "{:?}", cache.open_report());
        cache.close().await.expect("the disk works");
    }
}

#[tokio::test]
async fn a_log_that_is_a_link_is_refused_and_stays_one() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let (log, target) = (directory.path().join("store.log"), directory.path().join("elsewhere"));
    let cache = open(directory.path()).await;
    write(&cache, "a").await.expect("the disk works");
    cache.close().await.expect("the disk works");
    fs::rename(&log, &target).expect("it is there");
    for leads_to in ["elsewhere", "nowhere"] {
        symlink(leads_to, &log).expect("the name is free");
        let before = fs::read(&target).expect("it is there");
        let error = try_open(directory.path()).await.err().expect("a link");
        let OpenError::Store(StoreError::Link { path }) = &error else { panic!("{error:?}") };
        assert_eq!(path, &log);
        assert!(fs::symlink_metadata(&log).expect("it is there").is_symlink(), "it was replaced");
        assert_eq!(fs::read(&target).expect("it is there"), before);
        fs::remove_file(&log).expect("it is there");
    }
    fs::rename(&target, &log).expect("it is there");
    let cache = open(directory.path()).await;
    assert!(cache.get(&uid("a")).await.expect("the disk works").record.is_some());
}

#[tokio::test]
async fn what_a_link_in_the_place_of_a_new_log_or_a_damaged_one_leads_to_stays_as_it_is() {
    let parent = tempfile::tempdir().expect("room for a directory");
    let (store, precious) = (parent.path().join("store"), parent.path().join("precious"));
    fs::create_dir(&store).expect("room for a directory");
    fs::write(&precious, "precious").expect("room for a file");
    for name in ["store.new", "damaged-0.log"] {
        symlink(&precious, store.join(name)).expect("the name is free");
    }
    // The first log is written beside its name too; a damaged one is set aside, and rewritten.
    let cache = open(&store).await;
    write(&cache, "a").await.expect("the disk works");
    cache.close().await.expect("the disk works");
    let mut bytes = fs::read(store.join("store.log")).expect("it is there");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(store.join("store.log"), bytes).expect("room for a file");
    symlink(&precious, store.join("store.new")).expect("the name is free");
    let cache = open(&store).await;
    assert!(cache.open_report().damage.is_loss(), "{:?}", cache.open_report());
    assert_eq!(cache.open_report().set_aside, Some(store.join("damaged-1.log")));
    assert_eq!(fs::read(&precious).expect("it is there"), b"precious");
    assert!(fs::symlink_metadata(store.join("store.log")).expect("it is there").is_file());
}

#[tokio::test]
async fn a_lock_that_is_a_link_is_refused() {
    let parent = tempfile::tempdir().expect("room for a directory");
    let (store, precious) = (parent.path().join("store"), parent.path().join("precious"));
    fs::create_dir(&store).expect("room for a directory");
    symlink(&precious, store.join("lock")).expect("the name is free");
    let error = try_open(&store).await.err().expect("a link");
    assert!(matches!(&error, OpenError::Store(StoreError::Link { path }) if *path == store.join("lock")), "{error:?}");
    assert!(!precious.exists());
}

#[tokio::test]
async fn a_store_is_its_owners_alone_and_a_wider_permission_is_reported() {
    let parent = tempfile::tempdir().expect("room for a directory");
    let store = parent.path().join("below").join("store");
    let cache = open(&store).await;
    write(&cache, "a").await.expect("the disk works");
    let mode = |path: PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!([mode(store.clone()), mode(store.join("store.log")), mode(store.join("lock"))], [0o700, 0o600, 0o600]);
    assert_eq!((cache.open_report().exposed.len(), cache.health().exposed.len()), (0, 0));
    cache.close().await.expect("the disk works");

    fs::set_permissions(&store, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(store.join("store.log"), fs::Permissions::from_mode(0o640)).expect("it is ours");
    let cache = open(&store).await;
    let exposed: Vec<_> = cache.open_report().exposed.iter().map(|file| (file.path.clone(), file.mode)).collect();
    assert_eq!(exposed, [(store.clone(), 0o755), (store.join("store.log"), 0o640)]);
    assert_eq!(cache.health().exposed, cache.open_report().exposed);
}

#[tokio::test]
async fn a_log_in_use_is_not_opened_again_although_its_lock_file_was_removed() {
    let parent = tempfile::tempdir().expect("room for a directory");
    let store = parent.path().join("store");
    let cache = open(&store).await;
    write(&cache, "a").await.expect("the disk works");
    fs::remove_file(store.join("lock")).expect("it is there");
    let locked = |error: Option<OpenError>| matches!(error, Some(OpenError::Store(StoreError::Locked { .. })));
    assert!(locked(try_open(&store).await.err()));
    // Under another name it is the same.
    let other = parent.path().join("other");
    fs::create_dir(&other).expect("room for a directory");
    fs::hard_link(store.join("store.log"), other.join("store.log")).expect("the name is free");
    assert!(locked(try_open(&other).await.err()));
    write(&cache, "b").await.expect("it is the only one");
    cache.close().await.expect("it is the only one");
    open(&store).await;
}

#[tokio::test]
async fn a_store_that_was_copied_while_open_opens_as_a_copy_that_was_not_closed() {
    let parent = tempfile::tempdir().expect("room for a directory");
    let (store, backup) = (parent.path().join("store"), parent.path().join("backup"));
    let cache = open(&store).await;
    write(&cache, "a").await.expect("the disk works");
    copy(&store, &backup);
    let copied = open(&backup).await;
    let report = copied.open_report();
    assert!(report.is_copy && !report.clean_end && !report.is_whole, "{report:?}");
    assert!(copied.get(&uid("a")).await.expect("the disk works").record.is_some());
    copied.close().await.expect("the disk works");
    assert!(!open(&backup).await.open_report().is_copy, "it is at home now");
    write(&cache, "b").await.expect("the original is where it was");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "a program that every system has");
}
