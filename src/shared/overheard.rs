//! A stream that remembers the first line of a server, if that is an error, and that ends once the replies no longer match the
//! requests (see `framing`).
//!
//! A server that turns a client away (`max number of clients reached`) says why and closes. The `redis` crate reads those
//! words as the reply to a request whose error it ignores, or fails to write first and reads no more; and of a refused
//! login it tells that it was refused. The reason is in that line.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use super::framing::Framing;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the line that are remembered.
const BYTES_MAX: usize = 512;

/// The line, as far as it has come. Clones share it.
#[derive(Clone, Default)]
pub(super) struct FirstLine(Arc<Mutex<Vec<u8>>>);

impl FirstLine {
    /// The line, if it is an error.
    pub(super) fn error(&self) -> Option<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.starts_with(b"-").then(|| String::from_utf8_lossy(&heard).into_owned())
    }

    /// Whether there is no more to be heard.
    fn hear(&self, bytes: &[u8]) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes, |end| &bytes[..end]);
        let room = BYTES_MAX - heard.len();
        heard.extend_from_slice(&line[..line.len().min(room)]);
        line.len() < bytes.len() || heard.len() == BYTES_MAX || heard.first().is_some_and(|first| *first != b'-')
    }
}

/// The stream.
pub(super) struct Overheard<S> {
    stream: S,
    line: FirstLine,
    /// Whether the line is over.
    over: bool,
    framing: Framing,
    /// The sign that the frames no longer match the requests, once there is one: no later byte is given out.
    lost: Option<&'static str>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Overheard<S> {
    pub(super) fn new(stream: S) -> (Self, FirstLine) {
        let line = FirstLine::default();
        (Self { stream, line: line.clone(), over: false, framing: Framing::default(), lost: None }, line)
    }

    /// The peer is gone; what it said before may still be there.
    fn hear_the_rest(&mut self, context: &mut Context<'_>) {
        let mut bytes = [0; BYTES_MAX];
        while !self.over {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.over = self.line.hear(buffer.filled()),
                Poll::Ready(_) | Poll::Pending => self.over = true,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.lost.is_none() {
            self.lost = self.framing.lost(&buffer.filled()[before..]);
        }
        if let Some(reason) = self.lost {
            buffer.set_filled(before);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        if !self.over && buffer.filled().len() > before {
            self.over = self.line.hear(&buffer.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if !self.over && matches!(written, Poll::Ready(Err(_))) {
            self.hear_the_rest(context);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn the_first_line_is_remembered_however_it_is_cut_and_only_if_it_is_an_error() {
        for (pieces, error) in [
            (&["-ERR max ", "clients\r", "\n+OK\r\n"][..], Some("-ERR max clients\r")),
            (&["+OK\r\n-ERR x\r\n"], None),
            (&["-"], Some("-")),
            (&[], None),
        ] {
            let line = FirstLine::default();
            for piece in pieces {
                if line.hear(piece.as_bytes()) {
                    break;
                }
            }
            assert_eq!(line.error().as_deref(), error, "{pieces:?}");
        }
        let line = FirstLine::default();
        assert!(line.hear(&[b'-'; 2000]));
        assert_eq!(line.error().map(|line| line.len()), Some(BYTES_MAX));
    }

    #[tokio::test]
    async fn no_byte_is_given_out_once_the_frames_do_not_match_the_requests() {
        let (mut redis, stream) = tokio::io::duplex(256);
        let (mut overheard, _) = Overheard::new(stream);
        for replies in ["+OK\r\n-ERR unknown command '$7', with args\r\n", "+the reply to another request\r\n"] {
            redis.write_all(replies.as_bytes()).await.expect("room in the pipe");
            let mut bytes = [0; 256];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = std::future::poll_fn(|context| Pin::new(&mut overheard).poll_read(context, &mut buffer)).await;
            assert!(read.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData));
            assert_eq!(buffer.filled(), b"");
        }
    }
}
