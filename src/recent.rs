//! What was decoded lately, by uid: asking for it again costs no disk, no checksum and no JSON.

use std::{collections::BTreeMap, sync::Arc};

use crate::key::Uid;

/// Records of one generation; there are two.
const GENERATION: usize = 1024;

/// Bytes of one generation, before decoding.
const GENERATION_BYTES: usize = 4 << 20;

/// Larger records are decoded every time: four of them would fill a generation.
const BYTES_MAX: usize = 1 << 20;

/// Holds the last thousand records, or the last 4 MiB of them, and twice as much at most: a record that is not asked for during a
/// whole generation is dropped with it.
pub(crate) struct Recent<T> {
    young: BTreeMap<Uid, Decoded<T>>,
    young_bytes: usize,
    old: BTreeMap<Uid, Decoded<T>>,
}

struct Decoded<T> {
    decoded: Arc<T>,
    bytes: usize,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { young: BTreeMap::new(), young_bytes: 0, old: BTreeMap::new() }
    }
}

impl<T> Recent<T> {
    pub(crate) fn get(&mut self, uid: &Uid) -> Option<Arc<T>> {
        if let Some(recent) = self.young.get(uid) {
            return Some(recent.decoded.clone());
        }
        let recent = self.old.remove(uid)?;
        let decoded = recent.decoded.clone();
        self.push(uid, recent);
        Some(decoded)
    }

    /// Takes in what was decoded from so many bytes.
    pub(crate) fn insert(&mut self, uid: &Uid, bytes: usize, decoded: Arc<T>) {
        if bytes > BYTES_MAX {
            return self.remove(uid);
        }
        self.push(uid, Decoded { decoded, bytes });
    }

    fn push(&mut self, uid: &Uid, recent: Decoded<T>) {
        if let Some(before) = self.young.remove(uid) {
            self.young_bytes -= before.bytes;
        }
        if self.young.len() >= GENERATION || self.young_bytes + recent.bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += recent.bytes;
        self.young.insert(uid.clone(), recent);
    }

    /// What it was decoded from has changed, or is gone.
    pub(crate) fn remove(&mut self, uid: &Uid) {
        if let Some(recent) = self.young.remove(uid) {
            self.young_bytes -= recent.bytes;
        }
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

    #[test]
    fn a_generation_of_large_ones_has_fewer() {
        let mut recent = Recent::default();
        for number in 0..20 {
            recent.insert(&uid(number), BYTES_MAX, Arc::new(number));
            let held: usize =
                [&recent.young, &recent.old].into_iter().flat_map(BTreeMap::values).map(|it| it.bytes).sum::<usize>();
            assert!(held <= 2 * GENERATION_BYTES, "{held}");
        }
        assert!((16..20).all(|number| recent.get(&uid(number)).is_some()) && recent.get(&uid(11)).is_none());
        // One that grows is young, and its generation keeps within the bytes.
        recent.insert(&uid(17), BYTES_MAX, Arc::new(0));
        recent.insert(&uid(19), 1, Arc::new(0));
        recent.insert(&uid(19), BYTES_MAX, Arc::new(0));
        assert!(recent.young_bytes <= GENERATION_BYTES && recent.young.contains_key(&uid(19)));
        recent.remove(&uid(19));
        assert_eq!(recent.young_bytes, recent.young.values().map(|it| it.bytes).sum::<usize>());
    }
}
