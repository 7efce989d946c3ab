//! What was decoded lately, by uid: asking for it again costs no disk, no checksum and no JSON.

use std::{collections::BTreeMap, sync::Arc};

use crate::key::Uid;

/// Records of one generation; there are two.
const GENERATION: usize = 1024;

/// Larger records are decoded every time: what is held here takes at most some 8 MiB, as bytes before decoding.
const BYTES_MAX: usize = 4 << 10;

/// Holds the last thousand records at least, and twice as many at most: what was not asked for during a whole generation
/// is dropped with it.
pub(crate) struct Recent<T> {
    young: BTreeMap<Uid, Arc<T>>,
    old: BTreeMap<Uid, Arc<T>>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new() }
    }
}

impl<T> Recent<T> {
    pub(crate) fn get(&mut self, uid: &Uid) -> Option<Arc<T>> {
        if let Some(recent) = self.young.get(uid) {
            return Some(recent.clone());
        }
        let recent = self.old.remove(uid)?;
        self.push(uid, recent.clone());
        Some(recent)
    }

    /// Takes in what was decoded from so many bytes.
    pub(crate) fn insert(&mut self, uid: &Uid, bytes: usize, decoded: Arc<T>) {
        if bytes > BYTES_MAX {
            return self.remove(uid);
        }
        self.push(uid, decoded);
    }

    fn push(&mut self, uid: &Uid, decoded: Arc<T>) {
        if let Some(before) = self.young.get_mut(uid) {
            *before = decoded;
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(uid.clone(), decoded);
    }

    /// What it was decoded from has changed, or is gone.
    pub(crate) fn remove(&mut self, uid: &Uid) {
        self.young.remove(uid);
        self.old.remove(uid);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(number: usize) -> Uid {
        number.to_string().parse().unwrap()
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut recent = Recent::default();
        for number in 0..10 * GENERATION {
            recent.insert(&uid(number), 1, Arc::new(number));
            assert_eq!(recent.get(&uid(0)).as_deref(), Some(&0));
        }
        assert_eq!(recent.get(&uid(5)), None);
        assert!(recent.young.len() + recent.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn the_last_one_counts_and_a_large_one_is_not_held() {
        let mut recent = Recent::default();
        recent.insert(&uid(0), 1, Arc::new(1));
        recent.insert(&uid(0), 1, Arc::new(2));
        assert_eq!(recent.get(&uid(0)).as_deref(), Some(&2));
        recent.insert(&uid(0), BYTES_MAX + 1, Arc::new(3));
        assert_eq!(recent.get(&uid(0)), None);
    }
}
