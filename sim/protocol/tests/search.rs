//! Searches of the model. First the rules as they stand: every state within the bounds is visited, and each property holds in
//! it; where requests and replies are under way apart there are too many, and every run of so many steps is. Then faults planted in the rules, one a test: a search that cannot find them would be blind.
//!
//! `PROTOCOL_MODEL=large` searches further; `PROTOCOL_MODEL_STATES` limits how far.

use std::env;

use protocol_model::{
    judge::{BrokenProperty, judge},
    rules::{Bounds, BrokenRule},
    world::{Action, ModelWorld},
};
use stateright::{Checker, HasDiscoveries, Model, Path, Property, UniformChooser};

const HOLDS: &str = "every property holds";

/// Every state within the bounds.
#[derive(Clone)]
struct Search(Bounds);

impl Model for Search {
    type State = ModelWorld;
    type Action = Action;

    fn init_states(&self) -> Vec<ModelWorld> {
        ModelWorld::beginnings(&self.0)
    }

    fn actions(&self, world: &ModelWorld, actions: &mut Vec<Action>) {
        world.actions(&self.0, actions);
    }

    fn next_state(&self, world: &ModelWorld, action: Action) -> Option<ModelWorld> {
        Some(world.after(&self.0, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(HOLDS, |search: &Self, world| judge(&search.0, world).is_none())]
    }
}

/// Random walks. Steps are counted, or a walk would end where it comes by a state again.
struct Walk(Search);

const STEPS_MAX: u8 = 80;

impl Model for Walk {
    type State = (u8, ModelWorld);
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        self.0.init_states().into_iter().map(|world| (0, world)).collect()
    }

    fn actions(&self, (_, world): &Self::State, actions: &mut Vec<Action>) {
        self.0.actions(world, actions);
    }

    fn next_state(&self, (steps, world): &Self::State, action: Action) -> Option<Self::State> {
        Some((steps + 1, world.after(&self.0.0, action)))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(HOLDS, |walk: &Self, (_, world)| judge(&walk.0.0, world).is_none())]
    }

    fn within_boundary(&self, (steps, _): &Self::State) -> bool {
        *steps <= STEPS_MAX
    }
}

fn is_large() -> bool {
    env::var("PROTOCOL_MODEL").is_ok_and(|value| value == "large")
}

fn states_max() -> usize {
    env::var("PROTOCOL_MODEL_STATES").map_or(usize::MAX, |states| states.parse().expect("a number of states"))
}

/// How the run went, and what is broken at its end.
fn story(bounds: &Bounds, last: &ModelWorld, actions: &[Action]) -> String {
    let steps: Vec<_> = actions.iter().map(|action| format!("  {action:?}")).collect();
    let steps = steps.join("\n");
    let finding = judge(bounds, last).map_or_else(String::new, |finding| finding.to_string());
    format!("{finding} after\n{steps}\n{:#?}", last.history)
}

fn found(bounds: &Bounds, path: Path<ModelWorld, Action>) -> (BrokenProperty, String) {
    let last = path.last_state().clone();
    let broken = judge(bounds, &last).expect("what the search has found").broken;
    (broken, story(bounds, &last, &path.into_actions()))
}

/// Asserts that the rules hold in every state within the bounds.
fn holds(bounds: &Bounds) {
    let checker = Search(bounds.clone()).checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.target_state_count(states_max()).spawn_dfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    if let Some(path) = checker.discovery(HOLDS) {
        panic!("{}", found(bounds, path).1);
    }
}

/// Asserts that they hold after every run of at most so many steps.
fn holds_for(steps: usize, bounds: &Bounds) {
    let checker = Search(bounds.clone()).checker().finish_when(HasDiscoveries::AnyFailures);
    // Breadth first: a state is met by its shortest run.
    let checker = checker.target_max_depth(steps + 1).spawn_bfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    if let Some(path) = checker.discovery(HOLDS) {
        panic!("{}", found(bounds, path).1);
    }
}

/// Asserts the same within the small bounds, or within the large ones if they are asked for.
fn holds_in(small: &Bounds, large: &Bounds) {
    holds(if is_large() { large } else { small });
}

/// What the shortest run breaks that breaks anything.
fn breaks(bounds: &Bounds) -> BrokenProperty {
    /// Enough for each of them.
    const STATES_MAX: usize = 1_500_000;
    let checker = Search(bounds.clone()).checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.target_state_count(STATES_MAX).spawn_bfs().join();
    let path = checker.discovery(HOLDS).expect("the search finds what is broken");
    let (broken, story) = found(bounds, path);
    println!("{} different states: {story}", checker.unique_state_count());
    broken
}

