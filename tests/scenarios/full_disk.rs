//! Redis is away, and the disk that takes its place fills up. Journals that append where a failed write left half an
//! entry hide everything behind it (cqlite, issue 1390), and a client that counts such a write as taken has acknowledged
//! what it never kept.
//!
//! Here a write without room is an error that says so, in time; reads go on; whatever was acknowledged before and between
//! is there after a power loss; and with room again the instance goes on without a restart.

use std::{io, time::Duration};

use contact_cache::{Error, Placement, Source, error::StoreError};
use seedbed_contact::{history::Stop, world::disk::Verb};

use crate::{
    fleet::{Fleet, Met, play_seeds},
    stage::Stage,
};

#[test]
fn what_does_not_fit_is_refused_and_what_was_taken_stays() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let mut fleet = Fleet::start(&stage, 2).await;
    stage.cut(1, true);
    stage.away(fleet.cache(1)).await;
    for _ in 0..3 {
        assert!(fleet.work(1, Duration::from_secs(1)).await.all_local());
        // Room comes and goes: others use the disk too.
        stage.world.disk(1).inject(Verb::Write, io::ErrorKind::StorageFull, u32::MAX);
        for _ in 0..10 {
            let error = fleet.try_write(1, "ada").await.expect_err("there is no room");
            assert!(matches!(&error, Error::Store(StoreError::DiskFull { .. })), "{error}");
            assert_eq!(fleet.read(1, "bert").await, Source::Local);
            stage.sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(fleet.cache(1).health().store_error, None, "a full disk is not the end");
        stage.world.disk(1).heal();
        assert_eq!(fleet.write(1, "cleo").await, Placement::Local);
    }
    fleet.crash(1, Stop::PowerLost);
    fleet.open(1).await;
    assert!(!fleet.cache(1).open_report().damage.is_loss(), "{:?}", fleet.cache(1).open_report());
    for record in ["ada", "bert", "cleo"] {
        assert_eq!(fleet.read(1, record).await, Source::Local);
    }

    stage.cut(1, false);
    fleet.recovers().await;
    assert!(fleet.all_work(Duration::from_secs(1)).await.values().all(Met::all_shared));
}
