//! A Redis server of our own, so that a run can hold one inside its seed.
//!
//! | where | what |
//! | --- | --- |
//! | [`engine`] | the server itself: bytes and time in, bytes out; no clock, no socket, no task |
//! | [`serve_world`] | one engine as a process of the simulated world |
//! | [`serve_tcp`] | the real edge: one engine on a loopback port with the real clock, for examples and tests |
//!
//! The measure is redis-server 7.0.15 in its default configuration: where the two answer differently, this one is
//! wrong. `tests/redis_parity.rs` sends both the same commands; [`engine`] lists what is known to differ.

pub mod engine;
mod garble;
pub mod serve_tcp;
pub mod serve_world;

pub use engine::{ClientId, Content, Dumped, Engine, Flow};
