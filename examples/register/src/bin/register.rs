//! The command line: `cargo run -- run --seeds 500`.

use register::{Bug, bed};

seedbed::main!(
    correct = bed(None),
    without_quorum = bed(Some(Bug::WithoutQuorum)),
    no_write_back = bed(Some(Bug::NoWriteBack)),
    no_sync = bed(Some(Bug::NoSync)),
);
