//! A sync fails. Linux reports the error once, and may already have dropped the pages that it could not write: the next
//! sync succeeds, and what it says is not true. PostgreSQL learned of it in 2018 ("fsyncgate"), after twenty years of
//! trying again.
//!
//! Here the instance believes nothing of its disk after a failed sync until it has opened the log again: local writes are
//! errors that say so, and no answer comes from the copies. After a restart what was acknowledged is there.

use std::{io, time::Duration};

use contact_cache::{Error, Placement, State, error::StoreError};
use seedbed_contact::{history::Stop, world::disk::Verb};

use crate::{
    fleet::{Fleet, Met, play_seeds},
    stage::Stage,
};

#[test]
fn a_disk_that_failed_to_sync_is_not_believed_until_it_is_opened_again() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let mut fleet = Fleet::start(&stage, 2).await;
    stage.cut(1, true);
    stage.away(fleet.cache(1)).await;
    assert!(fleet.work(1, Duration::from_secs(1)).await.all_local());

    stage.world.disk(1).inject(Verb::Sync, io::ErrorKind::Other, 1);
    let error = fleet.try_write(1, "ada").await.expect_err("the sync failed");
    assert!(matches!(&error, Error::Store(_)), "{error}");
    for _ in 0..20 {
        // The disk works again, and it makes no difference.
        let error = fleet.try_write(1, "ada").await.expect_err("the store has stopped");
        assert!(matches!(&error, Error::Store(StoreError::Poisoned { .. })), "{error}");
        stage.sleep(Duration::from_millis(100)).await;
    }
    assert!(fleet.cache(1).health().store_error.is_some());

    // Redis does not depend on that disk; but stamps are only used below a ceiling that is on it (R4), so that some
    // seconds later the instance says that it has to be restarted. It never answers from its copies.
    stage.cut(1, false);
    let (mut shared, mut back_after) = (0, None);
    for look in 0..200 {
        if fleet.cache(1).health().state == State::Connected {
            back_after.get_or_insert(look);
        }
        match fleet.try_write(1, "dora").await {
            Ok(placement) => {
                assert_eq!(placement, Placement::Shared);
                shared += 1;
            }
            Err(error) => assert!(matches!(&error, Error::Store(StoreError::Poisoned { .. })), "{error}"),
        }
        stage.sleep(Duration::from_millis(100)).await;
    }
    assert!(
        shared > 0 || back_after.is_none_or(|look| look > 50),
        "redis took none, and was back after {back_after:?}"
    );

    fleet.crash(1, Stop::PowerLost);
    fleet.open(1).await;
    assert!(!fleet.cache(1).open_report().damage.is_loss(), "{:?}", fleet.cache(1).open_report());
    fleet.recovers().await;
    assert!(fleet.all_work(Duration::from_secs(1)).await.values().all(Met::all_shared));
}
