//! The command line as a user meets it: what is printed, and how the process ends.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Stdio},
};

use seedbed_contact::workload::ALL;

#[test]
fn an_exploration_ends_with_a_report_of_the_validations_and_guarantees() {
    let run = seedbed(&["run", "--seeds", "3"]);
    assert_eq!(run.code, 0, "{run:?}");
    for workload in ALL {
        let row = format!("  PASSED  {:<15}{}", workload.name(), workload.about());
        assert!(run.out.contains(&row), "{row}\n{}", run.out);
    }
    for guarantee in seedbed_contact::checker::Guarantee::ALL {
        assert!(run.out.contains(&format!("  PASSED  {guarantee}")), "{guarantee}\n{}", run.out);
    }
    assert!(run.out.contains("\nMarks: ") && run.out.contains("\nOther workloads\n"), "{}", run.out);
    assert!(
        run.out.lines().last().is_some_and(|line| line.starts_with(&format!("PASSED: {} runs, ", 3 * ALL.len()))),
        "{}",
        run.out
    );
}

#[test]
fn one_workload_can_be_explored_alone() {
    let run = seedbed(&["run", "--seeds", "2", "--workload", "isolation", "--jobs", "1"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("isolation") && !run.out.contains("fallback"), "{}", run.out);
}

#[test]
fn guarantees_and_faults_can_be_chosen() {
    let chosen = ["--guarantees", "g5,session", "--faults", "Redis crash, data kept,partition"];
    let run = seedbed(&[&["run", "--seeds", "8", "--workload", "outages"][..], &chosen].concat());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("G5 durability") && run.out.contains("G6 session"), "{}", run.out);
    assert!(!run.out.contains("PASSED  G1 ") && !run.out.contains("instance kill"), "{}", run.out);
    assert!(run.out.contains("partition") && run.out.contains("Redis crash, data kept"), "{}", run.out);
    let replay = seedbed(&[&["replay", "3", "--workload", "outages"][..], &chosen].concat());
    let (timeline, verdicts) = replay.out.split_once("\nVerdicts\n").expect("both");
    assert!(verdicts.contains("G5") && !verdicts.contains("G4"), "{verdicts}");
    assert!(!timeline.contains("instance kill"), "{timeline}");
    // A replay file keeps only what is chosen.
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = text(&directory.path().join("run.json"));
    seedbed(&["replay", "3", "--workload", "outages", "--save", &file]);
    let again = seedbed(&[&["replay", &file][..], &chosen].concat());
    assert_eq!(again.out, replay.out);
}

#[test]
fn an_unknown_guarantee_or_fault_is_bad_input() {
    assert_bad_input(&["run", "--guarantees", "G5,G14"], &["\"G14\": there are G1 fidelity"]);
    assert_bad_input(&["replay", "1", "--workload", "mixed", "--faults", "clash"], &["\"clash\"", "`list` has them"]);
}

#[test]
fn a_seed_is_replayed_as_a_timeline_of_the_run_that_was_explored() {
    let replay = seedbed(&["replay", "1", "--workload", "consistency"]);
    assert_eq!(replay.code, 0, "{replay:?}");
    for part in ["Seed 1 of consistency", "-- set up --", "-- faults --", "-- final reads --", "upsert", "Verdicts"] {
        assert!(replay.out.contains(part), "no {part} in\n{}", replay.out);
    }
    let hashes = seedbed(&["hashes", "--workload", "consistency", "--seed", "1", "--seeds", "1"]);
    assert_eq!((hashes.code, hashes.out), (0, format!("1 {}\n", hash(&replay))));
}

#[test]
fn a_saved_run_replays_to_the_same_event_stream() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = text(&directory.path().join("run.json"));
    let saved = seedbed(&["replay", "1", "--workload", "fallback", "--save", &file]);
    let again = seedbed(&["replay", &file]);
    assert_eq!((saved.code, again.code), (0, 0), "{saved:?}\n{again:?}");
    assert_eq!(saved.out, again.out);
    assert_eq!((saved.err, again.err), (format!("wrote {file}\n"), String::new()));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a user's tools")]
