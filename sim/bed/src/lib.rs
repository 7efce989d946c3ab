//! A deterministic simulation test bed: from one integer it grows a whole run of a distributed system, with faults, checks it,
//! and replays it exactly.
//!
//! ```text
//! seed -> scenario { plan, faults } -> run { world, servers, instances, nemesis } -> history -> checkers -> verdict
//! ```
//!
//! What you bring is a [`Workload`]: how an instance of your system opens on an [`Env`](env::Env), and which calls are made.
//! A [`Bed`] puts servers, faults and checkers around it.
//!
//! - [`system`]: what is under test and what it is asked; [`history`]: what happened
//! - [`mod@bed`]: the parts together; [`checkers`]: those that are given; [`faults`]: the kinds, one file a family
//! - [`mod@run`]: one run; [`explore`]: many; [`shrink`]: the smallest scenario that still fails; [`scenario`]: a run as a file
//! - [`testing`]: behind `#[seedbed::test]`; [`cli`]: behind [`main!`]
//! - [`redis_host`]: a simulated Redis, for those who ask for one
//!
//! The layers below can be used alone: [`world`] (network, disks, clocks, processes), [`mod@env`] (the seam between a program and the
//! world), [`linearize`] (histories and models), and [`redis_engine`].
//!
//! Without a workload, a test is a world and what is done in it:
//!
//! ```
//! use std::time::Duration;
//!
//! use seedbed::{connect, env::{Env, Network, timeout}, simulate};
//!
//! let answered = simulate(7, async |world| {
//!     let (db, app) = (world.server("db"), world.server("app"));
//!     let _listens = world.boot(db).network().listen(80).expect("the port is free");
//!     world.net().cut(app, db, true);
//!     let app = world.boot(app);
//!     timeout(&app, Duration::from_secs(1), connect(&app, "db", 80)).await.is_some()
//! });
//! assert!(!answered, "what is sent into a partition is lost");
//! ```
//!
//! A Redis in it is `redis_host::RedisHost::default().start(&world)`.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeIsTested;

pub mod bed;
pub mod checkers;
pub mod cli;
mod coverage;
pub mod explore;
pub mod faults;
pub mod history;
mod milliseconds;
mod player;
pub mod redis_host;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod system;
pub mod testing;
pub mod worker;

use seedbed_env::Env as _;

pub use rand;
pub use seedbed_env as env;
pub use seedbed_linearize as linearize;
pub use seedbed_macros::test;
pub use seedbed_redis as redis_engine;
pub use seedbed_world as world;
pub use seedbed_world::{
    Host, SimEnv, World,
    seed::{Seed, Stream},
    simulate,
};

/// A connection to a port of a host, by its name: what a process does that has no better way to choose among addresses. It may take
/// for ever: bring a [`timeout`](env::timeout).
///
/// # Errors
/// As those of the network.
pub async fn connect(env: &SimEnv, host: &str, port: u16) -> std::io::Result<world::SimStream> {
    world::net::connect_in_turn(env.network(), &env::Endpoint::tcp(host, port)).await
}

pub use self::{
    bed::Bed,
    checkers::{Checker, Judged, Verdict, always, deadline, eventually_after_heal, linearizable},
    faults::{Budget, Faults},
    history::History,
    system::{Instance, Outcome, Plan, Planned, System, Workload},
};
