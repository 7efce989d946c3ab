//! Faults of the network and of names that one instance suffers one at a time, and those that move Redis.

use seedbed_redis::{Content, Dumped, Engine};

use super::{Edge, Nemesis};
use crate::{
    faults::{Fault, NameAnswer, NetTrouble, OtherData, Persistence},
    history::{Stop, What},
    redis_host::{HOSTS, PORT},
    world::{
        Host,
        net::{Latency, Resolver, Says},
    },
};

/// How the keys of the markers of a generation begin (docs/FORMATS.md).
const MARKERS: &[u8] = b"cc1g:";

impl Nemesis<'_> {
    /// Begins or ends trouble between these instances and Redis, wherever that runs.
    pub(super) fn change_network(&self, instances: &[u32], trouble: NetTrouble, edge: Edge) {
        let (net, begins) = (self.world.net(), edge == Edge::Begin);
        if let NetTrouble::Flips { of_requests, segments, draw } = trouble {
            let segments = if begins { segments } else { 0 };
            return self.redis.garble(instances.iter().copied().map(Host::from), of_requests, segments, draw);
        }
        for instance in instances.iter().map(|number| Host::from(*number)) {
            if let NetTrouble::Short { per_mille } = trouble {
                net.set_short(instance, if begins { per_mille } else { 0 });
                continue;
            }
            let links = HOSTS.iter().flat_map(|redis| [(instance, *redis), (*redis, instance)]);
            for (from, to) in links {
                match trouble {
                    NetTrouble::Loss { per_mille } => net.set_loss(from, to, if begins { per_mille } else { 0 }),
                    NetTrouble::Narrow { bytes_per_s } => net.set_bandwidth(from, to, begins.then_some(bytes_per_s)),
                    NetTrouble::Jitter { jitter_us } => {
                        let wide = Latency { base_us: 1_000, jitter_us, tail_every: 50, tail_us: 2 * jitter_us };
                        net.set_latency(from, to, begins.then_some(wide));
                    }
                    NetTrouble::ResetWithin { of_requests, .. } if (from == instance) != of_requests => {}
                    NetTrouble::ResetWithin { bytes, .. } if begins => drop(net.reset_after(from, to, bytes)),
                    NetTrouble::ResetWithin { .. } => net.forget_resets(from, to),
                    NetTrouble::Short { .. } | NetTrouble::Flips { .. } => unreachable!("it concerns no link"),
                }
            }
        }
    }

    /// Puts the resolvers of these instances in trouble.
    pub(super) fn begin_bad_names(&self, instances: &[u32], delay_us: u64, answer: NameAnswer) {
        let (right, wrong) = (self.redis.host(), self.redis.other_host());
        self.set_other_host(answer);
        let says = match answer {
            NameAnswer::Right => Says::Truth,
            NameAnswer::Nothing => Says::Failure,
            NameAnswer::Refusing | NameAnswer::Silent => Says::Addresses(vec![wrong]),
            NameAnswer::RefusingFirst | NameAnswer::SilentFirst | NameAnswer::MuteFirst => {
                Says::Addresses(vec![wrong, right])
            }
        };
        for instance in instances {
            self.world.net().set_resolver(*instance, Resolver { delay_us, says: says.clone() });
        }
    }

    /// The host on which Redis does not run refuses connections, is silent, or takes them for a process that hangs.
    fn set_other_host(&self, answer: NameAnswer) {
        self.clear_other_host();
        let other = self.redis.other_host();
        match answer {
            NameAnswer::MuteFirst => self.world.start_hung(other, PORT),
            NameAnswer::Silent | NameAnswer::SilentFirst => self.world.set_power(other, false),
            NameAnswer::Right | NameAnswer::Nothing | NameAnswer::Refusing | NameAnswer::RefusingFirst => {
                self.world.set_power(other, true);
            }
        }
    }

    /// Ends the process that hangs there, if one does: Redis may need the host.
    pub(super) fn clear_other_host(&self) {
        let other = self.redis.other_host();
        if self.world.is_running(other) {
            self.world.kill(other, Stop::Killed);
        }
    }

    pub(super) fn end_bad_names(&self, instances: &[u32]) {
        self.clear_other_host();
        for instance in instances {
            self.world.net().set_resolver(*instance, Resolver::default());
        }
    }

    /// The name of Redis leads to another server. Answers how many connections broke.
    pub(super) fn swap_redis(&self, holds: OtherData) -> u64 {
        let connections = self.world.net().open_connections(self.redis.host()) as u64;
        let now_ms = self.world.wall_ms(self.redis.host());
        let markers: Vec<_> = self
            .redis
            .with_engine(|engine| engine.dump(now_ms))
            .into_iter()
            .filter_map(|(key, marker)| {
                Some((key.starts_with(MARKERS).then_some(key)?, of_another_generation(marker)?))
            })
            .collect();
        let data = if holds == OtherData::Clone { Persistence::Kept } else { Persistence::Lost };
        self.redis.crash(self.world, Stop::Killed, data);
        if holds != OtherData::Nothing {
            self.redis.with_engine(|engine| markers.iter().for_each(|(key, marker)| engine.store(key, marker)));
        }
        self.take_name();
        connections
    }

    /// The name leads to Redis again, with the data that it had before.
    pub(super) fn swap_redis_back(&self, kept: &Engine) {
        self.redis.roll_back(self.world, Stop::Killed, kept);
        self.take_name();
    }

    /// The next server runs on the other host. It does not hold the data of the last server.
    fn take_name(&self) {
        self.clear_other_host();
        self.redis.fail_over(self.world);
        self.recorder.note(What::RedisLostData);
    }

    /// Redis ends, with its host or without; what it goes on with, there or elsewhere, is decided now. Answers what was
    /// lost or broken.
    pub(super) fn stop_redis(&self, fault: &Fault, save: Option<&Engine>) -> u64 {
        let keys = self.redis.keys(self.world);
        let connections = self.world.net().open_connections(self.redis.host()) as u64;
        let (how, data) = match fault {
            Fault::RedisCrash { data } => (Stop::Killed, *data),
            Fault::RedisPowerLoss { data } => (Stop::PowerLost, *data),
            Fault::RedisFailover { silent: true, .. } => (Stop::PowerLost, Persistence::Kept),
            _ => (Stop::Killed, Persistence::Kept),
        };
        match save {
            Some(save) => self.redis.roll_back(self.world, how, save),
            None => self.redis.crash(self.world, how, data),
        }
        if fault.loses_data() {
            self.recorder.note(What::RedisLostData);
        }
        if data == Persistence::Lost { keys } else { connections }
    }
}

/// This marker with the value of another generation; `None` if it is no string.
fn of_another_generation(mut marker: Dumped) -> Option<Dumped> {
    match &mut marker.content {
        Content::String(text) => text.reverse(),
        Content::Hash(_) | Content::List(_) | Content::Set(_) | Content::SortedSet(_) => return None,
    }
    Some(marker)
}
