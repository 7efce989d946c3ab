//! The judge of foreign histories on histories from seeds: to compare it with others, and to time it.
//!
//! ```console
//! $ cargo bench -p seedbed-contact --bench judging -- write DIRECTORY 4000     # so many of each model, and long ones
//! $ cargo bench -p seedbed-contact --bench judging -- judge DIRECTORY > ours   # file, verdict, operations, microseconds
//! ```
//!
//! `judge` times the verdict alone, after the file was read, in one thread.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use rand::RngExt;
use seedbed_contact::seed::Seed;
use seedbed_linearize::foreign::{
    Linearizable, ModelName,
    generate::{Shape, generate},
    read,
};

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo says --bench.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", directory, count] => write(Path::new(directory), count.parse()?),
        ["judge", directory] => judge(Path::new(directory)),
        _ => Err("usage: judging write DIRECTORY COUNT, or judging judge DIRECTORY".into()),
    }
}

/// Files are called MODEL-KIND-NUMBER.jsonl.
#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn write(directory: &Path, count: u64) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    for model in ModelName::ALL {
        for seed in 0..count {
            let text = generated(&short(model, seed), seed);
            fs::write(directory.join(format!("{model}-short-{seed:05}.jsonl")), text)?;
        }
        for (kind, shape) in long(model) {
            for seed in 0..3 {
                fs::write(directory.join(format!("{model}-{kind}-{seed}.jsonl")), generated(&shape, seed))?;
            }
        }
    }
    Ok(())
}

fn generated(shape: &Shape, seed: u64) -> String {
    generate(shape, &mut Seed(seed).stream("foreign history"))
}

/// Half of them are corrupted; lengths and clients are those that a search survives.
fn short(model: ModelName, seed: u64) -> Shape {
    let draw = &mut Seed(seed).stream("shape");
    Shape {
        model,
        keys: draw.random_range(1..4),
        clients: draw.random_range(1..10),
        operations: draw.random_range(5..200),
        unknown_per_mille: [0, 0, 30][draw.random_range(0..3)],
        values: [None, Some(5)][draw.random_range(0..2)],
        corrupted: [0, 1, 0, 2][draw.random_range(0..4)],
    }
}

fn long(model: ModelName) -> Vec<(&'static str, Shape)> {
    let shape = |keys, clients, operations| Shape {
        model,
        keys,
        clients,
        operations,
        unknown_per_mille: 0,
        values: (model == ModelName::CasRegister).then_some(5),
        corrupted: 0,
    };
    vec![
        ("one-key", shape(1, 5, 5_000)),
        ("hundred-keys", shape(100, 20, 100_000)),
        ("thousand-keys", shape(1_000, 50, 200_000)),
        ("fifty-clients", shape(1, 50, 1_000)),
        ("fifty-clients-corrupted", Shape { corrupted: 1, ..shape(1, 50, 1_000) }),
    ]
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn judge(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a file name that is no text")?;
        let model = ModelName::ALL.into_iter().rev().find(|model| name.starts_with(model.name()));
        let model = model.ok_or_else(|| format!("{name} begins with no model's name"))?;
        let history = read(name, fs::read(&path)?.as_slice(), model)?;
        let start = Instant::now();
        let verdict = match history.verdict() {
            Linearizable::Pass => "pass",
            Linearizable::Violation(_) => "violation",
            Linearizable::Unknown { .. } => "unknown",
        };
        println!("{name} {verdict} {} {}", history.counts().0, start.elapsed().as_micros());
    }
    Ok(())
}
