//! What the bed costs: processor time of an operation through the whole of it, beside the barest echo over madsim's own
//! network; how much of a run is judging; memory of an idle instance.
//!
//! Nothing in a run may read a clock of the machine, so whole runs are timed from outside: each row is run with few
//! operations and with many, and the difference divided by the operations that were added. What set-up and end cost
//! falls out of it. A client does as many whether it is one of five or of 500, so that rows differ in the number of
//! clients and in how long the history is: a row of five is run a hundred times. All rows are measured once a round;
//! ratios are of one round, so that what slows the machine down slows both sides. Processor time and not time: other
//! programs take turns, and a run has one thread.

mod bed;
mod echo;
pub mod instructions;
mod memory;
mod table;

use std::{iter::Sum, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::workload::Workload;

/// Rounds without being asked for another number.
pub const ROUNDS: u32 = 5;

/// Operations of each client in the shorter runs of a row.
const FEW: u32 = 20;
/// Operations of each client in the longer ones.
const MANY: u32 = 120;

/// How many clients a row has.
const CLIENTS: [u32; 3] = [5, 50, 500];
/// Clients of all runs of a row, whose operations are measured together.
const ALL_CLIENTS: u32 = CLIENTS[CLIENTS.len() - 1];

/// Operations of [`exercise`] without being asked for another number.
pub const EXERCISED: u32 = 12_500;

/// What the other rows are compared with, at the same number of clients.
const BASE: &str = "echo, madsim's TcpStream";

/// What can be measured.
struct Row {
    name: &'static str,
    clients: u32,
    work: Work,
}

/// Does so many operations on each of so many clients.
type Work = fn(clients: u32, each: u32) -> Spent;

/// Processor time.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    running: Duration,
    judging: Duration,
}

/// What a row was measured to cost in one round, in microseconds an operation.
#[derive(Clone, Copy, Debug)]
struct Cost {
    all_us: f64,
    judging_us: f64,
}

/// What was measured.
pub struct Measured {
    /// Each row's costs, by round.
    rows: Vec<(Row, Vec<Cost>)>,
    /// Judging and running of seeds of each workload, by round.
    shares: Vec<(Workload, Vec<Spent>)>,
    idle_kib: u32,
}

/// Measures everything. `step` is called after each of [`steps`].
///
/// # Panics
/// If a run does not do what it is measured for.
pub fn measure(rounds: u32, mut step: impl FnMut()) -> Measured {
    // First: it looks at the highest use of memory so far.
    let idle_kib = memory::of_an_idle_instance();
    step();
    let mut rows: Vec<_> = rows().map(|row| (row, Vec::new())).collect();
    let mut shares: Vec<_> = crate::workload::VALIDATIONS.iter().map(|workload| (*workload, Vec::new())).collect();
    for _ in 0..rounds {
        for (row, costs) in &mut rows {
            costs.push(row.cost());
            step();
        }
        for (workload, spent) in &mut shares {
            spent.push(bed::seeds(*workload));
            step();
        }
    }
    Measured { rows, shares, idle_kib }
}

/// How many steps [`measure`] takes.
pub fn steps(rounds: u32) -> u64 {
    1 + u64::from(rounds) * (rows().count() + crate::workload::VALIDATIONS.len()) as u64
}

/// Does so many operations of each row that this is a part of the name of (`get, whole bed, 5 clients`), for a profiler. Says
/// how many rows they are.
pub fn exercise(name: &str, operations: u32) -> usize {
    let rows: Vec<_> = rows().filter(|row| row.named().contains(name)).collect();
    for row in &rows {
        (row.work)(row.clients, operations / row.clients);
    }
    rows.len()
}

fn rows() -> impl Iterator<Item = Row> {
    let kinds: [(&'static str, Work); 5] = [
        (BASE, echo::on_madsim),
        ("echo, SimNet", echo::on_simnet),
        ("get, whole bed", bed::gets),
        ("upsert Shared, whole bed", bed::shared_upserts),
        ("upsert Local, whole bed", bed::local_upserts),
    ];
    kinds.into_iter().flat_map(|(name, work)| CLIENTS.map(|clients| Row { name, clients, work }))
}

impl Row {
    fn named(&self) -> String {
        format!("{}, {} clients", self.name, self.clients)
    }

    fn cost(&self) -> Cost {
        let (few, many) = (self.spent(FEW), self.spent(MANY));
        let added = f64::from((MANY - FEW) * ALL_CLIENTS);
        let each_us = |few: Duration, many: Duration| (many.as_secs_f64() - few.as_secs_f64()) * 1_000_000.0 / added;
        let judging_us = each_us(few.judging, many.judging);
        Cost { all_us: each_us(few.running, many.running) + judging_us, judging_us }
    }

    /// By as many runs as it takes to have all clients.
    fn spent(&self, each: u32) -> Spent {
        (0..ALL_CLIENTS / self.clients).map(|_| (self.work)(self.clients, each)).sum()
    }
}

impl Sum for Spent {
    fn sum<I: Iterator<Item = Self>>(spent: I) -> Self {
        spent.fold(Self::default(), |sum, one| Self {
            running: sum.running + one.running,
            judging: sum.judging + one.judging,
        })
    }
}

/// Processor time that `work` takes.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = processor_time();
    let output = work();
    (output, processor_time().saturating_sub(before))
}

/// What this process has had so far.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().expect("it began at zero")
}
