//! Failures known from production, each played on purpose: one file a failure, which begins with the incident it stands
//! for. Instances of the client, their disks and clocks, the network and Redis are simulated; what happens when is the
//! scenario's, all else is chance, and each is played with many seeds.
//!
//! | the network | |
//! | --- | --- |
//! | [`half_open_connection`] | a firewall forgets a connection, and nobody says so |
//! | [`silent_first_address`] | the name has several, and the first one swallows everything |
//! | [`asymmetric_partition`] | requests arrive, replies do not |
//! | [`flapping_link`] | the link comes and goes, several times a second |
//! | [`late_write`] | a write that timed out is executed a minute later |
//! | [`slow_link`] | records of 400 kB over 8 Mbit/s |
//! | **Redis** | |
//! | [`stopped_redis`] | SIGSTOP: the kernel answers, the process does not |
//! | [`slow_redis`] | slow, but within the timeout |
//! | [`restart_under_two_hundred`] | two hundred instances reconnect |
//! | [`long_outage`] | hundreds of writes wait, over a slow link |
//! | [`poison_record`] | one record cannot be merged, and 150 can |
//! | [`redis_comes_back_empty`] | restarted without its data |
//! | [`flushall`] | emptied under living connections |
//! | [`failover_to_another_address`] | the name leads elsewhere, to all data or less |
//! | **disks and processes** | |
//! | [`full_disk`] | no space left, during an outage |
//! | [`crash_before_the_answer`] | on disk, and the caller never hears of it |
//! | [`crash_during_replay`] | while what is pending is merged |
//! | [`panicking_recorder`] | the application's recorder and subscriber panic at everything |
//! | [`power_loss`] | torn pages |
//! | [`failed_fsync`] | and what a retry would hide |
//! | **clocks** | |
//! | [`fast_clock`] | a quarter of an hour ahead, in a partition |
//! | [`clock_steps_back`] | over a restart |
//! | [`suspended_machine`] | a machine sleeps, and its monotonic clock with it |
//!
//! Each was seen failing with its bug planted in the client. `fleet` is the application, and holds every answer against
//! the guarantees.

#![expect(clippy::large_futures, reason = "each is awaited where it is made")]

#[path = "../stage/mod.rs"]
mod stage;

mod fleet;

mod asymmetric_partition;
mod clock_steps_back;
mod crash_before_the_answer;
mod crash_during_replay;
mod failed_fsync;
mod failover_to_another_address;
mod fast_clock;
mod flapping_link;
mod flipped_bit;
mod flipped_frame;
mod flushall;
mod full_disk;
mod half_open_connection;
mod late_write;
mod long_outage;
mod panicking_recorder;
mod poison_record;
mod power_loss;
mod redis_comes_back_empty;
mod restart_under_two_hundred;
mod silent_first_address;
mod slow_link;
mod slow_redis;
mod stopped_redis;
mod suspended_machine;
