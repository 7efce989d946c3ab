//! The power goes while the log is being written. Of what was not synced the disk keeps any of the pages, some of them
//! half. A log that cannot be opened behind such an end loses everything (samyama, issue 1335); one that appends behind
//! the torn entry loses what comes next, synced or not (cqlite, 1390), and only at the opening after that.
//!
//! Here the power goes again and again, at any operation of the disk, with writes under way. What was acknowledged is
//! there each time, nothing torn is served, and what is written afterwards is found at every later opening, behind no
//! damage. (Where of several entries that were never synced a later one survived and an earlier one did not, the opening
//! reports damage: the log cannot tell that from rot.)

use std::pin::pin;

use futures_util::future::{join_all, select};
use rand::RngExt;
use seedbed_contact::history::Stop;

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
        // At any operation of the disk: before a write, between it and its sync, in the middle of a rewrite.
        let power = stage.world.crash_after_disk_ops(1, chance.random_range(0..40));
        {
            // Group commits of several entries, each of a length of its own.
            let writers = (0..RECORDS).map(|number| {
                let fleet = &fleet;
                async move { while fleet.try_write(1, &name(number)).await.is_ok() {} }
            });
            select(pin!(join_all(writers)), pin!(power)).await;
        }
        fleet.crash(1, Stop::PowerLost);
        fleet.open(1).await;
        for number in 0..RECORDS {
            fleet.read(1, &name(number)).await;
        }
        // What is appended behind such an end is read at the next opening, and nothing stands between.
        fleet.write(1, &name(0)).await;
        fleet.close(1).await;
        fleet.open(1).await;
        let report = fleet.cache(1).open_report();
        assert!(!report.damage.is_loss() && report.set_aside.is_none() && report.clean_end, "{report:?}");
    }
    stage.cut(1, false);
    fleet.recovers().await;
}
