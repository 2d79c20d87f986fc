//! The user's choice, as a plain value, and the words for it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Longest name an interface may have, in bytes: Linux takes 15, Windows far more.
const NAME_MAX: usize = 64;

/// User name and password of a SOCKS5 proxy hold at most this many bytes each (RFC 1929).
const LOGIN_MAX: usize = 255;

/// Where all packets go out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// From this address of ours, through the interface that has it.
    Address(IpAddr),
    /// Through this interface: "wg0".
    Interface(String),
}

/// User name and password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Login {
    pub user: String,
    pub password: String,
}

/// A SOCKS5 proxy (RFC 1928). Named by its address: looking its name up would be a packet beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Socks5 {
    pub addr: SocketAddr,
    pub login: Option<Login>,
}

/// Which way packets leave; the default is the system's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct NetRoute {
    pub bind: Option<Bind>,
    /// Reached through `bind`, where both are given.
    pub proxy: Option<Socks5>,
    /// Asked for names where there is a `bind` and no proxy; without one, the system's name servers are.
    pub name_server: Option<IpAddr>,
}

/// Why nothing can leave the chosen way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("There is no network interface called {0}, so nothing is sent.")]
    NoInterface(String),
    #[error("No network interface has the address {0}, so nothing is sent.")]
    NoAddress(IpAddr),
    #[error("{bind} has no {family} address.")]
    NoFamily { bind: String, family: &'static str },
    #[error("The network interfaces of this machine cannot be listed: {0}.")]
    NoList(String),
    #[error("This system lets no program choose the interface {name}: {reason}.")]
    NotPermitted { name: String, reason: String },
    #[error(
        "No name server can be asked through {0}: the system's own is this machine itself. Choose one with --name-server."
    )]
    NoNameServer(String),
    #[error("The name {0} was not found.")]
    NoSuchName(String),
    #[error("No name server answered through {0}.")]
    NameServerSilent(String),
    #[error("Behind a proxy a name is looked up by the proxy alone; give the address of {0}.")]
    NameBehindProxy(String),
    #[error("No HTTP client can be made: {0}.")]
    Http(String),
}

impl From<RouteError> for std::io::Error {
    fn from(e: RouteError) -> Self {
        let kind = match e {
            RouteError::NoSuchName(_) => std::io::ErrorKind::NotFound,
            RouteError::NotPermitted { .. } => std::io::ErrorKind::PermissionDenied,
            _ => std::io::ErrorKind::AddrNotAvailable,
        };
        std::io::Error::new(kind, e)
    }
}

impl NetRoute {
    /// The system's own way.
    pub fn is_direct(&self) -> bool {
        self.bind.is_none() && self.proxy.is_none()
    }

    /// Peers may dial us, and may be told where: not behind a proxy, which is there to hide that.
    pub fn takes_incoming(&self) -> bool {
        self.proxy.is_none()
    }

    /// Datagrams can be exchanged with anybody from one socket (uTP, DHT) and with the local network (LSD, port mapping).
    pub fn free_datagrams(&self) -> bool {
        self.proxy.is_none()
    }

    /// "through wg0", "by the proxy 127.0.0.1:9050"; `None` for the system's own way.
    pub fn words(&self) -> Option<String> {
        match (&self.bind, &self.proxy) {
            (None, None) => None,
            (Some(b), None) => Some(format!("through {b}")),
            (None, Some(p)) => Some(format!("by the proxy {}", p.addr)),
            (Some(b), Some(p)) => Some(format!("through {b}, by the proxy {}", p.addr)),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Address(ip) => ip.fmt(f),
            Bind::Interface(name) => f.write_str(name),
        }
    }
}

// Neither belongs into a log.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// What the user wrote makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRoute(String);

impl FromStr for Bind {
    type Err = BadRoute;

    /// An address, or else the name of an interface. Whether it exists is asked when something is to be sent: a tunnel
    /// may come up later.
    fn from_str(s: &str) -> Result<Self, BadRoute> {
        let bare = s.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(s);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            let chosen = !ip.is_unspecified() && !ip.is_multicast();
            return if chosen { Ok(Bind::Address(ip.to_canonical())) } else { Err(bad_bind(s)) };
        }
        let plain = s.chars().all(|c| !c.is_control() && !matches!(c, '/' | ':' | '[' | ']'));
        let named = !s.trim().is_empty() && s.trim() == s && s.len() <= NAME_MAX && plain;
        if named { Ok(Bind::Interface(s.to_owned())) } else { Err(bad_bind(s)) }
    }
}

fn bad_bind(s: &str) -> BadRoute {
    BadRoute(format!(
        "\"{}\" is neither an address of this machine nor a network interface: write for example 10.2.0.2 or wg0",
        short(s)
    ))
}

impl FromStr for Socks5 {
    type Err = BadRoute;

