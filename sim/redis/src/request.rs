//! Requests from bytes: arrays of bulk strings, and inline commands as a person types them into telnet.
//!
//! A request is parsed from its first byte each time more bytes arrive. As in Redis, a line ends at `\r` and the byte
//! after it is skipped unseen, and a zero byte hides the end of its line (Redis looks for it with `strchr`).

use std::borrow::Cow;

use super::number;

/// `PROTO_INLINE_MAX_SIZE`: a line without an end is refused beyond this many bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// `proto-max-bulk-len`, as a server has it that was told no other.
pub(super) const BULK_BYTES_MAX: i64 = 512 * 1024 * 1024;

/// The error for a word that is too long, or whose length is no number.
pub(super) const TOO_LONG: &[u8] = b"invalid bulk length";

/// What the bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// More bytes are needed.
    Incomplete,
    /// A request of no words, which has no answer.
    Nothing {
        /// Its length in bytes.
        length: usize,
    },
    /// A command.
    Command {
        /// Its words; at least one.
        args: Vec<Cow<'a, [u8]>>,
        /// Its length in bytes.
        length: usize,
    },
    /// A protocol error, after which the connection closes.
    Invalid(Vec<u8>),
}

/// Parses the request at the start of `input`. A word longer than `bulk_bytes_max` is refused as soon as its length is
/// known.
pub(super) fn parse(input: &[u8], bulk_bytes_max: i64) -> Request<'_> {
    match input.first() {
        None => Request::Incomplete,
        Some(b'*') => array(input, bulk_bytes_max).unwrap_or_else(|stop| stop),
        Some(_) => inline(input),
    }
}

/// What is left of an incomplete request once its whole words have been taken out, in bytes: what Redis keeps in a client's
/// query buffer.
pub(super) fn unparsed(input: &[u8], bulk_bytes_max: i64) -> usize {
    if input.first() != Some(&b'*') {
        return input.len();
    }
    let Ok((count, mut at)) = line(input, 0, "") else { return input.len() };
    for _ in 0..number::parse(&count[1..]).unwrap_or(0) {
        let Ok((header, start)) = line(input, at, "") else { break };
        let length = number::parse(&header[1..]).filter(|length| (0..=bulk_bytes_max).contains(length));
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else { break };
        at = start;
        if input.len() - start < length + 2 {
            break;
        }
        at = start + length + 2;
    }
    input.len() - at
}

fn array(input: &[u8], bulk_bytes_max: i64) -> Result<Request<'_>, Request<'_>> {
    let (count, mut at) = line(input, 0, "too big mbulk count string")?;
    let count = match number::parse(&count[1..]) {
        Some(count) if count <= i64::from(i32::MAX) => count,
        _ => return Err(invalid("invalid multibulk length")),
    };
    let Some(count) = usize::try_from(count).ok().filter(|&count| count > 0) else {
        return Ok(Request::Nothing { length: at });
    };
    // The count is the client's claim: memory follows the words that are there.
    let mut args = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let (header, start) = line(input, at, "too big bulk count string")?;
        if header.first() != Some(&b'$') {
            return Err(Request::Invalid([b"expected '$', got '", &input[at..=at], b"'"].concat()));
        }
        let length = match number::parse(&header[1..]) {
            Some(length) if (0..=bulk_bytes_max).contains(&length) => usize::try_from(length).unwrap_or(usize::MAX),
            _ => return Err(Request::Invalid(TOO_LONG.to_vec())),
        };
        if input.len() - start < length + 2 {
            return Err(Request::Incomplete);
        }
        args.push(Cow::Borrowed(&input[start..start + length]));
        at = start + length + 2;
    }
    Ok(Request::Command { args, length: at })
}

/// The line that starts at `at`, without its end, and where the next one starts.
fn line<'a>(input: &'a [u8], at: usize, too_long: &'static str) -> Result<(&'a [u8], usize), Request<'a>> {
    let rest = &input[at..];
    match rest.iter().position(|&byte| byte == b'\r' || byte == 0) {
        Some(end) if rest[end] == b'\r' => {
            if end + 2 > rest.len() {
                Err(Request::Incomplete)
            } else {
                Ok((&rest[..end], at + end + 2))
            }
        }
        _ if rest.len() > LINE_BYTES_MAX => Err(invalid(too_long)),
        _ => Err(Request::Incomplete),
    }
}

