//! What the objects of foreign histories may answer.

use std::collections::BTreeSet;

use super::{
    form::{Foreign, ForeignAct},
    tiling::Parts,
    values::ValueId,
};
use crate::{
    object::{Before, EffectOnObject, Object},
    when::When,
};

/// A register that holds one value, with or without compare-and-set.
pub(super) struct ForeignRegister {
    pub(super) initial: ValueId,
}

impl Object for ForeignRegister {
    type Act = ForeignAct;
    type State = ValueId;
    const WANTING_LOOKED_AT: usize = 1;
    const IS_TIMELESS: bool = true;
    const IS_CERTAIN: bool = true;

    fn initial(&self) -> ValueId {
        self.initial
    }

    fn step(&self, state: ValueId, act: &ForeignAct, _: When) -> Option<ValueId> {
        match *act {
            ForeignAct::Read(value) => (state == value).then_some(state),
            ForeignAct::Write(value) => Some(value),
            ForeignAct::Cas { from, to } => (state == from).then_some(to),
            ForeignAct::CasFailed { from } => (state != from).then_some(state),
            ForeignAct::Append(_) | ForeignAct::Delete => None,
        }
    }

    fn numbers(&self, state: ValueId) -> [u64; 2] {
        [u64::from(state.0), 0]
    }

    fn is_hopeless(
        &self,
        state: ValueId,
        wanting: &ForeignAct,
        mut before: impl Before<ForeignAct>,
        _: &mut u64,
    ) -> bool {
        let (ForeignAct::Read(wanted) | ForeignAct::Cas { from: wanted, .. }) = wanting else { return false };
        let leads_there = |act: &ForeignAct| matches!(act, ForeignAct::Write(value) | ForeignAct::Cas { to: value, .. } if value == wanted);
        state != *wanted && !before.any(|(act, _)| leads_there(&act))
    }

    fn may_show(&self, change: &ForeignAct, observer: &ForeignAct) -> bool {
        let (ForeignAct::Write(made) | ForeignAct::Cas { to: made, .. }) = change else { return false };
        match observer {
            ForeignAct::Read(value) | ForeignAct::Cas { from: value, .. } => value == made,
            // It saw any value but one, so it may have needed any change.
            ForeignAct::CasFailed { .. } => true,
            ForeignAct::Write(_) | ForeignAct::Append(_) | ForeignAct::Delete => false,
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
    initial: ValueId,
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
pub(super) enum KeyState {
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
            ForeignAct::Read(value) => texts[value.0 as usize].as_ref().map(|text| text.bytes.as_slice()),
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

    fn held(&self, value: ValueId) -> KeyState {
        let text = self.text(value);
        text.map_or(KeyState::Absent, |text| self.state(text.whole, text.bytes.len()))
    }

    fn state(&self, print: Print, len: usize) -> KeyState {
        if self.seen.binary_search(&print).is_ok() { KeyState::Text { print, len } } else { KeyState::Unseen }
    }

    fn text(&self, value: ValueId) -> Option<&Text> {
        self.texts[value.0 as usize].as_ref()
    }

    /// It leaves the key absent.
    fn empties(&self, act: &ForeignAct) -> bool {
        matches!(*act, ForeignAct::Delete) || matches!(*act, ForeignAct::Write(value) if self.text(value).is_none())
    }

    fn begins_with(&self, whole: ValueId, start: ValueId) -> bool {
        let (whole, start) = (self.text(whole), self.text(start));
        whole.zip(start).is_some_and(|(whole, start)| whole.bytes.starts_with(&start.bytes))
    }
}

impl Object for KeyValue {
    type Act = ForeignAct;
    type State = KeyState;
    const WANTING_LOOKED_AT: usize = 16;
    const IS_TIMELESS: bool = true;
    const IS_CERTAIN: bool = true;

    fn initial(&self) -> KeyState {
        self.held(self.initial)
    }

    fn step(&self, state: KeyState, act: &ForeignAct, _: When) -> Option<KeyState> {
        match *act {
            ForeignAct::Read(value) => (state == self.held(value)).then_some(state),
            ForeignAct::Write(value) => Some(self.held(value)),
            ForeignAct::Append(value) => {
                let more = self.text(value)?;
                let (print, len) = match state {
                    KeyState::Absent => ([0; 2], 0),
                    KeyState::Text { print, len } => (print, len),
                    KeyState::Unseen => return Some(state),
                };
                let print = [0, 1].map(|half| sum(product(print[half], more.shift[half]), more.whole[half]));
                Some(self.state(print, len + more.bytes.len()))
            }
            ForeignAct::Delete => Some(KeyState::Absent),
            ForeignAct::Cas { .. } | ForeignAct::CasFailed { .. } => None,
        }
    }

    fn numbers(&self, state: KeyState) -> [u64; 2] {
        match state {
            KeyState::Absent => [u64::MAX, 0],
            KeyState::Unseen => [u64::MAX, 1],
            KeyState::Text { print, .. } => print,
        }
    }

    fn is_hopeless(
        &self,
        state: KeyState,
        wanting: &ForeignAct,
        before: impl Before<ForeignAct>,
        steps: &mut u64,
    ) -> bool {
        let ForeignAct::Read(wanted) = *wanting else { return false };
        let Some(text) = self.text(wanted) else {
            return state != KeyState::Absent && !before.clone().any(|(act, _)| self.empties(&act));
        };
        // What is not there yet comes from appends that are not placed: each of them whole, and once.
        let mut appends = Parts::default();
        for (act, must) in before.clone() {
            if let ForeignAct::Append(more) = act
                && let Some(more) = self.text(more)
            {
                appends.add(&more.bytes, must);
            }
        }
        let start = match state {
            KeyState::Absent => Some(0),
            KeyState::Text { print, len } => (text.start(len) == Some(print)).then_some(len),
            KeyState::Unseen => None,
        };
        let is_overwritten = before.clone().any(|(act, must)| must && act.is_blind());
        if !is_overwritten && start.is_some_and(|start| can_make(&appends, &text.bytes[start..], steps)) {
            return false;
        }
        // What must come may have come before the overwriting.
        appends.let_go();
        let mut starts = before.filter_map(|(act, _)| match act {
            act if self.empties(&act) => Some(0),
            ForeignAct::Write(value) if self.begins_with(wanted, value) => {
                self.text(value).map(|start| start.bytes.len())
            }
            _ => None,
        });
        !starts.any(|start| can_make(&appends, &text.bytes[start..], steps))
    }

    fn may_show(&self, change: &ForeignAct, observer: &ForeignAct) -> bool {
        match (*change, *observer) {
            (ForeignAct::Write(value), ForeignAct::Read(read)) if !self.empties(change) => {
                value == read || self.begins_with(read, value)
            }
            (ForeignAct::Append(value), ForeignAct::Read(read)) => {
                let (value, read) = (self.text(value), self.text(read));
                value.zip(read).is_some_and(|(value, read)| contains(&read.bytes, &value.bytes))
            }
            // What is appended after a delete shows that there was one.
            (_, ForeignAct::Read(_)) => self.empties(change),
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
