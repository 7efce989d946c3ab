//! Dropping a call's future, at any of its await points, harms no other call: for each verb, in each state of the
//! connection, the call is polled exactly n times and dropped, for n from zero until it completes.
mod stage;

use std::{collections::BTreeSet, future::Future, pin::pin, task::Poll, time::Duration};

use contact_cache::{Config, Freshness, Patch, State};
use seedbed_contact::redis_host::REDIS;
use serde_json::json;
use stage::{Cache, Stage, config, field, play, profile, uid};

const VERBS: [Verb; 8] =
    [Verb::Get, Verb::GetMany, Verb::Upsert, Verb::UpsertShared, Verb::Remove, Verb::List, Verb::Clear, Verb::Sync];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    GetMany,
    Upsert,
    UpsertShared,
    Remove,
    List,
    Clear,
    Sync,
}

impl Verb {
    /// Calls it; the answer is of no interest, only that it comes.
    async fn call(self, cache: &Cache, number: u64) {
        let both = pair(number);
        match self {
            Self::Get => drop(cache.get(&uid("pair")).await),
            Self::GetMany => {
                let uids: BTreeSet<_> = ["pair", "steady", "absent"].map(uid).into();
                drop(cache.get_many(&uids, Freshness::Any).await);
            }
            Self::Upsert => drop(cache.upsert(&uid("pair"), &both).await),
            Self::UpsertShared => drop(cache.upsert_shared(&uid("pair"), &both).await),
            Self::Remove => drop(cache.remove(&uid("pair")).await),
            Self::List => drop(cache.list().await),
            Self::Clear => drop(Box::pin(cache.clear()).await),
            Self::Sync => drop(cache.sync().await),
        }
    }
}

/// A patch whose halves belong together.
fn pair(number: u64) -> Patch {
    let mut patch = Patch::default();
    patch.profile.insert("left".to_owned(), json!(number));
    patch.metadata.insert("right".to_owned(), json!(number));
    patch
}

/// Polls `call` at most `polls` times; whether it completed.
async fn polled(call: impl Future<Output = ()>, polls: u32) -> bool {
    let mut call = pin!(call);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        call.as_mut().poll(context).map(|()| true)
    })
    .await
}

/// A record with both halves of one write, or none.
async fn check_pair(cache: &Cache) {
    let read = cache.get(&uid("pair")).await.expect("the disk works");
    if let Some(record) = read.record {
        let (left, right) = (record.profile.get("left"), record.metadata.get("right"));
        assert_eq!(left, right, "half of a write");
    }
}

/// Cancels every verb at every poll, in a state that `prepare` brings about; other calls go on beside and after.
async fn cancel_everywhere(stage: &Stage, cache: &Cache, prepare: impl AsyncFn(&Stage, &Cache)) -> u64 {
    let mut number = 0;
    for verb in VERBS {
        for polls in 0.. {
            assert!(polls < 1000, "{verb:?} never completes");
            prepare(stage, cache).await;
            number += 1;
            let steady = field("v", &number.to_string());
            // Side by side, in one task: the cancelled call is polled first.
            let (completed, written) = tokio::join!(
                biased;
                polled(verb.call(cache, number), polls),
                async { cache.upsert(&uid(&format!("steady {number}")), &steady).await }
            );
            written.unwrap_or_else(|error| panic!("{verb:?} after {polls} polls: {error}"));
            let read = profile(cache, &format!("steady {number}")).await;
            let removed = verb == Verb::Clear && read.1.is_none();
            assert!(removed || read.1 == Some(json!({"v": number.to_string()})), "{verb:?}, {polls} polls: {read:?}");
            check_pair(cache).await;
            if completed {
                break;
            }
        }
    }
    number
}

async fn finish(stage: &Stage, cache: &Cache) {
    stage.cut(1, false);
    stage.at_rest(cache).await;
    let other = stage.open(2).await;
    stage.at_rest(&other).await;
    let (here, there) = (cache.list().await.expect("redis"), other.list().await.expect("redis"));
    assert_eq!(here.uids, there.uids);
    for uid in &here.uids {
        let (here, there) = (cache.get(uid).await.expect("redis"), other.get(uid).await.expect("redis"));
        assert_eq!(here, there);
    }
    check_pair(&other).await;
    // A second one, for records that the first ended on, is closed once nobody needs it.
    stage.until("one connection an instance", || stage.world.net().open_connections(1) == 1).await;
}

#[test]
fn calls_on_a_healthy_connection() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        let cancelled = cancel_everywhere(&stage, &cache, async |_, _| {}).await;
        assert!(cancelled > 20, "{cancelled}");
        assert_eq!(cache.health().connections, 1, "a dropped call costs no connection");
        finish(&stage, &cache).await;
    });
}

#[test]
fn calls_while_redis_is_silent() {
    play(async |stage| {
        let cache = stage.open(1).await;
        cancel_everywhere(&stage, &cache, async |stage, cache| {
            stage.cut(1, false);
            stage.until("connected", || matches!(cache.health().state, State::Connected | State::Recovering)).await;
            // Requests arrive, replies do not: the calls wait, then fall back.
            stage.cut_from_redis(1, true);
        })
        .await;
        finish(&stage, &cache).await;
    });
}

#[test]
fn calls_while_redis_is_known_to_be_away() {
    play(async |stage| {
        let cache = stage.open(1).await;
        cancel_everywhere(&stage, &cache, async |stage, cache| {
            stage.cut(1, true);
            stage.away(cache).await;
        })
        .await;
        finish(&stage, &cache).await;
    });
}

#[test]
fn calls_while_what_is_pending_is_merged() {
    play(async |stage| {
        let slow =
            Config { backoff_first: Duration::from_millis(10), backoff_max: Duration::from_millis(10), ..config() };
        let cache = stage.open_with(1, slow).await;
        cancel_everywhere(&stage, &cache, async |stage, cache| {
            stage.cut(1, true);
            stage.world.net().reset_between(1, REDIS);
            stage.away(cache).await;
            for number in 0..100 {
                cache.upsert(&uid(&format!("pending {number}")), &field("v", "1")).await.expect("the disk works");
            }
            // Slow enough to be met in the middle.
            stage.world.net().set_extra_us(1, REDIS, 2_000);
            stage.cut(1, false);
            stage.until("recovering", || cache.health().state == State::Recovering).await;
        })
        .await;
        finish(&stage, &cache).await;
    });
}
