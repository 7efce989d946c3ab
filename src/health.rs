//! What an instance believes of Redis, and what it does about it. Pure: time and events in, decisions out.
//!
//! ```text
//!                 reply timed out
//!     Connected ------------------> Probing --- probe answered ---> Recovering
//!        ^  |                          |                               ^   |
//!        |  | connection lost          | probe failed                  |   | drained
//!        |  v                          v                               |   v
//!        |  Degraded <-----------------+      connected, checked ------+  Connected
//!        |     | delay over: one attempt
//!        +-----+
//! ```
//!
//! Calls go to Redis while `Connected` or `Recovering`. Otherwise the breaker is open: no call waits for the network.
//! At most one probe or attempt to connect is under way, made by the one task that owns the connection.

use std::{fmt, time::Duration};

/// An instance's view of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Redis answers, and nothing is pending.
    Connected,
    /// Redis is away. Calls are served locally; the next attempt waits for its time.
    Degraded,
    /// Exactly one probe, or attempt to connect, is under way. Calls are served locally.
    Probing,
    /// Redis answers; what was written locally is being merged.
    Recovering,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Probing => "probing",
            Self::Recovering => "recovering",
        })
    }
}

/// What can happen to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthEvent {
    /// A connection stands, and Redis's generation is known and stored.
    Established,
    /// The connection is gone, could not be made, its probe failed, or Redis refuses to work.
    Lost,
    /// A reply did not come in time: the connection is suspect.
    ReplyTimedOut,
    /// A probe was answered.
    ProbeAnswered,
    /// Something is pending.
    Pending,
    /// A pass over everything pending begins.
    PassBegan,
    /// It is over: what was pending when it began is merged, or cannot be for now.
    PassEnded,
}

/// What the task that owns the connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Open a connection; [`Breaker::begin_attempt`] first.
    Connect,
    /// Ask the connection for a sign of life.
    Probe,
    /// Merge a batch of what is pending.
    Replay,
    /// Nothing until this time, or until something happens.
    Wait(Duration),
}

/// How patient the state machine is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// The first delay before a reconnect is drawn from zero to this.
    pub(crate) backoff_first: Duration,
    /// Each failure doubles the range, up to this.
    pub(crate) backoff_max: Duration,
    /// A healthy connection is asked for a sign of life this often.
    pub(crate) probe_interval: Duration,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Breaker {
    patience: Patience,
    state: State,
    /// Failures since the last connection that was good for something.
    failures: u32,
    /// Degraded: the time of the next attempt. Connected and recovering: of the next probe.
    due: Duration,
    /// Whether the probe under way is one of a suspect connection rather than an attempt to connect.
    suspect: bool,
    /// Whether something may be pending that no pass has met: news that come during a pass call for another.
    pending: bool,
}

