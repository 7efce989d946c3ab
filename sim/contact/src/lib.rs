//! The test bed: from one integer it grows a whole run of the contact cache, judges it, and replays it exactly.
//!
//! ```text
//! seed -> scenario { workload, faults } -> runner { world, subject, redis, nemesis } -> history -> checker -> verdict
//! ```
//!
//! - plain data: [`seed`], [`scenario`], [`faults`], [`history`]
//! - what is asked: [`workload`]; what goes wrong: [`nemesis`], which plays a fault plan
//! - the simulated world: [`world`], a crate of its own (network, disks, clocks, processes on `madsim`), [`redis_host`] (the
//!   engine of `seedbed-redis` as one of those processes)
//! - what is under test, behind a trait: [`subject`]
//! - one run: [`runner`] in the simulated world, [`live`] on a real server, the [`instances`] being the same; its pen,
//!   [`recorder`], `holdings`, what is noted of each instance, and `contents`, what is stored in the end; many: [`explore`], in processes of their own, [`worker`]; the proof that a seed is a run:
//!   [`determinism`]; the smallest scenario that still fails: [`shrink`]
//! - what a healthy exploration reaches sometimes: [`marks`]
//! - what all this costs: [`mod@bench`]
//! - what a run comes to: [`outcomes`]
//! - the judges, who see only histories: [`checker`]; what a person is told: [`report`]
//! - who judges the judges: [`mutants`], which plants bugs in the client that they have to catch

pub mod bench;
pub mod checker;
mod contents;
pub mod determinism;
pub mod explore;
pub mod faults;
pub mod history;
mod holdings;
pub mod instances;
pub mod live;
pub mod marks;
pub mod mutants;
pub mod nemesis;
pub mod outcomes;
pub mod recorder;
pub mod report;
pub mod runner;
pub mod scenario;
pub mod selection;
pub mod shrink;
pub mod subject;
pub mod worker;
pub mod workload;

pub use seedbed::redis_host;
pub use seedbed_world as world;
pub use seedbed_world::seed;
