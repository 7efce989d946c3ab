//! What happens to the files of a local store while a process has it open, or between two of its openings: removed, moved,
//! copied, cut, mounted over, replaced by a link, opened on a second host; and which Redis a store belongs to. On the real file
//! system first, then in the simulated world, where Redis and a second host can be had beside it.

#[path = "../mount/mod.rs"]
mod mount;
#[path = "../stage/mod.rs"]
mod stage;

mod another_redis;
mod no_room;
mod real_files;
mod simulated;
mod two_hosts;
