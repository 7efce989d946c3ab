//! The client that a report on mocks had passed in 4 of 4 validations, on the bed: it fails, it is shown how, and what is
//! shown replays. As a user meets it: by the command line.

use std::process::Command;

#[test]
fn the_python_client_fails_consistency_isolation_and_fallback() {
    let (code, out) = seedbed(&["run", "--subject", "legacy", "--seeds", "5"]);
    assert_eq!(code, 1, "{out}");
    for workload in ["consistency", "isolation", "fallback"] {
        assert!(out.contains(&format!("  FAILED  {workload}")), "{workload}\n{out}");
    }
    assert!(out.lines().count() < 130, "too much to read: {out}");
}

#[test]
fn it_shows_the_records_of_one_prefix_to_another() {
    let (code, out) = seedbed(&["replay", "120", "--workload", "isolation", "--subject", "legacy"]);
    assert_eq!(code, 1, "{out}");
    for part in ["FAILED  G7 isolation", "of record \"b:u\" under prefix \"a\"", "to record \"u\" under prefix \"a:b\""]
    {
        assert!(out.contains(part), "no {part} in\n{out}");
    }
}

#[test]
fn a_replay_line_of_the_report_shows_the_same_violation() {
    let (_, report) = seedbed(&["run", "--subject", "legacy", "--seeds", "3"]);
    let lines: Vec<&str> = report.lines().collect();
    let failures: Vec<_> = lines.windows(2).filter(|pair| pair[0].starts_with("  FAILED seed ")).collect();
    assert!(failures.len() >= 3, "{report}");
    for pair in failures {
        let reason = pair[0].split_once(": ").expect("a reason").1;
        let command = pair[1].trim().strip_prefix("cargo run --release -- ").expect("a command");
        assert!(command.ends_with(" --subject legacy"), "{command}");
        let (code, replay) = seedbed(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(code, 1, "{command}\n{replay}");
        assert!(replay.contains(reason), "{command} does not say {reason}");
    }
}

#[test]
fn a_call_that_waits_for_a_redis_that_stands_still_does_not_hold_up_the_run() {
    // An instance is to end in order while its call waits, and Redis goes on only after that.
    let (code, out) = seedbed(&["replay", "5", "--workload", "isolation", "--subject", "legacy"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("FAILED  G8 bounded latency") && out.contains("its deadline is 1000000 us"), "{out}");
}

#[test]
fn a_saved_run_names_its_subject() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = directory.path().join("run.json");
    let file = file.to_str().expect("a path in UTF-8");
    let saved = seedbed(&["replay", "1", "--workload", "consistency", "--subject", "legacy", "--save", file]);
    assert_eq!(saved, seedbed(&["replay", file]));
    assert!(saved.1.starts_with("Subject: legacy\n"), "{}", saved.1);
}

#[test]
fn its_seeds_are_the_same_runs_in_every_process() {
    let (code, out) = seedbed(&["determinism", "--subject", "legacy", "--seeds", "5", "--alone", "2"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("PASSED: 20 runs in two processes"), "{out}");
}

#[test]
fn an_unknown_subject_is_bad_input() {
    assert_eq!(seedbed(&["run", "--subject", "mock"]).0, 2);
}

/// How it ended, and what it printed.
fn seedbed(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_seedbed")).args(arguments).output().expect("it was built");
    let out = String::from_utf8(output.stdout).expect("output in UTF-8");
    (output.status.code().expect("no signal ended it"), out)
}
