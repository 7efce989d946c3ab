//! Replies as RESP2 bytes.

use super::number;

/// `+text`.
pub(super) fn status(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'+', text);
}

/// `:value`.
pub(super) fn integer(out: &mut Vec<u8>, value: i64) {
    line(out, b':', value.to_string().as_bytes());
}

/// The number of something.
pub(super) fn count(out: &mut Vec<u8>, count: usize) {
    integer(out, i64::try_from(count).unwrap_or(i64::MAX));
}

/// A bulk string.
pub(super) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A score, as a bulk string.
pub(super) fn score(out: &mut Vec<u8>, score: f64) {
    bulk(out, number::format_g17(score).as_bytes());
}

/// A bulk string, or the null one.
pub(super) fn bulk_or_null(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => bulk(out, bytes),
        None => null(out),
    }
}

/// The null bulk string.
pub(super) fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"$-1\r\n");
}

/// The null array.
pub(super) fn null_array(out: &mut Vec<u8>) {
    out.extend_from_slice(b"*-1\r\n");
}

/// The head of an array of `count` replies, which follow.
pub(super) fn array(out: &mut Vec<u8>, count: usize) {
    length(out, b'*', count);
}

/// An error, code first. The text has no line ends.
pub(super) fn error(out: &mut Vec<u8>, text: &str) {
    line(out, b'-', text.as_bytes());
}

/// An error, code first, from parts that a client may have chosen: Redis takes line ends off at its end and turns those
/// inside into spaces.
pub(super) fn error_format(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let text = parts.concat();
    let end = text.iter().rposition(|&byte| byte != b'\r' && byte != b'\n').map_or(0, |last| last + 1);
    line(out, b'-', &on_one_line(&text[..end]));
}

/// `text` with every byte that would end the line as a space.
pub(super) fn on_one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|&byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }).collect()
}

/// `text` up to its first zero byte: what is left of it once Redis has formatted it with `%s`.
pub(super) fn c_string(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn length(out: &mut Vec<u8>, kind: u8, length: usize) {
    line(out, kind, length.to_string().as_bytes());
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}