fn inline(input: &[u8]) -> Request<'_> {
    let end = match input.iter().position(|&byte| byte == b'\n' || byte == 0) {
        Some(end) if input[end] == b'\n' => end,
        _ if input.len() > LINE_BYTES_MAX => return invalid("too big inline request"),
        _ => return Request::Incomplete,
    };
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    match words(line) {
        None => invalid("unbalanced quotes in request"),
        Some(args) if args.is_empty() => Request::Nothing { length: end + 1 },
        Some(args) => Request::Command { args, length: end + 1 },
    }
}

/// Splits a line into words, as `sdssplitargs` does; none if its quotes are unbalanced.
fn words(line: &[u8]) -> Option<Vec<Cow<'_, [u8]>>> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        while line.get(at).copied().is_some_and(is_space) {
            at += 1;
        }
        if at == line.len() {
            return Some(found);
        }
        let mut word = Vec::new();
        loop {
            match line.get(at).copied() {
                None => break,
                Some(byte) if is_space(byte) => break,
                Some(quote @ (b'"' | b'\'')) => {
                    at = quoted(line, at + 1, quote, &mut word)?;
                    // A closing quote ends the word, and only a space may follow it.
                    if line.get(at).is_some_and(|&byte| !is_space(byte)) {
                        return None;
                    }
                    break;
                }
                Some(byte) => {
                    word.push(byte);
                    at += 1;
                }
            }
        }
        found.push(Cow::Owned(word));
    }
}

/// Appends what stands in quotes from `at` on; answers the position after the closing quote.
fn quoted(line: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        let rest = &line[at..];
        match rest {
            [] => return None,
            [b'\\', b'x', high, low, ..] if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                at += 4;
            }
            [b'\\', escaped, ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                at += 2;
            }
            [b'\\', b'\'', ..] if quote == b'\'' => {
                word.push(b'\'');
                at += 2;
            }
            [byte, ..] if *byte == quote => return Some(at + 1),
            [byte, ..] => {
                word.push(*byte);
                at += 1;
            }
        }
    }
}

fn invalid(text: &str) -> Request<'static> {
    Request::Invalid(text.as_bytes().to_vec())
}

/// C's `isspace` in the C locale, which has the vertical tab that `is_ascii_whitespace` leaves out.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 11
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(input: &[u8]) -> Vec<Vec<u8>> {
        match parse(input, BULK_BYTES_MAX) {
            Request::Command { args, .. } => args.into_iter().map(Cow::into_owned).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn refused(input: &[u8]) -> String {
        match parse(input, BULK_BYTES_MAX) {
            Request::Invalid(text) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn quotes_and_escapes_of_an_inline_command() {
        assert_eq!(parsed(b"SET a \"\\x41\\n\\q\" 'it\\'s' \r\n"), [&b"SET"[..], b"a", b"A\nq", b"it's"]);
        assert_eq!(refused(b"GET \"a\r\n"), "unbalanced quotes in request");
        assert_eq!(refused(b"GET \"a\"b\r\n"), "unbalanced quotes in request");
    }

    #[test]
    fn a_count_that_is_no_number_is_refused_before_the_words_arrive() {
        assert_eq!(refused(b"*x\r\n"), "invalid multibulk length");
        assert_eq!(refused(b"*2147483648\r\n"), "invalid multibulk length");
        assert_eq!(refused(b"*2\r\n$-1\r\n"), "invalid bulk length");
        assert_eq!(refused(b"*2\r\n:1\r\n"), "expected '$', got ':'");
    }

    #[test]
    fn a_line_without_an_end_is_refused_only_beyond_its_limit() {
        assert_eq!(parse(&vec![b'x'; LINE_BYTES_MAX], BULK_BYTES_MAX), Request::Incomplete);
        assert_eq!(refused(&vec![b'x'; LINE_BYTES_MAX + 1]), "too big inline request");
    }

    #[test]
    fn a_word_beyond_the_limit_is_refused_before_it_arrives() {
        assert_eq!(parse(b"*1\r\n$5\r\nab", 5), Request::Incomplete);
        assert_eq!(parse(b"*1\r\n$6\r\n", 5), invalid("invalid bulk length"));
    }

    #[test]
    fn an_array_of_nothing_has_no_answer() {
        assert_eq!(parse(b"*0\r\n", BULK_BYTES_MAX), Request::Nothing { length: 4 });
        assert_eq!(parse(b"*-7\r\nPING", BULK_BYTES_MAX), Request::Nothing { length: 5 });
        assert_eq!(parse(b" \r\n", BULK_BYTES_MAX), Request::Nothing { length: 3 });
    }
}
