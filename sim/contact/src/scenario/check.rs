//! What in a scenario cannot be played: it names what is not there, is out of order, or out of every range.
//!
//! Scenarios that grow from seeds never fail this. Files that were edited do, and would otherwise panic in the middle of a
//! run, or play something else than their author meant.

use super::Scenario;
use crate::{
    faults::{
        DiskTrouble, Fault, Moment, NamedInstances, NetTrouble, PlannedFault, Refusal, ServerLimit, Trigger, colliding,
    },
    marks, subject,
};

/// The latest time in a scenario and the longest delay, in simulated microseconds: 57 days. Products with a drift stay
/// within 64 bits.
const TIME_US_MAX: u64 = 5_000_000_000_000;

/// How wrong a clock may be set, in milliseconds: a stamp of the client has 48 bits for its time.
const CLOCK_MS_MAX: u64 = 1 << 48;

/// A clock that loses as much stands still, and one that gains as much runs twice as fast.
const DRIFT_PPM_MAX: u64 = 1_000_000;

/// Instances of a run, and workers of an instance. Each worker is a task.
const COUNT_MAX: usize = 1_024;

/// Keys of another service, in one fault.
const FOREIGN_KEYS_MAX: u64 = 100_000;

/// Ten years: the longest that a setting of the client may be, in milliseconds.
const SETTING_MS_MAX: u64 = 10 * 366 * 24 * 3_600 * 1_000;

impl Scenario {
    /// Whether it can be played. If not, says which place in it is wrong, and what would be right.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_instances()?;
        self.check_tuning()?;
        self.check_operations()?;
        self.check_faults()
    }

    fn check_instances(&self) -> Result<(), String> {
        let instances = self.prefixes.len();
        within("workers", self.workers.into(), 1, COUNT_MAX as u64)?;
        within("the number of prefixes, one an instance,", instances as u64, 1, COUNT_MAX as u64)?;
        let offsets = self.clock_offsets_ms.len();
        if offsets != instances {
            return Err(format!(
                "clock_offsets_ms has {offsets} entries for {instances} prefixes: each instance needs one of both"
            ));
        }
        for (instance, prefix) in self.prefixes.iter().enumerate() {
            subject::check_prefix(prefix).map_err(|wrong| format!("prefixes[{instance}]: {wrong}"))?;
        }
        for (instance, offset_ms) in self.clock_offsets_ms.iter().enumerate() {
            at_most(&format!("clock_offsets_ms[{instance}]"), offset_ms.unsigned_abs(), CLOCK_MS_MAX)?;
        }
        Ok(())
    }

    fn check_tuning(&self) -> Result<(), String> {
        if let Some(ttl_ms) = self.tuning.record_ttl_ms {
            within("tuning.record_ttl_ms", ttl_ms, 1_000, SETTING_MS_MAX)?;
        }
        if let Some(ttl_ms) = self.tuning.tombstone_ttl_ms {
            within("tuning.tombstone_ttl_ms", ttl_ms, 60_000, SETTING_MS_MAX)?;
        }
        Ok(())
    }

    fn check_operations(&self) -> Result<(), String> {
        let mut before_us = 0;
        for (number, planned) in self.operations.iter().enumerate() {
            let place = format!("operations[{number}]");
            at_most(&format!("{place}.at_us"), planned.at_us, TIME_US_MAX)?;
            if planned.at_us < before_us {
                return Err(format!("{place}.at_us is {}, before the one above it: sort them by at_us", planned.at_us));
            }
            before_us = planned.at_us;
            self.check_instance(&format!("{place}.instance"), planned.instance)?;
        }
        Ok(())
    }

    fn check_faults(&self) -> Result<(), String> {
        let mut before_us = 0;
        for (number, planned) in self.faults.iter().enumerate() {
            let place = format!("faults[{number}]");
            let PlannedFault { start_us, end_us, .. } = *planned;
            at_most(&format!("{place}.end_us"), end_us, TIME_US_MAX)?;
            if end_us < start_us {
                return Err(format!("{place} ends at {end_us} us, before it begins at {start_us} us"));
            }
            if start_us < before_us {
                return Err(format!("{place}.start_us is {start_us}, before the one above it: sort them by start_us"));
            }
            before_us = start_us;
            self.check_named(&place, &planned.fault)?;
            planned.at.as_ref().map_or(Ok(()), |trigger| check_trigger(&place, trigger))?;
            check_amounts(&format!("{place}.fault"), &planned.fault)?;
        }
        match colliding(&self.faults) {
            Some((earlier, later)) => Err(format!(
                "faults[{later}] begins while faults[{earlier}] lasts, and both strike the same thing: let one end first"
            )),
            None => Ok(()),
        }
    }

    fn check_named(&self, place: &str, fault: &Fault) -> Result<(), String> {
        let named = fault.instances();
        for (position, instance) in named.iter().enumerate() {
            self.check_instance(&format!("an instance of {place}"), *instance)?;
            if named[..position].contains(instance) {
                return Err(format!("{place} names instance {instance} twice: once is enough"));
            }
        }
        let mut fault = fault.clone();
        match fault.instances_mut() {
            NamedInstances::Pair(one, other) => {
                self.check_instance(&format!("the other instance of {place}"), *other)?;
                if one == other {
                    return Err(format!("{place} names instance {one} for both: name two"));
                }
                Ok(())
            }
            NamedInstances::Several(instances) if instances.is_empty() => {
                Err(format!("{place} names no instance: name one, or take it out"))
            }
            _ => Ok(()),
        }
    }

    fn check_instance(&self, place: &str, instance: u32) -> Result<(), String> {
        let count = self.prefixes.len();
        if (instance as usize) < count {
            return Ok(());
        }
        Err(format!("{place} is {instance}: there are {count} prefixes, one an instance, counted from 0"))
    }
}

