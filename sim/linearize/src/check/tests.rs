//! The checker against brute force: over every order, and for a lock with a lease over every moment too.

use std::fmt::Debug;

use rand::{RngExt, seq::SliceRandom};

use super::*;
use crate::{
    CasRegister, CasRegisterOp, CasRegisterRet, Register, RegisterOp, RegisterRet,
    draw::{Stream, stream},
};

/// A model that can be played: an object that really is atomic.
trait Played: Model<Op: Clone, Ret: Clone> {
    fn play(&self, state: &mut Self::State, now: u64, draw: &mut Stream) -> (Self::Op, Self::Ret);

    /// Another answer to the same question, mostly.
    fn other(&self, op: &Self::Op, ret: &Self::Ret, draw: &mut Stream) -> Self::Ret;
}

type CallOf<M> = Call<<M as Model>::Op, <M as Model>::Ret>;

/// A history of an object that is atomic, in which some outcomes are unknown.
fn atomic<M: Played>(model: &M, draw: &mut Stream, count: u64, length: u64) -> Vec<CallOf<M>> {
    let mut moments: Vec<u64> = (0..count).map(|_| draw.random_range(0..length)).collect();
    moments.sort_unstable();
    let mut state = model.initial();
    let mut calls = Vec::new();
    for (process, now) in (0..).zip(moments) {
        let before = state.clone();
        let (op, ret) = model.play(&mut state, now, draw);
        let longest = [4, 11][draw.random_range(0..2)];
        let (called, returned) = (now - draw.random_range(0..=now.min(longest)), now + draw.random_range(0..longest));
        let is_unknown = draw.random_bool(0.2);
        if is_unknown && draw.random_bool(0.4) {
            state = before;
        }
        calls.push(Call { process, op, called, returned: (!is_unknown).then_some((returned, ret)) });
    }
    calls.shuffle(draw);
    calls
}

fn corrupted<M: Played>(model: &M, draw: &mut Stream, mut calls: Vec<CallOf<M>>) -> Vec<CallOf<M>> {
    let chosen = draw.random_range(0..calls.len());
    let Call { op, returned, .. } = &mut calls[chosen];
    if let Some((_, ret)) = returned {
        *ret = model.other(op, ret, draw);
    }
    calls
}

/// Tries every order and every outcome, with nothing clever in it.
fn has_order<M: Model>(model: &M, left: &[&CallOf<M>], state: &M::State) -> bool {
    let returned = |call: &CallOf<M>| call.returned.as_ref().map_or(u64::MAX, |(returned, _)| *returned);
    left.iter().all(|call| call.returned.is_none())
        || (0..left.len()).filter(|&next| left.iter().all(|other| left[next].called <= returned(other))).any(|next| {
            let mut rest = left.to_vec();
            let call = rest.remove(next);
            let after: Vec<_> = model.step(state, &call.op, call.ret(), When::EVER).into_iter().collect();
            after.iter().any(|state| has_order(model, &rest, state))
        })
}

/// Whether an order of these is one: each may answer as it does after those before it.
fn explains<M: Model>(model: &M, calls: &[CallOf<M>], order: &[usize]) -> bool {
    let step = |states: Vec<M::State>, &index: &usize| {
        let call = &calls[index];
        states.iter().flat_map(|state| model.step(state, &call.op, call.ret(), When::EVER)).collect()
    };
    let returned = |index: usize| calls[index].returned.as_ref().map_or(u64::MAX, |(returned, _)| *returned);
    let keeps_time = (0..order.len())
        .all(|place| order[place + 1..].iter().all(|&later| calls[order[place]].called <= returned(later)));
    keeps_time && !order.iter().fold(vec![model.initial()], step).is_empty()
}

