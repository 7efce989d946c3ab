//! Coverage points: situations that a set of runs has to meet at least once, or it has not tested them. (Antithesis calls such a
//! point a "sometimes" assertion.)

use std::sync::Arc;

use crate::{bed::Bed, history::History, system::Workload};

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

impl<W: Workload> Bed<W> {
    /// With this coverage point as well: `is_in` says whether a history has met it. A test fails if all of its seeds miss it, and
    /// `run` then ends as unknown.
    ///
    /// ```
    /// # use seedbed::{Bed, Outcome, Workload, history::What};
    /// # fn bed<W: Workload>(bed: Bed<W>) -> Bed<W> {
    /// bed.covers("a call of unknown outcome", |history| {
    ///     history.events.iter().any(|event| matches!(&event.what, What::Returned { outcome: Outcome::Unknown(_), .. }))
    /// })
    /// # }
    /// ```
    ///
    /// # Panics
    /// If another point has its name.
    #[must_use]
    pub fn covers(mut self, name: &str, is_in: impl Fn(&History<W>) -> bool + Send + Sync + 'static) -> Self {
        assert!(self.points.iter().all(|point| point.name != name), "two coverage points have the name {name:?}");
        self.points.push(CoveragePoint { name: name.to_owned(), is_in: Arc::new(is_in) });
        self
    }

    /// The names of its coverage points.
    pub fn coverage_points(&self) -> Vec<&str> {
        self.points.iter().map(|point| point.name.as_str()).collect()
    }

    /// The points that a history has met.
    pub(crate) fn met(&self, history: &History<W>) -> Vec<String> {
        self.points.iter().filter(|point| (point.is_in)(history)).map(|point| point.name.clone()).collect()
    }
}
