//! What an operation costs in instructions, counted by valgrind: the same on a busy machine as on an idle one, so it can
//! decide what lands. Each row is counted in processes of its own with few operations and with many, and compared with the
//! bare echo, so that another compiler moves both sides; and with itself among many clients.

use std::{
    env,
    fmt::Write as _,
    io,
    process::{Command, Stdio},
    thread,
};

use super::{ALL_CLIENTS as MOST, BASE, CLIENTS, Row, rows};

/// The fewest clients, which is what an exploration has.
const FEWEST: u32 = CLIENTS[0];

/// Operations of each client in the two processes of a row, where it is compared with the echo.
const EACH: [u32; 2] = [100, 500];
/// The same where it is compared with itself among the most clients: so few that this ends within a minute.
const EACH_OF_MOST: [u32; 2] = [4, 14];

/// How many times the instructions of the bare echo a row may cost: what was counted when it was last set, and a few percent
/// more. A change that needs more says why in docs/BENCHMARKS.md; one that needs less lowers it.
const LIMITS: [(&str, f64); 4] = [
    ("echo, SimNet", 0.85),
    ("get, whole bed", 1.59),
    ("upsert Shared, whole bed", 6.27),
    ("upsert Local, whole bed", 2.92),
];

/// How many times as much an operation may cost among the most clients: 1.08 was counted at most.
const GROWTH_MAX: f64 = 1.15;

/// What was counted.
pub struct Counted {
    rows: Vec<Instructions>,
}

/// Of one operation.
struct Instructions {
    row: &'static str,
    among_fewest: f64,
    /// How many times as many it takes among the most clients.
    growth: f64,
}

/// Counts every row. `step` is called after each of [`steps`].
///
/// # Errors
/// If valgrind cannot be run, or does not say how many instructions it saw.
pub fn count(mut step: impl FnMut()) -> io::Result<Counted> {
    let mut counted = Vec::new();
    for row in rows().filter(|row| row.clients == FEWEST) {
        let among_fewest = instructions(&row, EACH)?;
        let growth = instructions(&Row { clients: MOST, ..row }, EACH_OF_MOST)? / instructions(&row, EACH_OF_MOST)?;
        counted.push(Instructions { row: row.name, among_fewest, growth });
        step();
    }
    Ok(Counted { rows: counted })
}

/// How many steps [`count`] takes.
pub fn steps() -> u64 {
    rows().filter(|row| row.clients == FEWEST).count() as u64
}

impl Counted {
    /// A table, and which limits were kept.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "Instructions of an operation, {FEWEST} clients, counted by valgrind:\n");
        let _ = writeln!(text, "| operation | instructions | x echo | at most | x itself, {MOST} clients | at most |");
        let _ = writeln!(text, "| --- | ---: | ---: | ---: | ---: | ---: |");
        for counted @ Instructions { row, among_fewest, growth } in &self.rows {
            let (times, limit) =
                (self.times_echo(counted), limit(row).map_or(String::new(), |limit| format!("{limit:.2}")));
            let _ =
                writeln!(text, "| {row} | {among_fewest:.0} | {times:.2} | {limit} | {growth:.2} | {GROWTH_MAX:.2} |");
        }
        for over in self.over() {
            let _ = writeln!(text, "\nFAILED: {over}");
        }
        text
    }

    /// Whether every row is within its limits.
    pub fn is_within_limits(&self) -> bool {
        self.over().is_empty()
    }

    fn over(&self) -> Vec<String> {
        let mut over = Vec::new();
        for counted @ Instructions { row, growth, .. } in &self.rows {
            let times = self.times_echo(counted);
            if let Some(limit) = limit(row).filter(|limit| times > *limit) {
                over.push(format!("{row} costs {times:.2} times the instructions of the echo, at most {limit:.2}"));
            }
            if *growth > GROWTH_MAX {
                over.push(format!(
                    "{row} costs {growth:.2} times as many instructions among {MOST} clients, at most {GROWTH_MAX:.2}"
                ));
            }
        }
        over
    }

    fn times_echo(&self, counted: &Instructions) -> f64 {
        // Without an echo every row is over its limit: what is not compared has not passed.
        let echo = self.rows.iter().find(|counted| counted.row == BASE).map_or(0.0, |echo| echo.among_fewest);
        counted.among_fewest / echo
    }
}

fn limit(name: &str) -> Option<f64> {
    LIMITS.iter().find(|(limited, _)| *limited == name).map(|(_, limit)| *limit)
}

/// Of one operation of a row: what the second of two processes executes beyond the first, in which each client does fewer.
fn instructions(row: &Row, each: [u32; 2]) -> io::Result<f64> {
    let [few, many] = thread::scope(|scope| {
        let counts = each.map(|each| scope.spawn(move || all_instructions(row, each)));
        counts.map(|count| count.join().expect("counting does not panic"))
    });
    Ok((many? - few?) / f64::from((each[1] - each[0]) * row.clients))
}

/// All that a process of its own executes that does the work of a row.
fn all_instructions(row: &Row, each: u32) -> io::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["bench", "--exercise", &row.named(), "--operations", &(each * row.clients).to_string()])
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
    fn a_row_over_a_limit_is_named() {
        let counted = |among_fewest, growth| {
            let echo = Instructions { row: BASE, among_fewest: 1_000.0, growth: 1.0 };
            Counted { rows: vec![echo, Instructions { row: "get, whole bed", among_fewest, growth }] }
        };
        assert!(counted(1_000.0, 1.0).is_within_limits());
        let over = counted(1_000_000.0, 1.0);
        assert!(!over.is_within_limits());
        assert!(over.text().contains("FAILED: get, whole bed costs 1000.00 times"), "{}", over.text());
        let over = counted(1_000.0, 100.0);
        assert!(!over.is_within_limits());
        assert!(over.text().contains("FAILED: get, whole bed costs 100.00 times as many"), "{}", over.text());
        let mut without_echo = counted(1_000.0, 1.0);
        without_echo.rows.remove(0);
        assert!(!without_echo.is_within_limits());
    }

    #[test]
    fn every_limit_is_of_a_row_that_there_is() {
        for (name, _) in LIMITS {
            assert!(rows().any(|row| row.name == name), "{name}");
        }
    }
}
