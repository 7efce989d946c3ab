//! The library on a small system that uses all that can fail: a Redis, a server, another instance, a disk, the clock.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use seedbed::{
    Bed, Budget, Faults, Host, Instance, Outcome, Plan, Planned, Seed, SimEnv, Stream, System, Workload, always,
    cli::{AnyBed, Code, ReplayArguments},
    connect, deadline,
    env::{Disk as _, DiskFile as _, Env as _, Listener as _, Network as _, timeout},
    eventually_after_heal,
    faults::PlannedFault,
    history::What,
    linearizable,
    linearize::{Model, When},
    rand::RngExt as _,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PORT: u16 = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Op {
    /// Ask Redis to count.
    Count,
    /// Ask the server `echo`.
    Echo,
    /// Write to the disk, sync and read.
    Save,
    /// Ask Redis for what the simulated one lacks.
    Lacks,
    /// Read the wall clock.
    Clock,
    /// Never answer.
    Hang,
    /// Panic.
    Panic,
    /// End the process.
    Abort,
}

/// What it does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wrong {
    opens_once: bool,
    is_never_at_rest: bool,
    cannot_close: bool,
}

struct Small {
    env: SimEnv,
    wrong: Wrong,
}

/// Sends a line to a port of a host, and reads what it answers at once.
async fn ask(env: &SimEnv, host: &str, port: u16, line: &[u8]) -> Outcome<u64> {
    let asked = async {
        let mut stream = connect(env, host, port).await.map_err(Outcome::fail)?;
        stream.write_all(line).await.map_err(Outcome::unknown)?;
        let mut reply = [0; 64];
        let length = stream.read(&mut reply).await.map_err(Outcome::unknown)?;
        let reply = String::from_utf8_lossy(&reply[..length]).into_owned();
        reply.trim_start_matches(':').trim_end().parse().map_err(|_| Outcome::unknown(reply))
    };
    timeout(env, Duration::from_secs(1), asked).await.unwrap_or(Err(Outcome::unknown("no answer"))).into()
}

fn save(env: &SimEnv) -> std::io::Result<u64> {
    let folder = Path::new("/data");
    env.disk().create_dir_all(folder)?;
    let file = env.disk().open(&folder.join("file"))?;
    let length = file.len()?;
    file.write_at(length, &[7; 600])?;
    file.sync()?;
    file.read_at(length, &mut [0; 600])?;
    Ok(length)
}

impl System for Small {
    type Op = Op;
    type Ret = u64;

    async fn call(&self, op: &Op) -> Outcome<u64> {
        match op {
            Op::Count => ask(&self.env, "redis", 6379, b"INCR n\r\n").await,
            Op::Lacks => ask(&self.env, "redis", 6379, b"pfadd n 1\r\n").await,
            Op::Echo => ask(&self.env, "echo", PORT, b"12\r\n").await,
            Op::Save => {
                let env = self.env.clone();
                self.env.blocking(move || save(&env)).await.map_err(Outcome::unknown).into()
            }
            Op::Clock => Outcome::Ok(self.env.wall_ms()),
            Op::Hang => std::future::pending().await,
            Op::Panic => panic!("asked to"),
            Op::Abort => std::process::abort(),
        }
    }

    async fn close(&self) -> Result<(), String> {
        if self.wrong.cannot_close { Err("the door is stuck".to_owned()) } else { Ok(()) }
    }

    fn at_rest(&self) -> Result<(), String> {
        if self.wrong.is_never_at_rest { Err("three things to do".to_owned()) } else { Ok(()) }
    }
}

/// Calls of these operations.
struct Calls {
    ops: &'static [Op],
    wrong: Wrong,
}

impl Workload for Calls {
    type System = Small;
    type Tuning = ();

