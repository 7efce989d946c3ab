//! Ends that a run can be given, for the tests of worker processes: no system under test of the bed behaves so badly.

use std::{hint::black_box, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::seed::Seed;

/// How a run ends its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlantedEnd {
    /// It exits, as if all were well.
    Exit,
    /// It aborts.
    Abort,
    /// It calls itself until its stack is full.
    Overflow,
    /// It allocates until there is no memory left.
    Memory,
    /// It spins for ever.
    Spin,
}

impl PlantedEnd {
    /// Ends the process.
    pub(super) fn happen(self) {
        match self {
            Self::Exit => std::process::exit(0),
            Self::Abort => std::process::abort(),
            Self::Overflow => {
                black_box(overflow(0));
            }
            Self::Memory => loop {
                // Zeroed pages that nobody touches: address space, and no memory of the machine.
                std::mem::forget(black_box(vec![0_u8; 1 << 28]));
            },
            Self::Spin => loop {
                std::hint::spin_loop();
            },
        }
    }
}

fn overflow(depth: u64) -> u64 {
    let page = black_box([depth; 512]);
    if depth == u64::MAX { 0 } else { overflow(depth + 1) + page[0] }
}

/// A seed whose run ends so, as on the command line: `7=abort`.
#[derive(Clone, Copy, Debug)]
pub struct PlantedRun {
    /// The seed.
    pub seed: Seed,
    /// The end.
    pub planted: PlantedEnd,
}

impl FromStr for PlantedRun {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (seed, planted) = text.split_once('=').ok_or("write SEED=END")?;
        let planted = serde_json::from_value(planted.into()).map_err(|error| error.to_string())?;
        Ok(Self { seed: seed.parse().map_err(|error: crate::seed::ParseSeedError| error.to_string())?, planted })
    }
}
