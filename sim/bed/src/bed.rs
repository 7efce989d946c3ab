//! A bed: a workload with the servers, faults and checkers around it.

use std::{future::Future, path::Path, pin::Pin, sync::Arc};

use seedbed_world::{Host, SimEnv, seed::Seed};

use crate::{
    checkers::{COMES_BACK, Checker, NO_PANIC, REDIS_SUFFICES, RUN_ENDS},
    coverage::CoveragePoint,
    faults::{Faults, Frame},
    history::History,
    redis_host,
    scenario::{self, FileError, Scenario, ScenarioOf},
    system::{Plan, Workload},
};

/// What serves on a host, for as long as its process lasts.
type Serve = Arc<dyn Fn(SimEnv) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A server of a bed.
#[derive(Clone)]
pub(crate) struct BedServer {
    pub(crate) name: &'static str,
    pub(crate) host: Host,
    pub(crate) serve: Serve,
}

/// A workload with what is around it. Clones share its parts.
///
/// Three checks are always made: `run ends` (it neither ends its process nor spins; in worker processes), `no panic`, and `comes back` (after everything has healed every instance is open, comes to rest,
/// answers what it is asked, and closes). Where there is a Redis: `redis suffices` (it had every command that it was asked for).
pub struct Bed<W: Workload> {
    pub(crate) workload: Arc<W>,
    pub(crate) has_redis: bool,
    pub(crate) servers: Vec<BedServer>,
    pub(crate) faults: Faults,
    pub(crate) checkers: Vec<Arc<dyn Checker<W>>>,
    pub(crate) points: Vec<CoveragePoint<W>>,
}

impl<W: Workload> Clone for Bed<W> {
    fn clone(&self) -> Self {
        Self {
            workload: self.workload.clone(),
            has_redis: self.has_redis,
            servers: self.servers.clone(),
            faults: self.faults.clone(),
            checkers: self.checkers.clone(),
            points: self.points.clone(),
        }
    }
}

impl<W: Workload> Bed<W> {
    /// The workload alone: no servers, every kind of fault, no checkers but those that are always made.
    pub fn new(workload: W) -> Self {
        Self {
            workload: Arc::new(workload),
            has_redis: false,
            servers: Vec::new(),
            faults: Faults::all(),
            checkers: Vec::new(),
            points: Vec::new(),
        }
    }

    /// With a simulated Redis, at `redis://redis:6379`.
    #[must_use]
    pub fn redis(mut self) -> Self {
        self.has_redis = true;
        self
    }

    /// With a server of one's own: `serve` runs in a process on the host of this name, at the beginning and after each crash.
    ///
    /// # Panics
    /// If another host has the name.
    #[must_use]
    pub fn host<F>(mut self, name: &'static str, serve: impl Fn(SimEnv) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let is_taken = self.servers.iter().any(|server| server.name == name)
            || redis_host::HOSTS.iter().any(|host| host.to_string() == name)
            || name.parse::<u32>().is_ok();
        assert!(!is_taken, "a server cannot be called {name:?}: another host has that name");
        // The first two are Redis's.
        let number = redis_host::HOSTS.len() + self.servers.len();
        let host = Host::Server { number: u16::try_from(number).expect("fewer than 65,536 servers"), name };
        self.servers.push(BedServer { name, host, serve: Arc::new(move |env| Box::pin(serve(env))) });
        self
    }

    /// With these kinds of faults, and no others.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// With this checker as well.
    ///
    /// # Panics
    /// If another one has its name.
    #[must_use]
    pub fn check(mut self, checker: impl Checker<W> + 'static) -> Self {
        let name = checker.name().to_owned();
        assert!(self.checkers.iter().all(|other| other.name() != name), "two checkers have the name {name:?}");
        self.checkers.push(Arc::new(checker));
        self
    }

    /// With this coverage point as well: `is_in` says whether a history has met it. A test fails if all of its seeds miss it, and
    /// `run` then ends as unknown.
    ///
    /// ```
    /// # use seedbed::{Bed, Outcome, Workload, history::What};
    /// # fn bed<W: Workload>(bed: Bed<W>) -> Bed<W> {
    /// bed.covers("a call of unknown outcome", |history| {
    ///     history.events.iter().any(|event| matches!(&event.what, What::Returned { outcome: Outcome::Unknown(_), .. }))
    /// })
    /// # }
    /// ```
    ///
    /// # Panics
    /// If another point has its name.
    #[must_use]
    pub fn covers(mut self, name: &str, is_in: impl Fn(&History<W>) -> bool + Send + Sync + 'static) -> Self {
        assert!(self.points.iter().all(|point| point.name != name), "two coverage points have the name {name:?}");
        self.points.push(CoveragePoint::new(name, is_in));
        self
    }

    /// The names of its coverage points.
    pub fn coverage_points(&self) -> Vec<&str> {
        self.points.iter().map(|point| point.name.as_str()).collect()
    }

    /// The points that a history has met.
    pub(crate) fn met(&self, history: &History<W>) -> Vec<String> {
        self.points.iter().filter(|point| point.is_in(history)).map(|point| point.name.clone()).collect()
    }

    /// The names of its checkers, those that are always made first.
    pub fn guarantees(&self) -> Vec<String> {
        let given = self.checkers.iter().map(|checker| checker.name().to_owned());
        let of_redis = self.has_redis.then(|| REDIS_SUFFICES.to_owned());
        [RUN_ENDS, NO_PANIC, COMES_BACK].map(ToOwned::to_owned).into_iter().chain(of_redis).chain(given).collect()
    }

    /// The scenario of a seed.
    pub fn scenario(&self, seed: Seed) -> ScenarioOf<W> {
        let plan = self.workload.plan(&mut seed.stream("workload"));
        let faults = self.faults.plan(seed, &self.frame(&plan));
        Scenario { seed: seed.0, scheduler_seed: seed.0, plan, faults }
    }

    /// Reads a scenario of this bed from a file.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn load(&self, name: &str, file: &Path) -> Result<ScenarioOf<W>, FileError> {
        scenario::load(name, file, |scenario| self.check_scenario(scenario))
    }

    /// Whether a scenario can be played on this bed.
    ///
    /// # Errors
    /// Why not.
    pub fn check_scenario(&self, scenario: &ScenarioOf<W>) -> Result<(), String> {
        let plan = &scenario.plan;
        if plan.instances == 0 {
            return Err("the plan has no instances".to_owned());
        }
        if let Some(call) = plan.calls.iter().chain(&plan.last).find(|call| call.instance >= plan.instances) {
            let (instance, most) = (call.instance, plan.instances - 1);
            return Err(format!("a call is for instance {instance}, and there are 0 to {most}: {:?}", call.op));
        }
        self.faults.check(&scenario.faults, &self.frame(plan))
    }

    pub(crate) fn frame<Op, T>(&self, plan: &Plan<Op, T>) -> Frame {
        Frame {
            instances: plan.instances,
            servers: self.servers.iter().map(|server| server.name).collect(),
            has_redis: self.has_redis,
            budget: self.faults.budget(),
            horizon_us: plan.calls.iter().map(|call| call.at_us).max().unwrap_or(0),
        }
    }
}