/// What a fault waits for.
fn check_trigger(place: &str, trigger: &Trigger) -> Result<(), String> {
    within(&format!("{place}.at.nth"), trigger.nth.into(), 1, u64::MAX)?;
    at_most(&format!("{place}.at.lasts_us"), trigger.lasts_us, TIME_US_MAX)?;
    match &trigger.moment {
        Moment::Mark(mark) if !marks::is_counted(mark) => Err(format!(
            "{place}.at.moment is the mark {mark:?}: no client counts it as it happens; `seedbed list` names the marks, \
             and those that rest on a metric of the client can be waited for"
        )),
        _ => Ok(()),
    }
}

/// What a fault does, and how much of it.
fn check_amounts(place: &str, fault: &Fault) -> Result<(), String> {
    match fault {
        Fault::SlowLink { extra_us: us, .. }
        | Fault::BadNames { delay_us: us, .. }
        | Fault::BadNetwork { trouble: NetTrouble::Jitter { jitter_us: us }, .. }
        | Fault::RedisFailover { lag_us: us, .. }
        | Fault::RollingRestart { down_us: us }
        | Fault::RedisBusyScript { silent_us: us }
        | Fault::RedisRollback { age_us: us } => {
            at_most(&format!("the time of {place} in microseconds"), *us, TIME_US_MAX)
        }
        Fault::BadNetwork { trouble: NetTrouble::Loss { per_mille } | NetTrouble::Short { per_mille }, .. } => {
            at_most(&format!("per_mille of {place}"), (*per_mille).into(), 1_000)
        }
        Fault::BadNetwork { trouble: NetTrouble::Narrow { bytes_per_s }, .. } => {
            within(&format!("bytes_per_s of {place}"), *bytes_per_s, 1, u64::MAX)
        }
        Fault::BadNetwork { trouble: NetTrouble::Flips { segments, .. }, .. } => {
            within(&format!("segments of {place}"), (*segments).into(), 1, u64::from(u32::MAX))
        }
        Fault::RedisRefusesOne { with: with @ (Refusal::Busy | Refusal::MaxClients), .. } => Err(format!(
            "{place} refuses with {with:?}, which a server is to all clients: name an error that one user can meet"
        )),
        Fault::RedisLimits { to: ServerLimit::Idle { seconds } } => {
            within(&format!("seconds of {place}"), *seconds, 1, TIME_US_MAX / 1_000_000)
        }
        Fault::ForeignKeys { spellings, strings, crowd } => {
            let keys = u64::from(*spellings) + u64::from(*strings) + u64::from(*crowd);
            within(&format!("the number of keys of {place}"), keys, 1, FOREIGN_KEYS_MAX)
        }
        Fault::CancelledCalls { polls_max, .. } => within(&format!("{place}.polls_max"), *polls_max, 1, u64::MAX),
        Fault::ClockStep { by_ms, .. } | Fault::RedisClockStep { by_ms } => {
            at_most(&format!("{place}.by_ms"), by_ms.unsigned_abs(), CLOCK_MS_MAX)
        }
        Fault::ClockDrift { ppm, .. } => at_most(&format!("{place}.ppm"), ppm.unsigned_abs(), DRIFT_PPM_MAX),
        Fault::BadDisk { trouble: DiskTrouble::SlowSync { extra_us }, .. } => {
            at_most(&format!("extra_us of {place}"), *extra_us, TIME_US_MAX)
        }
        Fault::Partition { .. }
        | Fault::BadNetwork { trouble: NetTrouble::ResetWithin { .. }, .. }
        | Fault::ResetConnections { .. }
        | Fault::RedisCrash { .. }
        | Fault::RedisPowerLoss { .. }
        | Fault::RedisSwap { .. }
        | Fault::RedisPause
        | Fault::RedisRefuses { .. }
        | Fault::RedisRefusesOne { .. }
        | Fault::RedisDenies { .. }
        | Fault::RedisLimits { .. }
        | Fault::ScriptFlush
        | Fault::FlushAll
        | Fault::InstanceRestart { .. }
        | Fault::InstanceCrash { .. }
        | Fault::CrashAtDisk { .. }
        | Fault::InstancePause { .. }
        | Fault::InstanceSuspend { .. }
        | Fault::LockHeld { .. }
        | Fault::BadDisk { .. }
        | Fault::BitRot { .. }
        | Fault::BadWrites { .. }
        | Fault::StoreChange { .. }
        | Fault::StoreShared { .. }
        | Fault::Eviction { .. } => Ok(()),
    }
}

