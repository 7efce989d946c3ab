//! What an operation costs in instructions, counted by valgrind: the same on a busy machine as on an idle one, so it can
//! decide what lands. Each row is counted in a process of its own with few operations and with many, and compared with the
//! bare echo, so that another compiler moves both sides.

use std::{
    env,
    fmt::Write as _,
    io,
    process::{Command, Stdio},
};

use super::{BASE, Row, rows};

/// Operations of the two processes of a row.
const FEW: u32 = 500;
const MANY: u32 = 2_500;

/// Clients of the rows that are counted: the fewest, which is what an exploration has.
const CLIENTS: u32 = 5;

/// How many times the instructions of the bare echo a row may cost: what was counted when it was last set, and a twentieth
/// more. A change that needs more says why in docs/BENCHMARKS.md; one that needs less lowers it.
const LIMITS: [(&str, f64); 4] = [
    ("echo, SimNet", 0.85),
    ("get, whole bed", 1.75),
    ("upsert Shared, whole bed", 6.8),
    ("upsert Local, whole bed", 3.25),
];

/// What was counted.
pub struct Counted {
    /// Row, instructions of an operation.
    rows: Vec<(&'static str, f64)>,
}

/// Counts every row. `step` is called after each of [`steps`].
///
/// # Errors
/// If valgrind cannot be run, or does not say how many instructions it saw.
pub fn count(mut step: impl FnMut()) -> io::Result<Counted> {
    let mut counted = Vec::new();
    for row in rows().filter(|row| row.clients == CLIENTS) {
        let few = instructions(&row, FEW)?;
        let many = instructions(&row, MANY)?;
        counted.push((row.name, (many - few) / f64::from(MANY - FEW)));
        step();
    }
    Ok(Counted { rows: counted })
}

/// How many steps [`count`] takes.
pub fn steps() -> u64 {
    rows().filter(|row| row.clients == CLIENTS).count() as u64
}

impl Counted {
    /// A table, and which limits were kept.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "Instructions of an operation, {CLIENTS} clients, counted by valgrind:\n");
        let _ = writeln!(text, "| operation | instructions | x echo | at most |\n| --- | ---: | ---: | ---: |");
        for (name, instructions) in &self.rows {
            let limit = limit(name).map_or(String::new(), |limit| format!("{limit:.2}"));
            let _ = writeln!(text, "| {name} | {instructions:.0} | {:.2} | {limit} |", self.times_echo(*instructions));
        }
        for (name, times, limit) in self.over() {
            let _ = writeln!(
                text,
                "\nFAILED: {name} costs {times:.2} times the instructions of the echo, at most {limit:.2}"
            );
        }
        text
    }

    /// Whether every row is within its limit.
    pub fn is_within_limits(&self) -> bool {
        self.over().next().is_none()
    }

    fn over(&self) -> impl Iterator<Item = (&'static str, f64, f64)> {
        let rows = self.rows.iter().map(|(name, instructions)| (*name, self.times_echo(*instructions)));
        rows.filter_map(|(name, times)| limit(name).filter(|limit| times > *limit).map(|limit| (name, times, limit)))
    }

    fn times_echo(&self, instructions: f64) -> f64 {
        let echo = self.rows.iter().find(|(name, _)| *name == BASE).map_or(f64::NAN, |(_, echo)| *echo);
        instructions / echo
    }
}

fn limit(name: &str) -> Option<f64> {
    LIMITS.iter().find(|(limited, _)| *limited == name).map(|(_, limit)| *limit)
}

/// All that a process of its own executes that does the work of a row.
fn instructions(row: &Row, operations: u32) -> io::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["bench", "--exercise", &row.named(), "--operations", &operations.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("failed to run valgrind: {error}; install it")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.filter(|_| output.status.success()).ok_or_else(|| {
        io::Error::other(format!("valgrind did not count {:?} ({}): {}", row.named(), output.status, said.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_over_its_limit_is_named() {
        let counted = |get| Counted { rows: vec![(BASE, 1_000.0), ("get, whole bed", get)] };
        assert!(counted(1_000.0).is_within_limits());
        let over = counted(1_000_000.0);
        assert!(!over.is_within_limits());
        assert!(over.text().contains("FAILED: get, whole bed costs 1000.00 times"), "{}", over.text());
    }

    #[test]
    fn every_limit_is_of_a_row_that_there_is() {
        for (name, _) in LIMITS {
            assert!(rows().any(|row| row.name == name), "{name}");
        }
    }
}
