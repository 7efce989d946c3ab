//! Faults of wall clocks.

use rand::RngExt;
use seedbed_world::seed::Stream;
use serde::{Deserialize, Serialize};

use super::{FaultKind, Frame, Part, Stage, process::OneInstance};

/// The wall clock of an instance is set forth or back, and stays so.
#[derive(Clone, Copy, Debug)]
pub struct ClockStep;

/// The parameters of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockStepParameters {
    /// Whose clock.
    pub instance: u32,
    /// By how much, in milliseconds.
    pub by_ms: i64,
}

impl FaultKind for ClockStep {
    type Parameters = ClockStepParameters;

    fn name(&self) -> &'static str {
        "clock step"
    }

    fn part(&self) -> Part {
        Part::Clock
    }

    fn is_momentary(&self) -> bool {
        true
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<ClockStepParameters> {
        let OneInstance { instance } = OneInstance::draw(draw, frame)?;
        // From a tenth of a second to some days: leap seconds, a wrong time zone, a battery that ran out.
        let by_ms = 100_i64 << draw.random_range(0..22);
        Some(ClockStepParameters { instance, by_ms: if draw.random() { by_ms } else { -by_ms } })
    }

    fn victims(&self, step: &ClockStepParameters) -> Vec<String> {
        vec![step.instance.to_string()]
    }

    fn begin(&self, step: &ClockStepParameters, stage: &Stage<'_>) {
        stage.world.step_clock_ms(step.instance, step.by_ms);
    }

    fn effects(&self, _: &ClockStepParameters, _: &Stage<'_>, has_begun: bool) -> u64 {
        u64::from(has_begun)
    }
}

/// The wall clock of an instance gains or loses time until the end. What it has gained it keeps.
#[derive(Clone, Copy, Debug)]
pub struct ClockDrift;

/// The parameters of a drift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Whose clock.
    pub instance: u32,
    /// So many microseconds in each second.
    pub ppm: i64,
}

impl FaultKind for ClockDrift {
    type Parameters = Drift;

    fn name(&self) -> &'static str {
        "clock drift"
    }

    fn part(&self) -> Part {
        Part::Clock
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Drift> {
        let OneInstance { instance } = OneInstance::draw(draw, frame)?;
        Some(Drift { instance, ppm: draw.random_range(-100_000..=100_000) })
    }

    fn victims(&self, drift: &Drift) -> Vec<String> {
        vec![drift.instance.to_string()]
    }

    fn begin(&self, drift: &Drift, stage: &Stage<'_>) {
        stage.world.set_drift_ppm(drift.instance, drift.ppm);
    }

    fn end(&self, drift: &Drift, stage: &Stage<'_>) {
        stage.world.set_drift_ppm(drift.instance, 0);
    }

    fn effects(&self, drift: &Drift, stage: &Stage<'_>, _: bool) -> u64 {
        stage.world.clock_readings(drift.instance)
    }
}
