//! Machines: what they are called, and their addresses.

use std::{fmt, net::Ipv4Addr};

/// A machine of a run, with one process on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// One that others look for by its name.
    Server {
        /// Tells it from the other servers of the run: no two have one number.
        number: u16,
        /// Its name on the network.
        name: &'static str,
    },
    /// One of several alike; its name is its number.
    Instance(u32),
}

/// A server for tests, and another.
#[cfg(test)]
pub(crate) const HUB: Host = Host::Server { number: 0, name: "server" };
#[cfg(test)]
pub(crate) const SPARE: Host = Host::Server { number: 1, name: "other" };

/// The address of instance 0.
const FIRST_INSTANCE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The address of server 0.
const FIRST_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

impl Host {
    /// A number of its own, for digests.
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Server { number: 0, .. } => 0,
            Self::Server { number, .. } => u64::MAX - u64::from(number - 1),
            Self::Instance(number) => u64::from(number) + 1,
        }
    }

    /// Its address: 10.0.0.1 plus n is that of server n, 10.1.0.1 plus n that of instance n.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Server { number, .. } => (u32::from(FIRST_SERVER) + u32::from(number)).into(),
            Self::Instance(number) => u32::from(FIRST_INSTANCE).wrapping_add(number).into(),
        }
    }

    /// The instance that has this address, if no server has it.
    pub(crate) fn instance_at(address: Ipv4Addr) -> Self {
        Self::Instance(u32::from(address).wrapping_sub(FIRST_INSTANCE.into()))
    }
}

impl From<u32> for Host {
    fn from(instance: u32) -> Self {
        Self::Instance(instance)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { name, .. } => f.write_str(name),
            Self::Instance(number) => number.fmt(f),
        }
    }
}
