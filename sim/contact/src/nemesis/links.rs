//! Faults of the links between instances and Redis, which may overlap.

use std::collections::BTreeMap;

use super::Edge;
use crate::{
    faults::{CutDirection, Fault},
    redis_host::HOSTS,
    world::{Host, World},
};

/// How many faults hold a link cut, and how much they slow it: faults overlap, and each takes back only its own.
#[derive(Default)]
pub(super) struct Links(BTreeMap<(Host, Host), FaultyLink>);

#[derive(Default)]
struct FaultyLink {
    cuts: u32,
    extra_us: u64,
}

impl Links {
    pub(super) fn change(&mut self, world: &World, fault: &Fault, edge: Edge) {
        // Wherever Redis runs, or will run.
        for (instance, redis) in fault.instances().iter().flat_map(|instance| HOSTS.map(|host| (instance, host))) {
            let host = Host::from(*instance);
            let there = (host, redis);
            let back = (redis, host);
            match fault {
                Fault::Partition { direction, .. } => {
                    let cut = match direction {
                        CutDirection::Both => vec![there, back],
                        CutDirection::ToRedis => vec![there],
                        CutDirection::FromRedis => vec![back],
                    };
                    for (from, to) in cut {
                        let link = self.0.entry((from, to)).or_default();
                        link.cuts = if edge == Edge::Begin { link.cuts + 1 } else { link.cuts - 1 };
                        world.net().cut(from, to, link.cuts > 0);
                    }
                }
                Fault::SlowLink { extra_us, .. } => {
                    for (from, to) in [there, back] {
                        let link = self.0.entry((from, to)).or_default();
                        link.extra_us =
                            if edge == Edge::Begin { link.extra_us + extra_us } else { link.extra_us - extra_us };
                        world.net().set_extra_us(from, to, link.extra_us);
                    }
                }
                _ => unreachable!("only faults of links come here"),
            }
        }
    }
}
