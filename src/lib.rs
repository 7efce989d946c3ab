//! A cache of contact records that many instances of an application share through Redis, and that keeps working, on its
//! local disk, while Redis is slow, cut off or gone.
//!
//! [`ContactCache`] is the way in. What it promises is in `docs/GUARANTEES.md`, how it works in `ARCHITECTURE.md`. The
//! code, from the inside out:
//!
//! - pure, no I/O, time is an argument: [`contact`] (what an application sees), `record` (cells and joins), `stamp` (the
//!   order of writes), `key` (names), `limits` (sizes), `health` (the breaker), [`config`],
//!   [`error`]
//! - `env`: the seam to the world, a crate of its own, [`seedbed_env`]
//! - `shared`: Redis; `local`: the disk
//! - [`shown`]: what may be shown to people, and in which form
//! - `answer`: what calls ask for and answer; `tiers`: what calls and background tasks share
//! - `recovery`: the task that connects, and merges what was written locally
//! - `cache`: which tier serves a call
//! - [`legacy`]: the records of the cache that came before

mod answer;
mod cache;
pub mod config;
pub mod contact;
pub mod error;
mod health;
mod key;
pub mod legacy;
mod limits;
mod local;
pub mod metrics;
mod recent;
mod record;
mod recovery;
mod reserved;
mod shared;
pub mod shown;
mod stamp;
mod telemetry;
mod tiers;

pub use crate::{
    answer::{
        Cleared, Freshness, Health, Imported, Isolated, Listing, OpenError, OtherRedis, Placement, Read, Source,
        Written,
    },
    cache::ContactCache,
    config::{Config, ConfigError, Durability, OnLoss, OnOtherRedis},
    contact::{CachedContact, ContactPoint, Patch, Timestamp},
    error::Error,
    health::State,
    key::{NameError, PREFIX_BYTES_MAX, Prefix, UID_BYTES_MAX, Uid},
    limits::TooLarge,
    local::{Damage, Exposed, Inspection, OpenReport, PendingCell, PendingRecord, inspect, inspect_with_lock},
    stamp::Stamp,
};
#[doc(no_inline)]
pub use seedbed_env as env;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct Readme;