fn the_traffic_of_a_run_is_written_beside_the_same_replay() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = text(&directory.path().join("run.pcap"));
    let replay = seedbed(&["replay", "1", "--workload", "fallback"]);
    let recorded = seedbed(&["replay", "1", "--workload", "fallback", "--pcap", &file]);
    assert_eq!((recorded.code, &recorded.out), (0, &replay.out));
    assert!(
        recorded.err.starts_with("wrote ") && recorded.err.ends_with(&format!(" packets to {file}\n")),
        "{recorded:?}"
    );
    let bytes = std::fs::read(&file).expect("it was written");
    assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_le_bytes(), "a pcap file");
    let missing = text(&directory.path().join("missing").join("run.pcap"));
    assert_bad_input(&["replay", "1", "--workload", "fallback", "--pcap", &missing], &["failed to write", &missing]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a user's editor")]
fn a_replay_file_that_cannot_be_used_is_bad_input() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = text(&directory.path().join("run.json"));
    seedbed(&["replay", "1", "--workload", "isolation", "--save", &file]);
    let saved = std::fs::read_to_string(&file).expect("it was written");

    std::fs::write(&file, saved.replacen("\"format\": 1", "\"format\": 99", 1)).expect("room for a file");
    assert_bad_input(&["replay", &file], &[&file, "format version 99", "build commit"]);
    std::fs::write(&file, &saved[..saved.len() / 2]).expect("room for a file");
    assert_bad_input(&["replay", &file], &[&file, "is no replay file", "--save FILE"]);
    std::fs::write(&file, saved.replacen("\"workers\"", "\"tunings\": {}, \"workers\"", 1)).expect("room for a file");
    assert_bad_input(&["replay", &file], &[&file, "unknown field `tunings`", "`tuning`", "line "]);
    std::fs::write(&file, saved.replacen("\"commit\": \"", "\"commit\": \"not-", 1)).expect("room for a file");
    let other = seedbed(&["replay", &file]);
    assert!(other.code == 0 && other.err.starts_with(&format!("warning: {file}: commit not-")), "{other:?}");
}

#[test]
fn a_replay_file_that_cannot_be_written_is_bad_input() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = text(&directory.path().join("missing").join("run.json"));
    assert_bad_input(&["replay", "1", "--workload", "fallback", "--save", &file], &["failed to write", &file]);
}

#[test]
fn a_failing_run_is_made_small_and_its_file_fails_the_same_way() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = text(&directory.path().join("small.json"));
    let shrunk = seedbed(&["shrink", "120", "--workload", "isolation", "--subject", "legacy", "--out", &file]);
    assert_eq!(shrunk.code, 1, "{shrunk:?}");
    let (target, rest) = shrunk.out.split_once('\n').expect("lines");
    let guarantee =
        target.strip_prefix("FAILED: ").and_then(|target| target.split_once(" of record ")).expect("both").0;
    assert!(rest.ends_with(&format!("  cargo run --release -- replay {file}\n")), "{rest}");
    let [operations, faults] = ["operation", "fault"].map(|what| number_of(rest, what));
    assert!(operations <= 4 && faults <= 1, "{rest}");
    let replayed = seedbed(&["replay", &file]);
    assert!(replayed.code == 1 && replayed.out.contains(&format!("  FAILED  {guarantee}\n")), "{replayed:?}");
    let again = seedbed(&["shrink", &file, "--out", &file]);
    assert!(again.code == 1 && again.out.starts_with(target), "{again:?}");
}

/// `4 operations`, `1 fault`.
fn number_of(text: &str, what: &str) -> u32 {
    let before = text.split_once(&format!(" {what}")).expect("it is said").0;
    before.rsplit([' ', '\n']).next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_run_that_breaks_no_guarantee_has_nothing_to_shrink() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = directory.path().join("small.json");
    let shrunk = seedbed(&["shrink", "1", "--workload", "isolation", "--out", &text(&file)]);
    assert!(shrunk.code == 0 && shrunk.out.starts_with("PASSED: no guarantee is broken"), "{shrunk:?}");
    assert!(!file.exists());
    let missing = text(&directory.path().join("missing").join("small.json"));
    let arguments = ["shrink", "120", "--workload", "isolation", "--subject", "legacy", "--out", &missing];
    assert_bad_input(&arguments, &["failed to write", &missing]);
}

