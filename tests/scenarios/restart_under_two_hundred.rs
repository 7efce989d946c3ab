//! Redis restarts under two hundred instances. They lose it in one moment, and whatever they do next they do together:
//! the redis crate's `ConnectionManager` seeds its jitter with a constant in a default build, so that every client waits
//! the same time; ioredis (issue 1854) and node-redis (2736) shipped without jitter. A server that has just loaded its
//! data meets all of them at once, drops what its backlog cannot hold, and the rest comes back together again.
//!
//! Here delays are drawn over their whole range, from each instance's own randomness. Of N instances at most N/4
//! connect within any 100 ms, through the whole return, after a restart too short to notice as after a long one.

use std::{collections::VecDeque, time::Duration};

use futures_util::future::join;
use seedbed_contact::{
    checker::{Guarantee, Verdict, check},
    faults::Persistence,
    history::{Event, FORMAT, Header, History, Phase, Stop, Tuning, What},
};

use crate::{
    fleet::{Fleet, play_some},
    stage::Stage,
};

const INSTANCES: u32 = 200;

/// G9: connects of N instances within 100 ms.
const CONNECTS_MAX: u64 = if INSTANCES / 4 > 10 { INSTANCES as u64 / 4 } else { 10 };

/// How often the network's counter is read; ten looks are 100 ms, wherever those begin.
const LOOK: Duration = Duration::from_millis(10);

#[test]
fn two_hundred_instances_return_spread_out() {
    play_some(0..2, story);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, INSTANCES).await;
    let started_us = stage.world.now_us();
    for (down, least_spread) in [(50, 700), (20_000, 2_000)] {
        stage.redis.crash(&stage.world, Stop::Killed, Persistence::Kept);
        // Some notice by a write, the others by the end of their connection.
        for instance in (1..=INSTANCES).step_by(10) {
            fleet.write(instance, "ada").await;
        }
        let restart = async {
            stage.sleep(Duration::from_millis(down)).await;
            stage.redis.start(&stage.world);
        };
        let ((), crowd) = join(restart, watch(&stage, &fleet)).await;
        assert!(crowd.fullest <= CONNECTS_MAX, "down for {down} ms: {crowd:?}");
        assert!(crowd.spread >= Duration::from_millis(least_spread), "down for {down} ms: {crowd:?}");
        println!("down for {down} ms: {crowd:?}");
        fleet.recovers().await;
        for cache in fleet.caches() {
            assert_eq!(cache.health().pending_records, 0);
        }
    }
    let mut history = history(&stage, started_us);
    assert_eq!(check(Guarantee::Recovery, &history), Verdict::Pass);
    // The judge is no use if it would not see the same crowd return at one moment of each second.
    for event in &mut history.events {
        if let What::Attempts { times_us, .. } = &mut event.what {
            for at_us in times_us {
                *at_us -= *at_us % 1_000_000;
            }
        }
    }
    assert!(matches!(check(Guarantee::Recovery, &history), Verdict::Violation { .. }));
}

/// What the bed would have noted of them for the judge of G9.
fn history(stage: &Stage, started_us: u64) -> History {
    let instances = || 1..=INSTANCES;
    let started = instances().map(|instance| (started_us, What::Started { instance: instance - 1 }));
    let quiesced = [(stage.world.now_us(), What::Phase { phase: Phase::Quiesce })];
    let attempts = instances().map(|instance| {
        let times_us = stage.world.net().attempts(instance);
        (stage.world.now_us(), What::Attempts { instance: instance - 1, times_us })
    });
    let events = started.chain(quiesced).chain(attempts).zip(0..);
    let header = Header {
        format: FORMAT,
        workload: "restart under two hundred".to_owned(),
        seed: stage.seed.0,
        prefixes: instances().map(|_| "p".to_owned()).collect(),
        op_deadline_us: 1_000_000,
        beyond_budget: false,
        tuning: Tuning::default(),
        clock_offsets_ms: Vec::new(),
        clock_error_ms: 0,
        round_trip_us: None,
        starts_at_ms: None,
    };
    History { header, events: events.map(|((at_us, what), ordinal)| Event { ordinal, at_us, what }).collect() }
}

/// How a crowd came back.
#[derive(Debug)]
struct Crowd {
    /// Connects within the fullest 100 ms.
    fullest: u64,
    /// From the first connect to the last.
    spread: Duration,
}

/// Counts connects until everybody is back.
async fn watch(stage: &Stage, fleet: &Fleet) -> Crowd {
    let connects = || stage.world.net().counters().connects;
    let before = connects();
    let mut last_looks: VecDeque<u64> = [before; 10].into();
    let (mut fullest, mut looks, mut first, mut last) = (0, 0, None, 0);
    while connects() < before + u64::from(INSTANCES) {
        stage.sleep(LOOK).await;
        looks += 1;
        assert!(looks < 10_000, "{} of {INSTANCES} are back", connects() - before);
        let now = connects();
        if last_looks.back().is_some_and(|earlier| now > *earlier) {
            first.get_or_insert(looks);
            last = looks;
        }
        fullest = fullest.max(now - last_looks.pop_front().expect("ten looks"));
        last_looks.push_back(now);
    }
    // The last ones have still to greet.
    stage.until("each has another connection", || fleet.caches().all(|cache| cache.health().connections > 1)).await;
    Crowd { fullest, spread: LOOK * (last - first.unwrap_or_default()) }
}
