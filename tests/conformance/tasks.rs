//! Tasks, blocking work, timers and randomness.

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

use contact_cache::env::{Disk, DiskFile, Env, Task};

use crate::place::Place;

pub(crate) async fn blocking_work_runs_to_its_end_though_nobody_waits(place: &impl Place) {
    let (env, path) = (place.env().clone(), place.dir().join("file"));
    let disk = env.disk().clone();
    let (done, is_done) = tokio::sync::oneshot::channel();
    let mut work = Box::pin(env.blocking(move || {
        let file = disk.open(&path).expect("the directory is there");
        (0..20).for_each(|number| file.write_at(number, b"x").and_then(|()| file.sync()).expect("the disk works"));
        done.send(file.len().expect("it is open")).expect("the test waits");
    }));
    assert!(!poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await, "syncs take time");
    drop(work);
    assert_eq!(is_done.await.expect("the work ends"), 20);
}

pub(crate) async fn blocking_work_gives_its_result(place: &impl Place) {
    assert_eq!(place.env().blocking(|| 6 * 7).await, 42);
}

pub(crate) async fn a_sleep_lasts_at_least_as_long_as_asked(place: &impl Place) {
    let env = place.env();
    for duration in [Duration::ZERO, Duration::from_nanos(1_500), Duration::from_millis(3)] {
        let before = env.now();
        env.sleep(duration).await;
        assert!(env.now() >= before + duration);
    }
    let wall_ms = env.wall_ms();
    assert!(wall_ms > 1_700_000_000_000, "{wall_ms} is long ago");
}

pub(crate) async fn an_aborted_task_does_no_more(place: &impl Place) {
    let env = place.env().clone();
    let (hold, dropped) = tokio::sync::oneshot::channel::<()>();
    let task = env.spawn(async move {
        let _hold = hold;
        std::future::pending::<()>().await;
    });
    env.sleep(Duration::from_millis(1)).await;
    task.abort();
    assert!(dropped.await.is_err(), "what the task held is dropped");
    task.abort();
}

pub(crate) async fn a_task_goes_on_without_its_handle(place: &impl Place) {
    let env = place.env().clone();
    let (done, is_done) = tokio::sync::oneshot::channel();
    drop(place.env().spawn(async move {
        env.sleep(Duration::from_millis(1)).await;
        done.send(()).expect("the test waits");
    }));
    is_done.await.expect("the task ends");
}

pub(crate) async fn random_bits_differ_from_draw_to_draw(place: &impl Place) {
    let drawn: std::collections::BTreeSet<u64> = (0..100).map(|_| place.env().random()).collect();
    assert_eq!(drawn.len(), 100);
}
