//! What the client costs and what it buys, measured on this machine against a redis-server of its own; as Markdown.
//!
//! ```text
//! cargo bench -p seedbed-contact --bench report              every part, each in a process of its own: about ten minutes
//! cargo bench -p seedbed-contact --bench report -- calls     one part: calls, phases, recovery, million
//! ```

mod calls;
mod measure;
mod phases;
mod records;
mod recovery;
mod world;

use std::process::{Command, ExitCode};

const PARTS: [&str; 4] = ["calls", "phases", "recovery", "million"];

fn main() -> ExitCode {
    // Cargo says --bench.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match wanted.as_slice() {
        [] => every_part(),
        [part] if PARTS.contains(&part.as_str()) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(report(part));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("error: {wanted:?} is no part: name one of {PARTS:?}, or none for all of them");
            ExitCode::from(2)
        }
    }
}

/// What one part leaves behind in memory is no other's.
fn every_part() -> ExitCode {
    let this = std::env::current_exe().expect("a program");
    let succeeded = |part: &&str| Command::new(&this).arg(part).status().is_ok_and(|status| status.success());
    if PARTS.iter().all(succeeded) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn report(part: &str) {
    match part {
        "calls" => calls::report().await,
        "phases" => phases::report().await,
        "recovery" => recovery::report(recovery::THOUSANDS, recovery::Foreground::Busy).await,
        _ => recovery::report(recovery::A_MILLION, recovery::Foreground::Idle).await,
    }
}
