//! What is under test, behind one trait: the bed knows no more of it than this.

mod contact_cache;

use std::{future::Future, pin::Pin};

pub use self::contact_cache::{ContactCacheSubject, Settings, record_of_key};
use crate::history::{Call, Outcome, StoreReport};

/// A future of a subject.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One opened instance of what is under test.
pub trait Subject: Send + Sync {
    /// Does what is asked. May be dropped at any await.
    fn call<'a>(&'a self, call: &'a Call) -> Pending<'a, Outcome>;

    /// Waits for the calls under way and closes.
    fn close(&self) -> Pending<'_, Result<(), String>>;

    /// How it is, without waiting.
    fn status(&self) -> Status;
}

/// How a subject is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its view of Redis.
    pub state: String,
    /// Records with something that Redis does not have yet.
    pub pending: u64,
    /// Why its store takes no writes until it is opened again, if it does not.
    pub store_error: Option<String>,
    /// What it says of its store.
    pub store: StoreReport,
}

impl Status {
    /// Connected, and nothing pending.
    pub fn is_at_rest(&self) -> bool {
        self.state == "connected" && self.pending == 0
    }
}
