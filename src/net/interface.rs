//! What a chosen interface or address means at this moment: looked up anew for each socket, since tunnels come and go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use librqbit_dualstack_sockets::BindDevice;
use network_interface::{NetworkInterface, NetworkInterfaceConfig};
use socket2::Socket;

use super::route::{Bind, NetRoute, RouteError};

/// One interface, as far as sockets are bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Of the interface, for its numbers change when a tunnel is made anew.
    pub index: u32,
    name: String,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    /// The user chose the address, not only the interface.
    by_address: bool,
}

impl Way {
    /// Fails while there is no such interface or address.
    pub fn of(bind: &Bind) -> Result<Self, RouteError> {
        let all = NetworkInterface::show().map_err(|e| RouteError::NoList(e.to_string()))?;
        match bind {
            Bind::Interface(name) => {
                let mut found = all.iter().filter(|i| i.name == *name).peekable();
                let index = found.peek().ok_or_else(|| RouteError::NoInterface(name.clone()))?.index;
                let addrs: Vec<IpAddr> = found.flat_map(|i| i.addr.iter().map(|a| a.ip())).collect();
                let v4 = addrs.iter().find_map(|a| if let IpAddr::V4(v4) = a { Some(*v4) } else { None });
                let v6 = addrs.iter().filter_map(|a| if let IpAddr::V6(v6) = a { Some(*v6) } else { None });
                let v6 = v6.min_by_key(Ipv6Addr::is_unicast_link_local);
                Ok(Self { index, name: name.clone(), v4, v6, by_address: false })
            }
            Bind::Address(ip) => {
                let has = |i: &&NetworkInterface| i.addr.iter().any(|a| a.ip() == *ip);
                let found = all.iter().find(has).ok_or(RouteError::NoAddress(*ip))?;
                let (v4, v6) = match *ip {
                    IpAddr::V4(v4) => (Some(v4), None),
                    IpAddr::V6(v6) => (None, Some(v6)),
                };
                Ok(Self { index: found.index, name: found.name.clone(), v4, v6, by_address: true })
            }
        }
    }

    /// The interface, for crates that bind their own sockets; `None` where the system knows no such thing and the
    /// address alone decides (Windows: a socket bound to an address sends through its interface only).
    pub fn device(&self) -> Result<Option<BindDevice>, RouteError> {
        if cfg!(windows) {
            return Ok(None);
        }
        // Gone since it was listed.
        BindDevice::new_from_name(&self.name).map(Some).map_err(|_| RouteError::NoInterface(self.name.clone()))
    }

    /// The interface's own address of a family.
    pub fn local(&self, v6: bool) -> Result<IpAddr, RouteError> {
        let local = if v6 { self.v6.map(IpAddr::V6) } else { self.v4.map(IpAddr::V4) };
        let family = if v6 { "IPv6" } else { "IPv4" };
        local.ok_or_else(|| RouteError::NoFamily { bind: self.name.clone(), family })
    }

    /// The address a socket must be bound to; `None` where the interface alone will do.
    pub fn source(&self, v6: bool) -> Result<Option<IpAddr>, RouteError> {
        if self.by_address || cfg!(windows) { self.local(v6).map(Some) } else { Ok(None) }
    }

    /// Ties a socket to the interface.
    pub fn tie(&self, socket: &Socket, v6: bool) -> Result<(), RouteError> {
        let Some(device) = self.device()? else { return Ok(()) };
        device
            .bind_sref(socket, v6)
            .map_err(|e| RouteError::NotPermitted { name: self.name.clone(), reason: e.to_string() })
    }

    /// As the system calls it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl NetRoute {
    /// What the choice means now; `None` where nothing was chosen.
    pub fn way(&self) -> Result<Option<Way>, RouteError> {
        self.bind.as_ref().map(Way::of).transpose()
    }
}
