//! How far an order of operations has come: which of them are placed, and which may be next.
//!
//! For a search that keeps its configurations by value. Operations are indices into a list in the order of
//! their calls.

/// Something between two ordinals.
pub trait Timed {
    /// When it began.
    fn called(&self) -> u64;
    /// When it ended; the end of time for what never did.
    fn returned(&self) -> u64;
}

/// The operations that are placed.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// All before this one are placed.
    base: usize,
    /// Those after it that are placed, ascending.
    ahead: Vec<usize>,
}

impl Placed {
    #[inline] // The innermost loop of searches in other crates.
    fn has(&self, index: usize) -> bool {
        index < self.base || self.ahead.binary_search(&index).is_ok()
    }

    /// Whether any of these, ascending, is not placed.
    pub fn lacks_any(&self, indices: &[usize]) -> bool {
        indices.iter().rev().take_while(|&&index| index >= self.base).any(|&index| !self.has(index))
    }

    /// Those of these, ascending, that are not placed.
    pub fn missing<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        let from = indices.partition_point(|&index| index < self.base);
        indices[from..].iter().copied().filter(|&index| !self.has(index))
    }

    /// Whether all of these are placed.
    pub fn is_all<T>(&self, of: &[T]) -> bool {
        self.base == of.len()
    }

    /// Places one.
    pub fn place(&mut self, index: usize) {
        if index == self.base {
            self.base += 1;
            let joined = self.ahead.iter().zip(self.base..).take_while(|&(&ahead, base)| ahead == base).count();
            self.ahead.drain(..joined);
            self.base += joined;
        } else if let Err(place) = self.ahead.binary_search(&index) {
            self.ahead.insert(place, index);
        }
    }

    /// The first return among the operations that are not placed: what was called after it cannot be next.
    pub fn frontier(&self, all: &[impl Timed]) -> u64 {
        let mut frontier = u64::MAX;
        for (index, op) in all.iter().enumerate().skip(self.base) {
            if op.called() > frontier {
                break;
            }
            if !self.has(index) {
                frontier = frontier.min(op.returned());
            }
        }
        frontier
    }

    /// The operations that may be next.
    pub fn candidates(&self, all: &[impl Timed], frontier: u64) -> impl Iterator<Item = usize> {
        let open = all.iter().enumerate().skip(self.base).take_while(move |(_, op)| op.called() <= frontier);
        open.map(|(index, _)| index).filter(|&index| !self.has(index))
    }
}
