//! Scans replies for the one sign that Redis no longer splits the requests as this client framed them.
//!
//! A bit that flips in transit, unnoticed by the checksums of the network, can hit the framing of a request. If the first byte of
//! `*2 $7 HGETALL ..` is no longer an asterisk, Redis takes each line for an inline command and answers each: `unknown command '$7'`.
//! From then on each request would get the reply to an earlier one, and a read another contact's record. So the replies that arrive
//! with such an error, and all later ones, must not reach any caller, and the connection ends. To check for the error where it arrives
//! as a reply was rejected: the replies behind it have been delivered by then.
//!
//! Replies are parsed no further than that: lines, and bulk strings of an announced length.

use super::said::names_another_command;

/// The bytes kept of a line: enough for an error and the name of a command.
const BYTES_MAX: usize = 96;

/// The position in the replies of a server.
#[derive(Default)]
pub(super) struct Framing {
    /// Bytes of a text that are still to come, with its end of line.
    left: usize,
    /// The line so far.
    line: Vec<u8>,
}

impl Framing {
    /// Takes the bytes received. Returns whether they hold an error for a command that this client does not send.
    pub(super) fn is_lost(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let skipped = self.left.min(bytes.len());
            (self.left, bytes) = (self.left - skipped, &bytes[skipped..]);
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.keep(bytes);
                return false;
            };
            if self.line.is_empty() {
                // The whole line is here, and is not copied.
                self.left = text_len(&bytes[..end]);
                if is_foreign(&bytes[..end]) {
                    return true;
                }
            } else {
                self.keep(&bytes[..end]);
                self.left = text_len(&self.line);
                if is_foreign(&self.line) {
                    return true;
                }
                self.line.clear();
            }
            bytes = &bytes[end + 1..];
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = BYTES_MAX - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// How many bytes follow a line, if it announces a text.
fn text_len(line: &[u8]) -> usize {
    // Parsed by hand: each bulk string of each reply has such a line. A null has the length -1.
    let Some(digits) = line.trim_ascii_end().strip_prefix(b"$") else { return 0 };
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
    fn an_error_for_a_command_that_was_not_sent_is_found_however_the_bytes_are_cut_and_in_no_text() {
        for (replies, is_lost) in [
            ("-ERR unknown command '$7', with args beginning with: \r\n", true),
            (
                "*2\r\n$1\r\na\r\n$2\r\nx\n\r\n+OK\r\n-ERR unknown command `cc1:p:u`, with args beginning with: \r\n",
                true,
            ),
            ("$-1\r\n:7\r\n-ERR unknown command '', with args beginning with: \r\n", true),
            ("$57\r\n\r\n-ERR unknown command '$7', with args beginning with: \r\n\r\n", false),
            // A server that has disabled a command for all clients.
            ("-ERR unknown command 'evalsha', with args beginning with: '1' \r\n", false),
            ("-ERR unknown command `EVALSHA`, with args beginning with: `1`, \r\n", false),
            ("-ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.\r\n-NOAUTH Authentication required.\r\n", false),
            ("-ERR wrong number of arguments for 'hgetall' command\r\n", false),
            ("$99999999999999999999999\r\n\r\n\n", false),
        ] {
            for cut in 0..replies.len() {
                let mut framing = Framing::default();
                let (first, rest) = replies.as_bytes().split_at(cut);
                assert_eq!(framing.is_lost(first) || framing.is_lost(rest), is_lost, "{replies:?} cut at {cut}");
            }
            let mut framing = Framing::default();
            assert_eq!(replies.bytes().any(|byte| framing.is_lost(&[byte])), is_lost, "{replies:?} byte by byte");
        }
    }
}
