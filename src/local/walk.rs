//! The entries of a log, one by one, through a window of bounded size.

use std::io;

use super::format::{ChecksumSeed, ENTRY_HEADER_LEN, ENTRY_MAGIC, Location, Number, entry, payload_len};
use crate::env::DiskFile;

/// Bytes read at a time. A longer entry is read whole.
pub(super) const WINDOW: usize = 1 << 20;

/// A walk through a log, front to back.
pub(super) struct Walk<'a, F> {
    window: Window<'a, F>,
    pub(super) seed: ChecksumSeed,
}

impl<'a, F: DiskFile> Walk<'a, F> {
    pub(super) fn of(file: &'a F, len: u64, seed: ChecksumSeed) -> Self {
        Self { window: Window { file, len, base: 0, bytes: Vec::new() }, seed }
    }

    /// At most `want` bytes from `offset`; fewer at the end of the file.
    pub(super) fn bytes(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        self.window.at(offset, want)
    }

    /// The first entry from `at` on that verifies, wherever it begins.
    pub(super) fn next_entry(&mut self, mut at: u64) -> io::Result<Option<(Number, Location)>> {
        let len = self.window.len;
        while at < len {
            if let Some(payload_len) = payload_len(self.window.at(at, ENTRY_HEADER_LEN)?) {
                let location = Location { offset: at, len: payload_len };
                let whole = usize::try_from(location.bytes()).ok().filter(|_| location.end() <= len);
                let bytes = whole.map(|whole| self.window.at(at, whole)).transpose()?;
                if let Some(found) = bytes.and_then(|bytes| entry(bytes, self.seed)) {
                    return Ok(Some((found.number, location)));
                }
            }
            at = self.window.next_magic(at)?;
        }
        Ok(None)
    }

    /// The payload of an entry that was found.
    pub(super) fn payload(&mut self, location: Location) -> io::Result<&[u8]> {
        self.window.at(location.offset + ENTRY_HEADER_LEN as u64, location.len as usize)
    }
}

/// A part of a file in memory, which moves along.
struct Window<'a, F> {
    file: &'a F,
    len: u64,
    base: u64,
    bytes: Vec<u8>,
}

impl<F: DiskFile> Window<'_, F> {
    /// At most `want` bytes from `offset`; fewer at the end of the file.
    fn at(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        let want = usize::try_from(self.len.saturating_sub(offset)).map_or(want, |left| left.min(want));
        let inside = offset >= self.base && offset - self.base + want as u64 <= self.bytes.len() as u64;
        if !inside {
            let fill = usize::try_from(self.len - offset).unwrap_or(usize::MAX).min(want.max(WINDOW));
            self.bytes.resize(fill, 0);
            self.base = offset;
            self.file.read_at(offset, &mut self.bytes)?;
            self.bytes.shrink_to(WINDOW);
        }
        let from = usize::try_from(offset - self.base).expect("inside of the window");
        Ok(&self.bytes[from..from + want])
    }

    /// The next place after `at` that could be an entry; the end of the file if there is none.
    fn next_magic(&mut self, mut at: u64) -> io::Result<u64> {
        loop {
            at += 1;
            let bytes = self.at(at, WINDOW)?;
            if let Some(found) = bytes.windows(ENTRY_MAGIC.len()).position(|four| four == ENTRY_MAGIC) {
                return Ok(at + found as u64);
            }
            if bytes.len() < WINDOW {
                return Ok(self.len);
            }
            // The magic may begin in the last three bytes.
            at += (WINDOW - ENTRY_MAGIC.len()) as u64;
        }
    }
}
