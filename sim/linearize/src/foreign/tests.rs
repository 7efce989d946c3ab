//! The judge of foreign histories against brute force, and on histories told by hand.

use std::fmt::Write as _;

use rand::{RngExt, seq::SliceRandom};

use super::{
    generate::{Shape, generate},
    *,
};
use crate::{
    Call, CasRegisterOp, CasRegisterRet, RegisterOp, RegisterRet, Verdict,
    draw::{Stream, stream},
    linearizable,
    when::When,
};

fn told(model: ModelName, lines: &[&str]) -> Foreign {
    read("told", lines.join("\n").as_bytes(), model).unwrap_or_else(|error| panic!("{error}"))
}

fn shape(model: ModelName, draw: &mut Stream, operations: u64) -> Shape {
    Shape {
        model,
        keys: 1,
        clients: draw.random_range(1..6),
        operations,
        unknown_per_mille: [0, 300][draw.random_range(0..2)],
        values: [None, Some(3)][draw.random_range(0..2)],
        corrupted: draw.random_range(0..3),
    }
}

/// Tries every order, with nothing clever in it.
fn has_order<O: Object<Act = ForeignAct>>(object: &O, left: &[TimedOperation<ForeignAct>], state: O::State) -> bool {
    if left.iter().all(|op| op.returned.is_none()) {
        return true;
    }
    (0..left.len()).any(|next| {
        let may_be_next = left.iter().all(|other| other.returned.is_none_or(|returned| left[next].called < returned));
        let mut rest = left.to_vec();
        let op = rest.remove(next);
        may_be_next && object.step(state, &op.act, When::EVER).is_some_and(|state| has_order(object, &rest, state))
    })
}

fn part(history: &Foreign) -> KeyOperations<'_> {
    KeyOperations::new(history.operations.iter().collect(), None)
}

fn brute_force(history: &Foreign, kept: &[usize]) -> bool {
    let part = part(history);
    let ops: Vec<_> = kept.iter().map(|&index| part.timed[index]).collect();
    match history.model {
        ModelName::KeyValue => {
            let model = KeyValue::new(history);
            has_order(&model, &ops, model.initial())
        }
        ModelName::Register | ModelName::CasRegister => {
            has_order(&ForeignRegister { initial: history.initial }, &ops, history.initial)
        }
    }
}

fn judged<O: Object<Act = ForeignAct>>(
    part: &KeyOperations<'_>,
    object: &O,
    initial: ValueId,
    zones: bool,
) -> Option<Evidence> {
    let hint = part.verdict(object, initial, zones).expect("small enough");
    hint.map(|hint| evidence(object, &part.timed, hint, Limits::default()))
}

fn evidence_of(history: &Foreign, zones: bool) -> Option<Evidence> {
    let part = part(history);
    match history.model {
        ModelName::KeyValue => judged(&part, &KeyValue::new(history), history.initial, false),
        _ => judged(&part, &ForeignRegister { initial: history.initial }, history.initial, zones),
    }
}

#[test]
fn small_histories_are_judged_as_brute_force_judges_them() {
    for model in ModelName::ALL {
        let mut refuted = 0;
        for seed in 0..1_500 {
            let draw = &mut stream(seed, "shape");
            let operations = draw.random_range(1..8);
            let text = generate(&shape(model, draw, operations), &mut stream(seed, "foreign history"));
            let history = read("it", text.as_bytes(), model).expect("a history");
            let all: Vec<_> = (0..part(&history).timed.len()).collect();
            let expected = brute_force(&history, &all);
            let found = evidence_of(&history, false);
            assert_eq!(found.is_none(), expected, "{model}, seed {seed}:\n{text}");
            if model == ModelName::Register {
                assert_eq!(evidence_of(&history, true).is_none(), expected, "zones, seed {seed}:\n{text}");
            }
            let Some(found) = found else { continue };
            refuted += 1;
            let Evidence { stuck, order, shown, is_smallest } = &found;
            let is_shown = *is_smallest && !brute_force(&history, shown);
            assert!(is_shown, "{model}, seed {seed}: {stuck:?} {order:?} {shown:?} {is_smallest}\n{text}");
            let looks = |&index: &usize| part(&history).timed[index].act.only_looks();
            for without in found.shown.iter().copied().filter(looks) {
                let rest: Vec<_> = found.shown.iter().copied().filter(|&index| index != without).collect();
                assert!(brute_force(&history, &rest), "{model}, seed {seed}: {without} can go:\n{text}");
            }
        }
        assert!((100..1_400).contains(&refuted), "{model}: {refuted} were refuted: the test has lost its point");
    }
}

