//! A link that comes and goes several times a second: a bad transceiver, a route that two switches disagree on. Each time
//! a client that reconnects at once finishes its handshake and loses it again, and one that counts failures for ever
//! stops trying: OpenWA (issue 885) gave up for good after a few attempts. Commands that waited in a queue make it worse:
//! lettuce's counter of them was not taken back (issues 764, 1843) and refused everything afterwards.
//!
//! Here every write is acknowledged, by Redis or the disk; the attempts stay within what the delays allow; and when the
//! link holds, the instance is back.

use std::time::Duration;

use futures_util::future::join;
use rand::RngExt;

use crate::{
    fleet::{Fleet, Met, play_seeds},
    stage::Stage,
};

const FLAPS: u32 = 100;

#[test]
fn no_write_is_lost_on_a_link_that_comes_and_goes() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, 2).await;
    let mut chance = stage.seed.stream("flaps");
    let flapping = async {
        let begun_us = stage.world.now_us();
        for flap in 0..2 * FLAPS {
            stage.cut(1, flap % 2 == 0);
            stage.sleep(Duration::from_millis(chance.random_range(50..700))).await;
        }
        Duration::from_micros(stage.world.now_us() - begun_us)
    };
    let (lasted, met) = join(flapping, fleet.all_work(Duration::from_mins(1))).await;
    assert!(met[&2].all_shared(), "the other instance has a link of its own: {met:?}");
    assert!(met[&1].writes.len() == 2 && met[&1].reads.len() >= 2, "some arrived, some did not: {met:?}");

    // A first delay, of half a second on average, lies before each attempt; one into a cut lasts a second.
    let attempts = fleet.cache(1).health().attempts;
    assert!(2 * attempts <= lasted.as_secs() + 8, "{attempts} attempts in {lasted:?}");

    fleet.recovers().await;
    assert!(fleet.all_work(Duration::from_secs(2)).await.values().all(Met::all_shared));
}
