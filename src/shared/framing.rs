//! Scans replies for the signs that they no longer match the requests, one to one.
//!
//! A bit that flips in transit, unnoticed by the checksums of the network, can hit the framing of a request. If the first byte of
//! `*2 $7 HGETALL ..` is no longer an asterisk, Redis takes each line for an inline command and answers each: `unknown command '$7'`.
//! Or it hits the end of a line in a reply: `-NOSCRIPT ..` then goes on to the end of the next reply's line, and swallows that.
//! From then on each request would get the reply to another one: a read another contact's record, a write the success of another. So the
//! replies that arrive with such a sign, and all later ones, must not reach any caller, and the connection ends. To check for it where it
//! arrives as a reply was rejected: the replies behind it have been delivered by then.
//!
//! Replies are parsed no further than that: lines, and bulk strings of an announced length.

use super::said::names_another_command;

/// The bytes kept of a line: enough for an error and the name of a command.
const BYTES_MAX: usize = 96;

/// Signs that replies no longer match requests, as reasons for people.
const NOT_SENT: &str = "redis was asked for a command that was not sent: bytes are damaged on their way";
const NOT_ENDED: &str = "a line of redis does not end as lines do: bytes are damaged on their way";

/// The position in the replies of a server.
#[derive(Default)]
pub(super) struct Framing {
    /// Bytes of a text that are still to come, with its end of line.
    left: usize,
    /// The line so far.
    line: Vec<u8>,
    /// Whether its last byte so far is a carriage return, and whether one stands before that.
    returned: bool,
    is_torn: bool,
}

impl Framing {
    /// Takes the bytes received. Returns the reason if they show that later replies cannot be trusted.
    pub(super) fn lost(&mut self, mut bytes: &[u8]) -> Option<&'static str> {
        loop {
            let skipped = self.left.min(bytes.len());
            (self.left, bytes) = (self.left - skipped, &bytes[skipped..]);
            if self.line.is_empty()
                && let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))
                && bytes[end..].starts_with(b"\r\n")
            {
                // The whole line is here, and is not copied.
                self.left = text_len(&bytes[..end]);
                if is_foreign(&bytes[..end]) {
                    return Some(NOT_SENT);
                }
                bytes = &bytes[end + 2..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.keep(bytes);
                return None;
            };
            self.keep(&bytes[..end]);
            if self.is_torn || !self.returned {
                return Some(NOT_ENDED);
            }
            self.left = text_len(self.line.trim_ascii_end());
            if is_foreign(&self.line) {
                return Some(NOT_SENT);
            }
            self.line.clear();
            (self.returned, bytes) = (false, &bytes[end + 1..]);
        }
    }

    /// Takes in a part of a line.
    fn keep(&mut self, bytes: &[u8]) {
        self.look(bytes);
        let room = BYTES_MAX - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Looks for carriage returns: a line ends with its only one.
    fn look(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.is_torn |= self.returned;
        if let Some(at) = bytes.iter().position(|byte| *byte == b'\r') {
            self.returned = at + 1 == bytes.len();
            self.is_torn |= !self.returned;
        }
    }
}

/// How many bytes follow a line, if it announces a text. The line is without its end.
fn text_len(line: &[u8]) -> usize {
    // Parsed by hand: each bulk string of each reply has such a line. A null has the length -1.
    let Some(digits) = line.strip_prefix(b"$") else { return 0 };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let add = |len: usize, digit: &u8| len.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
    digits.iter().fold(0, add).saturating_add(2)
}

/// Whether the line is an error for a command that this client does not send.
fn is_foreign(line: &[u8]) -> bool {
    line.strip_prefix(b"-ERR ").is_some_and(|text| names_another_command(&String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_that_replies_are_out_of_step_is_found_however_the_bytes_are_cut_and_in_no_text() {
        for (replies, lost) in [
            ("-ERR unknown command '$7', with args beginning with: \r\n", Some(NOT_SENT)),
            (
                "*2\r\n$1\r\na\r\n$2\r\nx\n\r\n+OK\r\n-ERR unknown command `cc1:p:u`, with args beginning with: \r\n",
                Some(NOT_SENT),
            ),
            ("$-1\r\n:7\r\n-ERR unknown command '', with args beginning with: \r\n", Some(NOT_SENT)),
            ("$57\r\n\r\n-ERR unknown command '$7', with args beginning with: \r\n\r\n", None),
            // A server that has disabled a command for all clients.
            ("-ERR unknown command 'evalsha', with args beginning with: '1' \r\n", None),
            ("-ERR unknown command `EVALSHA`, with args beginning with: `1`, \r\n", None),
            ("-ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.\r\n-NOAUTH Authentication required.\r\n", None),
            ("-ERR wrong number of arguments for 'hgetall' command\r\n", None),
            ("$99999999999999999999999\r\n\r\n\n", None),
            // The end of a line: without its return, without its feed, and with a return before it.
            ("-NOSCRIPT No matching script.M\n*1\r\n:1\r\n", Some(NOT_ENDED)),
            ("-NOSCRIPT No matching script.\rJ*1\r\n:1\r\n", Some(NOT_ENDED)),
            ("+OK\r\r\n", Some(NOT_ENDED)),
            ("\n", Some(NOT_ENDED)),
            ("$3\r\n\r\n\n\r\n$0\r\n\r\n+OK\r\n", None),
        ] {
            for cut in 0..replies.len() {
                let mut framing = Framing::default();
                let (first, rest) = replies.as_bytes().split_at(cut);
                assert_eq!(framing.lost(first).or_else(|| framing.lost(rest)), lost, "{replies:?} cut at {cut}");
            }
            let mut framing = Framing::default();
            assert_eq!(replies.bytes().find_map(|byte| framing.lost(&[byte])), lost, "{replies:?} byte by byte");
        }
    }
}
