//! The local store's directory belongs to one cache at a time, and what is wrong with it is said at opening, by name.
//! No Redis is needed: these caches stay local.

use std::{fs, path::Path, process::Command};

use contact_cache::{
    Config, ContactCache, OpenError, Patch, Placement, Uid,
    env::{Env, TokioEnv},
    error::StoreError,
};

#[tokio::test]
async fn a_second_opening_of_a_directory_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let first = open(directory.path(), "p").await.expect("an empty directory");
    let error = open(directory.path(), "p").await.err().expect("it is in use");
    assert!(matches!(&error, OpenError::Store(StoreError::Locked { dir }) if dir == directory.path()), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("{:?}", directory.path())) && text.contains("a directory of its own"), "{text}");

    first.close().await.expect("the disk works");
    open(directory.path(), "p").await.expect("it was given back");
}

/// A process between fork and exec holds a copy of every open file, and with it the lock on one that was just closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_directory_is_free_at_once_although_the_application_starts_other_programs() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let env = TokioEnv::new();
    env.clone().spawn(async move {
        loop {
            let status = env.blocking(|| Command::new("true").status()).await;
            status.expect("a program that every system has");
        }
    });
    for round in 0..200 {
        let cache = open(directory.path(), "p").await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        cache.close().await.expect("the disk works");
    }
}

#[tokio::test]
async fn a_store_of_another_prefix_is_an_error_that_names_both() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let cache = open(directory.path(), "crm").await.expect("an empty directory");
    let uid: Uid = "u1".parse().expect("a uid");
    let written = cache.upsert(&uid, &Patch::default()).await.expect("the disk works");
    assert_eq!(written.placement, Placement::Local);
    cache.close().await.expect("the disk works");

    let error = open(directory.path(), "billing").await.err().expect("it is another's");
    let OpenError::Store(StoreError::ForeignPrefix { dir, found, expected }) = &error else { panic!("{error:?}") };
    assert_eq!((dir.as_path(), found.as_str(), expected.as_str()), (directory.path(), "crm", "billing"));

    // And the first prefix still finds all of it.
    let cache = open(directory.path(), "crm").await.expect("nothing was changed");
    assert!(cache.get(&uid).await.expect("the disk works").record.is_some());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "looked at from outside")]
async fn a_file_in_the_place_of_the_directory_is_an_error_and_stays() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let path = directory.path().join("store");
    fs::write(&path, "precious").expect("room for a file");
    for dir in [path.clone(), path.join("below")] {
        let error = open(&dir, "p").await.err().expect("there is a file");
        let OpenError::Store(StoreError::Io { verb, path: named, .. }) = &error else { panic!("{error:?}") };
        assert_eq!((*verb, named), ("create the directory", &dir));
    }
    assert_eq!(fs::read(&path).expect("it is still there"), b"precious");
}

/// A cache whose Redis refuses connections: nothing listens on port 1.
async fn open(directory: &Path, prefix: &str) -> Result<ContactCache, OpenError> {
    let redis = "redis://127.0.0.1:1".parse().expect("a url");
    ContactCache::open(TokioEnv::new(), Config::new(redis, prefix.parse().expect("a prefix"), directory)).await
}