impl Breaker {
    /// Before the first attempt, which is due at once.
    pub(crate) fn new(patience: Patience, now: Duration) -> Self {
        Self { patience, state: State::Degraded, failures: 0, due: now, suspect: false, pending: true }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether calls go to Redis.
    pub(crate) fn allows_calls(&self) -> bool {
        match self.state {
            State::Connected | State::Recovering => true,
            State::Degraded | State::Probing => false,
        }
    }

    /// What to do at `now`.
    pub(crate) fn next(&self, now: Duration) -> Next {
        match self.state {
            State::Degraded if now >= self.due => Next::Connect,
            State::Probing if self.suspect => Next::Probe,
            State::Connected | State::Recovering if now >= self.due => Next::Probe,
            State::Recovering => Next::Replay,
            // Probing without a suspect: an attempt to connect, made by the very task that asks; it does not ask meanwhile.
            State::Connected | State::Degraded | State::Probing => Next::Wait(self.due),
        }
    }

    /// The attempt that [`Next::Connect`] asks for begins.
    pub(crate) fn begin_attempt(&mut self) {
        self.state = State::Probing;
        self.suspect = false;
    }

    /// Takes an event in. `random` decides the delay of the next attempt: uniform over its whole range ("full jitter"),
    /// so that instances that lost Redis in the same moment do not return in one.
    pub(crate) fn on(&mut self, event: HealthEvent, now: Duration, random: u64) {
        match (event, self.state) {
            (HealthEvent::Established, _) => {
                self.suspect = false;
                self.due = now + self.patience.probe_interval;
                self.pending = true;
                self.state = State::Recovering;
            }
            (HealthEvent::ProbeAnswered, State::Probing | State::Connected | State::Recovering) => {
                self.failures = 0;
                self.suspect = false;
                self.due = now + self.patience.probe_interval;
                let recovering = self.pending || self.state == State::Recovering;
                self.state = if recovering { State::Recovering } else { State::Connected };
            }
            // Late news of a connection that was given up already, or is suspect already; the end of a pass cut short.
            (HealthEvent::Lost | HealthEvent::ProbeAnswered | HealthEvent::ReplyTimedOut, State::Degraded)
            | (HealthEvent::ReplyTimedOut, State::Probing)
            | (HealthEvent::PassEnded, State::Connected | State::Degraded | State::Probing) => {}
            (HealthEvent::Lost, State::Connected | State::Probing | State::Recovering) => {
                self.state = State::Degraded;
                self.due = now + self.delay(random);
                self.failures = self.failures.saturating_add(1);
            }
            (HealthEvent::ReplyTimedOut, State::Connected | State::Recovering) => {
                // The pass under way, if any, is cut short.
                self.pending |= self.state == State::Recovering;
                self.state = State::Probing;
                self.suspect = true;
            }
            (HealthEvent::Pending, state) => {
                self.pending = true;
                if state == State::Connected {
                    self.state = State::Recovering;
                }
            }
            (HealthEvent::PassBegan, _) => self.pending = false,
            (HealthEvent::PassEnded, State::Recovering) => {
                if !self.pending {
                    self.state = State::Connected;
                    self.failures = 0;
                }
            }
        }
    }

    fn delay(&self, random: u64) -> Duration {
        let range =
            self.patience.backoff_first.saturating_mul(1 << self.failures.min(16)).min(self.patience.backoff_max);
        // 32 bits are finer than any timer, and keep the product within a Duration.
        let fraction = (random >> 32) as u32;
        range.mul_f64(f64::from(fraction) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        backoff_first: Duration::from_secs(1),
        backoff_max: Duration::from_secs(8),
        probe_interval: Duration::from_secs(2),
    };

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn after(events: &[HealthEvent]) -> Breaker {
        let mut health = Breaker::new(PATIENCE, at(0));
        health.begin_attempt();
        for event in events {
            health.on(*event, at(10), u64::MAX);
        }
        health
    }

    #[test]
    fn the_first_attempt_is_made_at_once_and_calls_do_not_wait_for_it() {
        let mut health = Breaker::new(PATIENCE, at(0));
        assert_eq!(health.next(at(0)), Next::Connect);
        health.begin_attempt();
        assert_eq!((health.state(), health.allows_calls()), (State::Probing, false));
    }

    #[test]
    fn what_is_pending_is_merged_before_the_instance_is_connected() {
        let mut health = after(&[HealthEvent::Established]);
        assert_eq!(
            (health.state(), health.next(at(10)), health.allows_calls()),
            (State::Recovering, Next::Replay, true)
        );
        health.on(HealthEvent::PassBegan, at(10), 0);
        health.on(HealthEvent::PassEnded, at(10), 0);
        assert_eq!((health.state(), health.next(at(10))), (State::Connected, Next::Wait(at(12))));
        health.on(HealthEvent::Pending, at(10), 0);
        assert_eq!(health.state(), State::Recovering);
    }

    #[test]
    fn a_reply_that_does_not_come_opens_the_breaker_and_asks_one_probe() {
        let mut health = after(&[
            HealthEvent::Established,
            HealthEvent::PassBegan,
            HealthEvent::PassEnded,
            HealthEvent::ReplyTimedOut,
            HealthEvent::ReplyTimedOut,
        ]);
        assert_eq!((health.state(), health.next(at(10)), health.allows_calls()), (State::Probing, Next::Probe, false));
        health.on(HealthEvent::ProbeAnswered, at(10), 0);
        assert_eq!(health.state(), State::Connected);
    }

    #[test]
    fn what_becomes_pending_during_a_pass_calls_for_another() {
        let mut health =
            after(&[HealthEvent::Established, HealthEvent::PassBegan, HealthEvent::Pending, HealthEvent::PassEnded]);
        assert_eq!((health.state(), health.next(at(10))), (State::Recovering, Next::Replay));
        health.on(HealthEvent::PassBegan, at(10), 0);
        health.on(HealthEvent::PassEnded, at(10), 0);
        assert_eq!(health.state(), State::Connected);
    }

    #[test]
    fn a_pass_cut_short_by_a_suspicion_is_made_again() {
        let cut_short =
            [HealthEvent::Established, HealthEvent::PassBegan, HealthEvent::ReplyTimedOut, HealthEvent::ProbeAnswered];
        assert_eq!(after(&cut_short).state(), State::Recovering);
    }

    #[test]
    fn data_lost_under_a_living_connection_is_recovered_from_although_nothing_was_pending() {
        let connected = [HealthEvent::Established, HealthEvent::PassBegan, HealthEvent::PassEnded];
        let lost = [HealthEvent::Established, HealthEvent::ReplyTimedOut, HealthEvent::ProbeAnswered];
        assert_eq!(after(&[&connected[..], &lost].concat()).state(), State::Recovering);
    }

    #[test]
    fn a_silent_probe_gives_the_connection_up() {
        let health = after(&[HealthEvent::Established, HealthEvent::ReplyTimedOut, HealthEvent::Lost]);
        assert_eq!((health.state(), health.allows_calls()), (State::Degraded, false));
        assert_eq!(health.next(at(10)), Next::Wait(at(11)));
        assert_eq!(health.next(at(11)), Next::Connect);
    }

    #[test]
    fn a_healthy_connection_is_asked_for_a_sign_of_life_now_and_then() {
        let mut health = after(&[HealthEvent::Established, HealthEvent::PassBegan, HealthEvent::PassEnded]);
        assert_eq!((health.next(at(12)), health.allows_calls()), (Next::Probe, true));
        health.on(HealthEvent::ProbeAnswered, at(12), 0);
        assert_eq!((health.state(), health.next(at(12))), (State::Connected, Next::Wait(at(14))));
    }

    #[test]
    fn delays_double_to_their_cap_and_never_end() {
        let mut health = after(&[HealthEvent::Lost]);
        let mut delays = Vec::new();
        for _ in 0..40 {
            let Next::Wait(due) = health.next(at(10)) else { panic!("no delay") };
            delays.push(due.as_secs() - 10);
            health.begin_attempt();
            health.on(HealthEvent::Lost, at(10), u64::MAX);
        }
        assert_eq!(delays[..5], [1, 2, 4, 8, 8]);
        assert_eq!(delays[39], 8);
    }

    #[test]
    fn delays_are_spread_over_their_whole_range() {
        let first = |random| {
            let mut health = after(&[]);
            health.on(HealthEvent::Lost, at(10), random);
            health.next(at(10))
        };
        assert_eq!(first(0), Next::Connect);
        let Next::Wait(middle) = first(u64::MAX / 2) else { panic!("no delay") };
        assert_eq!(middle.as_millis(), 10_500);
    }

    #[test]
    fn a_server_that_accepts_and_then_refuses_to_work_is_not_asked_in_a_loop() {
        let mut health = after(&[HealthEvent::Established, HealthEvent::Lost]);
        health.begin_attempt();
        health.on(HealthEvent::Established, at(10), 0);
        health.on(HealthEvent::Lost, at(10), u64::MAX);
        assert_eq!(health.next(at(10)), Next::Wait(at(12)), "the second delay is drawn from twice the range");
    }

    #[test]
    fn late_news_of_a_connection_already_given_up_changes_nothing() {
        let mut health = after(&[HealthEvent::Established, HealthEvent::Lost]);
        for event in [
            HealthEvent::Lost,
            HealthEvent::ReplyTimedOut,
            HealthEvent::ProbeAnswered,
            HealthEvent::Pending,
            HealthEvent::PassEnded,
        ] {
            health.on(event, at(10), 0);
            assert_eq!((health.state(), health.next(at(10))), (State::Degraded, Next::Wait(at(11))), "{event:?}");
        }
    }

    const EVENTS: [HealthEvent; 7] = [
        HealthEvent::Established,
        HealthEvent::Lost,
        HealthEvent::ReplyTimedOut,
        HealthEvent::ProbeAnswered,
        HealthEvent::Pending,
        HealthEvent::PassBegan,
        HealthEvent::PassEnded,
    ];

    /// What must hold at any time. `owed`: something became pending that no pass has met.
    fn check(health: &Breaker, now: Duration, owed: bool) {
        let (calls, next) = (health.allows_calls(), health.next(now));
        match health.state() {
            State::Connected => {
                assert!(calls && !owed, "connected although no pass has met what became pending");
                assert!(matches!(next, Next::Wait(due) if due <= now + PATIENCE.probe_interval));
            }
            State::Recovering => assert!(calls && next == Next::Replay),
            State::Probing => assert!(!calls && matches!(next, Next::Probe | Next::Wait(_))),
            State::Degraded => {
                assert!(!calls);
                assert!(next == Next::Connect || matches!(next, Next::Wait(due) if due <= now + PATIENCE.backoff_max));
            }
        }
    }

    /// A Redis that works from now on is found, and everything merged, in a few steps.
    fn recovers(health: &mut Breaker, mut now: Duration) {
        for _ in 0..8 {
            match health.next(now) {
                Next::Connect => {
                    health.begin_attempt();
                    health.on(HealthEvent::Established, now, 0);
                }
                Next::Probe => health.on(HealthEvent::ProbeAnswered, now, 0),
                Next::Replay => {
                    health.on(HealthEvent::PassBegan, now, 0);
                    health.on(HealthEvent::PassEnded, now, 0);
                }
                Next::Wait(_) if health.state() == State::Connected => return,
                // An attempt was under way.
                Next::Wait(_) if health.state() == State::Probing => health.on(HealthEvent::Lost, now, u64::MAX),
                Next::Wait(due) => now = due,
            }
        }
        panic!("not connected after eight steps: {health:?}");
    }

    #[test]
    fn every_sequence_of_events_leaves_one_probe_a_breaker_that_fits_and_a_way_back() {
        const DEPTH: u32 = 6;
        for sequence in 0..(EVENTS.len() + 1).pow(DEPTH) {
            let (mut health, mut owed, mut rest) = (Breaker::new(PATIENCE, at(0)), true, sequence);
            for _ in 0..DEPTH {
                let choice = rest % (EVENTS.len() + 1);
                rest /= EVENTS.len() + 1;
                match EVENTS.get(choice) {
                    Some(event) => {
                        owed |= matches!(event, HealthEvent::Pending | HealthEvent::Established);
                        owed &= *event != HealthEvent::PassBegan;
                        health.on(*event, at(1), u64::MAX);
                    }
                    // The task that owns the connection begins an attempt where it is asked to, and nowhere else.
                    None if health.next(at(1)) == Next::Connect => health.begin_attempt(),
                    None => {}
                }
                check(&health, at(1), owed);
            }
            recovers(&mut health, at(1));
        }
    }
}
