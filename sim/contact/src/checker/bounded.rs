//! G11: what an instance holds has limits, and nothing is left of it when its cache has been closed in order.
//!
//! Sockets, tasks and open files are counted by whoever records the history, not by the instance; of the bytes that it
//! keeps only the instance knows. Of each there never was more at once than what the instance promises, as far as
//! somebody looked: sockets, tasks and files were counted all the time, bytes when they were noted. After an orderly
//! close, while the process lives on, no socket, no task and no file is left. A call that fails for a limit is no matter
//! of this guarantee (G8), nor is a write that it loses (G5).

use super::{Account, Excuse, Verdict, operations::Operations};
use crate::history::{Holding, Resource, What};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    for event in &run.history.events {
        let What::Holds { instance, closed, what } = &event.what else { continue };
        for held in what {
            let found = wrong(held, *closed);
            // Where damage took a later entry, an earlier one counts again that had more pending.
            let is_bytes = matches!(held.resource, Resource::PendingBytes | Resource::CopiesBytes);
            let is_damaged = is_bytes && found.is_some() && run.excuses.was_damaged(*instance, event.ordinal);
            if let Some(wrong) = found.filter(|_| !is_damaged) {
                let message = format!("instance {instance} {wrong} (event {})", event.ordinal);
                return Verdict::Violation { message, ops: Vec::new() };
            }
            // Without a promise there is none to break, until the cache is closed.
            let is_promised = held.limit.is_some() || *closed;
            account.count(match (is_damaged, is_promised) {
                (true, _) => Some(Excuse::Damage),
                (false, false) => Some(Excuse::NotTold),
                (false, true) => None,
            });
        }
    }
    Verdict::Pass
}

fn wrong(held: &Holding, closed: bool) -> Option<String> {
    let Holding { resource, now, most, limit } = held;
    let name = named(*resource);
    if let Some(limit) = limit.filter(|limit| most > limit) {
        return Some(format!("held {most} {name}, and promises never more than {limit}"));
    }
    let is_let_go = matches!(resource, Resource::Sockets | Resource::Tasks | Resource::Files);
    (closed && is_let_go && *now > 0).then(|| format!("closed its cache and still holds {now} {name}"))
}

fn named(resource: Resource) -> &'static str {
    match resource {
        Resource::Sockets => "sockets",
        Resource::Tasks => "tasks",
        Resource::Files => "files",
        Resource::PendingBytes => "bytes that are pending",
        Resource::CopiesBytes => "bytes of copies",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee::Resources, fixture::Story},
        faults::Fault,
    };

    fn holds(resource: Resource, now: u64, most: u64, limit: Option<u64>, closed: bool) -> Story {
        let mut story = Story::new(&["p"]);
        let what = vec![Holding { resource, now, most, limit }];
        story.event(What::Holds { instance: 0, closed, what });
        story
    }

    #[test]
    fn what_is_within_its_limit_passes() {
        holds(Resource::Sockets, 1, 2, Some(2), false).passes(Resources);
        holds(Resource::PendingBytes, 100, 100, Some(100), false).passes(Resources);
        holds(Resource::Tasks, 900, 900, None, false).passes(Resources);
        Story::new(&["p"]).passes(Resources);
    }

    #[test]
    fn what_was_once_beyond_its_limit_is_a_violation() {
        let said = "held 3 sockets, and promises never more than 2";
        holds(Resource::Sockets, 1, 3, Some(2), false).violates(Resources, said, &[]);
        holds(Resource::PendingBytes, 101, 101, Some(100), false).violates(
            Resources,
            "101 bytes that are pending",
            &[],
        );
    }

    #[test]
    fn a_damaged_store_may_bring_back_an_entry_with_more_pending_and_no_sockets() {
        for (resource, is_excused) in
            [(Resource::PendingBytes, true), (Resource::CopiesBytes, true), (Resource::Sockets, false)]
        {
            let mut story = Story::new(&["p", "p"]);
            story.fault(Fault::BitRot { instance: 0, running: false });
            story.event(What::FaultEnd { fault: 0, effects: 1 });
            let what = vec![Holding { resource, now: 0, most: 101, limit: Some(100) }];
            let holds = |instance| What::Holds { instance, closed: false, what: what.clone() };
            story.event(holds(0));
            if is_excused {
                story.passes(Resources);
                story.event(holds(1));
            }
            story.violates(Resources, "and promises never more than 100", &[]);
        }
    }

    #[test]
    fn what_is_left_of_a_closed_cache_is_a_violation() {
        holds(Resource::Tasks, 1, 3, None, true).violates(Resources, "closed its cache and still holds 1 tasks", &[]);
        holds(Resource::Files, 1, 1, Some(9), true).violates(Resources, "still holds 1 files", &[]);
        holds(Resource::Sockets, 0, 1, None, true).passes(Resources);
        holds(Resource::CopiesBytes, 50, 50, None, true).passes(Resources);
    }
}
