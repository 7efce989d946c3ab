//! What was measured, for a person: a Markdown table, and which targets were reached.

use std::fmt::Write as _;

use super::{BASE, CLIENTS, Cost, Measured, Row};

/// The bed may cost this much more than the barest echo.
const GET_MAX: f64 = 2.0;
/// An operation may cost this much more with the most instances than with the fewest.
const FLAT_MAX: f64 = 1.3;
/// What judging may take, as a part of running.
const JUDGING_MAX: f64 = 0.25;
/// What an idle instance may take, in KiB.
const IDLE_KIB_MAX: f64 = 1024.0;

impl Measured {
    /// The tables and the targets.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let rounds = self.rows.first().map_or(0, |(_, costs)| costs.len());
        let _ = writeln!(text, "Machine: {}\n", machine());
        let _ = writeln!(text, "Processor time of an operation, median of {rounds} rounds (least to most):\n");
        let _ = writeln!(text, "| operation | clients | us | spread | x echo | judging, of it |");
        let _ = writeln!(text, "| --- | ---: | ---: | --- | ---: | ---: |");
        for (row, costs) in &self.rows {
            let all: Vec<_> = costs.iter().map(|cost| cost.all_us).collect();
            let judging = median(costs.iter().map(|cost| cost.judging_us / cost.all_us));
            let judging = if row.name.starts_with("echo") { String::new() } else { format!("{:.0}%", 100.0 * judging) };
            let (name, clients, echo) = (row.name, row.clients, self.times_echo(row.name, row.clients));
            let us = median(all.iter().copied());
            let _ = writeln!(text, "| {name} | {clients} | {us:.1} | {} | {echo:.2} | {judging} |", spread(&all));
        }
        let _ = writeln!(text, "\nJudging, as a part of running, in runs as an exploration has them:\n");
        let _ = writeln!(text, "| workload | judging / running | spread |\n| --- | ---: | --- |");
        for (workload, spent) in &self.shares {
            let shares: Vec<_> = spent.iter().map(|spent| 100.0 * share(*spent)).collect();
            let _ = writeln!(text, "| {workload} | {:.0}% | {} |", median(shares.iter().copied()), spread(&shares));
        }
        let _ = writeln!(text, "\nMemory of an idle instance: {} KiB\n\nTargets\n", self.idle_kib);
        for (what, value, limit) in self.targets() {
            let word = if value <= limit { "reached" } else { "missed " };
            let _ = writeln!(text, "  {word}  {what:<48}{value:>8.2}, at most {limit}");
        }
        text
    }

    fn targets(&self) -> Vec<(String, f64, f64)> {
        let mut targets = Vec::new();
        for clients in CLIENTS {
            let simnet = self.times_echo("echo, SimNet", clients);
            targets.push((format!("SimNet / madsim's TcpStream, {clients} clients"), simnet, 1.0));
        }
        for clients in CLIENTS {
            let get = self.times_echo("get, whole bed", clients);
            targets.push((format!("get / echo, {clients} instances"), get, GET_MAX));
        }
        let [fewest, .., most] = CLIENTS;
        for name in ["get, whole bed", "upsert Shared, whole bed", "upsert Local, whole bed"] {
            let grown = median(self.ratios((name, most), (name, fewest)));
            targets.push((format!("{name}: {most} / {fewest} instances"), grown, FLAT_MAX));
        }
        for (workload, spent) in &self.shares {
            let shares = spent.iter().map(|spent| share(*spent));
            targets.push((format!("judging / running, {workload}"), median(shares), JUDGING_MAX));
        }
        targets.push(("KiB of an idle instance".to_owned(), f64::from(self.idle_kib), IDLE_KIB_MAX));
        targets
    }

    /// How many times the echo of as many clients, median of the rounds.
    fn times_echo(&self, name: &str, clients: u32) -> f64 {
        median(self.ratios((name, clients), (BASE, clients)))
    }

    /// Of two rows, round by round.
    fn ratios(&self, of: (&str, u32), to: (&str, u32)) -> impl Iterator<Item = f64> {
        self.costs(of).iter().zip(self.costs(to)).map(|(of, to)| of.all_us / to.all_us)
    }

    fn costs(&self, (name, clients): (&str, u32)) -> &[Cost] {
        let is = |row: &Row| row.name == name && row.clients == clients;
        self.rows.iter().find(|(row, _)| is(row)).map_or(&[], |(_, costs)| costs)
    }
}

fn share(spent: super::Spent) -> f64 {
    spent.judging.as_secs_f64() / spent.running.as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.1} to {most:.1}")
}

/// Model and number of the processors.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    format!("{}, {cores} cores", model.unwrap_or("an unknown processor").trim())
}