/// Asserts that the shortest run to break anything breaks this. That the rules hold without the fault is for the tests above.
fn finds(fault: BrokenRule, bounds: &Bounds, expected: BrokenProperty) {
    assert_eq!(breaks(&Bounds { fault: Some(fault), ..bounds.clone() }), expected);
}

const PLAIN: Bounds = Bounds { upserts: 2, ..Bounds::PLAIN };
const REMOVALS: Bounds = Bounds { removals: 1, skews: &[0, 9], horizon: 4, ..PLAIN };
const UNKNOWN: Bounds = Bounds { late: 1, lost_replies: 1, horizon: 4, ..PLAIN };
const SPLIT: Bounds = Bounds { split: true, late: 1, horizon: 4, ..PLAIN };
const SLOW: Bounds = Bounds { split: true, slow_callers: true, horizon: 4, ..PLAIN };
const WRONG: Bounds = Bounds { crashes: 1, wrong_clocks: &[-3, 3], ..PLAIN };
const DRIFTING: Bounds = Bounds { drifts: &[-3, -1, 3], horizon: 4, ..PLAIN };
const LOSS: Bounds = Bounds { losses: 1, horizon: 4, ..PLAIN };
const EVICTION: Bounds = Bounds { evictions: 1, removals: 1, horizon: 3, ..PLAIN };
/// Copies alone: what was pending for longer than a tombstone is remembered is beyond what is promised.
const FORGOTTEN: Bounds =
    Bounds { tombstone_ttl: 2, republish_within: 2, local_writes: false, ttl: 4, removals: 1, horizon: 4, ..PLAIN };

#[test]
fn outages_and_skewed_stamps_lose_and_revive_nothing() {
    holds_in(&Bounds { skews: &[0, 9], horizon: 4, ..PLAIN }, &Bounds { skews: &[0, 9], ..PLAIN });
}

#[test]
fn nor_do_removals() {
    holds_in(&Bounds { skews: &[9], horizon: 3, ..REMOVALS }, &REMOVALS);
}

#[test]
fn nor_do_lost_replies_and_late_execution() {
    holds_in(&Bounds { horizon: 3, ..UNKNOWN }, &UNKNOWN);
}

#[test]
fn nor_do_requests_and_replies_under_way_at_the_same_time() {
    holds_for(if is_large() { 11 } else { 9 }, &SPLIT);
}

#[test]
fn nor_do_callers_who_wait_longer_than_a_life() {
    holds_for(if is_large() { 11 } else { 9 }, &SLOW);
}

#[test]
fn a_wrong_clock_at_a_restart_costs_only_what_was_written_before_redis_was_met() {
    holds_in(&Bounds { horizon: 4, ..WRONG }, &WRONG);
}

#[test]
fn an_estimate_that_goes_wrong_costs_only_what_its_instance_writes_until_redis_is_met_again() {
    holds_in(&Bounds { horizon: 3, ..DRIFTING }, &DRIFTING);
}

#[test]
fn copies_bring_back_what_redis_loses() {
    holds_in(&Bounds { horizon: 3, ..LOSS }, &LOSS);
}

#[test]
fn copies_bring_back_what_redis_evicts() {
    holds_in(&Bounds { removals: 0, ..EVICTION }, &EVICTION);
}

#[test]
fn a_forgotten_removal_revives_no_copies() {
    holds_in(&Bounds { horizon: 3, ..FORGOTTEN }, &FORGOTTEN);
}

#[test]
fn three_instances_crashes_and_wrong_clocks_at_once_in_random_walks() {
    // Redis keeps its data: a removal that it alone saw, of a caller that crashed, is not promised once the data is lost.
    let bounds = Bounds {
        instances: 3,
        ttl: 3,
        horizon: 10,
        skews: &[0, 3, 9],
        upserts: 6,
        removals: 2,
        crashes: 2,
        wrong_clocks: &[-4, 4],
        drifts: &[-4, 4],
        late: 2,
        lost_replies: 2,
        ..Bounds::PLAIN
    };
    let states = if is_large() { 3_000_000 } else { 300_000 };
    for split in [false, true] {
        let bounds = Bounds { split, slow_callers: split, ..bounds.clone() };
        let walk = Walk(Search(bounds.clone())).checker().finish_when(HasDiscoveries::AnyFailures);
        let walk = walk.target_state_count(states.min(states_max())).spawn_simulation(14, UniformChooser).join();
        println!("{} states in walks", walk.state_count());
        if let Some(path) = walk.discovery(HOLDS) {
            let last = path.last_state().1.clone();
            panic!("{}", story(&bounds, &last, &path.into_actions()));
        }
    }
}

#[test]
fn l1_finds_a_deadline_that_goes_by_stamps() {
    finds(BrokenRule::DeadlineByStamp, &PLAIN, BrokenProperty::HiddenFromAuthor);
    finds(BrokenRule::DeadlineByStamp, &Bounds { upserts: 3, ..PLAIN }, BrokenProperty::LostWhileLiving);
}