#[test]
fn a_run_that_ends_its_process_is_named_and_the_others_are_judged() {
    for end in ["exit", "abort", "overflow", "memory", "spin"] {
        let planted = format!("3={end}");
        let arguments = ["--workload", "isolation", "--planted", &planted, "--stuck-after", "20"];
        let run = seedbed(&[&["run", "--seeds", "6", "--jobs", "2"][..], &arguments].concat());
        assert_eq!(run.code, 5, "{end}: {run:?}");
        assert!(run.out.contains("\n  ENDED seed 3: the run "), "{end}: {}", run.out);
        assert!(run.out.contains("\n  cargo run --release -- replay 3 --workload isolation\n"), "{end}: {}", run.out);
        assert!(run.out.contains("\nFAILED: 6 runs, 1 of which ended their process, "), "{end}: {}", run.out);
        assert!(run.out.contains("  PASSED  G7 isolation           held in 5 runs\n"), "{end}: {}", run.out);
        let replay = seedbed(&[&["replay", "3"][..], &arguments].concat());
        assert_eq!(replay.code, 5, "{end}: {replay:?}");
        assert!(replay.out.starts_with("ENDED: seed 3 of isolation: the run "), "{end}: {}", replay.out);
    }
}

#[test]
fn a_run_that_ends_its_process_can_be_made_small() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = text(&directory.path().join("small.json"));
    let shrunk = seedbed(&["shrink", "3", "--workload", "isolation", "--planted", "3=exit", "--out", &file]);
    assert_eq!(shrunk.code, 5, "{shrunk:?}");
    assert!(shrunk.out.contains("\n0 operations and 0 faults are left of "), "{}", shrunk.out);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a user's editor")]
fn a_run_without_operations_is_not_called_passed() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = text(&directory.path().join("empty.json"));
    seedbed(&["replay", "1", "--workload", "isolation", "--save", &file]);
    let saved = std::fs::read_to_string(&file).expect("it was written");
    let mut json: serde_json::Value = serde_json::from_str(&saved).expect("JSON");
    json["scenario"]["operations"] = serde_json::Value::Array(Vec::new());
    std::fs::write(&file, json.to_string()).expect("room for a file");
    let replay = seedbed(&["replay", &file]);
    assert!(replay.code == 3 && replay.out.contains("\nUNKNOWN: event stream "), "{replay:?}");
    assert!(replay.out.contains("no operation returned, so that nothing was judged"), "{}", replay.out);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let arguments = [&["run", "--seeds", "1"][..], &["list"], &["hashes", "--workload", "isolation", "--seeds", "3"]];
    for arguments in arguments {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seedbed"));
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{arguments:?}");
    }
}

#[test]
fn a_seed_without_its_workload_is_bad_input() {
    assert_bad_input(&["replay", "1"], &["which workload of seed 1", "--workload NAME", "serialization, fallback"]);
}

#[test]
fn neither_a_seed_nor_a_file_is_bad_input() {
    for what in ["nonsense", "-1", "18446744073709551616"] {
        assert_bad_input(&["replay", "--", what], &[what, "whole number from 0 to", "no replay file"]);
    }
}

#[test]
fn an_argument_out_of_its_range_is_bad_input() {
    assert_bad_input(&["run", "--workload", "chaos"], &["--workload", "\"chaos\"", "serialization, fallback"]);
    assert_bad_input(&["run", "--seeds", "0"], &["--seeds", "'0'", "1.."]);
    assert_bad_input(&["run", "--seeds", "many"], &["--seeds", "many"]);
    assert_bad_input(&["run", "--jobs", "0"], &["--jobs", "'0'", "1.."]);
    assert_bad_input(&["run", "--seed", "x"], &["--seed", "\"x\" is not a whole number"]);
    assert_bad_input(&["redis-server", "--port", "99999"], &["--port", "99999", "65535"]);
    assert_bad_input(&["explore"], &["'explore'", "--help"]);
}

#[test]
fn a_planted_bug_that_is_not_there_is_bad_input() {
    assert_bad_input(&["mutants", "no-such-bug"], &["no planted bug is called \"no-such-bug\"", "sync-skipped"]);
    assert_bad_input(&["mutants", "--part", "9/8"], &["9/8", "2/7 is the second of seven parts"]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "files of a user")]
