//! One direction of a connection, as the sender's kernel keeps it: what is on the wire, what was lost and will be sent
//! again, and what the sender knows to have arrived.

use std::collections::VecDeque;

/// Bytes that a sender may have sent and the receiver not yet read: the send and the receive buffer in one.
pub(super) const BUFFER_BYTES: u64 = 64 * 1024;
/// The first retransmission timeout, Linux's least.
const RTO_MIN_US: u64 = 200_000;
/// The longest time between two retransmissions, Linux's.
const RTO_MAX_US: u64 = 120_000_000;

/// What a segment carries.
#[derive(Debug)]
pub(super) enum Payload {
    /// The third step of the handshake: the server may accept.
    Open,
    Bytes(Vec<u8>),
    /// Nothing follows.
    Fin,
}

impl Payload {
    /// Sequence numbers that it takes up, as in TCP: one for each byte, one for the ends.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Open | Self::Fin => 1,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) payload: Payload,
    /// Its first sequence number.
    pub(super) position: u64,
    /// The epoch of the link when it was last sent.
    pub(super) epoch: u64,
    pub(super) arrival_us: u64,
    sent_us: u64,
}

/// What the sender learns at `at_us`.
#[derive(Debug)]
struct Ack {
    at_us: u64,
    delivered: u64,
    read: u64,
}

/// Retransmission in progress: since the first loss until a segment arrives.
#[derive(Debug)]
struct Backoff {
    last_us: u64,
    tries: u32,
}

#[derive(Debug)]
pub(super) struct Half {
    /// The index of the link it runs over.
    pub(super) link: usize,
    /// An acknowledgement was lost: the sender does not know what arrived.
    pub(super) ack_owed: bool,
    /// An event of this kind is in the queue.
    pub(super) deliver_scheduled: bool,
    pub(super) retransmit_scheduled: bool,
    /// Since when the oldest unacknowledged byte is waiting.
    pub(super) stalled_since_us: u64,
    /// When the sender last heard that something arrived.
    pub(super) last_ack_us: u64,
    /// Since when the sender knows of no room at the receiver, if it knows of none.
    pub(super) full_since_us: Option<u64>,
    /// The connection is reset when so many sequence numbers have arrived.
    reset_at: Option<u64>,
    in_flight: VecDeque<Segment>,
    lost: VecDeque<Segment>,
    backoff: Option<Backoff>,
    acks: VecDeque<Ack>,
    last_arrival_us: u64,
    /// Sequence numbers that have left at least once: those behind a lost one wait.
    left: u64,
    // Sequence numbers, each not above the one before.
    sent: u64,
    delivered: u64,
    read: u64,
    // What the sender knows of `delivered` and `read`.
    acked: u64,
    freed: u64,
}

impl Half {
    pub(super) fn new(link: usize) -> Self {
        Self {
            link,
            ack_owed: false,
            deliver_scheduled: false,
            retransmit_scheduled: false,
            stalled_since_us: 0,
            last_ack_us: 0,
            full_since_us: None,
            reset_at: None,
            in_flight: VecDeque::new(),
            lost: VecDeque::new(),
            backoff: None,
            acks: VecDeque::new(),
            last_arrival_us: 0,
            left: 0,
            sent: 0,
            delivered: 0,
            read: 0,
            acked: 0,
            freed: 0,
        }
    }

    /// Takes a segment to send. It is lost if `carry`, asked when it would arrive, says never; behind one that is lost it
    /// waits, and `carry` is not asked: after a retransmission timeout TCP sends nothing new before the old has arrived.
    pub(super) fn send(&mut self, payload: Payload, epoch: u64, now_us: u64, carry: impl FnOnce(u64) -> Option<u64>) {
        if self.acked == self.sent {
            self.stalled_since_us = now_us;
        }
        let (position, len) = (self.sent, payload.len());
        self.sent += len;
        let mut segment = Segment { payload, position, epoch, arrival_us: 0, sent_us: now_us };
        let arrival_us = if self.lost.is_empty() {
            self.left = self.sent;
            carry(len)
        } else {
            None
        };
        if let Some(at_us) = arrival_us {
            segment.arrival_us = self.in_order(at_us);
            self.in_flight.push_back(segment);
        } else {
            self.lost.push_back(segment);
            self.start_backoff(now_us);
        }
        if self.room() == 0 {
            self.full_since_us.get_or_insert(now_us);
        }
    }

    /// When something sent now arrives that would by itself at `at_us`: nothing overtakes.
    pub(super) fn in_order(&mut self, at_us: u64) -> u64 {
        self.last_arrival_us = self.last_arrival_us.max(at_us);
        self.last_arrival_us
    }

