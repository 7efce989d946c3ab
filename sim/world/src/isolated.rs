//! The thread and the runtime that a run has to itself.

use std::{
    any::Any,
    panic,
    thread::{self, Builder},
};

use madsim::{Config, runtime::Runtime};

use crate::{World, seed::Seed};

/// Does `work` with a madsim runtime of its own, on a thread of its own: std draws the keys of hash maps for each thread. The
/// error is the panic of `work`; [`panic_text`] has its text.
///
/// # Panics
/// If the system has no room for a thread.
pub fn isolated<T: Send + 'static>(
    name: String,
    scheduler_seed: u64,
    work: impl FnOnce(&Runtime) -> T + Send + 'static,
) -> thread::Result<T> {
    let run = Builder::new()
        .name(name)
        .spawn(move || work(&Runtime::with_seed_and_config(scheduler_seed, Config::default())));
    run.expect("the system has room for a thread").join()
}

/// The text of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

/// Runs `scenario` in a world of its own, [isolated] from other runs, and returns its output. The same seed and scenario are
/// the same run.
///
/// # Panics
/// If the scenario does, with its panic.
pub fn simulate<T: Send + 'static>(seed: u64, scenario: impl AsyncFnOnce(World) -> T + Send + 'static) -> T {
    let run = move |runtime: &Runtime| {
        runtime.block_on(async move {
            let world = World::new(Seed(seed));
            let output = scenario(world.clone()).await;
            world.end().await;
            output
        })
    };
    isolated(format!("seed {seed}"), seed, run).unwrap_or_else(|panic| panic::resume_unwind(panic))
}
