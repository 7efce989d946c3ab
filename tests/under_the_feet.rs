//! What happens to the files of a local store while a process has it open, or between two of its openings: removed, moved,
//! copied, cut, mounted over, replaced by a link, opened on a second host; and which Redis a store belongs to. On the real file
//! system first, then in the simulated world, where Redis and a second host can be had beside it.

mod mount;
mod stage;

#[path = "under_the_feet/another_redis.rs"]
mod another_redis;
#[path = "under_the_feet/no_room.rs"]
mod no_room;
#[path = "under_the_feet/real_files.rs"]
mod real_files;
#[path = "under_the_feet/simulated.rs"]
mod simulated;
#[path = "under_the_feet/two_hosts.rs"]
mod two_hosts;
