//! Redis was away for long: when it is back, hundreds of writes wait for it, over a link that takes its time. Sent one after
//! the other they need a round trip each, and who writes meanwhile adds to them: the backlog of a chat extension, 670
//! entries of two thirds of a second, took fourteen attempts of half a minute (`OpenViking`, issue 4504).
//!
//! Here sixteen are on their way at the same time, so that what is pending bounds the time it takes (G9); and calls of the
//! application find room between them.

use std::time::Duration;

use contact_cache::{Placement, Source, State};
use futures_util::future::join_all;
use seedbed_contact::redis_host::REDIS;

use crate::{
    fleet::{Fleet, play_some},
    stage::Stage,
};

const RECORDS: u32 = 800;
const AT_ONCE: u32 = 16;
const ONE_WAY_US: u64 = 20_000;

#[test]
fn what_is_pending_bounds_the_time_to_merge_it() {
    play_some(0..10, story);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, 1).await;
    stage.cut(1, true);
    fleet.write(1, "ada").await;
    stage.away(fleet.cache(1)).await;
    let names: Vec<_> = (0..RECORDS).map(|number| format!("waits-{number}")).collect();
    let written = join_all(names.iter().map(|name| fleet.write(1, name))).await;
    assert!(written.iter().all(|placement| *placement == Placement::Local));

    stage.world.net().set_extra_us(1, REDIS, ONE_WAY_US);
    stage.world.net().set_extra_us(REDIS, 1, ONE_WAY_US);
    stage.cut(1, false);
    stage.until("connected", || fleet.cache(1).health().state == State::Recovering).await;
    let begun_us = stage.world.now_us();
    let half = || fleet.cache(1).health().pending_records < u64::from(RECORDS / 2);
    stage.until("half of it", half).await;
    assert_eq!(fleet.read(1, "ada").await, Source::Shared, "a call while the rest is merged");
    stage.at_rest(fleet.cache(1)).await;

    // A quarter more: a round trip takes more than the link, and the last pass finds nothing.
    let most = Duration::from_micros(2 * ONE_WAY_US) * (RECORDS / AT_ONCE) * 5 / 4;
    let took = Duration::from_micros(stage.world.now_us() - begun_us);
    assert!(took <= most, "{RECORDS} records took {took:?}, at most {most:?} were expected");
    fleet.recovers().await;
}
