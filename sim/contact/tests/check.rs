//! `seedbed check` as a user meets it: a history from a file or from standard input, judged as the run itself was.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

#[test]
fn a_history_is_judged_from_its_file_as_the_run_was() {
    let directory = directory();
    let file = path(&directory, "run.jsonl");
    let replay = seedbed(&["replay", "1", "--workload", "consistency", "--history", &file], "");
    let history = fs::read_to_string(&file).expect("it was written");
    let events = history.lines().count() - 1;
    assert_eq!((replay.code, replay.err), (0, format!("wrote {events} events to {file}\n")));
    let check = seedbed(&["check", &file], "");
    assert_eq!((check.code, check.err.as_str()), (0, ""));
    assert_eq!(verdicts(&check.out), verdicts(&replay.out));
    assert!(check.out.ends_with(&format!("PASSED: {events} events of seed 1 of consistency\n")), "{}", check.out);
    assert_eq!(seedbed(&["check", "-"], &history), check, "from standard input");
}

#[test]
fn a_history_that_breaks_a_guarantee_fails_as_its_run_did() {
    let directory = directory();
    let file = path(&directory, "run.jsonl");
    let of = ["replay", "7", "--workload", "consistency", "--subject", "legacy", "--history", &file];
    let replay = seedbed(&of, "");
    let check = seedbed(&["check", &file], "");
    assert_eq!((replay.code, check.code), (1, 1), "{check:?}");
    assert_eq!(verdicts(&check.out), verdicts(&replay.out));
    assert!(check.out.contains("FAILED  G5 durability"), "{}", check.out);
}

#[test]
fn a_history_that_was_tampered_with_fails_and_names_the_operation() {
    let history = history_of(&["replay", "1", "--workload", "consistency"]);
    // The first acknowledged write returns what a read is answered with: nothing that any order explains.
    let lost = history.replacen("\"record\":{", "\"record\":{\"name\":1,", 1);
    let check = seedbed(&["check", "-"], &lost);
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.out.contains("FAILED  G1 fidelity\n") && check.out.contains("the field \"name\""), "{}", check.out);
}

#[test]
fn a_history_that_stops_early_cannot_be_judged_whole() {
    let history = history_of(&["replay", "1", "--workload", "fallback"]);
    let lines: Vec<_> = history.lines().collect();
    let check = seedbed(&["check", "-"], &lines[..lines.len() / 2].join("\n"));
    assert_eq!(check.code, 3, "{check:?}");
    assert!(check.out.contains("UNKNOWN G4 convergence\n          the history has no phase"), "{}", check.out);
}

#[test]
fn a_file_that_is_no_history_is_bad_input() {
    assert_bad_input("", &["history \"-\", line 1: the header is missing", "docs/HISTORIES.md"]);
    assert_bad_input("{\"format\":1", &["line 1: the file ends within it", "copy the file again"]);
    assert_bad_input("hello\n", &["line 1: it is no JSON", "one JSON object a line"]);
    let header = r#"{"format":1,"workload":"mine","seed":0,"prefixes":["p"],"op_deadline_us":1000000}"#;
    let event = r#"{"ordinal":0,"at_us":0,"event":"redis_lost_data"}"#;
    assert_eq!(seedbed(&["check", "-"], &format!("{header}\n{event}\n")).code, 3, "nothing was read in the end");
    let later = event.replace("\"ordinal\":0", "\"ordinal\":2");
    assert_bad_input(&format!("{header}\n{event}\n{later}\n"), &["line 3: its ordinal is 2, and 1 was expected"]);
    let unknown = event.replace("redis_lost_data", "redis_won_data");
    assert_bad_input(&format!("{header}\n{unknown}\n"), &["line 2: no event: unknown variant `redis_won_data`"]);
    let newer = header.replace("\"format\":1", "\"format\":2");
    assert_bad_input(&format!("{newer}\n"), &["line 1: it has format version 2", "this seedbed reads 1"]);
    let missing = seedbed(&["check", "/nowhere/history.jsonl"], "");
    assert_eq!((missing.code, missing.out.as_str()), (2, ""));
    assert!(
        missing.err.starts_with("error: failed to open history \"/nowhere/history.jsonl\": No such"),
        "{missing:?}"
    );
}

const STALE: &str = r#"{"process":0,"type":"invoke","f":"write","key":"x","value":1}
{"process":0,"type":"ok","f":"write","key":"x","value":1}
{"process":1,"type":"invoke","f":"write","key":"x","value":2}
{"process":1,"type":"ok","f":"write","key":"x","value":2}
{"process":0,"type":"invoke","f":"read","key":"x"}
{"process":0,"type":"ok","f":"read","key":"x","value":1}
"#;

