//! Who a request is from, where proxies stand between.
//!
//! Invariant: nobody but a proxy that the operator named can say that a request is somebody else's.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderMap;

/// A proxy's address, or a network of them: `10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxies {
    net: IpAddr,
    bits: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an address or a network: write for example 10.0.0.7 or 10.0.0.0/8")]
pub struct NotANetwork(String);

impl FromStr for Proxies {
    type Err = NotANetwork;

    fn from_str(s: &str) -> Result<Self, NotANetwork> {
        let bad = || NotANetwork(s.to_owned());
        let (net, bits) = s.split_once('/').map_or((s, None), |(n, b)| (n, Some(b)));
        let net: IpAddr = net.parse().map_err(|_| bad())?;
        let most = if net.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |b| b.parse().map_err(|_| bad()))?;
        if bits > most { Err(bad()) } else { Ok(Self { net, bits }) }
    }
}

impl Proxies {
    fn holds(self, ip: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| self.bits == 0 || (a ^ b) >> (width - self.bits) == 0;
        match (self.net, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

/// Whether `ip` is one of `proxies`.
pub fn is_proxy(proxies: &[Proxies], ip: IpAddr) -> bool {
    proxies.iter().any(|p| p.holds(ip.to_canonical()))
}

/// Who asks: the peer itself, or, where that is a proxy, the last in `X-Forwarded-For` that is none.
pub fn visitor(proxies: &[Proxies], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_proxy(proxies, peer) {
        return peer;
    }
    let said = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
    let all: Vec<&str> = said.flat_map(|v| v.split(',')).map(str::trim).collect();
    for one in all.into_iter().rev() {
        match one.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(ip) if is_proxy(proxies, ip) => {}
            Ok(ip) => return ip,
            // What stands before it is hearsay.
            Err(_) => return peer,
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn only_named_proxies_are_believed() {
        let proxies: Vec<Proxies> = ["10.0.0.0/8", "2001:db8::1"].map(|s| s.parse().unwrap()).to_vec();
        let from = |peer: &str, said: &[&str]| {
            let mut headers = HeaderMap::new();
            for s in said {
                headers.append("x-forwarded-for", s.parse().unwrap());
            }
            visitor(&proxies, ip(peer), &headers)
        };
        assert_eq!(from("1.2.3.4", &["9.9.9.9"]), ip("1.2.3.4"));
        assert_eq!(from("10.1.1.1", &["9.9.9.9"]), ip("9.9.9.9"));
        assert_eq!(from("::ffff:10.1.1.1", &["9.9.9.9"]), ip("9.9.9.9"));
        assert_eq!(from("2001:db8::1", &["8.8.8.8, 9.9.9.9, 10.3.3.3"]), ip("9.9.9.9"));
        assert_eq!(from("10.1.1.1", &["8.8.8.8", "9.9.9.9"]), ip("9.9.9.9"));
        assert_eq!(from("10.1.1.1", &["8.8.8.8, unknown"]), ip("10.1.1.1"));
        assert_eq!(from("10.1.1.1", &[]), ip("10.1.1.1"));
        assert_eq!(from("10.1.1.1", &["10.2.2.2"]), ip("10.1.1.1"));
    }

    #[test]
    fn networks() {
        assert!("0.0.0.0/0".parse::<Proxies>().unwrap().holds(ip("1.2.3.4")));
        assert!(!"0.0.0.0/0".parse::<Proxies>().unwrap().holds(ip("::1")));
        let half: Proxies = "192.168.128.0/17".parse().unwrap();
        assert!(half.holds(ip("192.168.200.1")) && !half.holds(ip("192.168.1.1")));
        for bad in ["", "x", "1.2.3.4/33", "::1/129", "1.2.3.4/", "1.2.3.4/-1", "1.2.3"] {
            assert!(bad.parse::<Proxies>().is_err(), "{bad}");
        }
    }
}
