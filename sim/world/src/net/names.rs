//! Names and addresses of hosts, and how an asker's resolver answers for them.

use std::{collections::BTreeMap, io, net::Ipv4Addr};

use crate::Host;

/// How one host's resolver answers. Until told otherwise, with the truth and at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Time from question to answer, in microseconds.
    pub delay_us: u64,
    /// What the answer is.
    pub says: Says,
}

/// What a resolver answers, whatever name is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Says {
    /// The addresses that the name has at the time of the answer.
    #[default]
    Truth,
    /// Nothing: its servers are silent or broken (`EAI_AGAIN`).
    Failure,
    /// These addresses, right or wrong.
    Addresses(Vec<Host>),
}

/// Servers that do not choose their number have this one or a later one.
const FIRST_UNNUMBERED: u16 = 256;

/// The names of a run. A host has the name that it displays, until [`Names::set_addresses`] gives that to others.
#[derive(Default)]
pub(super) struct Names {
    /// The servers, by their addresses.
    servers: BTreeMap<Ipv4Addr, Host>,
    addresses: BTreeMap<String, Vec<Host>>,
    resolvers: BTreeMap<Host, Resolver>,
}

impl Names {
    /// From now on a machine has its name and its address.
    ///
    /// # Panics
    /// If another server has its number or its name.
    pub(super) fn add(&mut self, host: Host) {
        if let Host::Server { name, .. } = host {
            let is_like = |other: &&Host| other.address() == host.address() || other.to_string() == name;
            if let Some(other) = self.servers.values().find(is_like) {
                assert!(*other == host, "{host:?} and {other:?} have one number or one name");
                return;
            }
            self.servers.insert(host.address(), host);
        }
    }

    /// The server of this name; a new one if there is none.
    pub(super) fn server(&mut self, name: &'static str) -> Host {
        let is_named = |host: &&Host| matches!(host, Host::Server { name: its, .. } if *its == name);
        if let Some(host) = self.servers.values().find(is_named) {
            return *host;
        }
        let is_free = |number: &u16| !self.servers.contains_key(&Host::Server { number: *number, name }.address());
        let number = (FIRST_UNNUMBERED..=u16::MAX).find(is_free).expect("fewer than 65,000 servers");
        let host = Host::Server { number, name };
        self.servers.insert(host.address(), host);
        host
    }

    /// The machine at an address.
    pub(super) fn host_at(&self, address: Ipv4Addr) -> Host {
        self.servers.get(&address).copied().unwrap_or_else(|| Host::instance_at(address))
    }

    pub(super) fn set_addresses(&mut self, name: &str, hosts: Vec<Host>) {
        for host in &hosts {
            self.add(*host);
        }
        self.addresses.insert(name.to_owned(), hosts);
    }

    pub(super) fn set_resolver(&mut self, asker: Host, resolver: Resolver) {
        if let Says::Addresses(hosts) = &resolver.says {
            for host in hosts {
                self.add(*host);
            }
        }
        self.resolvers.insert(asker, resolver);
    }

    /// Whether the asker's resolver answers otherwise than at first.
    pub(super) fn in_trouble(&self, asker: Host) -> bool {
        self.resolvers.get(&asker).is_some_and(|resolver| *resolver != Resolver::default())
    }

    /// How long the asker waits for an answer.
    pub(super) fn delay_us(&self, asker: Host) -> u64 {
        self.resolvers.get(&asker).map_or(0, |resolver| resolver.delay_us)
    }

    /// The answer: the addresses to try, in this order.
    pub(super) fn resolve(&self, asker: Host, name: &str) -> io::Result<Vec<Host>> {
        match self.resolvers.get(&asker).map_or(&Says::Truth, |resolver| &resolver.says) {
            Says::Addresses(hosts) => Ok(hosts.clone()),
            Says::Failure => {
                Err(io::Error::other("failed to look up the address: temporary failure in name resolution"))
            }
            Says::Truth => match self.addresses.get(name) {
                Some(hosts) => Ok(hosts.clone()),
                None => self.named(name).map(|host| vec![host]).ok_or_else(|| {
                    let message = format!("unknown host {name:?}: no machine of this world has that name");
                    io::Error::new(io::ErrorKind::NotFound, message)
                }),
            },
        }
    }

    fn named(&self, name: &str) -> Option<Host> {
        let server = self.servers.values().find(|host| matches!(host, Host::Server { name: its, .. } if *its == name));
        server.copied().or_else(|| name.parse().map(Host::Instance).ok())
    }
}
