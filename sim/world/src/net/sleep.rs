//! Kernels of hosts that sleep: their links lose everything, and their timers stand still.

use super::{
    NetEvent, NetHappening,
    conn::{CLIENT, SERVER},
    tcp::{Asleep, Tcp, Timer},
};
use crate::Host;

impl Tcp {
    pub(super) fn suspend(&mut self, host: Host) {
        let now_us = self.clock.now_us();
        self.asleep.insert(host, Asleep { since_us: now_us, timers: Vec::new() });
        for link in 0..self.links.len() {
            let of_host = [self.links[link].from, self.links[link].to].contains(&host);
            if of_host && self.links[link].set_asleep(true) {
                self.lose_acks(link, now_us);
            }
        }
    }

    pub(super) fn wake(&mut self, host: Host) {
        let now_us = self.clock.now_us();
        let Some(Asleep { since_us, timers }) = self.asleep.remove(&host) else { return };
        for link in &mut self.links {
            let asleep = self.asleep.contains_key(&link.from) || self.asleep.contains_key(&link.to);
            if [link.from, link.to].contains(&host) {
                link.set_asleep(asleep);
            }
        }
        for id in self.conns.ids() {
            let Some(conn) = self.conns.get(id) else { continue };
            for side in [CLIENT, SERVER] {
                if conn.ends[side].host == host {
                    conn.ends[side].heard_us += now_us - since_us;
                    conn.halves[side].shift_timers(now_us - since_us);
                }
            }
        }
        for (at_us, id, side, timer) in timers {
            let what = match timer {
                Timer::SendSyn(tries) => NetHappening::SendSyn(tries),
                Timer::Retransmit => NetHappening::Retransmit,
                Timer::Watch => NetHappening::Watch,
            };
            self.schedule(now_us + (at_us - since_us), id, side, what);
        }
    }

    /// Puts off what a kernel that sleeps would have done now. Returns whether it is such.
    pub(super) fn defer(&mut self, event: &NetEvent) -> bool {
        let timer = match event.what {
            NetHappening::SendSyn(tries) => Timer::SendSyn(tries),
            NetHappening::Retransmit => Timer::Retransmit,
            NetHappening::Watch => Timer::Watch,
            NetHappening::SynArrives(_)
            | NetHappening::SynAckArrives(_)
            | NetHappening::RefusalArrives(_)
            | NetHappening::Deliver
            | NetHappening::ResetArrives(_)
            | NetHappening::Writable => return false,
        };
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(event.conn) else { return false };
        let Some(asleep) = self.asleep.get_mut(&conn.ends[event.side].host) else { return false };
        asleep.timers.push((now_us, event.conn, event.side, timer));
        true
    }
}
