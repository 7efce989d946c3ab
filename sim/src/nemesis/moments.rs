//! Faults that wait for a moment of the protocol.

use std::pin::pin;

use futures_util::future::{Either, select};

use super::{Nemesis, Playing};
use crate::{
    faults::{Fault, NamedInstances, PlannedFault, Trigger},
    world::{Host, moments::Struck},
};

impl Nemesis<'_> {
    /// From now on the fault strikes as soon as its moment comes.
    pub(super) fn wait_for(&self, number: u32, trigger: &Trigger, fault: &Fault) {
        let passes = trigger.nth.saturating_sub(1);
        self.world.moments().wait_for(number, trigger.moment.clone(), passes, fault.instances());
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
            self.world.moments().wait_for(struck.fault, trigger.moment.clone(), 0, planned.fault.instances());
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
