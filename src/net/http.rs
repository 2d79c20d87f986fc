//! HTTP clients that leave the chosen way, names included.

use std::net::{IpAddr, SocketAddr};

use reqwest::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::route::{Bind, NetRoute, RouteError};

/// Redirects followed; browsers follow 20.
const MAX_REDIRECTS: usize = 5;

/// What makes two requests go out alike: clients are kept by it. It holds the interface's number, so that a tunnel that was
/// made anew gets a new client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HttpWay {
    /// To this machine itself.
    Loopback,
    /// The system's own way, with the environment's proxies.
    World,
    Chosen {
        route: NetRoute,
        interface: Option<u32>,
    },
}

/// The way to `url`. Fails while the chosen interface is not there, and for an address of a family that it has not.
pub fn http_way(route: &NetRoute, url: &Url) -> Result<HttpWay, RouteError> {
    let ip = match url.host() {
        Some(Host::Domain(d)) if d == "localhost" || d.ends_with(".localhost") => return Ok(HttpWay::Loopback),
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        _ => None,
    };
    if ip.is_some_and(|ip| ip.to_canonical().is_loopback()) {
        return Ok(HttpWay::Loopback);
    }
    if route.is_direct() {
        return Ok(HttpWay::World);
    }
    let way = route.way()?;
    if let (Some(way), Some(ip), None) = (&way, ip, &route.proxy) {
        way.source(ip.is_ipv6())?;
    }
    Ok(HttpWay::Chosen { route: route.clone(), interface: way.map(|w| w.index) })
}

/// Makes `builder`'s client go `way`.
pub fn routed(builder: ClientBuilder, way: &HttpWay) -> Result<ClientBuilder, RouteError> {
    let route = match way {
        HttpWay::World => return Ok(builder),
        // A proxy from the environment is for the world, never for this machine itself.
        HttpWay::Loopback => return Ok(builder.no_proxy().dns_resolver(Names(NetRoute::default()))),
        HttpWay::Chosen { route, .. } => route,
    };
    let mut builder = builder.no_proxy().dns_resolver(Names(route.clone()));
    if let (Some(bind), Some(way)) = (&route.bind, route.way()?) {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            builder = builder.interface(way.name());
        }
        if let Bind::Address(ip) = bind {
            builder = builder.local_address(*ip);
        } else if cfg!(windows) {
            builder = builder.local_address(way.local(false)?);
        }
    }
    if let Some(proxy) = &route.proxy {
        let mut made =
            reqwest::Proxy::all(format!("socks5h://{}", proxy.addr)).map_err(|e| RouteError::Http(e.to_string()))?;
        if let Some(login) = &proxy.login {
            made = made.basic_auth(&login.user, &login.password);
        }
        builder = builder.proxy(made);
    }
    Ok(builder)
}

/// Follows up to five redirects, as long as they go the same way as the request before them: a client is made for one way.
pub fn redirects(route: &NetRoute, way: &HttpWay) -> reqwest::redirect::Policy {
    let (route, way) = (route.clone(), way.clone());
    reqwest::redirect::Policy::custom(move |attempt| match http_way(&route, attempt.url()) {
        _ if attempt.previous().len() > MAX_REDIRECTS => attempt.error("too many redirects"),
        Ok(next) if next == way => attempt.follow(),
        Ok(_) => attempt.error("redirects another way"),
        Err(e) => attempt.error(e),
    })
}

/// Looks names up as the route says.
struct Names(NetRoute);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let route = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = route.lookup(name.as_str(), 0).await?;
            let addrs: Addrs = Box::new(found.into_iter());
            Ok(addrs)
        })
    }
}
