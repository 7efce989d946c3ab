//! What an engine promises beyond what a real server is asked in `tests/redis_parity`.

use super::*;

fn connected() -> Engine {
    let mut engine = Engine::new();
    engine.connect(ClientId(1));
    engine
}

fn ask(engine: &mut Engine, line: &str) -> String {
    ask_at(engine, line, 1_000)
}

fn ask_at(engine: &mut Engine, line: &str, now_ms: u64) -> String {
    let mut out = Vec::new();
    engine.feed(ClientId(1), format!("{line}\r\n").as_bytes(), now_ms, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn a_server_that_refuses_writes_still_reads_until_it_has_recovered() {
    let mut engine = connected();
    assert_eq!(ask(&mut engine, "SET k v"), "+OK\r\n");
    engine.refuse(Some(Refusal::OutOfMemory));
    assert!(ask(&mut engine, "SET k w").starts_with("-OOM "));
    assert_eq!(ask(&mut engine, "GET k"), "$1\r\nv\r\n");
    engine.refuse(Some(Refusal::Loading));
    assert!(ask(&mut engine, "GET k").starts_with("-LOADING "));
    engine.refuse(None);
    assert_eq!(ask(&mut engine, "GET k"), "$1\r\nv\r\n");
}

#[test]
fn an_engine_can_move_between_threads() {
    fn check<T: Send>() {}
    check::<Engine>();
}

#[test]
fn requests_split_at_any_byte_answer_as_whole_ones() {
    let input = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n";
    for cut in 0..=input.len() {
        let (mut engine, mut out) = (connected(), Vec::new());
        engine.feed(ClientId(1), &input[..cut], 0, &mut out);
        engine.feed(ClientId(1), &input[cut..], 0, &mut out);
        assert_eq!(out, b"+OK\r\n$4\r\na\r\nb\r\n+PONG\r\n", "cut at {cut}");
    }
}

#[test]
fn nothing_is_executed_after_quit() {
    let (mut engine, mut out) = (connected(), Vec::new());
    assert_eq!(engine.feed(ClientId(1), b"QUIT\r\nSET k v\r\n", 0, &mut out), Flow::Close);
    assert_eq!(engine.feed(ClientId(1), b"SET k v\r\n", 0, &mut out), Flow::Close);
    assert_eq!(out, b"+OK\r\n");
    assert!(engine.dump(0).is_empty());
}

#[test]
fn bytes_of_an_unknown_client_are_ignored() {
    let mut out = Vec::new();
    assert_eq!(Engine::new().feed(ClientId(7), b"PING\r\n", 0, &mut out), Flow::Close);
    assert!(out.is_empty());
}

#[test]
fn a_key_is_gone_at_its_deadline_and_not_before() {
    let mut engine = connected();
    assert_eq!(ask_at(&mut engine, "SET k v PX 10", 1_000), "+OK\r\n");
    assert_eq!(ask_at(&mut engine, "GET k", 1_009), "$1\r\nv\r\n");
    assert_eq!(engine.dump(1_009).len(), 1);
    assert_eq!(engine.dump(1_010).len(), 0);
    assert_eq!(ask_at(&mut engine, "DBSIZE", 1_010), ":0\r\n");
    assert_eq!(ask_at(&mut engine, "GET k", 1_010), "$-1\r\n");
}

#[test]
fn a_restart_keeps_data_and_forgets_scripts_and_clients() {
    let mut engine = connected();
    ask(&mut engine, "HSET h f v");
    ask(&mut engine, "SCRIPT LOAD 'return 1'");
    let mut next = engine.restart_keeping_data();
    assert_ne!(next.run_id(), engine.run_id());
    assert_eq!(ask(&mut next, "PING"), "");
    next.connect(ClientId(1));
    assert_eq!(ask(&mut next, "HGET h f"), "$1\r\nv\r\n");
    assert!(ask(&mut next, "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0").starts_with("-NOSCRIPT"));
    assert!(engine.restart_losing_data().dump(0).is_empty());
}

#[test]
fn databases_are_apart_and_selected_by_each_client() {
    let mut engine = connected();
    ask(&mut engine, "SELECT 3");
    ask(&mut engine, "SET k v");
    assert!(engine.dump(0).is_empty());
    engine.connect(ClientId(1));
    assert_eq!(ask(&mut engine, "GET k"), "$-1\r\n");
}

#[test]
fn an_answer_that_contains_itself_ends_in_an_error() {
    let answer = ask(&mut connected(), "EVAL 'local a = {} a[1] = a return a' 0");
    assert!(answer.ends_with("*1\r\n-ERR reached lua stack limit\r\n"));
}

#[test]
fn a_script_leaves_nothing_behind_in_lua() {
    let mut engine = connected();
    for script in ["x = 1", "rawset(_G, \"x\", 1)", "string.x = 1", "redis.call = 1", "KEYS = 1"] {
        let answer = ask(&mut engine, &format!("EVAL '{script}' 0"));
        assert!(answer.contains("Attempt to modify a readonly table"), "{script}: {answer}");
    }
    let answer = ask(&mut engine, "EVAL 'return x' 0");
    assert!(answer.contains("nonexistent global variable 'x'"), "{answer}");
}

#[test]
fn commands_count_what_scripts_call() {
    let mut engine = connected();
    ask(&mut engine, "EVAL \"redis.call('get','k') return redis.call('get','k')\" 0");
    assert_eq!(engine.commands(), 3);
}

#[test]
fn a_restart_forgets_what_was_watched_and_queued() {
    let mut engine = connected();
    for line in ["SET k v", "WATCH k", "MULTI", "SET k w"] {
        ask(&mut engine, line);
    }
    let mut next = engine.restart_keeping_data();
    next.connect(ClientId(1));
    assert!(ask(&mut next, "EXEC").starts_with("-ERR EXEC without MULTI"));
    assert_eq!(ask(&mut next, "GET k"), "$1\r\nv\r\n");
    assert_eq!(ask(&mut engine, "EXEC"), "*1\r\n+OK\r\n");
}

#[test]
fn what_an_operator_does_to_a_watched_key_stops_a_transaction() {
    let string = Dumped { content: Content::String(b"v".to_vec()), expires_at_ms: None };
    let actions: [fn(&mut Engine, &Dumped); 4] = [
        |engine, string| engine.store(b"k", string),
        |engine, _| engine.flush_all(),
        |engine, _| drop(engine.evict(1, 0, 1_000)),
        |engine, string| {
            engine.flush_all();
            engine.store(b"k", string);
        },
    ];
    for act in actions {
        let mut engine = connected();
        engine.store(b"k", &string);
        ask(&mut engine, "WATCH k");
        act(&mut engine, &string);
        assert_eq!(ask(&mut engine, "MULTI\r\nPING\r\nEXEC"), "+OK\r\n+QUEUED\r\n*-1\r\n");
    }
}

#[test]
fn a_client_that_leaves_watches_no_key() {
    let watches = |engine: &Engine| format!("{engine:?}").matches(" was_live: ").count();
    let mut engine = connected();
    for ends in ["", "UNWATCH", "MULTI\r\nDISCARD", "MULTI\r\nEXEC", "EXEC x"] {
        ask(&mut engine, "WATCH a b a");
        assert_eq!(watches(&engine), 2);
        ask(&mut engine, ends);
        if ends.is_empty() {
            engine.connect(ClientId(1));
        }
        assert_eq!(watches(&engine), 0, "{ends:?}");
    }
}
