//! The addresses of Redis's name: in which order they are tried, and how (Happy Eyeballs, RFC 8305).
//!
//! A name may have several addresses, of which one may be silent in either of two ways. Its SYNs are lost: the next address
//! is tried [`STAGGER`] later, beside it, and the first that connects wins. Or it accepts and says nothing: then the race is
//! won and the attempt is lost, and the memory of [`Addresses`] makes the next attempt begin elsewhere.
//!
//! Two differences from the RFC. Both families are resolved by one call (`getaddrinfo`), so there is no waiting for the
//! other. And the delay is shorter where `connect_timeout` would leave the last addresses no time.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use crate::env::{Address, Endpoint, Env, Network};

/// How long an address is tried alone ("Connection Attempt Delay", RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The least that the RFC allows.
const STAGGER_MIN: Duration = Duration::from_millis(10);

/// What is remembered of the addresses of one endpoint.
#[derive(Default)]
pub(crate) struct Addresses(Mutex<AddressMemory>);

/// An address is on trial from when it is tried until it has answered as Redis does. So nothing needs to be told of an
/// attempt that fails, times out or is dropped.
#[derive(Default)]
struct AddressMemory {
    /// Of each address that has not answered since: the number of the last try.
    on_trial: BTreeMap<Address, u64>,
    /// The last one that answered.
    proved: Option<Address>,
    tries: u64,
}

impl Addresses {
    /// The address has answered as Redis does: it comes first from now on.
    pub(crate) fn prove(&self, address: &Address) {
        let mut memory = self.lock();
        memory.on_trial.remove(address);
        memory.proved = Some(address.clone());
    }

    /// The address has fallen silent, or refuses to work: it comes last from now on.
    pub(crate) fn doubt(&self, address: &Address) {
        let mut memory = self.lock();
        memory.tries += 1;
        let tries = memory.tries;
        memory.on_trial.insert(address.clone(), tries);
    }

    fn order(&self, resolved: Vec<Address>) -> Vec<Address> {
        let mut memory = self.lock();
        // What the name has lost is not remembered: names of today's clouds have new addresses every day.
        memory.on_trial.retain(|address, _| resolved.contains(address));
        memory.order(resolved)
    }

    fn lock(&self) -> MutexGuard<'_, AddressMemory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AddressMemory {
    /// First the one that answered last time, then those that were never tried, then the others, the last tried last.
    fn order(&self, resolved: Vec<Address>) -> Vec<Address> {
        let mut ordered = interleaved(resolved);
        let rank = |address: &Address| match self.on_trial.get(address) {
            Some(tried) => (2, *tried),
            None if self.proved.as_ref() == Some(address) => (0, 0),
            None => (1, 0),
        };
        ordered.sort_by_key(rank);
        ordered
    }
}

