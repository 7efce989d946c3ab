//! Worker processes. A system under test that exits, aborts, overflows its stack, takes all memory or spins ends one worker
//! process. The program that started it goes on, and reports how the process ended.
//!
//! - here: the worker's side. It reads requests from standard input, one JSON value a line, and answers each with a line, in order.
//! - `process`: the other side, which starts worker processes and ends those that spin.

mod process;

use std::io::{self, BufRead, BufWriter, Write};

use rustix::process::{Resource, Rlimit};
use serde::{Serialize, de::DeserializeOwned};

pub use self::process::{ProcessEnd, Program, Worker};

/// Address space of a worker process, in bytes. A run uses some hundred megabytes at most. One that grows without bound ends
/// here, before the machine swaps. It is address space, since Linux does not limit resident memory.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// The line before the replies: a test harness writes its own lines before it starts the test.
const READY: &[u8] = b"seedbed worker is ready";

/// Serves requests until standard input ends. From then on standard output is standard error: the system under test may print.
///
/// # Errors
/// The standard streams cannot be used, or a request is malformed.
pub fn serve<Request: DeserializeOwned, Reply: Serialize>(mut answer: impl FnMut(Request) -> Reply) -> io::Result<()> {
    // A parent that was killed cannot end a worker that spins.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // Only root may go beyond a limit that is set already.
    let hard = rustix::process::getrlimit(Resource::As).maximum;
    let bytes = Some(hard.map_or(MEMORY_BYTES_MAX, |hard| hard.min(MEMORY_BYTES_MAX)));
    let limit = Rlimit { current: bytes, maximum: bytes };
    rustix::process::setrlimit(Resource::As, limit)?;
    let mut replies = BufWriter::new(std::fs::File::from(rustix::io::dup(io::stdout())?));
    rustix::stdio::dup2_stdout(io::stderr())?;
    write_line(&mut replies, READY)?;
    for line in io::stdin().lock().lines() {
        let reply = serde_json::to_vec(&answer(serde_json::from_str(&line?)?))?;
        write_line(&mut replies, &reply)?;
    }
    Ok(())
}

fn write_line(to: &mut impl Write, line: &[u8]) -> io::Result<()> {
    // The line before may have no end: a harness writes "test name ... " first.
    if line == READY {
        to.write_all(b"\n")?;
    }
    to.write_all(line)?;
    to.write_all(b"\n")?;
    to.flush()
}
