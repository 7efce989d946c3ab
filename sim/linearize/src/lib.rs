//! Is a history linearizable: is there an order of its operations that keeps what is certain and explains every answer?
//!
//! - [`foreign`]: histories of any system as JSON Lines, of registers and stores of texts; read strictly, judged key by
//!   key, and a violation is made small
//! - [`zones`]: the test for a register whose writes can be told apart, without a search
//! - [`placed`] and [`span`]: how far an order has come, for searches of one's own
//! - [`lines`]: JSON Lines, read within bounds, and errors that name line and cure
//!
//! Everything here is a function of its arguments: no clock, no chance of the machine, no order that depends on a hash.

mod evidence;
pub mod foreign;
pub mod lines;
mod memo;
mod object;
pub mod placed;
mod search;
mod shrink;
pub mod span;
mod when;
pub mod zones;

#[cfg(test)]
mod draw;

pub use self::{
    search::Limits,
    span::{Act, Span},
    when::When,
};
