//! Faults of connections.

use rand::{RngExt, seq::IndexedRandom};
use seedbed_world::{Host, seed::Stream};
use serde::{Deserialize, Serialize};

use super::{FaultKind, Frame, Part, Stage};

/// Some of the hosts, and no more than half of them.
fn some_hosts(draw: &mut Stream, frame: &Frame) -> Option<Vec<String>> {
    let hosts = frame.hosts();
    let most = hosts.len() / 2;
    (most > 0).then(|| {
        let count = draw.random_range(1..=most);
        let mut chosen: Vec<_> = hosts.sample(draw, count).cloned().collect();
        chosen.sort();
        chosen
    })
}

/// Each pair of one of these hosts and one of the others.
fn pairs(hosts: &[String], stage: &Stage<'_>) -> Vec<(Host, Host)> {
    let these: Vec<_> = hosts.iter().map(|name| stage.host(name)).collect();
    let others = stage.others(&these);
    these.iter().flat_map(|host| others.iter().map(|other| (*host, *other))).collect()
}

/// Segments between these hosts and the others that were lost or slowed so far.
fn troubled(hosts: &[String], stage: &Stage<'_>) -> u64 {
    pairs(hosts, stage).into_iter().map(|(host, other)| stage.world.net().troubled(host, other)).sum()
}

/// Segments between some hosts and all others are lost, in one direction or both. TCP sends them again after the end.
#[derive(Clone, Copy, Debug)]
pub struct Partition;

/// Which way is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Nothing gets through.
    Both,
    /// What these hosts send is lost.
    From,
    /// What is sent to these hosts is lost.
    To,
}

/// The parameters of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The hosts that are cut off.
    pub hosts: Vec<String>,
    /// Which way.
    pub direction: Direction,
}

impl Partition {
    fn set(cut: &Cut, stage: &Stage<'_>, on: bool) {
        for (host, other) in pairs(&cut.hosts, stage) {
            if cut.direction != Direction::To {
                stage.world.net().cut(host, other, on);
            }
            if cut.direction != Direction::From {
                stage.world.net().cut(other, host, on);
            }
        }
    }
}

impl FaultKind for Partition {
    type Parameters = Cut;

    fn name(&self) -> &'static str {
        "partition"
    }

    fn part(&self) -> Part {
        Part::Network
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Cut> {
        let hosts = some_hosts(draw, frame)?;
        let direction = *[Direction::Both, Direction::Both, Direction::From, Direction::To].choose(draw)?;
        Some(Cut { hosts, direction })
    }

    fn victims(&self, cut: &Cut) -> Vec<String> {
        cut.hosts.clone()
    }

    fn begin(&self, cut: &Cut, stage: &Stage<'_>) {
        Self::set(cut, stage, true);
    }

    fn end(&self, cut: &Cut, stage: &Stage<'_>) {
        Self::set(cut, stage, false);
    }

    fn effects(&self, cut: &Cut, stage: &Stage<'_>, _: bool) -> u64 {
        troubled(&cut.hosts, stage)
    }
}

/// Segments between some hosts and all others take longer, either way.
#[derive(Clone, Copy, Debug)]
pub struct SlowLink;

/// The parameters of a slow link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// The hosts.
    pub hosts: Vec<String>,
    /// By so many microseconds.
    pub extra_us: u64,
}

impl SlowLink {
    fn set(slow: &Slow, stage: &Stage<'_>, extra_us: u64) {
        for (host, other) in pairs(&slow.hosts, stage) {
            stage.world.net().set_extra_us(host, other, extra_us);
            stage.world.net().set_extra_us(other, host, extra_us);
        }
    }
}

impl FaultKind for SlowLink {
    type Parameters = Slow;

    fn name(&self) -> &'static str {
        "slow link"
    }

    fn part(&self) -> Part {
        Part::Network
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Slow> {
        let hosts = some_hosts(draw, frame)?;
        // Orders of magnitude matter, so the exponent is drawn.
        let extra_us = 1_000 << draw.random_range(0..10);
        Some(Slow { hosts, extra_us })
    }

    fn victims(&self, slow: &Slow) -> Vec<String> {
        slow.hosts.clone()
    }

    fn begin(&self, slow: &Slow, stage: &Stage<'_>) {
        Self::set(slow, stage, slow.extra_us);
    }

    fn end(&self, slow: &Slow, stage: &Stage<'_>) {
        Self::set(slow, stage, 0);
    }

    fn effects(&self, slow: &Slow, stage: &Stage<'_>, _: bool) -> u64 {
        troubled(&slow.hosts, stage)
    }
}

/// Some of the segments between some hosts and all others are lost, either way.
#[derive(Clone, Copy, Debug)]
pub struct PacketLoss;

/// The parameters of packet loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// The hosts.
    pub hosts: Vec<String>,
    /// So many of a thousand segments.
    pub per_mille: u32,
}

impl PacketLoss {
    fn set(loss: &Loss, stage: &Stage<'_>, per_mille: u32) {
        for (host, other) in pairs(&loss.hosts, stage) {
            stage.world.net().set_loss(host, other, per_mille);
            stage.world.net().set_loss(other, host, per_mille);
        }
    }
}

impl FaultKind for PacketLoss {
    type Parameters = Loss;

    fn name(&self) -> &'static str {
        "packet loss"
    }

    fn part(&self) -> Part {
        Part::Network
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Loss> {
        Some(Loss { hosts: some_hosts(draw, frame)?, per_mille: draw.random_range(10..400) })
    }

    fn victims(&self, loss: &Loss) -> Vec<String> {
        loss.hosts.clone()
    }

    fn begin(&self, loss: &Loss, stage: &Stage<'_>) {
        Self::set(loss, stage, loss.per_mille);
    }

    fn end(&self, loss: &Loss, stage: &Stage<'_>) {
        Self::set(loss, stage, 0);
    }

    fn effects(&self, loss: &Loss, stage: &Stage<'_>, _: bool) -> u64 {
        troubled(&loss.hosts, stage)
    }
}

/// Every connection between some hosts and all others is reset, at once.
#[derive(Clone, Copy, Debug)]
pub struct ResetConnections;

/// The parameters of a reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// The hosts.
    pub hosts: Vec<String>,
}

impl FaultKind for ResetConnections {
    type Parameters = Reset;

    fn name(&self) -> &'static str {
        "reset connections"
    }

    fn part(&self) -> Part {
        Part::Network
    }

    fn is_momentary(&self) -> bool {
        true
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Reset> {
        Some(Reset { hosts: some_hosts(draw, frame)? })
    }

    fn victims(&self, reset: &Reset) -> Vec<String> {
        reset.hosts.clone()
    }

    fn begin(&self, reset: &Reset, stage: &Stage<'_>) {
        for (host, other) in pairs(&reset.hosts, stage) {
            stage.world.net().reset_between(host, other);
        }
    }

    fn effects(&self, _: &Reset, _: &Stage<'_>, has_begun: bool) -> u64 {
        u64::from(has_begun)
    }
}
