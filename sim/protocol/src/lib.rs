//! A model of the rules of lifetimes (docs/PROTOCOL.md): one record of two cells in Redis, a few instances of the cache, and
//! time in a handful of steps.
//!
//! The rules are written down here a second time, apart from the client that ships, so that every interleaving can be
//! searched (`tests/search.rs`).
//!
//! - [`interval`]: a life
//! - [`redis`]: the record in Redis, and the script
//! - [`held`]: the record as an instance holds it
//! - [`world`]: both with a network between them; what can happen
//! - [`history`], [`judge`]: what was promised, and whether it is kept
//! - [`rules`]: bounds of a search, and faults to plant

pub mod held;
pub mod history;
pub mod interval;
pub mod judge;
pub mod redis;
pub mod rules;
pub mod world;
