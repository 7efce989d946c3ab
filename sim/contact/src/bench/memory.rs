//! Memory of an instance that is open and does nothing: client, connection, disk, and its part of the bed.

use super::bed;

const FEWER: u32 = 50;
const MORE: u32 = 550;

/// The difference of the highest use of memory in two runs, divided by the instances that were added: more than an idle
/// instance has, since opening takes some too. In KiB. Only the first call in a process says something.
pub(super) fn of_an_idle_instance() -> u32 {
    bed::idle(FEWER);
    let before = highest_kib();
    bed::idle(MORE);
    (highest_kib() - before) / (MORE - FEWER)
}

/// The highest resident size of this process so far.
fn highest_kib() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says it there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it there");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
