//! Which records are on their way to Redis.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::key::Uid;

/// The records whose pending cells are on their way to Redis.
#[derive(Default)]
pub(crate) struct Replaying(Mutex<BTreeSet<Uid>>);

impl Replaying {
    /// Whether the record is one of them.
    pub(crate) fn contains(&self, uid: &Uid) -> bool {
        self.lock().contains(uid)
    }

    /// The record is, until the guard is dropped.
    pub(crate) fn enter<'a>(&'a self, uid: &'a Uid) -> impl Drop + 'a {
        self.lock().insert(uid.clone());
        Leave(self, uid)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Uid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leave<'a>(&'a Replaying, &'a Uid);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(self.1);
    }
}
