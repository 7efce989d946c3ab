//! Faults that wait for a moment of the protocol.

use std::{path::Path, pin::pin};

use futures_util::future::{Either, select};

use super::{Nemesis, Playing};
use crate::{
    faults::{Fault, Moment, NamedInstances, PlannedFault, Trigger},
    world::{
        Host,
        disk::Verb,
        moments::{Awaited, Step, Struck},
    },
};

/// How the name of a log ends, by docs/FORMATS.md.
const LOG: &str = "log";
/// How that of a rewritten log ends, before it takes its place.
const REWRITTEN: &str = "new";

impl Nemesis<'_> {
    /// From now on the fault strikes as soon as its moment comes.
    pub(super) fn wait_for(&self, number: u32, trigger: &Trigger, fault: &Fault) {
        let passes = trigger.nth.saturating_sub(1);
        self.world.moments().wait_for(number, awaited(&trigger.moment), passes, fault.instances());
    }

    /// Waits until a time. `Some`: the moment of a fault came before.
    pub(super) async fn until(&self, due_us: u64) -> Option<Struck> {
        let left_us = due_us.checked_sub(self.world.now_us()).filter(|left_us| *left_us > 0)?;
        let sleep = self.world.sleep_us(left_us);
        if !self.world.moments().is_awaited() {
            sleep.await;
            return None;
        }
        match select(pin!(self.world.moments().struck()), sleep).await {
            Either::Left((struck, _)) => Some(struck),
            Either::Right(_) => None,
        }
    }

    /// Begins a fault whose moment has come. Answers when it ends, as plans count their time.
    pub(super) async fn strike(
        &self,
        struck: Struck,
        planned: &PlannedFault,
        base_us: u64,
        playing: &mut Playing,
    ) -> u64 {
        let now_us = self.world.now_us() - base_us;
        let trigger = planned.at.as_ref().expect("only such faults wait");
        if !self.world.is_running(Host::Instance(struck.instance)) {
            // The moment was of a process that has ended meanwhile: a request of its that was still on its way.
            self.world.moments().wait_for(struck.fault, awaited(&trigger.moment), 0, planned.fault.instances());
            return planned.end_us;
        }
        let mut fault = planned.fault.clone();
        if let NamedInstances::Several(instances) = fault.instances_mut() {
            *instances = vec![struck.instance];
        }
        let lasts_us = if fault.is_momentary() { 0 } else { trigger.lasts_us };
        let ends_us = now_us.saturating_add(lasts_us).min(planned.end_us).max(now_us);
        self.note_and_begin(struck.fault, planned, &fault, base_us + ends_us, playing).await;
        playing.struck.insert(struck.fault, fault);
        ends_us
    }
}

fn awaited(moment: &Moment) -> Awaited {
    let moment = moment.clone();
    Box::new(move |step| brings(step, &moment))
}

/// Whether a step is this moment, by the words with which the client asks Redis (docs/PROTOCOL.md) and by the names of its files.
fn brings(step: &Step<'_>, moment: &Moment) -> bool {
    match (moment, step) {
        (Moment::MergeArrives, Step::Asked(words)) | (Moment::MergeDone, Step::Done(words)) => is_merge(words, b"all"),
        (Moment::ReplayArrives, Step::Asked(words)) | (Moment::ReplayDone, Step::Done(words)) => {
            is_merge(words, b"each")
        }
        (Moment::ReadDone, Step::Done(words)) => word(words, 0) == b"hgetall",
        (Moment::ScanGoesOn, Step::Asked(words)) => word(words, 0) == b"scan" && word(words, 1) != b"0",
        (Moment::GenerationAsked, Step::Asked(words)) => word(words, 0) == b"time",
        (Moment::RewriteWrites, Step::Renames(path)) => has_extension(path, REWRITTEN),
        (Moment::RewriteWrites, Step::File { path, has_path, .. }) => *has_path && has_extension(path, REWRITTEN),
        // A log that was rewritten is open under the name that it had before.
        (Moment::LogSynced, Step::File { path, has_path, verb: Verb::Sync }) => {
            has_extension(path, LOG) || has_extension(path, REWRITTEN) && !has_path
        }
        (Moment::Mark(mark), Step::Told(name)) => mark == name,
        _ => false,
    }
}

fn is_merge(words: &[Vec<u8>], mode: &[u8]) -> bool {
    matches!(&word(words, 0)[..], b"evalsha" | b"eval") && word(words, 4) == mode
}

fn word(words: &[Vec<u8>], position: usize) -> Vec<u8> {
    words.get(position).map(|word| word.to_ascii_lowercase()).unwrap_or_default()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|of| of == extension)
}