/// Finds what brute force finds, and shows what has no order by itself.
fn agrees_with_brute_force<M: Played>(model: &M, purpose: &str) {
    let mut refuted = 0;
    for seed in 0..3_000 {
        let draw = &mut stream(seed, purpose);
        let (count, length) = (draw.random_range(1..8), [10, 40][draw.random_range(0..2)]);
        let mut calls = atomic(model, draw, count, length);
        let is_atomic = seed % 3 == 0;
        if !is_atomic {
            calls = corrupted(model, draw, calls);
        }
        if calls.iter().all(|call| call.returned.is_none()) {
            continue;
        }
        let expected = has_order(model, &calls.iter().collect::<Vec<_>>(), &model.initial());
        assert!(expected || !is_atomic, "the object is no atomic one: seed {seed}");
        match linearizable(model, &calls, Limits::default()) {
            Verdict::Linearizable { orders } => {
                assert!(expected, "{purpose}, seed {seed}: {calls:#?}");
                let order = &orders[""];
                assert!(explains(model, &calls, order), "{purpose}, seed {seed}: {order:?} of {calls:#?}");
                let is_placed = |(index, call): (usize, &CallOf<M>)| call.returned.is_none() || order.contains(&index);
                assert!(calls.iter().enumerate().all(is_placed), "{purpose}, seed {seed}: {order:?} of {calls:#?}");
            }
            Verdict::Violation(found) => {
                assert!(!expected, "{purpose}, seed {seed}: {calls:#?}");
                let shown: Vec<_> = found.shown.iter().map(|&index| &calls[index]).collect();
                let stands_alone = found.is_smallest && !has_order(model, &shown, &model.initial());
                assert!(stands_alone, "{purpose}, seed {seed}: {found:?} of {calls:#?}");
                assert!(found.stuck.is_some(), "{purpose}, seed {seed}: {found:?} of {calls:#?}");
                refuted += 1;
            }
            Verdict::Unknown { why } => panic!("{purpose}, seed {seed}: {why}"),
        }
    }
    assert!((200..1_900).contains(&refuted), "{purpose}: {refuted} were refuted: the test has lost its point");
}

impl Played for Register<u64> {
    fn play(&self, state: &mut u64, _: u64, draw: &mut Stream) -> (RegisterOp<u64>, RegisterRet<u64>) {
        if draw.random_bool(0.5) {
            return (RegisterOp::Read, RegisterRet::Read(*state));
        }
        *state = draw.random_range(0..3);
        (RegisterOp::Write(*state), RegisterRet::Written)
    }

    fn other(&self, _: &RegisterOp<u64>, ret: &RegisterRet<u64>, draw: &mut Stream) -> RegisterRet<u64> {
        match ret {
            RegisterRet::Read(_) => RegisterRet::Read(draw.random_range(0..3)),
            RegisterRet::Written => RegisterRet::Written,
        }
    }
}

impl Played for CasRegister<u64> {
    fn play(&self, state: &mut u64, _: u64, draw: &mut Stream) -> (CasRegisterOp<u64>, CasRegisterRet<u64>) {
        let (from, to) = (draw.random_range(0..3), draw.random_range(0..3));
        match draw.random_range(0..3) {
            0 => (CasRegisterOp::Read, CasRegisterRet::Read(*state)),
            1 => {
                *state = to;
                (CasRegisterOp::Write(to), CasRegisterRet::Written)
            }
            _ => {
                let is_found = *state == from;
                *state = if is_found { to } else { *state };
                (CasRegisterOp::Cas { from, to }, CasRegisterRet::Swapped(is_found))
            }
        }
    }

    fn other(&self, _: &CasRegisterOp<u64>, ret: &CasRegisterRet<u64>, draw: &mut Stream) -> CasRegisterRet<u64> {
        match ret {
            CasRegisterRet::Read(_) => CasRegisterRet::Read(draw.random_range(0..3)),
            CasRegisterRet::Swapped(is_found) => CasRegisterRet::Swapped(!is_found),
            CasRegisterRet::Written => CasRegisterRet::Written,
        }
    }
}

/// A bag, out of which any value comes, and whose size can be asked for. What an unknown taking took is open.
struct Bag;

#[derive(Clone, Debug, PartialEq)]
enum InBag {
    Put(u64),
    Take,
    /// The smallest value in it.
    Least,
}

impl Model for Bag {
    type Op = InBag;
    type Ret = Option<u64>;
    type State = Vec<u64>;

