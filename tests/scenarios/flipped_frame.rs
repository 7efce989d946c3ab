//! A bit flips in transit in the framing of a request or a reply, and no checksum notices. The two ends then disagree about where a
//! message ends.

use std::time::Duration;

use contact_cache::{Placement, Source};
use futures_util::future::join_all;
use seedbed_contact::world::Host;
use serde_json::json;

use crate::stage::{Cache, Stage, field, play_seed, profile, uid};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

async fn begun(stage: &Stage) -> Cache {
    let cache = stage.open(1).await;
    stage.at_rest(&cache).await;
    // The last one first: the reply to an earlier request is then newer than the record held, and would win over it.
    for name in NAMES.iter().rev() {
        let written = cache.upsert(&uid(name), &field("v", name)).await.expect("redis is there");
        assert_eq!(written.placement, Placement::Shared);
    }
    cache
}

/// Reads, some of them at the same time, while one frame after the other is damaged: each shows its own record.
async fn reads_while_damaged(stage: Stage, of_requests: bool, draw: u64) {
    let cache = begun(&stage).await;
    stage.redis.garble([Host::from(1)].into_iter(), of_requests, 3, draw);
    for round in 0..40_u64 {
        let reads = NAMES.iter().enumerate().map(|(nth, name)| {
            let (stage, cache) = (&stage, &cache);
            async move {
                stage.sleep(Duration::from_micros(100 * nth as u64 * (round % 4))).await;
                let (source, record) = profile(cache, name).await;
                assert_eq!(record, Some(json!({"v": name})), "{name} as {source:?}, draw {draw}");
            }
        });
        join_all(reads).await;
    }
    stage.at_rest(&cache).await;
    for name in NAMES {
        assert_eq!(profile(&cache, name).await, (Source::Shared, Some(json!({"v": name}))));
    }
}

#[test]
fn no_reply_is_given_to_another_request_after_the_frame_of_a_request_was_damaged() {
    for draw in 0..150 {
        play_seed(draw, async move |stage| reads_while_damaged(stage, true, draw).await);
    }
}

#[test]
fn no_reply_is_given_to_another_request_after_its_frame_was_damaged() {
    for draw in 0..150 {
        play_seed(draw, async move |stage| reads_while_damaged(stage, false, draw).await);
    }
}