#[test]
fn l1_finds_an_upsert_that_asks_for_no_life_once_its_cells_are_outdone() {
    finds(BrokenRule::OutdoneNotAsked, &PLAIN, BrokenProperty::HiddenFromAuthor);
}

#[test]
fn l1_finds_a_life_that_begins_without_the_cells_that_won_over_those_of_its_writer() {
    // A crash takes the copies of the winner's author, who would publish it again.
    let bounds = Bounds { skews: &[9], crashes: 1, crash_loses_copies: true, ..PLAIN };
    finds(BrokenRule::WinnerNotAsked, &bounds, BrokenProperty::LostEarly);
}

#[test]
fn l2_finds_a_tombstone_for_what_has_expired() {
    finds(BrokenRule::TombstoneOfExpired, &PLAIN, BrokenProperty::LostEarly);
}

#[test]
fn l2_finds_that_pending_cells_are_forgotten_at_the_own_estimate() {
    finds(BrokenRule::PendingForgotten, &Bounds { upserts: 3, ..PLAIN }, BrokenProperty::LostWhileLiving);
}

#[test]
fn l3_finds_a_script_that_does_not_clamp() {
    finds(BrokenRule::EndNotClamped, &WRONG, BrokenProperty::LivesTooLong);
    finds(BrokenRule::BeginNotClamped, &WRONG, BrokenProperty::Diverged);
}

#[test]
fn l3_finds_an_estimate_that_is_never_corrected() {
    finds(BrokenRule::NeverCorrected, &WRONG, BrokenProperty::LostEarly);
}

#[test]
fn l3_finds_a_life_of_an_unknown_clock_joined_with_one_that_redis_told() {
    finds(BrokenRule::ProvisionalJoined, &WRONG, BrokenProperty::LostEarly);
}

#[test]
fn l3_finds_a_replay_that_asks_for_a_life_from_its_sending() {
    finds(BrokenRule::IntervalOfSending, &PLAIN, BrokenProperty::ShownAfterItsTime);
}

#[test]
fn l4_finds_a_script_that_joins_a_life_that_had_ended() {
    finds(BrokenRule::EndedLifeJoined, &PLAIN, BrokenProperty::ShownAfterItsTime);
}

#[test]
fn l4_finds_a_store_that_keeps_one_life() {
    finds(BrokenRule::LivesInOne, &PLAIN, BrokenProperty::ShownAfterItsTime);
}

#[test]
fn l4_finds_a_write_given_up_late_that_joins_the_next_life() {
    finds(BrokenRule::LateWriteJoined, &SLOW, BrokenProperty::ShownAfterItsTime);
}

#[test]
fn l4_finds_a_definite_refusal_taken_for_success() {
    finds(BrokenRule::OverTakenForDone, &DRIFTING, BrokenProperty::LostEarly);
}

#[test]
fn l5_finds_copies_of_an_ended_life_joined_with_the_present_one() {
    finds(BrokenRule::CopiesOfEndedJoined, &PLAIN, BrokenProperty::ShownAfterItsTime);
}

#[test]
fn r5_finds_that_what_redis_lacks_is_not_published_again() {
    finds(BrokenRule::NotReclaimed, &EVICTION, BrokenProperty::LostEarly);
    finds(BrokenRule::IntervalNotReclaimed, &LOSS, BrokenProperty::HiddenFromAuthor);
}

#[test]
fn r6_finds_that_a_new_generation_marks_no_copies() {
    finds(BrokenRule::GenerationIgnored, &LOSS, BrokenProperty::LostEarly);
}

#[test]
fn r8_finds_an_acknowledgement_that_clears_what_was_not_sent() {
    finds(BrokenRule::AcknowledgesAll, &SPLIT, BrokenProperty::HiddenFromAuthor);
}

#[test]
fn r9_finds_copies_published_again_whose_removal_is_forgotten() {
    finds(BrokenRule::OldCopiesPublished, &FORGOTTEN, BrokenProperty::ShownAfterRemoval);
}

#[test]
fn r10_finds_a_write_stamped_again_after_an_unknown_outcome() {
    finds(BrokenRule::StampedAgain, &SPLIT, BrokenProperty::ShownAfterItsTime);
}

/// The rules rest on Redis's clock. docs/PROTOCOL.md says what a step of it breaks.
#[test]
fn a_step_of_the_clock_of_redis_breaks_them() {
    assert_eq!(breaks(&Bounds { steps: &[3], ..PLAIN }), BrokenProperty::LostEarly);
    assert_eq!(breaks(&Bounds { steps: &[-3], ..PLAIN }), BrokenProperty::LivesTooLong);
}