    fn initial(&self) -> Vec<u64> {
        Vec::new()
    }

    fn step(
        &self,
        held: &Vec<u64>,
        op: &InBag,
        ret: Option<&Option<u64>>,
        _: When,
    ) -> impl IntoIterator<Item = Vec<u64>> {
        let without = |place: usize| [&held[..place], &held[place + 1..]].concat();
        match (op, ret) {
            (InBag::Put(value), None | Some(None)) => {
                let mut all = [&held[..], &[*value]].concat();
                all.sort_unstable();
                vec![all]
            }
            (InBag::Take, None) => (0..held.len()).map(without).collect(),
            (InBag::Take, Some(Some(taken))) => {
                held.iter().position(|it| it == taken).map(without).into_iter().collect()
            }
            (InBag::Least, Some(least)) if held.first() == least.as_ref() => vec![held.clone()],
            (InBag::Least, None) => vec![held.clone()],
            (InBag::Take, Some(None)) if held.is_empty() => vec![held.clone()],
            _ => vec![],
        }
    }

    fn only_looks(&self, op: &InBag, _: Option<&Option<u64>>) -> bool {
        *op == InBag::Least
    }
}

impl Played for Bag {
    fn play(&self, held: &mut Vec<u64>, _: u64, draw: &mut Stream) -> (InBag, Option<u64>) {
        match draw.random_range(0..3) {
            0 => (InBag::Least, held.first().copied()),
            1 if !held.is_empty() => (InBag::Take, Some(held.remove(draw.random_range(0..held.len())))),
            1 => (InBag::Take, None),
            _ => {
                let value = draw.random_range(0..3);
                held.push(value);
                held.sort_unstable();
                (InBag::Put(value), None)
            }
        }
    }

    fn other(&self, op: &InBag, ret: &Option<u64>, draw: &mut Stream) -> Option<u64> {
        if matches!(op, InBag::Put(_)) { *ret } else { [None, Some(0), Some(1), Some(2)][draw.random_range(0..4)] }
    }
}

#[test]
fn small_histories_are_checked_as_by_brute_force() {
    agrees_with_brute_force(&Register { initial: 0 }, "register");
    agrees_with_brute_force(&CasRegister { initial: 0 }, "cas register");
    agrees_with_brute_force(&Bag, "bag");
}

#[test]
fn histories_of_atomic_objects_of_any_length_pass() {
    for seed in 0..40 {
        let draw = &mut stream(seed, "length");
        let calls = atomic(&CasRegister { initial: 0 }, draw, 400, 1_000);
        let verdict = linearizable(&CasRegister { initial: 0 }, &calls, Limits::default());
        assert!(matches!(verdict, Verdict::Linearizable { .. }), "seed {seed}: {verdict:?}");
        let calls = atomic(&LOCK, draw, 150, 1_000);
        let verdict = linearizable(&LOCK, &calls, Limits::default());
        assert!(matches!(verdict, Verdict::Linearizable { .. }), "seed {seed}: {verdict:?}");
    }
}

/// A lock whose holder loses it when the lease is over.
struct Lock {
    lease: u64,
}

const LOCK: Lock = Lock { lease: 8 };

#[derive(Clone, Debug, PartialEq)]
enum OnLock {
    Take(u64),
    Release(u64),
    /// Who holds it.
    Ask,
}

/// None if nobody did.
type Holder = Option<u64>;