    /// `socks5://[USER:PASSWORD@]ADDRESS:PORT`, or without the scheme. Names are not taken, but for `localhost`.
    fn from_str(s: &str) -> Result<Self, BadRoute> {
        let bad = || {
            BadRoute(
                "That is no SOCKS5 proxy: write socks5://ADDRESS:PORT or socks5://USER:PASSWORD@ADDRESS:PORT, \
                 with % codes for : @ / and % in user name and password"
                    .into(),
            )
        };
        let rest = match s.split_once("://") {
            Some((scheme, rest)) if matches!(scheme.to_ascii_lowercase().as_str(), "socks5" | "socks5h") => rest,
            Some(_) => return Err(bad()),
            None => s,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, at) = match rest.rsplit_once('@') {
            Some((login, at)) => (Some(login), at),
            None => (None, rest),
        };
        let login = match login.map(|l| l.split_once(':').unwrap_or((l, ""))) {
            None => None,
            Some((user, password)) => {
                let (user, password) = (percent(user).ok_or_else(bad)?, percent(password).ok_or_else(bad)?);
                // RFC 1929 has no empty ones; a proxy that wants only a user name gets it as the password too.
                let password = if password.is_empty() { user.clone() } else { password };
                let fits = |s: &str| (1..=LOGIN_MAX).contains(&s.len());
                if !fits(&user) || !fits(&password) {
                    return Err(bad());
                }
                Some(Login { user, password })
            }
        };
        let addr = match at.parse::<SocketAddr>() {
            Ok(addr) => addr,
            Err(_) => {
                let (host, port) = at.rsplit_once(':').ok_or_else(bad)?;
                let port = port.parse().map_err(|_| bad())?;
                if host != "localhost" {
                    let named =
                        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
                    let name =
                        "Give the proxy by its address: looking its name up would be a packet that goes beside it";
                    return Err(if named { BadRoute(name.into()) } else { bad() });
                }
                (Ipv4Addr::LOCALHOST, port).into()
            }
        };
        let usable = addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast();
        if usable { Ok(Socks5 { addr, login }) } else { Err(bad()) }
    }
}

/// Undoes %-codes; `None` where one is broken or the bytes are no text.
fn percent(s: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

fn short(s: &str) -> String {
    s.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_writes_is_a_bind_or_refused_in_a_sentence() {
        assert_eq!("10.2.0.2".parse(), Ok(Bind::Address("10.2.0.2".parse().unwrap())));
        assert_eq!("[fd00::2]".parse(), Ok(Bind::Address("fd00::2".parse().unwrap())));
        assert_eq!("wg0".parse(), Ok(Bind::Interface("wg0".into())));
        assert_eq!("Ethernet 2".parse(), Ok(Bind::Interface("Ethernet 2".into())));
        for bad in ["", " ", "0.0.0.0", "::", "224.0.0.1", "a/b", "10.0.0.1:80", "wg\n0", &"x".repeat(65)] {
            let said = bad.parse::<Bind>().unwrap_err().to_string();
            assert!(said.contains("neither"), "{bad:?}: {said}");
        }
    }

    #[test]
    fn a_proxy_is_an_address_with_or_without_a_login() {
        let p: Socks5 = "socks5://me:p%40ss%3A@127.0.0.1:9050".parse().unwrap();
        assert_eq!(p.addr, "127.0.0.1:9050".parse().unwrap());
        assert_eq!(p.login, Some(Login { user: "me".into(), password: "p@ss:".into() }));
        assert!(!format!("{p:?}").contains("p@ss"), "a password in a log");
        assert_eq!("[fd00::1]:1080".parse::<Socks5>().unwrap().login, None);
        assert_eq!("socks5h://localhost:9050/".parse::<Socks5>().unwrap().addr, p.addr);
        let named = "socks5://proxy.example:1080".parse::<Socks5>().unwrap_err().to_string();
        assert!(named.contains("by its address"), "{named}");
        let long = format!("{}:x@1.2.3.4:5", "u".repeat(256));
        for bad in
            ["", "http://1.2.3.4:80", "1.2.3.4", "1.2.3.4:0", ":@1.2.3.4:5", "%zz:a@1.2.3.4:5", &long, "0.0.0.0:9"]
        {
            assert!(bad.parse::<Socks5>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_words_say_the_way() {
        let bind = Some(Bind::Interface("wg0".into()));
        let proxy = "127.0.0.1:9050".parse().ok();
        assert_eq!(NetRoute::default().words(), None);
        let both = NetRoute { bind, proxy, name_server: None };
        assert_eq!(both.words().unwrap(), "through wg0, by the proxy 127.0.0.1:9050");
        assert!(!both.is_direct() && !both.takes_incoming());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(s in "\\PC{0,60}") {
            let _ = (s.parse::<Bind>(), s.parse::<Socks5>());
        }
    }
}
