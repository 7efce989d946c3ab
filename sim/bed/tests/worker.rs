//! Worker processes: each test starts this program again, with itself as the only test.

use std::time::Duration;

use seedbed::worker::{ProcessEnd, Program, Worker, serve};

/// How a request ends the process that takes it.
const ENDS: [&str; 5] = ["exit", "abort", "overflow", "memory", "spin"];

fn answer(request: &str) -> String {
    println!("what a system prints is no reply");
    match request {
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "overflow" => overflow(0).to_string(),
        "memory" => loop {
            // Zeroed pages that nobody touches: address space, and no memory of the machine.
            std::mem::forget(std::hint::black_box(vec![0_u8; 1 << 28]));
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        _ => request.to_uppercase(),
    }
}

fn overflow(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 512]);
    if depth == u64::MAX { 0 } else { overflow(depth + 1) + page[0] }
}

fn program(test: &str) -> Program {
    Program {
        arguments: [test, "--exact", "--nocapture", "--test-threads=1"].map(ToOwned::to_owned).to_vec(),
        variables: vec![("SEEDBED_TEST_WORKER".to_owned(), "1".to_owned())],
        stuck_after: Duration::from_secs(2),
        is_silent: true,
    }
}

#[test]
fn a_request_that_ends_its_process_is_told_and_the_next_one_is_answered() {
    if std::env::var_os("SEEDBED_TEST_WORKER").is_some() {
        serve(|request: String| answer(&request)).expect("the standard streams work");
        std::process::exit(0);
    }
    let test = "a_request_that_ends_its_process_is_told_and_the_next_one_is_answered";
    let mut worker = Worker::<String, String>::new(program(test));
    let mut ended = Vec::new();
    for request in ENDS {
        worker.send(request.to_owned()).expect("a process starts");
        worker.send("next".to_owned()).expect("a process starts");
        ended.push(worker.receive().expect("a process starts").expect_err(request));
        assert_eq!(worker.receive().expect("a process starts").as_deref(), Ok("NEXT"), "after {request}");
    }
    assert_eq!(ended[0], ProcessEnd::Exited(3));
    assert!(ended[1..4].iter().all(|end| matches!(end, ProcessEnd::Signalled(_))), "{ended:?}");
    assert_eq!(ended[4], ProcessEnd::Stuck(Duration::from_secs(2)));
}