    pub(super) fn front(&self) -> Option<&Segment> {
        self.in_flight.front()
    }

    /// Takes the front segment off the wire, as delivered.
    pub(super) fn deliver(&mut self) -> Option<Payload> {
        let mut segment = self.in_flight.pop_front()?;
        if let (Some(at), Payload::Bytes(bytes)) = (self.reset_at, &mut segment.payload) {
            bytes.truncate(usize::try_from(at.saturating_sub(self.delivered)).unwrap_or(usize::MAX));
        }
        self.delivered += segment.payload.len();
        if !matches!(segment.payload, Payload::Bytes(_)) {
            self.read += 1; // Only bytes take room in the receiver's buffer.
        }
        if self.lost.is_empty() {
            self.backoff = None;
        }
        slim(&mut self.in_flight);
        Some(segment.payload)
    }

    /// After so many more bytes the connection is to be reset, or at an earlier place if one is planned.
    pub(super) fn plan_reset(&mut self, bytes: u64) {
        let at = self.delivered + bytes;
        self.reset_at = Some(self.reset_at.map_or(at, |planned| planned.min(at)));
    }

    pub(super) fn forget_reset(&mut self) {
        self.reset_at = None;
    }

    /// Whether what was delivered reaches to where the connection is to be reset.
    pub(super) fn is_reset_due(&self) -> bool {
        self.reset_at.is_some_and(|at| self.delivered >= at)
    }

    /// The application has read this many bytes.
    pub(super) fn note_read(&mut self, bytes: usize) {
        self.read += bytes as u64;
    }

    /// Everything on the wire is lost; those behind a lost segment wait for it.
    pub(super) fn lose(&mut self) {
        let Some(first) = self.in_flight.front() else {
            return;
        };
        let since_us = first.sent_us;
        while let Some(segment) = self.in_flight.pop_back() {
            self.lost.push_front(segment);
        }
        self.start_backoff(since_us);
    }

    /// The sender is gone, or has given up: nothing will be sent again. What is on the wire stays there.
    pub(super) fn abandon(&mut self) {
        self.lost.clear();
        self.backoff = None;
        self.ack_owed = false;
    }

    /// Nothing of it will arrive.
    pub(super) fn clear(&mut self) {
        self.in_flight.clear();
        self.abandon();
    }

    /// When the sender will try again, if it has a reason to.
    pub(super) fn retransmit_at_us(&self) -> Option<u64> {
        let backoff = self.backoff.as_ref()?;
        (self.ack_owed || !self.lost.is_empty()).then(|| {
            let gap_us = RTO_MIN_US.checked_shl(backoff.tries).map_or(RTO_MAX_US, |us| us.min(RTO_MAX_US));
            backoff.last_us + gap_us
        })
    }

    /// Whether what is sent now leaves now.
    pub(super) fn is_flowing(&self) -> bool {
        self.lost.is_empty()
    }

    /// What waits to be sent again.
    pub(super) fn lost(&self) -> impl Iterator<Item = &Segment> {
        self.lost.iter()
    }

    /// Bytes that wait to be sent again.
    pub(super) fn lost_bytes(&self) -> u64 {
        self.lost.iter().map(|segment| segment.payload.len()).sum()
    }

    /// The sender tries again. What was lost is on the wire afterwards if it arrives, at `arrival_us`.
    pub(super) fn retransmit(&mut self, arrival_us: Option<u64>, epoch: u64, now_us: u64) {
        if let Some(backoff) = &mut self.backoff {
            backoff.last_us = now_us;
            backoff.tries = (backoff.tries + 1).min(32);
        }
        let Some(at_us) = arrival_us else { return };
        let arrival_us = self.in_order(at_us);
        self.left = self.sent;
        for mut segment in self.lost.drain(..) {
            segment.epoch = epoch;
            segment.arrival_us = arrival_us;
            segment.sent_us = now_us;
            self.in_flight.push_back(segment);
        }
        slim(&mut self.lost);
    }

    /// The acknowledgement of all that arrived is lost; the sender will ask again.
    pub(super) fn lose_ack(&mut self, now_us: u64) {
        self.ack_owed = true;
        self.start_backoff(now_us);
    }

    /// The acknowledgements that have not arrived by now are lost. Says whether there were any.
    pub(super) fn lose_acks(&mut self, now_us: u64) -> bool {
        self.settle(now_us);
        let any = !self.acks.is_empty();
        if any {
            self.acks.clear();
            self.lose_ack(now_us);
        }
        any
    }