#[test]
fn a_foreign_history_that_is_not_linearizable_fails_and_shows_why() {
    let check = seedbed(&["check", "-", "--model", "register"], STALE);
    assert_eq!((check.code, check.err.as_str()), (1, ""));
    for part in [
        "No order explains the operations on key \"x\"",
        "  process 0: write 1, lines 1 to 2\n  process 1: write 2, lines 3 to 4\n  process 0: read -> 1, lines 5 to 6\n",
        "2 operations are explained",
        "\nFAILED: 3 operations on 1 keys, register: not linearizable\n",
    ] {
        assert!(check.out.contains(part), "no {part:?} in\n{}", check.out);
    }
}

#[test]
fn a_foreign_history_is_judged_by_the_model_that_is_named() {
    let unknown = STALE.replace("\"process\":1,\"type\":\"ok\"", "\"process\":1,\"type\":\"info\"");
    let check = seedbed(&["check", "-", "--model", "cas-register"], &unknown);
    assert_eq!((check.code, check.out.as_str()), (0, "PASSED: 3 operations on 1 keys, cas-register: linearizable\n"));
    let texts = r#"{"process":"a","f":"append","key":"x","value":"1","call":1,"return":4}
{"process":"b","f":"append","key":"x","value":"2","call":2,"return":3}
{"process":"b","f":"get","key":"x","value":"21","call":5,"return":6}
{"process":"b","f":"delete","key":"x","call":7,"return":8}
{"process":"b","f":"get","key":"x","value":VALUE,"call":9,"return":10}
"#;
    assert_eq!(seedbed(&["check", "-", "--model", "key-value"], &texts.replace("VALUE", "null")).code, 0);
    assert_eq!(seedbed(&["check", "-", "--model", "key-value"], &texts.replace("VALUE", "\"21\"")).code, 1);
    let crashed = STALE.replacen('\n', "\n{\"process\":\"nemesis\",\"type\":\"info\",\"f\":\"crash\"}\n", 4);
    let check = seedbed(&["check", "-", "--model", "register"], &crashed);
    assert!(check.code == 3 && check.out.contains("may have lost data"), "{check:?}");
}

#[test]
fn a_model_that_is_unknown_is_bad_input_and_all_that_are_known_are_named() {
    let check = seedbed(&["check", "-", "--model", "queue"], STALE);
    let why = "unknown model \"queue\": there are contact-cache, register, cas-register and key-value";
    assert!(check.code == 2 && check.err.contains(why), "{check:?}");
}

#[test]
fn a_history_in_which_nothing_was_judged_has_not_passed() {
    says("", "register", &["history \"-\", line 1: the history is empty", "look at what wrote it"]);
    says("\n\n", "register", &["line 1: the history is empty"]);
    let written = r#"{"process":0,"f":"write","value":1,"call":1,"return":2}"#;
    let check = seedbed(&["check", "-", "--model", "register"], written);
    let why = "UNKNOWN: 1 operations on 1 keys, register: nothing was judged: no operation returned what it saw\n";
    assert_eq!((check.code, check.out.as_str()), (3, why));
}

