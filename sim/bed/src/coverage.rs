//! Coverage points: situations that a set of runs has to meet at least once, or it has not tested them. (Antithesis calls such a
//! point a "sometimes" assertion.)

use std::sync::Arc;

use crate::{history::History, system::Workload};

/// Whether a history has met a situation.
type IsIn<W> = dyn Fn(&History<W>) -> bool + Send + Sync;

/// A situation by its name, and how a history shows it.
pub(crate) struct CoveragePoint<W: Workload> {
    pub(crate) name: String,
    is_in: Arc<IsIn<W>>,
}

impl<W: Workload> Clone for CoveragePoint<W> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), is_in: self.is_in.clone() }
    }
}

impl<W: Workload> CoveragePoint<W> {
    pub(crate) fn new(name: &str, is_in: impl Fn(&History<W>) -> bool + Send + Sync + 'static) -> Self {
        Self { name: name.to_owned(), is_in: Arc::new(is_in) }
    }

    pub(crate) fn is_in(&self, history: &History<W>) -> bool {
        (self.is_in)(history)
    }
}
