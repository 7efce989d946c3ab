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

mod stage;

#[path = "scenarios/fleet.rs"]
mod fleet;

#[path = "scenarios/asymmetric_partition.rs"]
mod asymmetric_partition;
#[path = "scenarios/clock_steps_back.rs"]
mod clock_steps_back;
#[path = "scenarios/crash_before_the_answer.rs"]
mod crash_before_the_answer;
#[path = "scenarios/crash_during_replay.rs"]
mod crash_during_replay;
#[path = "scenarios/failed_fsync.rs"]
mod failed_fsync;
#[path = "scenarios/failover_to_another_address.rs"]
mod failover_to_another_address;
#[path = "scenarios/fast_clock.rs"]
mod fast_clock;
#[path = "scenarios/flapping_link.rs"]
mod flapping_link;
#[path = "scenarios/flipped_bit.rs"]
mod flipped_bit;
#[path = "scenarios/flipped_frame.rs"]
mod flipped_frame;
#[path = "scenarios/flushall.rs"]
mod flushall;
#[path = "scenarios/full_disk.rs"]
mod full_disk;
#[path = "scenarios/half_open_connection.rs"]
mod half_open_connection;
#[path = "scenarios/late_write.rs"]
mod late_write;
#[path = "scenarios/long_outage.rs"]
mod long_outage;
#[path = "scenarios/panicking_recorder.rs"]
mod panicking_recorder;
#[path = "scenarios/poison_record.rs"]
mod poison_record;
#[path = "scenarios/power_loss.rs"]
mod power_loss;
#[path = "scenarios/redis_comes_back_empty.rs"]
mod redis_comes_back_empty;
#[path = "scenarios/restart_under_two_hundred.rs"]
mod restart_under_two_hundred;
#[path = "scenarios/silent_first_address.rs"]
mod silent_first_address;
#[path = "scenarios/slow_link.rs"]
mod slow_link;
#[path = "scenarios/slow_redis.rs"]
mod slow_redis;
#[path = "scenarios/stopped_redis.rs"]
mod stopped_redis;
#[path = "scenarios/suspended_machine.rs"]
mod suspended_machine;
