//! Ports for servers of tests.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A port where nobody listens, now and (but for bad luck) until the test ends. Not one that the system gives out: while
/// the server is down, a client's own end could be given that port, and talk to itself.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes of tests that run beside this one start elsewhere.
    let start = process::id().wrapping_mul(64);
    let port = || FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
    let ports = (0..COUNT).map(|_| u16::try_from(port()).expect("below 30,000"));
    let mut free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("a free port among ten thousand")
}
