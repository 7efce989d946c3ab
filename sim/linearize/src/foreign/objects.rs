//! What the objects of foreign histories may answer.

use std::collections::BTreeSet;

use super::{
    form::{Act, Foreign},
    tiling::Parts,
    values::Value,
};
use crate::{
    object::{Before, Effect, Object},
    when::When,
};

/// A register that holds one value, with or without compare-and-set.
pub(super) struct Register {
    pub(super) initial: Value,
}

impl Object for Register {
    type Act = Act;
    type State = Value;
    const WANTING_LOOKED_AT: usize = 1;
    const IS_TIMELESS: bool = true;
    const IS_CERTAIN: bool = true;

    fn initial(&self) -> Value {
        self.initial
    }

    fn step(&self, state: Value, act: &Act, _: When) -> Option<Value> {
        match *act {
            Act::Read(value) => (state == value).then_some(state),
            Act::Write(value) => Some(value),
            Act::Cas { from, to } => (state == from).then_some(to),
            Act::CasFailed { from } => (state != from).then_some(state),
            Act::Append(_) | Act::Delete => None,
        }
    }

    fn numbers(&self, state: Value) -> [u64; 2] {
        [u64::from(state.0), 0]
    }

    fn is_hopeless(&self, state: Value, wanting: &Act, mut before: impl Before<Act>, _: &mut u64) -> bool {
        let (Act::Read(wanted) | Act::Cas { from: wanted, .. }) = wanting else { return false };
        let leads_there = |act: &Act| matches!(act, Act::Write(value) | Act::Cas { to: value, .. } if value == wanted);
        state != *wanted && !before.any(|(act, _)| leads_there(&act))
    }

    fn may_show(&self, change: &Act, observer: &Act) -> bool {
        let (Act::Write(made) | Act::Cas { to: made, .. }) = change else { return false };
        match observer {
            Act::Read(value) | Act::Cas { from: value, .. } => value == made,
            // It saw any value but one, so it may have needed any change.
            Act::CasFailed { .. } => true,
            Act::Write(_) | Act::Append(_) | Act::Delete => false,
        }
    }
}

/// One key of a store of texts: get, put, append, delete. Append to an absent key puts.
///
/// A state is a fingerprint of 122 bits: two polynomials modulo 2^61 - 1 over its bytes. Two texts of a history have one
/// fingerprint with a probability below 2^-80 for each pair; in turn an append costs the same however long the text is.
///
/// A text that no get shows, nor any longer one that begins with it, is as good as any other such text: they are one state.
pub(super) struct KeyValue {
    texts: Vec<Option<Text>>,
    /// The fingerprints of everything that a get shows the beginning of, ascending.
    seen: Vec<Print>,
    initial: Value,
}

/// How many bytes lie between the starts of a text whose fingerprints are kept.
const STRIDE: usize = 64;
const MODULUS: u64 = (1 << 61) - 1;
const BASES: [u64; 2] = [0x0d6e_8feb_8665_9fd9, 0x1b87_3593_cc9e_2d51];

struct Text {
    bytes: Vec<u8>,
    whole: Print,
    /// The bases to the power of the length.
    shift: [u64; 2],
    /// The fingerprints of its first 0, 64, 128.. bytes.
    starts: Vec<Print>,
}

type Print = [u64; 2];

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Absent,
    Text {
        print: Print,
        len: usize,
    },
    /// Only an overwriting makes it one that a get shows.
    Unseen,
}

impl KeyValue {
    /// Over the values of a history.
    pub(super) fn new(history: &Foreign) -> Self {
        let texts: Vec<_> = history.values.texts().map(|text| text.map(Text::new)).collect();
        let read = history.operations.iter().filter_map(|operation| match operation.act {
            Act::Read(value) => texts[value.0 as usize].as_ref().map(|text| text.bytes.as_slice()),
            _ => None,
        });
        // In this order each has in common with the one before what it has in common with any before.
        let mut last: &[u8] = &[];
        let mut seen = vec![[0; 2]];
        for bytes in read.collect::<BTreeSet<_>>() {
            let common = last.iter().zip(bytes).take_while(|(one, other)| one == other).count();
            let mut print = bytes[..common].iter().fold([0; 2], |print, &byte| longer(print, byte));
            for &byte in &bytes[common..] {
                print = longer(print, byte);
                seen.push(print);
            }
            last = bytes;
        }
        seen.sort_unstable();
        Self { texts, seen, initial: history.initial }
    }

    fn held(&self, value: Value) -> Held {
        let text = self.text(value);
        text.map_or(Held::Absent, |text| self.state(text.whole, text.bytes.len()))
    }

    fn state(&self, print: Print, len: usize) -> Held {
        if self.seen.binary_search(&print).is_ok() { Held::Text { print, len } } else { Held::Unseen }
    }

    fn text(&self, value: Value) -> Option<&Text> {
        self.texts[value.0 as usize].as_ref()
    }

    /// It leaves the key absent.
    fn empties(&self, act: &Act) -> bool {
        matches!(*act, Act::Delete) || matches!(*act, Act::Write(value) if self.text(value).is_none())
    }

    fn begins_with(&self, whole: Value, start: Value) -> bool {
        let (whole, start) = (self.text(whole), self.text(start));
        whole.zip(start).is_some_and(|(whole, start)| whole.bytes.starts_with(&start.bytes))
    }
}