impl Model for Lock {
    type Op = OnLock;
    /// Who holds it before, for a `Take` and an `Ask`; for a `Release` who gave it up.
    type Ret = Holder;
    type State = Option<(u64, When)>;
    const LAPSES: bool = true;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(
        &self,
        state: &Self::State,
        op: &OnLock,
        ret: Option<&Holder>,
        when: When,
    ) -> impl IntoIterator<Item = Self::State> {
        let held = state.filter(|(_, ends)| when.may_be_before(*ends));
        let may_be_free = state.is_none_or(|(_, ends)| when.may_be_after(ends));
        // Who was seen to hold it does so until then, at least.
        let seen = held.map(|(by, ends)| (by, When { earliest: ends.earliest.max(when.earliest), ..ends }));
        match (op, ret) {
            (OnLock::Take(by), None | Some(None)) => {
                may_be_free.then_some(Some((*by, when.later(self.lease)))).into_iter().collect()
            }
            (OnLock::Take(_) | OnLock::Ask, Some(Some(holder))) => {
                seen.filter(|(by, _)| by == holder).map(Some).into_iter().collect()
            }
            (OnLock::Ask, Some(None)) => may_be_free.then_some(None).into_iter().collect(),
            (OnLock::Ask, None) => vec![*state],
            (OnLock::Release(by), None | Some(Some(_))) => {
                held.filter(|(holder, _)| holder == by).map(|_| None).into_iter().collect()
            }
            (OnLock::Release(by), Some(None)) => {
                let others = seen.filter(|(holder, _)| holder != by).map(Some);
                others.into_iter().chain(may_be_free.then_some(None)).collect::<Vec<Self::State>>()
            }
        }
    }

    fn only_looks(&self, op: &OnLock, _: Option<&Holder>) -> bool {
        *op == OnLock::Ask
    }
}

impl Lock {
    /// What it holds at one moment; in the moment in which the lease ends it may be over or not.
    fn at(&self, state: Option<(u64, When)>, op: &OnLock, ret: Option<&Holder>, now: u64) -> Vec<Option<(u64, When)>> {
        self.step(&state, op, ret, When { earliest: now, latest: now }).into_iter().collect()
    }
}

impl Played for Lock {
    fn play(&self, state: &mut Option<(u64, When)>, now: u64, draw: &mut Stream) -> (OnLock, Holder) {
        let holder = state.filter(|(_, ends)| now < ends.latest).map(|(by, _)| by);
        let by = draw.random_range(0..3);
        let op = [OnLock::Take(by), OnLock::Release(by), OnLock::Ask][draw.random_range(0..3)].clone();
        let ret = if op == OnLock::Release(by) { holder.filter(|&holder| holder == by) } else { holder };
        *state = self.at(*state, &op, Some(&ret), now)[0];
        (op, ret)
    }

    fn other(&self, op: &OnLock, ret: &Holder, draw: &mut Stream) -> Holder {
        match op {
            OnLock::Release(by) => {
                if ret.is_some() {
                    None
                } else {
                    Some(*by)
                }
            }
            _ => [None, Some(0), Some(1), Some(2)][draw.random_range(0..4)],
        }
    }
}

/// Tries every order and every moment of each operation.
fn has_moments(left: &[&CallOf<Lock>], state: Option<(u64, When)>, now: u64, end: u64) -> bool {
    left.iter().all(|call| call.returned.is_none())
        || (0..left.len()).any(|next| {
            let mut rest = left.to_vec();
            let call = rest.remove(next);
            let last = call.returned.as_ref().map_or(end, |(returned, _)| *returned);
            (now.max(call.called)..=last).any(|at| {
                let after = LOCK.at(state, &call.op, call.ret(), at);
                after.into_iter().any(|state| has_moments(&rest, state, at, end))
            })
        })
}

#[test]
fn a_lock_with_a_lease_is_never_accused_wrongly_and_rarely_let_go() {
    let (mut broken, mut missed) = (0, 0);
    for seed in 0..2_000 {
        let draw = &mut stream(seed, "lock");
        let (count, length) = (draw.random_range(1..6), [12, 30][draw.random_range(0..2)]);
        let mut calls = atomic(&LOCK, draw, count, length);
        if seed % 3 > 0 {
            calls = corrupted(&LOCK, draw, calls);
        }
        if calls.iter().all(|call| call.returned.is_none()) {
            continue;
        }
        let expected = has_moments(&calls.iter().collect::<Vec<_>>(), None, 0, 50);
        assert!(expected || seed % 3 > 0, "the lock is no atomic one: seed {seed}");
        let verdict = linearizable(&LOCK, &calls, Limits::default());
        let is_passed = matches!(verdict, Verdict::Linearizable { .. });
        assert!(is_passed || !expected, "seed {seed}: {verdict:?} of {calls:#?}");
        broken += u32::from(!expected);
        missed += u32::from(!expected && is_passed);
    }
    assert!(broken > 300, "{broken} of 2000 were broken: the test has lost its point");
    assert!(missed * 100 < broken, "{missed} of {broken} were missed");
}

