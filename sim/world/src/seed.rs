//! The one integer that a run grows from, and the named streams of randomness drawn from it.
//!
//! Every random choice of a run comes from a stream named after its purpose (`workload`, `faults`, `link 2>redis`,
//! `disk 3`), so that removing one fault or one operation leaves all other choices as they were.

use std::{fmt, str::FromStr};

use rand::SeedableRng;
use serde::{Deserialize, Serialize};

/// The generator behind a stream: its output for a given seed is fixed by its specification, across versions and
/// platforms.
pub type Stream = rand_chacha::ChaCha8Rng;

/// The integer that determines a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream for `purpose`: the same for the same seed and purpose, unrelated to every other.
    pub fn stream(self, purpose: &str) -> Stream {
        let mut key = [0; 32];
        for (lane, bytes) in (0_u64..).zip(key.chunks_exact_mut(8)) {
            let hash = xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), self.0.wrapping_add(lane << 56));
            bytes.copy_from_slice(&(hash ^ self.0.rotate_left(u32::try_from(lane).unwrap_or(0) * 16)).to_le_bytes());
        }
        Stream::from_seed(key)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no seed.
#[derive(Debug, thiserror::Error)]
#[error("seed {text:?} is not a whole number from 0 to {max}", max = u64::MAX)]
pub struct ParseSeedError {
    text: String,
}

impl FromStr for Seed {
    type Err = ParseSeedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseSeedError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn a_stream_depends_on_seed_and_purpose_alone() {
        let first = |seed, purpose| Seed(seed).stream(purpose).next_u64();
        assert_eq!(first(1, "disk 1"), first(1, "disk 1"));
        assert_ne!(first(1, "disk 1"), first(2, "disk 1"));
        assert_ne!(first(1, "disk 1"), first(1, "disk 2"));
    }
}