impl Object for KeyValue {
    type Act = Act;
    type State = Held;
    const WANTING_LOOKED_AT: usize = 16;
    const IS_TIMELESS: bool = true;
    const IS_CERTAIN: bool = true;

    fn initial(&self) -> Held {
        self.held(self.initial)
    }

    fn step(&self, state: Held, act: &Act, _: When) -> Option<Held> {
        match *act {
            Act::Read(value) => (state == self.held(value)).then_some(state),
            Act::Write(value) => Some(self.held(value)),
            Act::Append(value) => {
                let more = self.text(value)?;
                let (print, len) = match state {
                    Held::Absent => ([0; 2], 0),
                    Held::Text { print, len } => (print, len),
                    Held::Unseen => return Some(state),
                };
                let print = [0, 1].map(|half| sum(product(print[half], more.shift[half]), more.whole[half]));
                Some(self.state(print, len + more.bytes.len()))
            }
            Act::Delete => Some(Held::Absent),
            Act::Cas { .. } | Act::CasFailed { .. } => None,
        }
    }

    fn numbers(&self, state: Held) -> [u64; 2] {
        match state {
            Held::Absent => [u64::MAX, 0],
            Held::Unseen => [u64::MAX, 1],
            Held::Text { print, .. } => print,
        }
    }

    fn is_hopeless(&self, state: Held, wanting: &Act, before: impl Before<Act>, steps: &mut u64) -> bool {
        let Act::Read(wanted) = *wanting else { return false };
        let Some(text) = self.text(wanted) else {
            return state != Held::Absent && !before.clone().any(|(act, _)| self.empties(&act));
        };
        // What is not there yet comes from appends that are not placed: each of them whole, and once.
        let mut appends = Parts::default();
        for (act, must) in before.clone() {
            if let Act::Append(more) = act
                && let Some(more) = self.text(more)
            {
                appends.add(&more.bytes, must);
            }
        }
        let start = match state {
            Held::Absent => Some(0),
            Held::Text { print, len } => (text.start(len) == Some(print)).then_some(len),
            Held::Unseen => None,
        };
        let is_overwritten = before.clone().any(|(act, must)| must && act.is_blind());
        if !is_overwritten && start.is_some_and(|start| can_make(&appends, &text.bytes[start..], steps)) {
            return false;
        }
        // What must come may have come before the overwriting.
        appends.let_go();
        let mut starts = before.filter_map(|(act, _)| match act {
            act if self.empties(&act) => Some(0),
            Act::Write(value) if self.begins_with(wanted, value) => self.text(value).map(|start| start.bytes.len()),
            _ => None,
        });
        !starts.any(|start| can_make(&appends, &text.bytes[start..], steps))
    }

    fn may_show(&self, change: &Act, observer: &Act) -> bool {
        match (*change, *observer) {
            (Act::Write(value), Act::Read(read)) if !self.empties(change) => {
                value == read || self.begins_with(read, value)
            }
            (Act::Append(value), Act::Read(read)) => {
                let (value, read) = (self.text(value), self.text(read));
                value.zip(read).is_some_and(|(value, read)| contains(&read.bytes, &value.bytes))
            }
            // What is appended after a delete shows that there was one.
            (_, Act::Read(_)) => self.empties(change),
            _ => false,
        }
    }
}

/// Whether the rest of a text can be made of these, as far as so many steps tell.
fn can_make(appends: &Parts<'_>, rest: &[u8], steps: &mut u64) -> bool {
    if *steps == 0 { appends.may_make(rest) } else { appends.make(rest, steps) != Some(false) }
}

impl Text {
    fn new(text: &str) -> Self {
        let mut starts = Vec::with_capacity(text.len() / STRIDE + 1);
        let (mut whole, mut shift) = ([0; 2], [1; 2]);
        for (place, &byte) in text.as_bytes().iter().enumerate() {
            if place % STRIDE == 0 {
                starts.push(whole);
            }
            whole = longer(whole, byte);
            shift = [0, 1].map(|half| product(shift[half], BASES[half]));
        }
        Self { bytes: text.as_bytes().to_vec(), whole, shift, starts }
    }

    /// The fingerprint of the first `len` bytes, if there are so many.
    fn start(&self, len: usize) -> Option<Print> {
        if len == self.bytes.len() {
            return Some(self.whole);
        }
        let rest = self.bytes.get(len / STRIDE * STRIDE..len)?;
        Some(rest.iter().fold(self.starts[len / STRIDE], |print, &byte| longer(print, byte)))
    }
}

/// Bytes count from 1, so that a zero at the start is not lost.
fn longer(print: Print, byte: u8) -> Print {
    [0, 1].map(|half| sum(product(print[half], BASES[half]), u64::from(byte) + 1))
}

fn product(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    // Both halves have at most 61 bits: the factors are below the modulus.
    let half = |bits: u128| u64::try_from(bits & u128::from(MODULUS)).unwrap_or(0);
    sum(half(product), half(product >> 61))
}

fn sum(one: u64, other: u64) -> u64 {
    let sum = one + other;
    if sum >= MODULUS { sum - MODULUS } else { sum }
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}
