//! Bits that flip in transit between instances and Redis, in the framing of a message, unnoticed by the checksums of the network.
//!
//! A client cannot detect a flip within a value. So bits flip only in the framing of the first request or the first reply of a segment:
//! in the type byte, in the CR LF that ends the first line, and in the `$` of a request's first argument. From then on the two ends may
//! disagree about where a message ends.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use seedbed_world::Host;

/// The messages to damage. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Garbled(Arc<Mutex<GarbleState>>);

#[derive(Default)]
struct GarbleState {
    /// The hosts whose messages from or to Redis are damaged.
    hosts: BTreeSet<Host>,
    of_requests: bool,
    left: u32,
    draw: u64,
    /// Bits flipped so far, ever.
    flipped: u64,
}

impl Garbled {
    /// Damages so many messages from now on. Another draw damages other bits.
    pub(super) fn begin(&self, hosts: impl Iterator<Item = Host>, of_requests: bool, messages: u32, draw: u64) {
        let mut state = self.state();
        *state = GarbleState { hosts: hosts.collect(), of_requests, left: messages, draw, flipped: state.flipped };
    }

    /// Bits flipped so far.
    pub(super) fn flipped(&self) -> u64 {
        self.state().flipped
    }

    /// Damages bytes from a host that begin with a request, if it is their turn.
    pub(super) fn request(&self, from: Host, bytes: &mut [u8]) {
        self.flip(from, bytes, true);
    }

    /// Damages bytes to a host that begin with a reply, if it is their turn.
    pub(super) fn reply(&self, to: Host, bytes: &mut [u8]) {
        self.flip(to, bytes, false);
    }

    fn flip(&self, host: Host, bytes: &mut [u8], is_request: bool) {
        let mut state = self.state();
        if state.left == 0 || state.of_requests != is_request || !state.hosts.contains(&host) {
            return;
        }
        let frame = frame(bytes, is_request);
        let drawn = mixed(state.draw.wrapping_add(u64::from(state.left)));
        let Some(at) = frame.get(usize::try_from(drawn % 64).unwrap_or(0) % frame.len().max(1)) else { return };
        bytes[*at] ^= 1 << (drawn >> 32 & 7);
        state.left -= 1;
        state.flipped += 1;
    }

    fn state(&self) -> MutexGuard<'_, GarbleState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes that frame the first message, by their positions.
fn frame(bytes: &[u8], is_request: bool) -> Vec<usize> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Vec::new() };
    let mut frame = vec![0, end, end + 1];
    frame.extend((is_request && bytes.get(end + 2) == Some(&b'$')).then_some(end + 2));
    frame
}

/// A number of which every bit depends on every bit of this one (splitmix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flipped(of_requests: bool, message: &[u8]) -> BTreeSet<usize> {
        let garbled = Garbled::default();
        let places = (0..1_000).map(|draw| {
            garbled.begin([Host::from(1)].into_iter(), of_requests, 1, draw);
            let mut bytes = message.to_vec();
            garbled.request(Host::from(2), &mut bytes);
            garbled.reply(Host::from(2), &mut bytes);
            assert_eq!(bytes, message, "it is another's");
            garbled.request(Host::from(1), &mut bytes);
            garbled.reply(Host::from(1), &mut bytes);
            let damaged = bytes.clone();
            garbled.request(Host::from(1), &mut bytes);
            garbled.reply(Host::from(1), &mut bytes);
            assert_eq!(bytes, damaged, "it was to be one");
            let other = bytes.iter().zip(message).position(|(byte, before)| byte != before).expect("one is damaged");
            assert_eq!((bytes[other] ^ message[other]).count_ones(), 1);
            other
        });
        places.collect()
    }

    #[test]
    fn one_bit_flips_in_what_frames_the_first_message_and_none_in_what_it_holds() {
        assert_eq!(flipped(false, b"$5\r\nhello\r\n+OK\r\n"), [0, 2, 3].into());
        assert_eq!(flipped(true, b"*1\r\n$4\r\nPING\r\n*1\r\n"), [0, 2, 3, 4].into());
    }
}
