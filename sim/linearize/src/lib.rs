//! Is a history linearizable: is there an order of its operations that keeps what is certain and explains every answer?
//!
//! - [`foreign`]: histories of any system as JSON Lines, of registers and stores of texts; read strictly, judged key by
//!   key, and a violation is made small
//! - [`zones`]: the test for a register whose writes can be told apart, without a search
//! - [`placed`] and [`span`]: how far an order has come, for searches of one's own
//! - [`lines`]: JSON Lines, read within bounds, and errors that name line and cure
//!
//! Everything here is a function of its arguments: no clock, no chance of the machine, no order that depends on a hash.

pub mod foreign;
pub mod lines;
pub mod placed;
pub mod span;
pub mod zones;

#[cfg(test)]
mod draw;

pub use self::span::{Act, Span};