/// Of a number that may have a sign, its size.
fn at_most(place: &str, number: u64, most: u64) -> Result<(), String> {
    within(place, number, 0, most)
}

fn within(place: &str, number: u64, least: u64, most: u64) -> Result<(), String> {
    if number < least {
        return Err(format!("{place} is {number}: it must be at least {least}"));
    }
    if number > most {
        return Err(format!("{place} is {number}: it must be at most {most}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        faults::StoreChange,
        history::{Call, Tuning},
        seed::Seed,
        workload::{ALL, PlannedCall, Workload},
    };

    /// Two instances and nothing to do.
    fn plain() -> Scenario {
        let mut plain = Scenario::generate(Workload::Consistency, Seed(1));
        plain.prefixes = vec!["p".to_owned(); 2];
        plain.clock_offsets_ms = vec![0, 0];
        plain.operations.clear();
        plain.faults.clear();
        plain
    }

    fn lasting(start_us: u64, end_us: u64, fault: Fault) -> PlannedFault {
        PlannedFault { start_us, end_us, at: None, fault }
    }

    fn assert_refused(change: impl FnOnce(&mut Scenario), said: &str) {
        let mut scenario = plain();
        change(&mut scenario);
        assert_eq!(scenario.check(), Err(said.to_owned()));
    }

    #[test]
    fn whatever_grows_from_a_seed_can_be_played() {
        for workload in ALL {
            for seed in 0..200 {
                let scenario = Scenario::generate_within(workload, Seed(seed), seed % 4 == 3);
                assert_eq!(scenario.check(), Ok(()), "seed {seed} of {workload}");
            }
        }
    }

    #[test]
    fn instances_and_settings_beyond_their_ranges_are_refused() {
        assert_refused(|it| it.workers = 0, "workers is 0: it must be at least 1");
        assert_refused(|it| it.workers = u32::MAX, "workers is 4294967295: it must be at most 1024");
        assert_refused(
            |it| it.prefixes.clear(),
            "the number of prefixes, one an instance, is 0: it must be at least 1",
        );
        assert_refused(
            |it| it.clock_offsets_ms.truncate(1),
            "clock_offsets_ms has 1 entries for 2 prefixes: each instance needs one of both",
        );
        assert_refused(
            |it| it.clock_offsets_ms[1] = i64::MIN,
            "clock_offsets_ms[1] is 9223372036854775808: it must be at most 281474976710656",
        );
        assert_refused(
            |it| it.tuning = Tuning { record_ttl_ms: Some(0), ..Tuning::default() },
            "tuning.record_ttl_ms is 0: it must be at least 1000",
        );
        let mut long = plain();
        long.prefixes[1] = "x".repeat(2_000);
        assert!(long.check().is_err_and(|said| said.starts_with("prefixes[1]: ") && said.contains("1024")), "{long:?}");
    }

    #[test]
    fn operations_out_of_order_or_of_unknown_instances_are_refused() {
        let planned = |at_us, instance| PlannedCall { at_us, instance, call: Arc::new(Call::List) };
        assert_refused(
            |it| it.operations = vec![planned(5, 0), planned(4, 0)],
            "operations[1].at_us is 4, before the one above it: sort them by at_us",
        );
        assert_refused(
            |it| it.operations = vec![planned(5, 0), planned(6, 2)],
            "operations[1].instance is 2: there are 2 prefixes, one an instance, counted from 0",
        );
        assert_refused(
            |it| it.operations = vec![planned(u64::MAX, 0)],
            "operations[0].at_us is 18446744073709551615: it must be at most 5000000000000",
        );
    }

    #[test]
    fn faults_out_of_order_or_at_once_are_refused() {
        let crash = || Fault::InstanceCrash { instance: 0, power_loss: false };
        assert_refused(
            |it| it.faults = vec![lasting(5, 9, Fault::RedisPause), lasting(4, 4, Fault::ScriptFlush)],
            "faults[1].start_us is 4, before the one above it: sort them by start_us",
        );
        assert_refused(
            |it| it.faults = vec![lasting(5, 4, Fault::RedisPause)],
            "faults[0] ends at 4 us, before it begins at 5 us",
        );
        assert_refused(
            |it| it.faults = vec![lasting(5, 9, crash()), lasting(8, 12, Fault::InstancePause { instance: 0 })],
            "faults[1] begins while faults[0] lasts, and both strike the same thing: let one end first",
        );
        let mut other = plain();
        other.faults = vec![lasting(5, 9, crash()), lasting(8, 12, Fault::InstancePause { instance: 1 })];
        assert_eq!(other.check(), Ok(()));
    }

    #[test]
    fn a_moment_that_never_comes_is_refused() {
        let pause = |moment, nth, lasts_us| {
            let at = Some(Trigger { moment, nth, lasts_us });
            PlannedFault { at, ..lasting(5, 9, Fault::InstancePause { instance: 0 }) }
        };
        let mark = |name: &'static str| Moment::Mark(name.into());
        let mut known = plain();
        known.faults = vec![pause(mark("pending write merged"), 1, 0)];
        assert_eq!(known.check(), Ok(()));
        assert_refused(
            |it| it.faults = vec![pause(Moment::MergeDone, 0, 0)],
            "faults[0].at.nth is 0: it must be at least 1",
        );
        assert_refused(
            |it| it.faults = vec![pause(Moment::MergeDone, 1, u64::MAX)],
            "faults[0].at.lasts_us is 18446744073709551615: it must be at most 5000000000000",
        );
        assert_refused(
            |it| it.faults = vec![pause(mark("breaker opened"), 1, 0)],
            "faults[0].at.moment is the mark \"breaker opened\": no client counts it as it happens; `seedbed list` names \
             the marks, and those that rest on a metric of the client can be waited for",
        );
    }

    #[test]
    fn faults_of_nobody_or_of_impossible_sizes_are_refused() {
        let resets = |instances: &[u32]| Fault::ResetConnections { instances: instances.to_vec() };
        let copy_of = |original| {
            let change = StoreChange::CopyOf { original, age_us: 0, volume: false };
            Fault::StoreChange { instance: 0, change, running: false }
        };
        let of_both = |trouble| Fault::BadNetwork { instances: vec![0, 1], trouble };
        for (fault, said) in [
            (resets(&[]), "faults[0] names no instance: name one, or take it out"),
            (resets(&[1, 1]), "faults[0] names instance 1 twice: once is enough"),
            (resets(&[1, 2]), "an instance of faults[0] is 2: there are 2 prefixes, one an instance, counted from 0"),
            (copy_of(0), "faults[0] names instance 0 for both: name two"),
            (copy_of(2), "the other instance of faults[0] is 2: there are 2 prefixes, one an instance, counted from 0"),
            (
                Fault::CancelledCalls { instance: 0, polls_max: 0 },
                "faults[0].fault.polls_max is 0: it must be at least 1",
            ),
            (
                of_both(NetTrouble::Loss { per_mille: 1_001 }),
                "per_mille of faults[0].fault is 1001: it must be at most 1000",
            ),
            (
                of_both(NetTrouble::Narrow { bytes_per_s: 0 }),
                "bytes_per_s of faults[0].fault is 0: it must be at least 1",
            ),
            (
                Fault::ClockDrift { instance: 0, ppm: -2_000_000 },
                "faults[0].fault.ppm is 2000000: it must be at most 1000000",
            ),
            (
                Fault::BadDisk { instance: 0, trouble: DiskTrouble::SlowSync { extra_us: u64::MAX } },
                "extra_us of faults[0].fault is 18446744073709551615: it must be at most 5000000000000",
            ),
        ] {
            assert_refused(|it| it.faults = vec![lasting(5, 9, fault)], said);
        }
    }
}