fn a_planted_bug_that_cannot_be_planted_is_bad_input() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let in_tree = |file: &str, text: &str| std::fs::write(directory.path().join(file), text).expect("room for a file");
    std::fs::create_dir(directory.path().join("mutants")).expect("room for a directory");
    for file in ["Cargo.lock", "key.rs"] {
        in_tree(file, "fn key() {}\n");
    }
    let diff = "diff --git a/key.rs b/key.rs\n--- a/key.rs\n+++ b/key.rs\n@@ -1 +1 @@\n-fn lock() {}\n+fn open() {}\n";
    for (header, said) in [
        ("It opens.\n", ["patch \"open\" has no line", "guarantee: G5"]),
        ("guarantee: G77\nIt opens.\nstands for: a door.\n", ["\"G77\"", "G1, G2"]),
        ("guarantee: G7\nIt opens.\nstands for: a door.\n", ["git cannot list the files", "within a checkout"]),
    ] {
        in_tree("mutants/open.patch", &format!("{header}\n{diff}"));
        assert_bad_input_in(directory.path(), &["mutants"], &said);
    }
    let git = |arguments: &[&str]| Command::new("git").current_dir(directory.path()).args(arguments).output();
    git(&["init"]).and_then(|_| git(&["add", "."])).expect("git is installed");
    let said = ["patch \"open\" does not apply any more", "make the change again", "key.rs"];
    assert_bad_input_in(directory.path(), &["mutants"], &said);
}

#[test]
fn a_port_in_use_is_bad_input() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let port = address.port().to_string();
    assert_bad_input(&["redis-server", "--port", &port], &[&address.to_string(), "in use", "--port", "0 for a free"]);
}

#[test]
fn the_same_seeds_are_the_same_runs_in_every_process() {
    for seed in ["0", "18446744073709551612"] {
        let run = seedbed(&["determinism", "--seeds", "5", "--alone", "2", "--seed", seed]);
        assert_eq!(run.code, 0, "{run:?}");
        let runs = format!("PASSED: {} runs in two processes", 5 * ALL.len());
        assert!(run.out.starts_with(&runs), "{}", run.out);
    }
}

#[test]
fn what_there_is_can_be_listed() {
    let run = seedbed(&["list"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let workloads = ALL.map(|workload| workload.name().to_owned());
    let guarantees = seedbed_contact::checker::Guarantee::ALL.map(|guarantee| guarantee.to_string());
    let faults = seedbed_contact::faults::KIND_NAMES.map(str::to_owned);
    let marks = seedbed_contact::marks::ALL.map(|mark| mark.name.to_owned());
    for name in workloads.iter().chain(&guarantees).chain(&faults).chain(&marks) {
        assert!(run.out.contains(&format!("\n  {name}")), "no {name} in\n{}", run.out);
    }
}

#[test]
fn help_tells_the_exit_codes() {
    let run = seedbed(&["--help"]);
    assert_eq!(run.code, 0);
    // clap breaks lines where it likes.
    let said = run.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["0 every guarantee held, 1 a violation, 2 bad input", "5 a run ended its process or took too long"] {
        assert!(said.contains(part), "{}", run.out);
    }
}

/// A process that has ended.
#[derive(Debug)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

fn seedbed(arguments: &[&str]) -> Run {
    seedbed_in(Path::new("."), arguments)
}

fn seedbed_in(directory: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedbed"));
    let output = command.current_dir(directory).args(arguments).output().expect("it was built");
    let text = |bytes| String::from_utf8(bytes).expect("output in UTF-8");
    Run { code: output.status.code().expect("no signal ended it"), out: text(output.stdout), err: text(output.stderr) }
}

/// Nothing is printed but an error that says these things.
fn assert_bad_input(arguments: &[&str], said: &[&str]) {
    assert_bad_input_in(Path::new("."), arguments, said);
}

fn assert_bad_input_in(directory: &Path, arguments: &[&str], said: &[&str]) {
    let run = seedbed_in(directory, arguments);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{arguments:?}: {}", run.err);
    assert!(run.err.starts_with("error: "), "{arguments:?}: {}", run.err);
    for part in said {
        assert!(run.err.contains(part), "{arguments:?}: no {part:?} in {}", run.err);
    }
}

/// Of the last line of a replay.
fn hash(replay: &Run) -> &str {
    let last = replay.out.lines().last().expect("a verdict");
    last.strip_prefix("PASSED: event stream ").expect("it passes")
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