    fn plan(&self, draw: &mut Stream) -> Plan<Op> {
        let call = |number: u64| {
            let op = self.ops[draw.random_range(0..self.ops.len())];
            Planned::at_ms(number * 100, draw.random_range(0..3), op)
        };
        let calls = (0..30).map(call).collect();
        let last = (0..3).map(|instance| Planned::at_ms(0, instance, self.ops[0])).collect();
        Plan { instances: 3, calls, last, tuning: () }
    }

    async fn open(&self, env: SimEnv, at: &Instance) -> Result<Small, String> {
        if self.wrong.opens_once && at.start > 1 {
            return Err("once was enough".to_owned());
        }
        Ok(Small { env, wrong: self.wrong })
    }
}

async fn echo(env: SimEnv) {
    let listener = env.network().listen(PORT).expect("the port is free");
    while let Ok(mut stream) = listener.accept().await {
        env.spawn(async move {
            let mut bytes = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                if stream.write_all(&bytes[..length]).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn bed_of(ops: &'static [Op], wrong: Wrong) -> Bed<Calls> {
    Bed::new(Calls { ops, wrong }).redis().host("echo", echo)
}

fn bed() -> Bed<Calls> {
    bed_of(&[Op::Count, Op::Echo, Op::Save, Op::Clock], Wrong::default())
        .faults(Faults::all().within(Budget::RedisMayLoseData))
}

/// The guarantee that a scenario violates, with what happened.
fn violated(bed: &Bed<Calls>, seeds: u64) -> Option<(String, String)> {
    (0..seeds)
        .find_map(|seed| bed.run(Seed(seed)).violation().map(|(name, _, what)| (name.to_owned(), what.to_owned())))
}

fn fault(kind: &str, (start_ms, end_ms): (u64, u64), parameters: &str) -> PlannedFault {
    let parameters = serde_json::from_str(parameters).expect("JSON");
    PlannedFault { start_us: start_ms * 1_000, end_us: end_ms * 1_000, kind: kind.to_owned(), parameters }
}

#[test]
fn every_kind_of_fault_comes_and_has_an_effect_that_a_process_sees() {
    let explored = bed().explore(Seed(0), 300, |_, _| std::ops::ControlFlow::Continue(()));
    assert_eq!(explored.found, BTreeMap::new());
    for kind in Faults::all().names() {
        let (came, effects) = explored.faults.get(kind).copied().unwrap_or_default();
        assert!(effects > 0, "{kind} came {came} times, and never had an effect");
    }
    assert!(explored.to_string().contains("held      comes back"), "{explored}");
}

#[test]
fn a_seed_is_the_same_run_again_alone_and_beside_others() {
    let texts = std::sync::Mutex::new(BTreeMap::new());
    bed().explore(Seed(0), 60, |seed, run| {
        texts.lock().unwrap().insert(seed, (run.text(), run.trace));
        std::ops::ControlFlow::Continue(())
    });
    for (seed, before) in texts.into_inner().unwrap() {
        let run = bed().run(seed);
        assert_eq!((run.text(), run.trace), before, "seed {seed}");
    }
    assert_eq!(bed().is_determined(Seed(7)), Ok(()));
}

#[test]
fn no_two_faults_of_a_plan_strike_the_same_part_of_a_host_at_one_time() {
    let mut faults = 0;
    for seed in 0..500 {
        let scenario = bed().scenario(Seed(seed));
        assert_eq!(bed().check_scenario(&scenario), Ok(()), "seed {seed}");
        faults += scenario.faults.len();
    }
    assert!(faults > 2_000, "{faults} faults in 500 plans");
}

#[test]
fn a_plan_that_cannot_be_played_is_refused_with_what_is_wrong() {
    let good = bed().scenario(Seed(0));
    let refused = |faults: Vec<PlannedFault>| {
        bed().check_scenario(&seedbed::scenario::Scenario { faults, ..good.clone() }).unwrap_err()
    };
    let said = refused(vec![fault("flood", (0, 1), "null")]);
    assert!(said.starts_with("fault 0 (flood): there is no such kind in this bed; there are partition, "), "{said}");
    let said = refused(vec![fault("crash", (0, 1), "{\"instance\":3}")]);
    assert_eq!(said, "fault 0 (crash): \"3\" is no host of the run; there are 0, 1, 2, echo, redis");
    let said = refused(vec![fault("crash", (0, 1), "{\"instants\":1}")]);
    assert!(said.contains("unknown field `instants`"), "{said}");
    let said = refused(vec![fault("crash", (2, 1), "{\"instance\":1}")]);
    assert_eq!(said, "fault 0 (crash): it ends at 1000 us, before it begins at 2000 us");
    let said = refused(vec![fault("crash", (0, 9), "{\"instance\":1}"), fault("pause", (9, 12), "{\"instance\":1}")]);
    assert_eq!(said, "fault 1 (pause): it overlaps fault 0, which strikes the same");
    let mut plan = good.clone();
    plan.plan.calls[0].instance = 3;
    assert!(bed().check_scenario(&plan).unwrap_err().starts_with("a call is for instance 3, and there are 0 to 2"));
    plan.plan.instances = 0;
    assert_eq!(bed().check_scenario(&plan).unwrap_err(), "the plan has no instances");
}

#[test]
fn what_does_not_come_back_is_found_without_any_checker() {
    let named = |wrong: Wrong| violated(&bed_of(&[Op::Clock], wrong), 50);
    let comes_back = |what: &str| Some(("comes back".to_owned(), what.to_owned()));
    assert_eq!(named(Wrong::default()), None);
    let found = named(Wrong { opens_once: true, ..Wrong::default() }).expect("some instance crashes");
    assert!(found.0 == "comes back" && found.1.contains("it is still not open 300 s after"), "{found:?}");
    let never_at_rest = named(Wrong { is_never_at_rest: true, ..Wrong::default() });
    assert_eq!(never_at_rest, comes_back("instance 0: it did not come to rest: three things to do"));
    let cannot_close = named(Wrong { cannot_close: true, ..Wrong::default() });
    assert_eq!(cannot_close, comes_back("instance 0: closing failed: the door is stuck"));
    let hangs = violated(&bed_of(&[Op::Hang], Wrong::default()).faults(Faults::none()), 1).expect("it hangs");
    assert!(hangs.0 == "comes back" && hangs.1.contains("never returned: Hang"), "{hangs:?}");
    let panics = violated(&bed_of(&[Op::Panic], Wrong::default()).faults(Faults::none()), 1);
    assert_eq!(panics, Some(("no panic".to_owned(), "asked to".to_owned())));
}

#[test]
fn a_command_that_only_a_real_redis_has_is_told_and_nothing_else_is_judged() {
    let never = always("never", |_| Err("this is not asked".to_owned()));
    let run = bed_of(&[Op::Lacks], Wrong::default()).check(never).run(Seed(0));
    assert_eq!(run.violation(), None);
    let (name, why) = run.unknown().expect("it cannot be judged");
    assert!(
        name == "redis suffices" && why.starts_with("the simulated Redis has no PFADD, which redis-server 7.0.15 has"),
        "{why}"
    );
}

#[test]
#[should_panic(expected = "\"echoes\" judged nothing in 5 runs, so it was not tested")]
fn a_guarantee_that_never_judged_anything_has_not_passed() {
    struct Judges;
    impl seedbed::Checker<Calls> for Judges {
        fn name(&self) -> &'static str {
            "echoes"
        }

        fn check(&self, _: &seedbed::History<Calls>) -> seedbed::Judged {
            seedbed::Judged::held(0)
        }
    }
    let name = "bed::a_guarantee_that_never_judged_anything_has_not_passed";
    seedbed::testing::check(name, 5, &bed_of(&[Op::Echo], Wrong::default()).check(Judges));
}

#[test]
fn a_coverage_point_is_counted_and_missed() {
    let bed = bed_of(&[Op::Clock], Wrong::default())
        .covers("a call", |history| !history.calls().is_empty())
        .covers("a call without an answer", |history| history.calls().iter().any(|call| call.returned.is_none()));
    let explored = bed.clone().faults(Faults::none()).explore(Seed(0), 4, |_, _| ControlFlow::Continue(()));
    assert_eq!(explored.points.values().collect::<Vec<_>>(), [&4, &0]);
    assert_eq!(explored.missed().collect::<Vec<_>>(), ["a call without an answer"]);
    assert!(explored.to_string().contains("Coverage points:"), "{explored}");
}

#[seedbed::test(seeds = 3)]
#[should_panic(expected = "none of 3 runs met the coverage point \"a second server\": plan for it")]
fn a_test_whose_runs_miss_a_coverage_point_fails() -> Bed<Calls> {
    bed_of(&[Op::Clock], Wrong::default()).covers("a second server", |_| false)
}

#[seedbed::test(seeds = 3)]
#[should_panic(expected = "shrunk to 1 call and 0 faults:\n\nThe process ended without a history. What was planned:")]
fn a_system_that_aborts_fails_its_own_test() -> Bed<Calls> {
    bed_of(&[Op::Abort], Wrong::default())
}

#[test]
fn a_worker_that_is_no_test_of_the_program_is_unknown_and_has_a_cure() {
    let checked = std::panic::catch_unwind(|| {
        seedbed::testing::check("bed::no_such_test", 1, &bed_of(&[Op::Clock], Wrong::default()));
    });
    let message = checked.unwrap_err().downcast::<String>().expect("a formatted message");
    assert!(
        message.contains("ended before it took a request") && message.contains("SEEDBED_IN_PROCESS=1"),
        "{message}"
    );
}

#[test]
fn a_saved_history_is_judged_as_its_run_was() {
    let file = std::env::temp_dir().join(format!("seedbed-history-{}.jsonl", std::process::id()));
    for (ops, wrong, code) in [
        (&[Op::Clock][..], Wrong::default(), Code::Passed),
        (&[Op::Clock], Wrong { cannot_close: true, ..Wrong::default() }, Code::Violated),
        (&[Op::Lacks], Wrong::default(), Code::Unknown),
    ] {
        let bed = bed_of(ops, wrong);
        let replayed =
            ReplayArguments { seed_or_file: "0".to_owned(), history: Some(file.clone()), ..ReplayArguments::default() };
        assert_eq!(AnyBed::replay(&bed, "small", &replayed), Ok(code));
        assert_eq!(AnyBed::check(&bed, &file), Ok(code), "{ops:?}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_violation_is_shrunk_to_what_it_needs() {
    // It takes a partition of Redis's, and one call beside it.
    let counts = |history: &seedbed::History<Calls>| {
        let failed = history.calls().into_iter().find(|call| {
            matches!((call.op, call.returned), (Op::Count, Some((_, Outcome::Unknown(why)))) if why == "no answer")
        });
        failed.map_or(Ok(()), |call| Err(format!("call {} went unanswered", call.number)))
    };
    let bed = bed().check(always("answers", counts));
    let seed = (0..200).find(|seed| bed.run(Seed(*seed)).violation().is_some()).expect("some call is cut off");
    let scenario = bed.scenario(Seed(seed));
    let small = bed.shrink(&scenario, 1_000).expect("it is violated");
    assert!(small.is_smallest);
    assert_eq!((small.scenario.plan.calls.len(), small.scenario.plan.last.len()), (1, 0), "{:?}", small.scenario);
    assert_eq!(small.scenario.faults.len(), 1, "{:?}", small.scenario.faults);
    let (name, _, _) =
        bed.play(&small.scenario).violation().map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).unwrap();
    assert_eq!(name, "answers");
    assert!(bed.shrink(&bed_without_faults().scenario(Seed(0)), 10).is_none(), "nothing is violated");
}

fn bed_without_faults() -> Bed<Calls> {
    bed().faults(Faults::none())
}

#[test]
fn a_deadline_does_not_count_the_time_that_a_process_stood_still_and_counts_all_else() {
    let bed = bed_of(&[Op::Echo], Wrong::default()).check(deadline(500));
    let mut scenario = bed_without_faults().scenario(Seed(0));
    scenario.plan.calls = vec![Planned::at_ms(10, 1, Op::Echo)];
    let verdict = |kind: &str, parameters: &str| {
        let mut scenario = scenario.clone();
        scenario.faults = vec![fault(kind, (10, 2_000), parameters)];
        let run = bed.play(&scenario);
        let (_, judged) = run.verdicts.iter().find(|(name, _)| name == "deadline").unwrap();
        (run.violation().map(|(_, object, _)| object.to_owned()), judged.excused.clone())
    };
    let stood_still = BTreeMap::from([("machine stood still".to_owned(), 1)]);
    assert_eq!(verdict("pause", "{\"instance\":1}"), (None, stood_still));
    let cut = "{\"hosts\":[\"1\"],\"direction\":\"both\"}";
    assert_eq!(verdict("partition", cut), (Some("call 0".to_owned()), BTreeMap::new()));
}

/// What the server says, for ever.
struct Says(u64);

impl Model for Says {
    type Op = Op;
    type Ret = u64;
    type State = ();

    fn initial(&self) {}

    fn step(&self, (): &(), _: &Op, ret: Option<&u64>, _: When) -> impl IntoIterator<Item = ()> {
        ret.is_none_or(|ret| *ret == self.0).then_some(())
    }
}

#[test]
fn an_answer_without_an_order_is_shown_by_the_numbers_and_times_of_the_history() {
    let bed = |says| bed_of(&[Op::Echo], Wrong::default()).faults(Faults::none()).check(linearizable(Says(says)));
    assert_eq!(bed(12).first_violation(Seed(0), 20), None);
    let (seed, found) = bed(13).first_violation(Seed(5), 20).expect("it says 12");
    assert_eq!((seed, found.guarantee.as_str()), (Seed(5), "linearizable"));
    let run = bed(13).run(seed);
    let history = run.text();
    let first = history.lines().find(|line| line.contains("call 0 returns")).expect("it returns");
    let (at_ms, _) = first.trim_start().split_once(" ms").expect("a time");
    assert!(found.what.starts_with("no order explains these calls:\n  call 0 of instance "), "{}", found.what);
    assert!(found.what.contains(&format!(" ms to {at_ms} ms\ncall 0 is the first")), "{at_ms}: {}", found.what);
}

#[test]
fn an_answer_is_awaited_only_of_instances_that_are_asked_in_the_end() {
    let waits = |wanted: u64| {
        let holds = move |_: &Op, ret: &u64| *ret == wanted;
        violated(&bed_of(&[Op::Echo], Wrong::default()).check(eventually_after_heal("echoes", 5_000, holds)), 30)
    };
    assert_eq!(waits(12), None);
    let what = "instance 0 gave no such answer within 5000 ms after everything had healed";
    assert_eq!(waits(13), Some(("echoes".to_owned(), what.to_owned())));
}

#[test]
fn a_replay_file_gives_the_same_run_and_a_wrong_one_says_what_is_wrong() {
    let folder = std::env::temp_dir().join(format!("seedbed-replay-{}", std::process::id()));
    let file = folder.join("deep").join("a.json");
    let scenario = bed().scenario(Seed(3));
    scenario.save("small", "nothing", &file).unwrap();
    assert_eq!(bed().load("small", &file).unwrap(), scenario);
    let error = |bed_name: &str, file: &Path| bed().load(bed_name, file).unwrap_err().to_string();
    let said = error("other", &file);
    assert!(said.ends_with("it is of the bed \"small\", and not of \"other\"; replay it as \"small\""), "{said}");
    // A command line and a test give the same bed a shorter and a longer name.
    assert_eq!(bed().load("tests::small", &file).unwrap(), scenario);
    assert!(error("tests::all", &file).contains("and not of \"tests::all\""));
    let missing = PathBuf::from("/nowhere/a.json");
    assert!(error("small", &missing).starts_with("failed to read replay file \"/nowhere/a.json\""));
    let text = std::fs::read_to_string(&file).unwrap();
    for (from, to, said) in [
        ("{", "[", "it is no replay file"),
        ("\"format\": 1", "\"format\": 9", "its format is 9, and this version reads 1; replay it with the version"),
        ("\"instances\": 3", "\"instances\": 1", "a call is for instance "),
        ("\"scheduler_seed\"", "\"schedule\"", "its scenario makes no sense: unknown field `schedule`"),
    ] {
        assert!(text.contains(from), "{text}");
        #[expect(clippy::disallowed_methods, reason = "outside of any run")]
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
        assert!(error("small", &file).contains(said), "{}", error("small", &file));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_history_reads_as_what_happened() {
    let mut scenario = bed_without_faults().scenario(Seed(0));
    scenario.plan.instances = 1;
    scenario.plan.calls = vec![Planned::at_ms(1, 0, Op::Echo), Planned::at_ms(20, 0, Op::Echo)];
    scenario.plan.last = vec![Planned::at_ms(0, 0, Op::Echo)];
    let reset = fault("reset connections", (5, 5), "{\"hosts\":[\"0\"]}");
    scenario.faults = vec![reset, fault("crash", (10, 30), "{\"instance\":0}")];
    let run = bed().play(&scenario);
    let kinds: Vec<_> = run.history.events.iter().map(|event| format!("{:?}", event.what)).collect();
    let begins = |text: &str| {
        kinds.iter().position(|kind| kind.starts_with(text)).unwrap_or_else(|| panic!("{text}: {kinds:#?}"))
    };
    assert!(begins("FaultBegan") < begins("Stopped { instance: 0, how: Killed"));
    assert!(begins("Stopped { instance: 0, how: Killed") < begins("Skipped { instance: 0"));
    assert!(begins("Skipped") < begins("Opened { instance: 0, start: 2 }"));
    assert!(matches!(run.history.events.last().map(|event| &event.what), Some(What::Stopped { error: None, .. })));
    assert!(run.text().contains("0  is not open, so not asked: Echo"), "{}", run.text());
    assert!(run.text().contains("fault 0 begins: reset connections {\"hosts\":[\"0\"]}\n"), "{}", run.text());
    assert!(run.text().contains("fault 1 begins: crash {\"instance\":0}, for 20.000 ms\n"), "{}", run.text());
}

#[test]
#[should_panic(expected = "a server cannot be called \"redis\": another host has that name")]
fn a_server_cannot_have_the_name_of_another_host() {
    drop(Bed::new(Calls { ops: &[Op::Echo], wrong: Wrong::default() }).host("redis", echo));
}

#[test]
fn kinds_and_checkers_are_named_once_and_found_by_their_names() {
    let names = Faults::all().without("crash").names();
    assert!(!names.contains(&"crash") && names.contains(&"power loss"));
    let error = Faults::all().only(&["clash".to_owned()]).err().expect("there is no such kind");
    assert!(error.starts_with("no kind of faults is called \"clash\": there are partition, "), "{error}");
    assert_eq!(Faults::all().only(&["crash".to_owned()]).unwrap().names(), ["crash"]);
    assert!(std::panic::catch_unwind(|| Faults::all().without("clash")).is_err());
    assert_eq!(
        bed().check(deadline(1)).guarantees(),
        ["run ends", "no panic", "comes back", "redis suffices", "deadline"]
    );
    assert_eq!(Host::Instance(3).to_string(), "3");
}