fn call<Op, Ret>(op: Op, called: u64, returned: u64, ret: Ret) -> Call<Op, Ret> {
    Call { process: 1, op, called, returned: Some((returned, ret)) }
}

#[test]
fn of_two_that_are_answered_alike_the_one_that_returns_later_may_have_to_come_first() {
    // The second can be granted if the first was granted by 4, and not the other way about.
    let (first, second) = (call(OnLock::Take(1), 0, 17, None), call(OnLock::Take(1), 10, 12, None));
    let verdict = linearizable(&LOCK, &[second, first], Limits::default());
    assert_eq!(verdict, Verdict::Linearizable { orders: BTreeMap::from([(String::new(), vec![1, 0])]) });
}

#[test]
fn what_stands_between_two_others_took_effect_between_them() {
    // Granted after the release that was called at 5, so that the lease goes on until 13, at least.
    let taken = [call(OnLock::Take(1), 0, 0, None), call(OnLock::Release(1), 5, 6, Some(1))];
    let between = call(OnLock::Take(2), 0, 10, None);
    let verdict = |next| {
        let [taken, released] = taken.clone();
        linearizable(
            &LOCK,
            &[taken, released, between.clone(), call(OnLock::Take(3), next, next, None)],
            Limits::default(),
        )
    };
    assert!(matches!(verdict(12), Verdict::Violation(_)), "{:?}", verdict(12));
    assert!(matches!(verdict(13), Verdict::Linearizable { .. }), "{:?}", verdict(13));
    // Granted before it was seen at 10, so that the lease ends at 18, at most.
    let (taken, seen) = (call(OnLock::Take(1), 0, 60, None), call(OnLock::Ask, 9, 10, Some(1)));
    let verdict =
        |at| linearizable(&LOCK, &[taken.clone(), seen.clone(), call(OnLock::Ask, at, at, Some(1))], Limits::default());
    assert!(matches!(verdict(18), Verdict::Linearizable { .. }), "{:?}", verdict(18));
    assert!(matches!(verdict(19), Verdict::Violation(_)), "{:?}", verdict(19));
}

#[test]
fn a_look_that_came_late_does_not_make_late_what_came_early() {
    let taken = call(OnLock::Take(1), 0, 0, None);
    // Refused before 8, although it returned at 20; nobody holds the lock from 8 on, which is seen from 15 on.
    let refused = call(OnLock::Take(2), 1, 20, Some(1));
    let free = call(OnLock::Ask, 15, 16, None);
    let verdict = linearizable(&LOCK, &[free, refused, taken], Limits::default());
    assert_eq!(verdict, Verdict::Linearizable { orders: BTreeMap::from([(String::new(), vec![2, 1, 0])]) });
}

#[test]
fn a_lease_that_ends_by_itself_lets_the_next_one_in_and_none_before() {
    let taken = |by, called, returned| call(OnLock::Take(by), called, returned, None);
    let verdict = |calls: &[CallOf<Lock>]| linearizable(&LOCK, calls, Limits::default());
    assert!(matches!(verdict(&[taken(1, 0, 3), taken(2, 4, 8)]), Verdict::Linearizable { .. }));
    let Verdict::Violation(found) = verdict(&[taken(1, 0, 3), taken(2, 4, 7)]) else { panic!("two hold it") };
    assert_eq!((found.shown, found.stuck, found.is_smallest), (vec![0, 1], Some(1), true));
    let asked = call(OnLock::Ask, 11, 11, Some(1));
    assert!(matches!(verdict(&[taken(1, 0, 3), asked]), Verdict::Linearizable { .. }));
    let asked = call(OnLock::Ask, 12, 12, Some(1));
    assert!(matches!(verdict(&[taken(1, 0, 3), asked]), Verdict::Violation(_)), "it ended at 11, at the latest");
}