#[test]
fn a_line_that_the_minimal_form_does_not_explain_is_bad_input() {
    let write = r#"{"process":0,"f":"write","value":1,"call":1,"return":9}"#;
    for (line, said) in [
        (
            r#"{"process":1,"f":"write","value":1,"call":1,"return":2,"result":false}"#,
            "a write that ended with ok and has \"result\"; leave it out",
        ),
        (
            r#"{"process":0,"f":"read","value":1,"call":3,"return":4}"#,
            "it overlaps with the operation of line 1, of the same process 0; give operations that run at a time a process each",
        ),
        (r#"[0,"read"]"#, "it is no JSON object; write one JSON object a line"),
        (
            r#"{"process":null,"f":"read","value":1,"call":9,"return":9}"#,
            "the process null; a process is a text or a whole number",
        ),
        (r#"{"process":0.5,"f":"read","value":1,"call":9,"return":9}"#, "the process 0.5; a process is a text or"),
        (
            r#"{"process":1,"f":"read","value":{"$serde_json::private::Number":"1"},"call":9,"return":9}"#,
            "the field \"$serde_json::private::Number\"; give it another name",
        ),
        (
            r#"{"process":1,"f":"read","value":[{"$serde_json::private::RawValue":"1"}],"call":9,"return":9}"#,
            "the field \"$serde_json::private::RawValue\"; give it another name",
        ),
        (
            r#"{"process":1,"f":"read","value":1e9999999999999999999999999999999999999,"call":9,"return":9}"#,
            "has more than 36 digits; write the value as a text",
        ),
        ("{:process 0, :type :invoke}", "it is EDN and no JSON; convert it: one JSON object a line"),
    ] {
        says(&format!("{write}\n{line}\n"), "register", &["line 2: ", said]);
    }
    let info = r#"{"process":0,"f":"write","value":1,"call":1,"outcome":"info"}"#;
    let later = r#"{"process":0,"f":"read","value":1,"call":5,"return":6}"#;
    let goes_on =
        "line 2: process 0 goes on after its operation of line 1, which has no known end; after info a process";
    says(&format!("{info}\n{later}\n"), "register", &[goes_on]);
    let touching = write.replace('9', "5");
    assert_eq!(seedbed(&["check", "-", "--model", "register"], &format!("{touching}\n{later}\n")).code, 0);
    let events = STALE
        .replace("\"process\":0,\"type\":\"ok\",\"f\":\"write\"", "\"process\":0,\"type\":\"info\",\"f\":\"write\"");
    says(
        &events,
        "register",
        &["line 5: process 0 is called, and its call before ended with info on line 2; after info"],
    );
    let unended = r#"{"process":7,"type":"invoke","f":"cas","value":[1,2]}"#;
    says(&format!("{STALE}{unended}\n"), "register", &["line 7: the function \"cas\" is unknown to it"]);
}

#[test]
fn pairs_of_a_key_and_a_value_are_understood_when_named_and_refused_when_not() {
    let pairs = STALE.replace("\"key\":\"x\",", "").replace("\"value\":", "\"value\":[\"x\",");
    let pairs = pairs
        .replace("1}", "1]}")
        .replace("2}", "2]}")
        .replace("\"f\":\"read\",\"key\":\"x\"}", "\"f\":\"read\",\"value\":[\"x\",null]}");
    let says_how = ["line 5: a read that is called with the value [\"x\",null]; leave it out; or give --independent"];
    says(&pairs, "register", &says_how);
    let check = seedbed(&["check", "-", "--model", "register", "--independent"], &pairs);
    assert!(check.code == 1 && check.out.contains("on key \"x\""), "{check:?}");
    let run = seedbed(&["check", "-", "--independent", "--model", "register"], STALE);
    assert!(run.code == 2 && run.err.contains("line 1: a \"key\", and --independent"), "{run:?}");
    let run = seedbed(&["check", "-", "--independent"], "");
    assert!(run.code == 2 && run.err.contains("name their --model"), "{run:?}");
}

fn says(input: &str, model: &str, said: &[&str]) {
    let run = seedbed(&["check", "-", "--model", model], input);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    for part in said {
        assert!(run.err.starts_with("error: ") && run.err.contains(part), "no {part:?} in {}", run.err);
    }
}

#[test]
fn a_foreign_history_that_contradicts_itself_is_bad_input() {
    let twice = STALE.replacen("\"type\":\"ok\"", "\"type\":\"invoke\"", 1);
    says(
        &twice,
        "register",
        &["line 2: process 0 is called, and its call of line 1 has not ended", "ok, fail or info"],
    );
    let stranger = STALE.replacen("\"process\":0,\"type\":\"ok\"", "\"process\":7,\"type\":\"ok\"", 1);
    says(&stranger, "register", &["line 2: process 7 ends a call that it had not begun"]);
    let cas = STALE.replace("\"f\":\"write\"", "\"f\":\"cas\"");
    says(&cas, "register", &["line 1: the function \"cas\" is unknown", "--model register has read and write"]);
    says(STALE, "key-value", &["line 1: the value 1", "texts, and null"]);
    says(&STALE.replacen('{', "{\"mood\":1,", 1), "register", &["line 1: no event and no operation", "mood"]);
    says("{\"process\":0,\"f\":\"read\"}\n", "register", &["line 1: neither an event nor an operation"]);
    says(&STALE[..STALE.len() - 9], "register", &["line 6: the file ends within it"]);
    says("{\"format\":1}\n", "register", &["line 1: this is a history of the native form", "leave --model out"]);
    let unknown = seedbed(&["check", "-", "--model", "queue"], "");
    assert!(unknown.code == 2 && unknown.err.contains("register, cas-register and key-value"), "{unknown:?}");
}

/// A process that has ended.
#[derive(Debug, PartialEq)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

fn seedbed(arguments: &[&str], input: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedbed"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built");
    // A process that refuses a line reads no further.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("output in UTF-8");
    Run { code: output.status.code().expect("no signal ended it"), out: text(output.stdout), err: text(output.stderr) }
}

fn assert_bad_input(input: &str, said: &[&str]) {
    let run = seedbed(&["check", "-"], input);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    for part in said {
        assert!(run.err.starts_with("error: ") && run.err.contains(part), "no {part:?} in {}", run.err);
    }
}

fn verdicts(out: &str) -> &str {
    let verdicts = &out[out.find("Verdicts\n").expect("verdicts")..];
    &verdicts[..verdicts.rfind("\n\n").expect("a summary")]
}

fn history_of(replay: &[&str]) -> String {
    let directory = directory();
    let file = path(&directory, "run.jsonl");
    seedbed(&[replay, &["--history", &file]].concat(), "");
    fs::read_to_string(&file).expect("it was written")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("room for a directory")
}

fn path(directory: &TempDir, name: &str) -> String {
    let path: &Path = &directory.path().join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}
