//! Asks the home's router to let peers in: PCP, NAT-PMP, or UPnP, whichever it speaks.
//!
//! Ours and not `librqbit-upnp`: that one leaves its mappings behind, does not say whether it got any, asks the router by
//! the system's own way whatever interface was chosen, and reads answers of any size.
//!
//! Invariant: whatever was opened is closed again at the end; nothing is asked when nobody could dial us anyway, and only
//! the router is asked, along the chosen way.

mod pcp;
#[cfg(test)]
mod tests;
mod upnp;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::shared::Shared;
use crate::net::NetRoute;

const RANK: u8 = 9;
const KEY: &str = "portmap";

/// How long a mapping is asked for. RFC 6886 recommends two hours; a crash leaves the port open no longer than that.
const LEASE: Duration = Duration::from_secs(7200);
/// Bounds of the time between renewals, whatever a router says.
const SOONEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(3600);
/// Time until routers are looked for again where none answered, and where one took the mapping away.
const RETRY: Duration = Duration::from_secs(300);
/// Time for closing while the program ends.
const LAST_WORD: Duration = Duration::from_millis(600);

/// PCP and NAT-PMP listen here.
const GATEWAY_PORT: u16 = 5351;

/// What is let in. TCP and UDP (uTP) share the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("no router answered")]
    Silent,
    #[error("the router refuses: {0}")]
    Refused(String),
    #[error("the router's answer makes no sense")]
    Nonsense,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A port that the router forwards to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub external_port: u16,
    pub lease: Duration,
}

/// A way to talk to a router that was found to answer.
#[derive(Debug, Clone)]
pub enum Router {
    Pcp(pcp::Client),
    Upnp(upnp::Gateway),
}

impl Router {
    fn name(&self) -> &'static str {
        match self {
            Router::Pcp(c) => c.name(),
            Router::Upnp(_) => "UPnP",
        }
    }

    /// Maps one protocol; renews where it is mapped.
    async fn map(&mut self, route: &NetRoute, protocol: Protocol, port: u16, wish: u16) -> Result<Granted, MapError> {
        match self {
            Router::Pcp(c) => c.map(route, protocol, port, wish, LEASE).await,
            Router::Upnp(g) => g.map(route, protocol, port, wish, LEASE).await,
        }
    }

    async fn unmap(&mut self, route: &NetRoute, protocol: Protocol, port: u16, external: u16) {
        let closed = match self {
            Router::Pcp(c) => c.map(route, protocol, port, 0, Duration::ZERO).await.map(drop),
            Router::Upnp(g) => g.unmap(route, protocol, external).await,
        };
        if let Err(e) = closed {
            tracing::debug!("port mapping not removed: {e}");
        }
    }
}

/// Starts, where there is a port to open that the world could reach.
pub fn start(shared: &Arc<Shared>) {
    let network = &shared.config.network;
    let Some(local) = shared.local else { return };
    if !network.map_port || !network.route.free_datagrams() || local.ip().to_canonical().is_loopback() {
        return;
    }
    shared.spawn(run(shared.clone(), local.port()));
}

async fn run(shared: Arc<Shared>, port: u16) {
    let post = |line: String| shared.post(RANK, KEY, line);
    loop {
        let found = tokio::select! {
            found = find(&shared.config.network.route) => found,
            () = shared.cancel.cancelled() => return,
        };
        let why = match found {
            Ok(router) => match keep(&shared, router, port).await {
                // The end of the swarm.
                None => return,
                Some(e) => e,
            },
            Err(e) => e,
        };
        shared.public_port.store(0, Ordering::Relaxed);
        post(format!("port {port} not opened · {why}"));
        tokio::select! {
            () = sleep(RETRY) => {}
            () = shared.cancel.cancelled() => return,
        }
    }
}

