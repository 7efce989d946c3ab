//! The waits of clients, as data: who waits for an element, of which keys, and until when. `blocking` begins and ends them.

use std::collections::VecDeque;

use super::error_reply::{ErrorReply, SYNTAX};

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListEnd {
    Left,
    Right,
}

impl ListEnd {
    pub(super) fn named(word: &[u8]) -> Result<Self, ErrorReply> {
        match word.to_ascii_lowercase().as_slice() {
            b"left" => Ok(Self::Left),
            b"right" => Ok(Self::Right),
            _ => Err(SYNTAX),
        }
    }

    pub(super) fn push(self, list: &mut VecDeque<Vec<u8>>, element: Vec<u8>) {
        match self {
            Self::Left => list.push_front(element),
            Self::Right => list.push_back(element),
        }
    }

    pub(super) fn pop(self, list: &mut VecDeque<Vec<u8>>) -> Option<Vec<u8>> {
        match self {
            Self::Left => list.pop_front(),
            Self::Right => list.pop_back(),
        }
    }
}

/// A client that waits.
#[derive(Debug)]
pub(super) struct Wait {
    /// What CLIENT ID answers it.
    pub(super) client: i64,
    pub(super) database: usize,
    pub(super) keys: Vec<Vec<u8>>,
    /// The last moment at which it waits, in milliseconds since the epoch; none if it waits for ever.
    pub(super) until_ms: Option<i64>,
    pub(super) want: Want,
}

/// What a client waits for.
#[derive(Debug)]
pub(super) enum Want {
    /// An element of a list, from this end.
    Element(ListEnd),
    /// An element, which goes from one end to an end of another list.
    Move { target: Vec<u8>, from: ListEnd, to: ListEnd },
    /// The member of the highest score of a sorted set, or of the lowest.
    Member { is_highest: bool },
}

/// A reply for a client that waits no more, by its number.
type Served = (i64, Vec<u8>);

/// The waits of a server, in the order in which they began, and the replies that ended others.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) all: Vec<Wait>,
    pub(super) served: Vec<Served>,
}

impl Waits {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a client waits.
    pub(super) fn has(&self, client: i64) -> bool {
        self.all.iter().any(|wait| wait.client == client)
    }
}