#[test]
fn what_an_answer_ruled_out_stays_ruled_out() {
    let put = |value, at| call(InBag::Put(value), at, at, None);
    let least = |value, at| call(InBag::Least, at, at, Some(value));
    let taken = Call { process: 2, op: InBag::Take, called: 3, returned: None };
    let mut calls = vec![put(0, 1), put(1, 2), taken, least(0, 4), least(1, 5)];
    let verdict = linearizable(&Bag, &calls, Limits::default());
    assert!(matches!(verdict, Verdict::Linearizable { .. }), "0 was taken between the two: {verdict:?}");
    calls.push(least(0, 6));
    let verdict = linearizable(&Bag, &calls, Limits::default());
    assert!(matches!(verdict, Verdict::Violation(_)), "0 was taken, and not put again: {verdict:?}");
}

#[test]
fn a_compare_that_failed_saw_another_value() {
    let model = CasRegister { initial: 0 };
    let verdict = |from, is_found| {
        let cas = call(CasRegisterOp::Cas { from, to: 1 }, 0, 1, CasRegisterRet::Swapped(is_found));
        matches!(linearizable(&model, &[cas], Limits::default()), Verdict::Linearizable { .. })
    };
    assert!(verdict(0, true) && verdict(2, false), "it holds 0");
    assert!(!verdict(0, false) && !verdict(2, true), "it holds 0");
}

#[test]
fn a_violation_is_told_in_words() {
    let model = Register { initial: 0 };
    let calls = [
        call(RegisterOp::Write(1), 0, 1, RegisterRet::Written),
        call(RegisterOp::Read, 2, 3, RegisterRet::Read(1)),
        Call { process: 2, op: RegisterOp::Write(2), called: 2, returned: None },
        call(RegisterOp::Read, 4, 5, RegisterRet::Read(0)),
    ];
    let Verdict::Violation(found) = linearizable(&model, &calls, Limits::default()) else { panic!("it is stale") };
    let text = "no order explains the operations on the object; these alone have none:
  process 1: Write(1) -> Written, from 0 to 1
  process 1: Read -> Read(0), from 4 to 5
2 operations are explained, and this one fits nowhere after them:
  process 1: Read -> Read(0), from 4 to 5
";
    assert_eq!(found.text(&model, &calls), text);
}

#[test]
fn what_cannot_be_decided_is_unknown_and_a_violation_elsewhere_is_one() {
    let model = crate::Keyed::new(CasRegister { initial: 0 });
    let cas = |key, from, ret| call((key, CasRegisterOp::Cas { from, to: from + 1 }), 0, 100, ret);
    let hard = (0..12).map(|from| cas("a", from, CasRegisterRet::Swapped(true)));
    let mut calls: Vec<_> =
        hard.chain([call(("a", CasRegisterOp::Read), 200, 201, CasRegisterRet::Read(13))]).collect();
    let limits = Limits { steps: 5, ..Limits::default() };
    let verdict = linearizable(&model, &calls, limits);
    let why = "\"a\": the search was given up after 6 steps and 0 MiB".to_owned();
    assert_eq!(verdict, Verdict::Unknown { why });
    calls.push(call(("b", CasRegisterOp::Read), 0, 1, CasRegisterRet::Read(13)));
    let verdict = linearizable(&model, &calls, limits);
    assert!(matches!(&verdict, Verdict::Violation(found) if found.object == "\"b\""), "{verdict:?}");
}

#[test]
fn a_history_that_says_nothing_or_contradicts_itself_is_unknown() {
    let model = Register { initial: 0 };
    let says = |calls: &[CallOf<Register<u64>>], part: &str| {
        let verdict = linearizable(&model, calls, Limits::default());
        assert!(matches!(&verdict, Verdict::Unknown { why } if why.contains(part)), "{verdict:?}");
    };
    says(&[], "no call returned");
    says(&[Call { process: 1, op: RegisterOp::Write(1), called: 0, returned: None }], "no call returned");
    says(&[call(RegisterOp::Read, 5, 4, RegisterRet::Read(0))], "call 0 returned before it was called");
}
