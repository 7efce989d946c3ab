//! The errors that a command refuses with.

use super::{number, reply};

/// A command has written its reply, or refuses.
pub(super) type Done = Result<(), ErrorReply>;

/// Why a command refuses: the text of the error, code first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ErrorReply {
    /// A text of Redis.
    Fixed(&'static str),
    /// A text with words of the client in it.
    Formatted(Vec<u8>),
}

pub(super) const WRONG_TYPE: ErrorReply =
    ErrorReply::Fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
pub(super) const NOT_AN_INTEGER: ErrorReply = ErrorReply::Fixed("ERR value is not an integer or out of range");
pub(super) const NOT_A_FLOAT: ErrorReply = ErrorReply::Fixed("ERR value is not a valid float");
pub(super) const SYNTAX: ErrorReply = ErrorReply::Fixed("ERR syntax error");
pub(super) const OVERFLOW: ErrorReply = ErrorReply::Fixed("ERR increment or decrement would overflow");

/// The error for a command with too few or too many words.
pub(super) fn wrong_arity(name: &str) -> ErrorReply {
    ErrorReply::Formatted(format!("ERR wrong number of arguments for '{name}' command").into_bytes())
}

/// A word as a number.
pub(super) fn integer(word: &[u8]) -> Result<i64, ErrorReply> {
    number::parse(word).ok_or(NOT_AN_INTEGER)
}

/// A word as a number from `least` on, which is refused with this text if it is none.
pub(super) fn at_least(least: i64, word: &[u8], refusal: &'static str) -> Result<usize, ErrorReply> {
    let count = number::parse(word).filter(|count| *count >= least).ok_or(ErrorReply::Fixed(refusal))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

pub(super) const NOT_POSITIVE: &str = "ERR value is out of range, must be positive";

/// A word as the number of things to draw: below 0, they may be the same.
pub(super) fn draws(word: &[u8]) -> Result<i64, ErrorReply> {
    let count = integer(word)?;
    if count == i64::MIN {
        return Err(ErrorReply::Fixed(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    Ok(count)
}

impl ErrorReply {
    pub(super) fn text(&self) -> &[u8] {
        match self {
            Self::Fixed(text) => text.as_bytes(),
            Self::Formatted(text) => text,
        }
    }
}

/// Writes the error of a command that refuses.
pub(super) fn refuse(out: &mut Vec<u8>, done: Done) {
    match done {
        Ok(()) => {}
        Err(ErrorReply::Fixed(text)) => reply::error(out, text),
        Err(ErrorReply::Formatted(text)) => reply::error_format(out, &[&text]),
    }
}