    /// The sender will hear at `at_us` what has arrived and been read by now.
    pub(super) fn send_ack(&mut self, at_us: u64) {
        self.ack_owed = false;
        if self.is_quiet() {
            self.backoff = None;
        }
        let at_us = self.acks.back().map_or(at_us, |last| at_us.max(last.at_us));
        let ack = Ack { at_us, delivered: self.delivered, read: self.read };
        match self.acks.back_mut() {
            Some(last) if last.at_us == at_us => *last = ack,
            _ => self.acks.push_back(ack),
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The sender's clock stood still for so long.
    pub(super) fn shift_timers(&mut self, us: u64) {
        self.stalled_since_us += us;
        self.last_ack_us += us;
        self.full_since_us = self.full_since_us.map(|since_us| since_us + us);
        if let Some(backoff) = &mut self.backoff {
            backoff.last_us += us;
        }
    }

    /// Bytes that have arrived and wait for the application.
    pub(super) fn unread(&self) -> u64 {
        self.delivered - self.read
    }

    /// When the sender hears next.
    pub(super) fn next_ack_us(&self) -> Option<u64> {
        self.acks.front().map(|ack| ack.at_us)
    }

    /// Brings what the sender knows up to date.
    pub(super) fn settle(&mut self, now_us: u64) {
        while let Some(ack) = self.acks.pop_front_if(|ack| ack.at_us <= now_us) {
            if ack.delivered > self.acked {
                self.stalled_since_us = ack.at_us;
            }
            self.acked = ack.delivered;
            self.freed = ack.read;
            self.last_ack_us = ack.at_us;
            if self.room() > 0 {
                self.full_since_us = None;
            }
        }
        slim(&mut self.acks);
    }

    /// Bytes that the sender may write now. Call [`Half::settle`] before.
    pub(super) fn room(&self) -> usize {
        usize::try_from(BUFFER_BYTES.saturating_sub(self.sent - self.freed)).unwrap_or(0)
    }

    /// Whether something sent is not acknowledged as far as the sender knows. Call [`Half::settle`] before.
    pub(super) fn outstanding(&self) -> bool {
        self.acked < self.sent
    }

    /// Nothing is on the wire or waits for it.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.lost.is_empty()
    }

    /// What its queues take up.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        (self.in_flight.capacity() + self.lost.capacity()) * size_of::<Segment>()
            + self.acks.capacity() * size_of::<Ack>()
    }

    fn start_backoff(&mut self, since_us: u64) {
        self.backoff.get_or_insert(Backoff { last_us: since_us, tries: 0 });
    }
}

/// Gives back the memory of a queue that was long once: of many connections most are idle.
pub(super) fn slim<T>(queue: &mut VecDeque<T>) {
    const KEPT: usize = 8;
    if queue.is_empty() && queue.capacity() > KEPT {
        queue.shrink_to(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmissions_back_off_from_200_ms_to_two_minutes() {
        let mut half = Half::new(0);
        half.send(Payload::Fin, 0, 1_000_000, |_| None);
        let mut gaps = Vec::new();
        let mut now_us = 1_000_000;
        for _ in 0..12 {
            let at_us = half.retransmit_at_us().expect("a lost segment is sent again");
            gaps.push((at_us - now_us) / 1_000);
            now_us = at_us;
            half.retransmit(None, 0, now_us);
        }
        assert_eq!(gaps, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 120_000, 120_000]);
    }

    #[test]
    fn segments_behind_a_lost_one_keep_their_order() {
        let mut half = Half::new(0);
        half.send(Payload::Bytes(vec![1]), 0, 0, |_| Some(100));
        half.send(Payload::Bytes(vec![2]), 0, 0, |_| Some(50));
        half.lose();
        half.send(Payload::Bytes(vec![3]), 1, 10, |_| Some(20));
        assert!(half.front().is_none());
        half.retransmit(Some(200_100), 1, 200_000);
        let mut order = Vec::new();
        while let Some(Payload::Bytes(bytes)) = half.deliver() {
            order.extend(bytes);
        }
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn room_comes_back_when_the_sender_hears_that_bytes_were_read() {
        let mut half = Half::new(0);
        half.send(Payload::Bytes(vec![0; 1_000]), 0, 0, |_| Some(100));
        let full = half.room();
        half.deliver();
        half.note_read(1_000);
        half.send_ack(250);
        half.settle(249);
        assert_eq!(half.room(), full);
        half.settle(250);
        assert_eq!(half.room(), full + 1_000);
    }
}
