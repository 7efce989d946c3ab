//! The power goes while the log is being written. Of what was not synced the disk keeps any of the pages, some of them
//! half. A log that cannot be opened behind such an end loses everything (samyama, issue 1335); one that appends behind
//! the torn entry loses what comes next, synced or not (cqlite, 1390), and only at the opening after that.
//!
//! Here the power goes again and again, at any moment, with writes under way. What was acknowledged is there each time,
//! no damage is served, and none is reported: a torn end is no rot.

use std::time::Duration;

use futures_util::future::{join_all, select};
use rand::RngExt;
use seedbed::history::Stop;

use crate::{
    fleet::{Fleet, play_seeds},
    stage::Stage,
};

const RECORDS: usize = 8;

/// Of a length of its own.
fn name(number: usize) -> String {
    format!("{number}{}", "-long".repeat(20 * number))
}

#[test]
fn what_was_acknowledged_survives_every_loss_of_power() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let mut fleet = Fleet::start(&stage, 2).await;
    let mut chance = stage.seed.stream("power");
    stage.cut(1, true);
    stage.away(fleet.cache(1)).await;
    for _ in 0..10 {
        {
            // Group commits of several entries, entries of unequal length.
            let writers = (0..RECORDS).map(|number| {
                let fleet = &fleet;
                async move {
                    loop {
                        fleet.write(1, &name(number)).await;
                    }
                }
            });
            let power = stage.sleep(Duration::from_micros(chance.random_range(1..20_000)));
            select(std::pin::pin!(join_all(writers)), std::pin::pin!(power)).await;
        }
        fleet.crash(1, Stop::PowerLost);
        fleet.open(1).await;
        let report = fleet.cache(1).open_report();
        assert!(!report.damage.is_loss() && report.set_aside.is_none(), "{report:?}");
        for number in 0..RECORDS {
            fleet.read(1, &name(number)).await;
        }
    }
    stage.cut(1, false);
    fleet.recovers().await;
}