/// Maps both protocols and renews them until the swarm ends, then takes them away. An error is why the router lost them.
async fn keep(shared: &Shared, mut router: Router, port: u16) -> Option<MapError> {
    let route = &shared.config.network.route;
    let mut external = port;
    let mut udp = None;
    let lost = loop {
        let mapped = tokio::select! {
            mapped = both(&mut router, route, port, external) => mapped,
            () = shared.cancel.cancelled() => break None,
        };
        let (granted, also) = match mapped {
            Ok(mapped) => mapped,
            Err(e) => break Some(e),
        };
        (external, udp) = (granted.external_port, also);
        shared.public_port.store(external, Ordering::Relaxed);
        let seen = if external == port { String::new() } else { format!(" for port {port}") };
        shared.post(RANK, KEY, format!("{} · port {external} open{seen}", router.name()));
        // Renewed at half its time (RFC 6887, section 11.2.1).
        tokio::select! {
            () = sleep((granted.lease / 2).clamp(SOONEST, LATEST)) => {}
            () = shared.cancel.cancelled() => break None,
        }
    };
    let close = async {
        let mut other = router.clone();
        let tcp = router.unmap(route, Protocol::Tcp, port, external);
        match udp {
            Some(udp) => drop(tokio::join!(tcp, other.unmap(route, Protocol::Udp, port, udp))),
            None => tcp.await,
        }
    };
    let _ = timeout(LAST_WORD, close).await;
    lost
}

/// TCP, and UDP on the same number where the router gives it: without that, uTP only dials.
async fn both(router: &mut Router, route: &NetRoute, port: u16, wish: u16) -> Result<(Granted, Option<u16>), MapError> {
    let tcp = router.map(route, Protocol::Tcp, port, wish).await?;
    let udp = router.map(route, Protocol::Udp, port, tcp.external_port).await.ok();
    Ok((tcp, udp.map(|g| g.external_port)))
}

/// A router that answers: PCP and NAT-PMP ask one known address and know after seconds, so they come first.
async fn find(route: &NetRoute) -> Result<Router, MapError> {
    let gateway = gateway(route).map(|ip| SocketAddr::from((ip, GATEWAY_PORT)));
    if let Some(gateway) = gateway
        && let Ok(client) = pcp::Client::find(route, gateway).await
    {
        return Ok(Router::Pcp(client));
    }
    upnp::find(route).await.map(Router::Upnp)
}

/// The router that IPv4 packets of the chosen way go to. Where the system cannot be asked, the first address of our network:
/// that is where home routers are.
fn gateway(route: &NetRoute) -> Option<Ipv4Addr> {
    let way = route.way().ok()?;
    if cfg!(target_os = "linux") {
        let table = std::fs::read_to_string("/proc/net/route").ok()?;
        return gateway_in(&table, way.as_ref().map(|w| w.name()));
    }
    let own = match way {
        Some(way) => way.local(false).ok()?,
        None => own_address(route, (Ipv4Addr::new(192, 0, 2, 1), 9).into()).ok()?,
    };
    match own {
        IpAddr::V4(ip) if ip.is_private() => {
            let [a, b, c, _] = ip.octets();
            Some(Ipv4Addr::new(a, b, c, 1))
        }
        _ => None,
    }
}

/// The default route's gateway in Linux's table, of one interface or the one with the least metric.
fn gateway_in(table: &str, interface: Option<&str>) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |i: usize| words.get(i).and_then(|w| u32::from_str_radix(w, 16).ok());
        // Iface, Destination, Gateway, Flags, RefCnt, Use, Metric, Mask: addresses in the byte order of the machine.
        let (destination, gateway, mask) = (hex(1)?, hex(2)?, hex(7)?);
        let metric: u32 = words.get(6)?.parse().ok()?;
        let wanted = interface.is_none_or(|i| words.first() == Some(&i));
        (destination == 0 && mask == 0 && gateway != 0 && wanted)
            .then(|| (metric, Ipv4Addr::from(gateway.to_ne_bytes())))
    });
    routes.min_by_key(|r| r.0).map(|r| r.1)
}

/// The address of ours that packets to `to` come from. Nothing is sent.
fn own_address(route: &NetRoute, to: SocketAddr) -> std::io::Result<IpAddr> {
    let socket = route.udp_to(to.ip())?;
    let socket = socket.into_std()?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}
