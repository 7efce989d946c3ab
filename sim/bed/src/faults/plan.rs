//! How the faults of a run are drawn: by swarm, so that most kinds are off in a given seed and those that are on meet each other.

use rand::RngExt;
use seedbed_world::seed::Seed;

use super::{Faults, Frame, PlannedFault};

/// Whether a kind comes in a run.
const ON: f64 = 0.35;
/// How often at most.
const TIMES_MAX: u32 = 3;
/// The shortest fault, in microseconds. Each doubling of it is as likely as the next.
const SHORTEST_US: u64 = 2_000;

impl Faults {
    /// The faults of the run of this seed.
    pub(crate) fn plan(&self, seed: Seed, frame: &Frame) -> Vec<PlannedFault> {
        let mut plan: Vec<PlannedFault> = Vec::new();
        for kind in &self.kinds {
            // Each kind has a stream of its own, so that one more changes none of the others.
            let draw = &mut seed.stream(&format!("fault {}", kind.name()));
            if !draw.random_bool(ON) {
                continue;
            }
            for _ in 0..draw.random_range(1..=TIMES_MAX) {
                let start_us = draw.random_range(0..=frame.horizon_us);
                let doublings = (frame.horizon_us / SHORTEST_US).max(1).ilog2();
                let lasts_us = SHORTEST_US << draw.random_range(0..=doublings);
                let Some(parameters) = kind.draw(draw, frame) else { continue };
                let end_us = if kind.is_momentary() {
                    start_us
                } else {
                    (start_us + lasts_us).min(frame.horizon_us.max(start_us + 1))
                };
                let planned = PlannedFault { start_us, end_us, kind: kind.name().to_owned(), parameters };
                if plan.iter().all(|other| !self.are_in_each_others_way(other, &planned)) {
                    plan.push(planned);
                }
            }
        }
        plan.sort_by(|a, b| (a.start_us, &a.kind).cmp(&(b.start_us, &b.kind)));
        plan
    }

    /// Whether two faults overlap that strike the same part of the same host: then the end of one would end the other. Faults of
    /// connections are between some hosts and all others, so any two of one kind are.
    fn are_in_each_others_way(&self, one: &PlannedFault, other: &PlannedFault) -> bool {
        let (Some(its), Some(others)) = (self.kind(&one.kind), self.kind(&other.kind)) else { return true };
        if one.start_us > other.end_us || other.start_us > one.end_us {
            return false;
        }
        let victims =
            |kind: &dyn super::ErasedKind, of: &PlannedFault| kind.victims(&of.parameters).unwrap_or_default();
        let shared = {
            let (one, other) = (victims(its, one), victims(others, other));
            one.iter().any(|name| other.contains(name))
        };
        one.kind == other.kind || its.part() == others.part() && its.part() != super::Part::Network && shared
    }

    /// Whether a plan can be played: its kinds are known, their parameters make sense, and their hosts are there.
    ///
    /// # Errors
    /// The first fault that cannot, and why.
    pub(crate) fn check(&self, plan: &[PlannedFault], frame: &Frame) -> Result<(), String> {
        let hosts = frame.hosts();
        for (number, planned) in plan.iter().enumerate() {
            let wrong = |why: String| format!("fault {number} ({}): {why}", planned.kind);
            let kind = self.kind(&planned.kind).ok_or_else(|| {
                wrong(format!("there is no such kind in this bed; there are {}", self.names().join(", ")))
            })?;
            let victims = kind.victims(&planned.parameters).map_err(wrong)?;
            if let Some(unknown) = victims.iter().find(|name| !hosts.contains(name)) {
                return Err(wrong(format!("{unknown:?} is no host of the run; there are {}", hosts.join(", "))));
            }
            if planned.end_us < planned.start_us {
                return Err(wrong(format!(
                    "it ends at {} us, before it begins at {} us",
                    planned.end_us, planned.start_us
                )));
            }
            let before = &plan[..number];
            if let Some(other) = before.iter().position(|other| self.are_in_each_others_way(other, planned)) {
                return Err(wrong(format!("it overlaps fault {other}, which strikes the same")));
            }
        }
        Ok(())
    }
}
