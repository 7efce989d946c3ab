//! What tests draw from: a generator whose output is fixed by its specification, for each seed and purpose one of its own.

use rand::SeedableRng;

pub(crate) type Stream = rand_chacha::ChaCha8Rng;

/// The stream of a seed for a purpose, of which the first 24 bytes count.
pub(crate) fn stream(seed: u64, purpose: &str) -> Stream {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..].iter_mut().zip(purpose.bytes()).for_each(|(to, byte)| *to = byte);
    Stream::from_seed(key)
}