/// Alternates between the families, beginning with that of the first, and names each address once (RFC 8305 section 4).
fn interleaved(resolved: Vec<Address>) -> Vec<Address> {
    let is_v6 = |address: &Address| matches!(address, Address::Tcp(address) if address.is_ipv6());
    let first = resolved.first().is_some_and(is_v6);
    let (one, other): (Vec<_>, Vec<_>) = resolved.into_iter().partition(|address| is_v6(address) == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
}

/// How long each address is tried alone, if so many are to have begun within the first half of `budget`.
fn stagger(budget: Duration, addresses: usize) -> Duration {
    let share = budget / u32::try_from(2 * addresses.max(1)).unwrap_or(u32::MAX);
    share.clamp(STAGGER_MIN, STAGGER)
}

/// Resolves the endpoint and connects to the first of its addresses that answers. Its caller drops it when `budget` is over.
///
/// Cancellation: all attempts are abandoned.
pub(crate) async fn connect<E: Env>(
    env: &E,
    endpoint: &Endpoint,
    addresses: &Addresses,
    budget: Duration,
) -> io::Result<(Address, <E::Network as Network>::Stream)> {
    let begun = env.now();
    let resolved = env.network().resolve(endpoint).await;
    let unresolved = |error: io::Error| io::Error::new(error.kind(), format!("the name does not resolve: {error}"));
    let resolved = resolved.map_err(unresolved)?;
    let ordered = addresses.order(resolved);
    let left = budget.saturating_sub(env.now().saturating_sub(begun));
    let mut race = Race {
        env,
        endpoint,
        addresses,
        stagger: stagger(left, ordered.len()),
        // To be taken from the end.
        waiting: ordered.into_iter().rev().collect(),
        running: Vec::new(),
        failed: Vec::new(),
        next_due: None,
    };
    poll_fn(|context| race.poll(context)).await
}

/// Attempts that run beside each other, the oldest first.
struct Race<'a, E: Env> {
    env: &'a E,
    endpoint: &'a Endpoint,
    addresses: &'a Addresses,
    stagger: Duration,
    waiting: Vec<Address>,
    running: Vec<(Address, AddressAttempt<'a, E>)>,
    failed: Vec<(Address, io::Error)>,
    /// When the next address is tried beside those that run; at once if there is no timer.
    next_due: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

type AddressStream<E> = <<E as Env>::Network as Network>::Stream;
type AddressAttempt<'a, E> = Pin<Box<dyn Future<Output = io::Result<AddressStream<E>>> + Send + 'a>>;

impl<E: Env> Race<'_, E> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Address, AddressStream<E>)>> {
        loop {
            if let Some(winner) = self.poll_running(context) {
                return Poll::Ready(Ok(winner));
            }
            let is_due = self.next_due.as_mut().is_none_or(|timer| timer.as_mut().poll(context).is_ready());
            if !is_due {
                return Poll::Pending;
            }
            match self.waiting.pop() {
                Some(address) => self.begin(address),
                None if self.running.is_empty() => return Poll::Ready(Err(self.failure())),
                None => return Poll::Pending,
            }
        }
    }

    /// The first that has connected. One that failed makes the next due at once.
    fn poll_running(&mut self, context: &mut Context<'_>) -> Option<(Address, AddressStream<E>)> {
        let mut index = 0;
        while let Some((address, attempt)) = self.running.get_mut(index) {
            match attempt.as_mut().poll(context) {
                Poll::Ready(Ok(stream)) => return Some((address.clone(), stream)),
                Poll::Ready(Err(error)) => {
                    let (address, _) = self.running.remove(index);
                    self.failed.push((address, error));
                    self.next_due = None;
                }
                Poll::Pending => index += 1,
            }
        }
        None
    }

    fn begin(&mut self, address: Address) {
        self.addresses.doubt(&address);
        let (network, endpoint, to) = (self.env.network(), self.endpoint, address.clone());
        self.running.push((address, Box::pin(async move { network.connect(endpoint, &to).await })));
        self.next_due = (!self.waiting.is_empty()).then(|| {
            let timer: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(self.env.sleep(self.stagger));
            timer
        });
    }

    /// What every address said.
    fn failure(&mut self) -> io::Error {
        let kind = self.failed.last().map_or(io::ErrorKind::NotFound, |(_, error)| error.kind());
        let failed = self.failed.drain(..).map(|(address, error)| format!("{address}: {error}"));
        let mut failed: Vec<_> = failed.collect();
        // The order of the attempts changes: the same failure has one text all the same.
        failed.sort_unstable();
        if failed.is_empty() {
            return io::Error::new(kind, "the name has no address");
        }
        io::Error::new(kind, failed.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::Tcp(text.parse().expect("an address"))).collect()
    }

    #[test]
    fn families_alternate_beginning_with_that_of_the_first_and_each_address_is_named_once() {
        let resolved = addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"]);
        let ordered = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"];
        assert_eq!(interleaved(resolved), addresses(&ordered));
        assert_eq!(interleaved(addresses(&["10.0.0.1:1", "[::1]:1"])), addresses(&["10.0.0.1:1", "[::1]:1"]));
        assert_eq!(interleaved(Vec::new()), Vec::new());
    }

    #[test]
    fn what_answered_comes_first_then_what_was_never_tried_and_last_what_was_tried_last() {
        let memory = Addresses::default();
        let [a, b, c, d] = addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]).try_into().unwrap();
        let resolved = vec![a.clone(), b.clone(), c.clone(), d.clone()];
        memory.doubt(&b);
        memory.doubt(&a);
        memory.doubt(&d);
        memory.prove(&d);
        assert_eq!(memory.order(resolved.clone()), [&d, &c, &b, &a].map(Clone::clone));
        // It answered once, and has fallen silent since.
        memory.doubt(&d);
        assert_eq!(memory.order(resolved), [&c, &b, &a, &d].map(Clone::clone));
        // What the name has lost is forgotten, and may come back as new.
        memory.order(vec![b.clone(), c.clone()]);
        assert_eq!(memory.order(vec![b.clone(), a.clone()]), [&a, &b].map(Clone::clone));
    }

    #[test]
    fn the_last_address_begins_within_the_first_half_of_the_budget() {
        let (second, many) = (Duration::from_secs(1), Duration::from_millis(25));
        assert_eq!([stagger(second, 1), stagger(second, 2), stagger(second, 20)], [STAGGER, STAGGER, many]);
        assert_eq!(stagger(second, 200), STAGGER_MIN);
        assert_eq!(stagger(Duration::ZERO, 0), STAGGER_MIN);
    }
}