/// Operations on one key whose texts begin and end alike, at random moments; in half of the histories most overlap.
fn tangled(draw: &mut Stream) -> String {
    let texts = ["null", "\"a\"", "\"aa\"", "\"b\"", "\"ab\"", "\"\""];
    let (count, moments) = (draw.random_range(2..8), [8, 40][draw.random_range(0..2)]);
    let mut held = vec![String::new()];
    let mut text = format!("{{\"initial\":{}}}\n", texts[draw.random_range(0..texts.len())]);
    for process in 0..count {
        let called = draw.random_range(0..moments);
        let returned = called + draw.random_range(0..moments);
        let value = texts[draw.random_range(0..texts.len())];
        let (f, value) = match draw.random_range(0..8) {
            0..3 => {
                let more = value.trim_matches('"').replace("null", "a");
                let longer: Vec<_> = held.iter().map(|before| format!("{before}{more}")).collect();
                held.extend(longer);
                ("append", format!("\"{more}\""))
            }
            3 => ("put", value.to_owned()),
            4 => ("delete", "null".to_owned()),
            5 => ("get", value.to_owned()),
            _ => ("get", format!("\"{}\"", held[draw.random_range(0..held.len())])),
        };
        let end = if draw.random_bool(0.2) && f != "get" { String::new() } else { format!(",\"return\":{returned}") };
        let _ = writeln!(text, r#"{{"process":{process},"f":"{f}","value":{value},"call":{called}{end}}}"#);
    }
    text
}

#[test]
fn texts_that_can_be_put_together_in_many_ways_are_judged_as_brute_force_judges_them() {
    let mut refuted = 0;
    for seed in 0..4_000 {
        let text = tangled(&mut stream(seed, "tangled"));
        let history = read("it", text.as_bytes(), ModelName::KeyValue).expect("a history");
        let all: Vec<_> = (0..part(&history).timed.len()).collect();
        let found = evidence_of(&history, false);
        assert_eq!(found.is_none(), brute_force(&history, &all), "seed {seed}:\n{text}");
        let Some(found) = found else { continue };
        refuted += 1;
        assert!(!brute_force(&history, &found.shown), "seed {seed}: {:?}\n{text}", found.shown);
    }
    assert!((500..3_500).contains(&refuted), "{refuted} were refuted: the test has lost its point");
}

/// Appends that all run at a time, and one get after them.
fn appended(texts: &[String], got: &str) -> Foreign {
    let mut lines = Vec::new();
    for (process, text) in texts.iter().enumerate() {
        let end = 500 + process;
        lines.push(format!(r#"{{"process":{process},"f":"append","value":"{text}","call":{process},"return":{end}}}"#));
    }
    lines.push(format!(r#"{{"process":"g","f":"get","value":"{got}","call":1000,"return":1001}}"#));
    told(ModelName::KeyValue, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn forty_appends_at_a_time_and_one_get_are_decided() {
    let same = vec!["a".to_owned(); 40];
    let two: Vec<_> = (0..40).map(|number| if number % 2 == 0 { "a" } else { "ab" }.to_owned()).collect();
    let numbers: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    for texts in [&same, &two, &numbers] {
        let all = texts.concat();
        assert!(has_an_order(texts, &all));
        assert!(has_an_order(texts, &texts.iter().rev().cloned().collect::<String>()));
        assert!(!has_an_order(texts, &all[1..]), "one is cut off");
        assert!(!has_an_order(texts, &all[..all.len() - 1]), "one is cut off");
        assert!(!has_an_order(texts, &format!("{all}{}", texts[0])), "one was appended twice");
    }
    for seed in 0..20 {
        let draw = &mut stream(seed, "words");
        let texts: Vec<_> = (0..40).map(|_| word(draw)).collect();
        let mut got = texts.clone();
        got.shuffle(draw);
        assert!(has_an_order(&texts, &got.concat()), "seed {seed}");
        let last = got[39].pop().expect("no text is empty");
        got[0].push(last);
        // Whatever the answer is, there is one.
        has_an_order(&texts, &got.concat());
    }
}

fn word(draw: &mut Stream) -> String {
    (0..draw.random_range(1..5)).map(|_| ['a', 'b', 'c'][draw.random_range(0..3)]).collect()
}

/// Whether these appends explain what one get saw; a search that is given up is a failure.
fn has_an_order(texts: &[String], got: &str) -> bool {
    let history = appended(texts, got);
    let limits = Limits { steps: 5_000_000, ..Limits::default() };
    match search(&KeyValue::new(&history), &part(&history).timed, limits).0 {
        SearchEnd::Linearizable(_) => true,
        SearchEnd::Violated { .. } => false,
        SearchEnd::GaveUp { steps, .. } => panic!("given up after {steps} steps: {got} of {texts:?}"),
    }
}

#[test]
fn a_put_of_null_makes_a_key_absent() {
    let put = r#"{"process":0,"f":"put","value":"a","call":1,"return":2}"#;
    let null = r#"{"process":0,"f":"put","value":null,"call":3,"return":4}"#;
    let get = r#"{"process":0,"f":"get","value":null,"call":5,"return":6}"#;
    assert_eq!(told(ModelName::KeyValue, &[put, null, get]).judge(), Linearizable::Pass);
}

#[test]
fn long_registers_are_judged_alike_by_zones_and_search() {
    let mut refuted = 0;
    for seed in 0..300 {
        let draw = &mut stream(seed, "shape");
        let operations = draw.random_range(20..400);
        let shape = Shape { values: None, unknown_per_mille: 30, ..shape(ModelName::Register, draw, operations) };
        let text = generate(&shape, &mut stream(seed, "foreign history"));
        let history = read("it", text.as_bytes(), ModelName::Register).expect("a history");
        let part = part(&history);
        let by_zones = zoned(&part.timed, history.initial).expect("values are unique");
        let (searched, _) = search(&ForeignRegister { initial: history.initial }, &part.timed, Limits::default());
        assert_eq!(by_zones.is_ok(), matches!(searched, SearchEnd::Linearizable(_)), "seed {seed}: {searched:?}");
        refuted += u32::from(by_zones.is_err());
    }
    assert!((50..250).contains(&refuted), "{refuted} of 300 were refuted: the test has lost its point");
}

fn on_register(operation: &ForeignOperation) -> Option<Call<RegisterOp<ValueId>, RegisterRet<ValueId>>> {
    let (op, ret) = match operation.act {
        ForeignAct::Read(value) => (RegisterOp::Read, RegisterRet::Read(value)),
        ForeignAct::Write(value) => (RegisterOp::Write(value), RegisterRet::Written),
        _ => return None,
    };
    Some(called(operation, op, ret))
}

fn on_cas_register(operation: &ForeignOperation) -> Option<Call<CasRegisterOp<ValueId>, CasRegisterRet<ValueId>>> {
    let (op, ret) = match operation.act {
        ForeignAct::Read(value) => (CasRegisterOp::Read, CasRegisterRet::Read(value)),
        ForeignAct::Write(value) => (CasRegisterOp::Write(value), CasRegisterRet::Written),
        ForeignAct::Cas { from, to } => (CasRegisterOp::Cas { from, to }, CasRegisterRet::Swapped(true)),
        ForeignAct::CasFailed { from } => (CasRegisterOp::Cas { from, to: from }, CasRegisterRet::Swapped(false)),
        ForeignAct::Append(_) | ForeignAct::Delete => return None,
    };
    Some(called(operation, op, ret))
}

fn called<Op, Ret>(operation: &ForeignOperation, op: Op, ret: Ret) -> Call<Op, Ret> {
    let moment = |moment: i64| u64::try_from(moment).expect("no moment is negative");
    let returned = operation.returned.map(|at| (moment(at), ret));
    Call { process: operation.process.into(), op, called: moment(operation.called), returned }
}

/// Whether a ready model passes what the search for foreign histories passes; says whether that is a violation.
fn is_judged_as_foreign<M: crate::Model>(
    history: &Foreign,
    model: &M,
    call: impl Fn(&ForeignOperation) -> Option<Call<M::Op, M::Ret>>,
) -> bool {
    let (found, _) = search(&ForeignRegister { initial: history.initial }, &part(history).timed, Limits::default());
    let calls: Vec<_> = history.operations.iter().map(|operation| call(operation).expect("of a register")).collect();
    let judged = linearizable(model, &calls, Limits::default());
    match (&judged, &found) {
        (Verdict::Linearizable { .. }, SearchEnd::Linearizable(_)) => false,
        (Verdict::Violation(_), SearchEnd::Violated { .. }) => true,
        _ => panic!("{judged:?}, and as a foreign history {found:?}: {:?}", history.operations),
    }
}

#[test]
fn the_ready_registers_are_judged_as_foreign_ones() {
    let mut refuted = [0; 2];
    for seed in 0..300 {
        let draw = &mut stream(seed, "ready");
        let operations = draw.random_range(20..100);
        let mut history = |model| {
            let shape = Shape { unknown_per_mille: 30, ..shape(model, draw, operations) };
            read("it", generate(&shape, draw).as_bytes(), model).expect("a history")
        };
        let of_register = history(ModelName::Register);
        let model = crate::Register { initial: of_register.initial };
        refuted[0] += u32::from(is_judged_as_foreign(&of_register, &model, on_register));
        let of_cas_register = history(ModelName::CasRegister);
        let model = crate::CasRegister { initial: of_cas_register.initial };
        refuted[1] += u32::from(is_judged_as_foreign(&of_cas_register, &model, on_cas_register));
    }
    assert!(
        refuted.iter().all(|count| (50..250).contains(count)),
        "{refuted:?} of 300 were: the test has lost its point"
    );
}

#[test]
fn histories_of_atomic_objects_of_any_length_pass() {
    for model in ModelName::ALL {
        for seed in 0..40 {
            let draw = &mut stream(seed, "shape");
            let shape = Shape { keys: 3, corrupted: 0, unknown_per_mille: 20, ..shape(model, draw, 300) };
            let text = generate(&shape, &mut stream(seed, "foreign history"));
            let judged = read("it", text.as_bytes(), model).expect("a history").judge();
            assert_eq!(judged, Linearizable::Pass, "{model}, seed {seed}: {shape:?}");
        }
    }
}

const STALE: [&str; 6] = [
    r#"{"process":0,"type":"invoke","f":"write","value":1}"#,
    r#"{"process":0,"type":"ok","f":"write","value":1}"#,
    r#"{"process":1,"type":"invoke","f":"write","value":2}"#,
    r#"{"process":1,"type":"ok"}"#,
    r#"{"process":0,"type":"invoke","f":"read"}"#,
    r#"{"process":0,"type":"ok","f":"read","value":1}"#,
];

#[test]
fn a_stale_read_is_shown_with_what_it_missed_and_the_order_up_to_it() {
    for model in [ModelName::Register, ModelName::CasRegister] {
        let Linearizable::Violation(broken) = told(model, &STALE).judge() else { panic!("it is stale") };
        assert_eq!(broken.stuck.as_deref(), Some("process 0: read -> 1, lines 5 to 6"));
        assert_eq!(broken.order, ["process 0: write 1, lines 1 to 2", "process 1: write 2, lines 3 to 4"]);
        assert_eq!((broken.shown.len(), broken.is_smallest), (3, true), "{broken:?}");
    }
}

#[test]
fn an_operation_of_unknown_outcome_takes_effect_late_once_or_never() {
    let unknown = r#"{"process":1,"type":"info"}"#;
    let mut lines = STALE.to_vec();
    lines[3] = unknown;
    assert_eq!(told(ModelName::Register, &lines).judge(), Linearizable::Pass);
    lines.push(r#"{"process":0,"type":"invoke","f":"read"}"#);
    lines.push(r#"{"process":0,"type":"ok","value":2}"#);
    assert_eq!(told(ModelName::CasRegister, &lines).judge(), Linearizable::Pass);
    lines.remove(3);
    assert_eq!(told(ModelName::Register, &lines).judge(), Linearizable::Pass, "it never returned");
    lines.insert(3, r#"{"process":1,"type":"fail"}"#);
    let judged = told(ModelName::Register, &lines).judge();
    assert!(matches!(judged, Linearizable::Violation(_)), "it certainly had no effect: {judged:?}");
}

#[test]
fn a_failed_compare_saw_another_value() {
    let cas = r#"{"process":2,"f":"cas","value":[1,3],"call":20,"return":21,"result":false}"#;
    let write = r#"{"process":1,"f":"write","value":1,"call":1,"return":2}"#;
    let judged = told(ModelName::CasRegister, &[write, cas]).judge();
    assert!(matches!(judged, Linearizable::Violation(_)), "{judged:?}");
    let late = write.replace("\"return\":2", "\"return\":20");
    assert_eq!(told(ModelName::CasRegister, &[&late, cas]).judge(), Linearizable::Pass, "they touch, so they overlap");
}

#[test]
fn what_comes_after_a_restart_that_may_have_lost_data_is_unknown() {
    let crash = r#"{"process":"nemesis","type":"info","f":"crash"}"#;
    let mut lines = STALE.to_vec();
    lines.insert(4, crash);
    let judged = told(ModelName::Register, &lines).judge();
    assert!(matches!(&judged, Linearizable::Unknown { why } if why.contains("at line 5 something restarted")));
    let mut lines = STALE.to_vec();
    lines.push(crash);
    assert!(matches!(told(ModelName::Register, &lines).judge(), Linearizable::Violation(_)), "it was broken before");
}

#[test]
fn a_key_holds_at_first_what_the_first_line_says() {
    for (model, get) in [(ModelName::KeyValue, "get"), (ModelName::Register, "read"), (ModelName::CasRegister, "read")]
    {
        let head = r#"{"initial":"a"}"#;
        let read = |value: &str| format!(r#"{{"process":0,"f":"{get}","value":{value},"call":1,"return":2}}"#);
        assert_eq!(told(model, &[head, &read("\"a\"")]).judge(), Linearizable::Pass, "{model}");
        let judged = told(model, &[head, &read("null")]).judge();
        assert!(matches!(judged, Linearizable::Violation(_)), "{model}: {judged:?}");
    }
    let append = r#"{"process":0,"f":"append","value":"b","call":1,"return":2}"#;
    let get = |value: &str| format!(r#"{{"process":0,"f":"get","value":"{value}","call":3,"return":4}}"#);
    let judged = |value: &str| told(ModelName::KeyValue, &[r#"{"initial":"a"}"#, append, &get(value)]).judge();
    assert_eq!(judged("ab"), Linearizable::Pass);
    assert!(matches!(judged("b"), Linearizable::Violation(_)));
}

#[test]
fn a_history_in_which_no_operation_saw_anything_has_no_verdict() {
    let kill = r#"{"process":"nemesis","type":"info","f":"partition"}"#;
    let failed = r#"{"process":0,"f":"write","value":1,"call":1,"outcome":"fail"}"#;
    let unanswered = r#"{"process":1,"f":"read","call":1}"#;
    let written = r#"{"process":2,"f":"write","value":1,"call":1,"return":2}"#;
    let lines = [r#"{"initial":1}"#, kill, failed, unanswered, written];
    for count in 1..=lines.len() {
        let judged = told(ModelName::Register, &lines[..count]).judge();
        assert!(matches!(&judged, Linearizable::Unknown { why } if why.contains("nothing was judged")), "{judged:?}");
    }
    let cas = r#"{"process":2,"f":"cas","value":[2,3],"call":1,"return":2,"result":false}"#;
    assert_eq!(told(ModelName::CasRegister, &[cas]).judge(), Linearizable::Pass, "a cas looks");
}

#[test]
fn equal_numbers_are_equal_values_keys_and_ends() {
    let lines = [
        r#"{"process":0,"type":"invoke","f":"write","key":1,"value":[1e3,{"n":-0}]}"#,
        r#"{"process":0,"type":"ok","f":"write","key":1.0,"value":[1000,{"n":0}]}"#,
        r#"{"process":0,"type":"invoke","f":"read","key":10e-1}"#,
        r#"{"process":0,"type":"ok","f":"read","value":[1000.0,{"n":0.0}]}"#,
    ];
    let history = told(ModelName::Register, &lines);
    assert_eq!((history.judge(), history.counts()), (Linearizable::Pass, (2, 1)));
    let text = lines[2].replace("10e-1", "\"1\"");
    let history = told(ModelName::Register, &[lines[0], lines[1], &text, lines[3]]);
    assert_eq!(history.counts(), (2, 2), "1 and \"1\" are two keys");
    assert!(matches!(history.judge(), Linearizable::Violation(_)));
}

#[test]
fn pairs_of_jepsen_independent_are_keys_and_values() {
    let lines = [
        r#"{"process":0,"type":"invoke","f":"cas","value":["x",[null,1]]}"#,
        r#"{"process":1,"type":"invoke","f":"write","value":["y",2]}"#,
        r#"{"process":0,"type":"ok","f":"cas","value":["x",[null,1]]}"#,
        r#"{"process":1,"type":"info","f":"write","value":["y",2],"error":"timeout"}"#,
        r#"{"process":"nemesis","type":"info","f":"partition","value":"majority"}"#,
        r#"{"process":0,"type":"invoke","f":"read","value":["x",null]}"#,
        r#"{"process":2,"type":"invoke","f":"read","value":["y",null]}"#,
        r#"{"process":0,"type":"ok","f":"read","value":["x",1]}"#,
        r#"{"process":2,"type":"fail","f":"read","value":null}"#,
    ];
    let text = lines.join("\n");
    let reading = Reading { model: ModelName::CasRegister, is_independent: true };
    let history = read("told", text.as_bytes(), reading).expect("a history");
    assert_eq!((history.judge(), history.counts()), (Linearizable::Pass, (3, 2)));
    let stale = text.replace(r#""value":["x",1]"#, r#""value":["x",2]"#);
    let judged = read("told", stale.as_bytes(), reading).expect("a history").judge();
    assert!(matches!(&judged, Linearizable::Violation(broken) if broken.key == "\"x\""), "{judged:?}");
}

#[test]
fn a_search_past_its_limits_is_given_up() {
    let text = generate(
        &Shape {
            model: ModelName::CasRegister,
            keys: 1,
            clients: 40,
            operations: 400,
            unknown_per_mille: 500,
            values: Some(2),
            corrupted: 0,
        },
        &mut stream(1, "foreign history"),
    );
    let history = read("it", text.as_bytes(), ModelName::CasRegister).expect("a history");
    let model = ForeignRegister { initial: history.initial };
    let (found, _) = search(&model, &part(&history).timed, Limits { steps: 50, bytes: 1 << 20 });
    assert!(matches!(found, SearchEnd::GaveUp { steps: 51, .. }), "{found:?}");
}
