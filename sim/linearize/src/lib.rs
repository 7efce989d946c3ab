//! Is a history linearizable: is there an order of its operations that keeps what is certain and explains every answer?
//!
//! For objects of one's own, in Rust:
//!
//! - [`Model`]: what an object may answer, with several objects in one history and with things that lapse in time;
//!   [`Register`], [`CasRegister`] and [`Keyed`] are ready
//! - [`Call`]: an operation of a history; [`linearizable`] checks them; [`Verdict`]: what was found
//!
//! For histories in files:
//!
//! - [`foreign`]: histories of any system as JSON Lines, of registers and stores of texts; read strictly, judged key by
//!   key, and a violation is made small
//! - [`lines`]: JSON Lines, read within bounds, and errors that name line and cure
//!
//! For searches of one's own:
//!
//! - [`zones`]: the test for a register whose writes can be told apart, without a search, over [`span`]s
//! - [`placed`]: how far an order has come
//!
//! Everything here is a function of its arguments: no clock, no chance of the machine, no order that depends on a hash. A
//! verdict is one of three: what cannot be decided within the [`Limits`] is unknown, and never passes.

mod check;
mod evidence;
pub mod foreign;
mod keyed;
pub mod lines;
mod memo;
mod model;
mod object;
pub mod placed;
mod registers;
mod search;
mod shrink;
pub mod span;
mod when;
pub mod zones;

#[cfg(test)]
mod draw;

pub use self::{
    check::{Verdict, Violation, linearizable},
    keyed::Keyed,
    model::{Call, Model},
    registers::{CasRegister, CasRegisterOp, CasRegisterRet, Register, RegisterOp, RegisterRet},
    search::Limits,
    span::{Act, Span},
    when::When,
};
