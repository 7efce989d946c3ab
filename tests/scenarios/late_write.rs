//! A write times out; the bytes are on their way all the same, and arrive when the network lets them, a minute later.
//! lettuce says of its timeouts that "the command will still be processed" (issue 1426), and replays of such commands
//! have put minutes-old values over newer ones (lettuce 1310; jedis 3187, redis-rb 668: retries of what had been
//! executed).
//!
//! Here the author is told `Local` or, if it demanded Redis, that the write may take effect yet. When it does, it
//! carries the stamp of its own time: newer values stay, whoever wrote them.

use std::time::Duration;

use contact_cache::{Error, Placement, Source, error::Effect};
use seedbed_contact::history::Stop;
use serde_json::json;

use crate::{
    fleet::{Fleet, play_seeds},
    stage::{Stage, field, profile, uid},
};

const AUTHOR: u32 = 1;
const OTHER: u32 = 2;

/// How long the author is cut off before, and after, the newer values are written: TCP sends what was lost again 51 s
/// after the first loss.
const CUT: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(40)];

#[test]
fn a_write_executed_a_minute_late_does_not_undo_what_came_after_it() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let mut fleet = Fleet::start(&stage, 2).await;
    fleet.write(AUTHOR, "ada").await;
    // The script is known: each of these is one request, and they are on their way when the author gives up.
    stage.cut_to_redis(AUTHOR, true);
    let (old, asked) = (field("title", "old"), field("only", "asked"));
    let (dora, emil, fred) = (uid("dora"), uid("emil"), uid("fred"));
    let author = fleet.cache(AUTHOR);
    let (to_dora, to_emil, demanded) = tokio::join!(
        biased;
        fleet.in_time(author.upsert(&dora, &old)),
        fleet.in_time(author.upsert(&emil, &old)),
        fleet.in_time(author.upsert_shared(&fred, &asked)),
    );
    for written in [to_dora, to_emil] {
        assert_eq!(written.expect("the disk works").placement, Placement::Local);
    }
    let error = demanded.expect_err("no reply came");
    assert!(matches!(error, Error::NotShared { sent: true, .. }) && error.effect() == Effect::Unknown, "{error}");

    // Somebody else writes to one record, the author itself to the other.
    stage.sleep(CUT[0]).await;
    let newer = fleet.cache(OTHER).upsert(&dora, &field("title", "newer")).await.expect("redis");
    assert_eq!(newer.placement, Placement::Shared);
    let mine = fleet.cache(AUTHOR).upsert(&emil, &field("title", "mine")).await.expect("the disk works");
    assert_eq!(mine.placement, Placement::Local);
    // The author dies before it can merge anything: what comes now is the late writes alone.
    fleet.crash(AUTHOR, Stop::Killed);
    stage.sleep(CUT[1]).await;
    assert!(stage.stored("fred").is_empty() && stage.stored("emil").is_empty(), "nothing has arrived");
    stage.cut_to_redis(AUTHOR, false);
    stage.until("executed, nearly a minute late", || !stage.stored("fred").is_empty()).await;
    assert_eq!(profile(fleet.cache(OTHER), "dora").await, (Source::Shared, Some(json!({"title": "newer"}))));
    assert_eq!(profile(fleet.cache(OTHER), "emil").await, (Source::Shared, Some(json!({"title": "old"}))));

    fleet.open(AUTHOR).await;
    fleet.recovers().await;
    for (name, title) in [("dora", "newer"), ("emil", "mine")] {
        assert_eq!(stage.stored_profile(name)["title"], title);
        for cache in fleet.caches() {
            assert_eq!(profile(cache, name).await, (Source::Shared, Some(json!({"title": title}))));
        }
    }
}
