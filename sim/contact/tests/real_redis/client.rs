//! What the tests of the client on a real server share.

use std::{path::Path, time::Duration};

use contact_cache::{
    Config, ContactCache, Patch, Source, State, Uid,
    env::{Env, TokioEnv},
};
use serde_json::{Value as Json, json};

/// How long a test waits for what has no deadline of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The rights that the client needs, and no others: those of `docs/OPERATIONS.md`.
pub(crate) const RIGHTS: &str = "on >right resetkeys ~cc1:p:* ~cc1g:p resetchannels -@all +get +set +time +hgetall +hmget +scan \
                      +evalsha +eval +hset +hdel +persist +pexpire +pexpireat +client +select +auth +hello";

/// Waits until everything is in Redis.
pub(crate) async fn at_rest(cache: &ContactCache) {
    let env = TokioEnv::new();
    while (cache.health().state, cache.health().pending_records) != (State::Connected, 0) {
        assert!(env.now() < PATIENCE, "not at rest: {:?}", cache.health());
        env.sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn open(redis: &str, directory: &Path) -> ContactCache {
    open_with(config(redis, directory)).await
}

pub(crate) async fn open_with(config: Config) -> ContactCache {
    ContactCache::open(TokioEnv::new(), config).await.expect("a directory of its own")
}

pub(crate) fn config(redis: &str, directory: &Path) -> Config {
    let mut config = Config::new(redis.parse().expect("a url"), "p".parse().expect("a prefix"), directory);
    // Real seconds: a test should not wait eight of them.
    config.backoff_first = Duration::from_secs(1);
    config.backoff_max = config.backoff_first;
    config
}

pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("room for a directory")
}

pub(crate) fn named(name: &str) -> Patch {
    Patch { profile: object(&json!({"name": name})), ..Patch::default() }
}

pub(crate) async fn name(cache: &ContactCache, record: &str) -> (Source, Json) {
    let read = cache.get(&uid(record)).await.expect("the disk works");
    (read.source, read.record.expect("it was written").profile["name"].clone())
}

pub(crate) fn uid(text: &str) -> Uid {
    text.parse().expect("a uid")
}

pub(crate) fn object(json: &Json) -> serde_json::Map<String, Json> {
    json.as_object().expect("an object").clone()
}
