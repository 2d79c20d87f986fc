//! The small languages of the command line: positions, moments of a seek, addresses. Each parses on its own and says in
//! one sentence what is wrong.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::swarm::api::Encryption;
use crate::units::MediaTime;

/// A place in a film.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Position {
    Time(MediaTime),
    /// 0 to 1 of the duration.
    Share(f64),
}

impl Position {
    /// As a media time; `None` for a share of a duration that is not known.
    pub fn resolve(self, duration: Option<MediaTime>) -> Option<MediaTime> {
        match self {
            Self::Time(t) => Some(t),
            Self::Share(s) => duration.map(|d| MediaTime::from_secs_f64(d.as_secs_f64() * s)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArgError(String);

/// Longer films than this are typing errors.
const POSITION_MAX_S: f64 = 1e6;

impl FromStr for Position {
    type Err = ArgError;

    /// `NN%`, seconds, `mm:ss` or `hh:mm:ss`, each with a fraction if wanted.
    fn from_str(s: &str) -> Result<Self, ArgError> {
        let bad = || ArgError(format!("\"{s}\" is not a position: write seconds, mm:ss, hh:mm:ss or a percentage"));
        if let Some(n) = s.strip_suffix('%') {
            let n = number(n).filter(|n| *n <= 100.0).ok_or_else(bad)?;
            return Ok(Self::Share(n / 100.0));
        }
        let parts: Vec<&str> = s.split(':').collect();
        if parts.len() > 3 {
            return Err(bad());
        }
        let mut seconds = 0.0;
        for (i, part) in parts.iter().enumerate() {
            let n = number(part).ok_or_else(bad)?;
            // Only the first part may be 60 or more, only the last may have a fraction.
            let last = i + 1 == parts.len();
            if (i > 0 && n >= 60.0) || (!last && n.fract() != 0.0) {
                return Err(bad());
            }
            seconds = seconds * 60.0 + n;
        }
        if seconds > POSITION_MAX_S {
            return Err(bad());
        }
        Ok(Self::Time(MediaTime::from_secs_f64(seconds)))
    }
}

/// Digits with at most one point; neither signs nor exponents nor `nan`.
fn number(s: &str) -> Option<f64> {
    let plain = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit() || b == b'.') && s != ".";
    plain.then(|| s.parse().ok()).flatten()
}

/// Seconds on the command line, as a duration.
pub fn seconds(s: &str) -> Result<Duration, ArgError> {
    let n = number(s).filter(|n| *n <= POSITION_MAX_S);
    n.map(Duration::from_secs_f64).ok_or_else(|| ArgError(format!("\"{s}\" is not a number of seconds")))
}

/// Longer than this nothing that expires should last.
const LIFETIME_MAX_S: f64 = 10.0 * 366.0 * 86_400.0;

/// How long something is good for: a number with s, m, h or d.
pub fn lifetime(s: &str) -> Result<Duration, ArgError> {
    let bad = || ArgError(format!("\"{s}\" is not a time: write for example 90s, 30m, 24h or 7d"));
    let unit = match s.chars().next_back().ok_or_else(bad)? {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3600.0,
        'd' => 86_400.0,
        _ => return Err(bad()),
    };
    let n = s.get(..s.len() - 1).and_then(number).map(|n| n * unit);
    n.filter(|n| *n >= 1.0 && *n <= LIFETIME_MAX_S).map(Duration::from_secs_f64).ok_or_else(bad)
}

/// A seek to make at a moment: `60%@5` seeks to 60 % five seconds after the start of the program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeekAt {
    pub to: Position,
    /// After the start of the program.
    pub at: Duration,
}

impl FromStr for SeekAt {
    type Err = ArgError;

    fn from_str(s: &str) -> Result<Self, ArgError> {
        let (to, at) = s
            .rsplit_once('@')
            .ok_or_else(|| ArgError(format!("\"{s}\" lacks a moment: write POSITION@SECONDS, for example 60%@5")))?;
        Ok(Self { to: to.parse()?, at: seconds(at)? })
    }
}

/// Where a peer is: an address, or a host name with a port that is looked up when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAddr {
    Addr(SocketAddr),
    Host(String, u16),
}

impl FromStr for PeerAddr {
    type Err = ArgError;

    fn from_str(s: &str) -> Result<Self, ArgError> {
        if let Ok(addr) = s.parse::<SocketAddr>() {
            return if addr.port() == 0 { Err(bad_addr(s)) } else { Ok(Self::Addr(addr)) };
        }
        let (host, port) = s.rsplit_once(':').ok_or_else(|| bad_addr(s))?;
        let port = port.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(|| bad_addr(s))?;
        let name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if host.is_empty() || host.len() > 253 || !name {
            return Err(bad_addr(s));
        }
        Ok(Self::Host(host.to_owned(), port))
    }
}

fn bad_addr(s: &str) -> ArgError {
    ArgError(format!("\"{s}\" is not an address: write ADDRESS:PORT, for example 192.0.2.7:6881 or [2001:db8::7]:6881"))
}

/// Where to listen: `ADDRESS:PORT`, or a port alone for every IPv4 address. Port 0 takes a free one.
pub fn listen_addr(s: &str) -> Result<SocketAddr, ArgError> {
    if let Ok(port) = s.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    }
    s.parse().map_err(|_| bad_addr(s))
}

/// Whether links to peers are encrypted.
pub fn encryption(s: &str) -> Result<Encryption, ArgError> {
    match s {
        "prefer" => Ok(Encryption::Prefer),
        "require" => Ok(Encryption::Require),
        "off" => Ok(Encryption::Off),
        _ => Err(ArgError(format!("\"{s}\" is not a way to encrypt: write prefer, require or off"))),
    }
}

/// How many bytes may go each second; `None` is as many as will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimit(pub Option<u64>);

/// Less could not carry the messages that keep links alive, and is a typing error.
const RATE_MIN: f64 = 1e3;
/// More than any line carries.
const RATE_MAX: f64 = 1e12;

impl FromStr for RateLimit {
    type Err = ArgError;

    /// A number and its unit, bits or bytes, of a thousand or of 1024; 0 needs none and is no limit.
    fn from_str(s: &str) -> Result<Self, ArgError> {
        let bad = || ArgError(format!("\"{s}\" is not a rate: write for example 500 kB/s, 2 MB/s or 16 Mbit/s, or 0"));
        let end = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
        let (count, unit) = s.split_at(end);
        let count = number(count).ok_or_else(bad)?;
        let unit = unit.trim();
        if count == 0.0 && unit.is_empty() {
            return Ok(Self(None));
        }
        let unit = unit.strip_suffix("/s").or_else(|| unit.strip_suffix("ps")).unwrap_or(unit);
        let (times, kind) = match unit.chars().next().map(|c| c.to_ascii_lowercase()) {
            Some('k') => (1, unit.get(1..)),
            Some('m') => (2, unit.get(1..)),
            Some('g') => (3, unit.get(1..)),
            _ => (0, Some(unit)),
        };
        let (base, bytes): (f64, f64) = match kind.unwrap_or_default() {
            "B" => (1000.0, 1.0),
            "iB" if times > 0 => (1024.0, 1.0),
            "bit" | "b" => (1000.0, 0.125),
            _ => return Err(bad()),
        };
        let rate = count * base.powi(times) * bytes;
        if rate == 0.0 {
            return Ok(Self(None));
        }
        if (RATE_MIN..=RATE_MAX).contains(&rate) { Ok(Self(Some(rate as u64))) } else { Err(bad()) }
    }
}

/// A web seed on the command line.
pub fn http_url(s: &str) -> Result<String, ArgError> {
    let ok = url::Url::parse(s).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    if ok { Ok(s.to_owned()) } else { Err(ArgError(format!("\"{s}\" is not an http or https address"))) }
}

/// Trackers that share a tier, joined by commas.
pub fn tracker_tier(s: &str) -> Result<Vec<String>, ArgError> {
    let known = |s: &str| {
        // What other clients can speak to counts too, though nothing here speaks WebSocket.
        let scheme = |u: &url::Url| matches!(u.scheme(), "http" | "https" | "udp" | "ws" | "wss");
        url::Url::parse(s).is_ok_and(|u| scheme(&u) && u.host_str().is_some_and(|h| !h.is_empty()))
    };
    let urls: Vec<String> = s.split(',').map(|u| u.trim().to_owned()).collect();
    match urls.iter().find(|u| !known(u)) {
        None => Ok(urls),
        Some(bad) => Err(ArgError(format!("\"{bad}\" is not the address of a tracker (http, https or udp)"))),
    }
}

/// Where the DHT can be entered: `host:port`.
pub fn dht_node(s: &str) -> Result<(String, u16), ArgError> {
    let bad = || ArgError(format!("\"{s}\" is not a host and a port, as in router.example:6881"));
    match s.parse::<PeerAddr>() {
        Ok(PeerAddr::Addr(a)) => Ok((a.ip().to_string(), a.port())),
        Ok(PeerAddr::Host(host, port)) => Ok((host, port)),
        Err(_) => Err(bad()),
    }
}

/// Bytes per piece of a new torrent; `None` for `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceSize(pub Option<u32>);

impl FromStr for PieceSize {
    type Err = ArgError;

    /// `auto`, or bytes, or a number with `K` or `M` (of 1024): a power of two between 16K and 16M.
    fn from_str(s: &str) -> Result<Self, ArgError> {
        let bad = || ArgError(format!("\"{s}\" is not the size of a piece: auto, or 16K, 32K, 64K … up to 16M"));
        if s.eq_ignore_ascii_case("auto") {
            return Ok(Self(None));
        }
        let lower = s.to_ascii_lowercase();
        let number = lower.trim_end_matches("ib").trim_end_matches('b');
        let (number, unit) = match number.strip_suffix('k') {
            Some(n) => (n, 1 << 10),
            None => number.strip_suffix('m').map_or((number, 1), |n| (n, 1 << 20)),
        };
        let bytes = number.trim().parse::<u32>().ok().and_then(|n| n.checked_mul(unit));
        let fits = |b: &u32| b.is_power_of_two() && crate::torrent::create::PIECE_LENS.contains(b);
        bytes.filter(fits).map(|b| Self(Some(b))).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(s: f64) -> Position {
        Position::Time(MediaTime::from_secs_f64(s))
    }

    #[test]
    fn positions() {
        assert_eq!("90".parse(), Ok(time(90.0)));
        assert_eq!("1.5".parse(), Ok(time(1.5)));
        assert_eq!("01:30".parse(), Ok(time(90.0)));
        assert_eq!("90:30.5".parse(), Ok(time(5430.5)));
        assert_eq!("1:02:03".parse(), Ok(time(3723.0)));
        assert_eq!("60%".parse(), Ok(Position::Share(0.6)));
        for bad in ["", "-1", "%", "101%", "1:60", "1:2:3:4", "1.5:20", "nan", "1e3", ".", "1:", "inf", "9999999999"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
        assert_eq!(Position::Share(0.5).resolve(Some(MediaTime(10))), Some(MediaTime(5)));
        assert_eq!(Position::Share(0.5).resolve(None), None);
    }

    #[test]
    fn lifetimes() {
        for (said, secs) in [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("1.5h", 5400)] {
            assert_eq!(lifetime(said), Ok(Duration::from_secs(secs)), "{said}");
        }
        for bad in ["", "h", "24", "-1h", "0s", "1y", "99999d", "1e3s", "24\u{e9}"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seeks() {
        let s: SeekAt = "60%@3".parse().unwrap();
        assert_eq!(s, SeekAt { to: Position::Share(0.6), at: Duration::from_secs(3) });
        let s: SeekAt = "1:00:00@0.25".parse().unwrap();
        assert_eq!(s, SeekAt { to: time(3600.0), at: Duration::from_millis(250) });
        for bad in ["60%", "@3", "60%@", "60%@x", "60%@-1"] {
            assert!(bad.parse::<SeekAt>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        for (said, rate) in [
            ("2 MB/s", 2_000_000),
            ("500kB/s", 500_000),
            ("1.5 MiB/s", 1_572_864),
            ("16 Mbit/s", 2_000_000),
            ("16 Mbps", 2_000_000),
            ("800 kb/s", 100_000),
            ("1000 B", 1000),
            ("1 GB/s", 1_000_000_000),
        ] {
            assert_eq!(said.parse(), Ok(RateLimit(Some(rate))), "{said}");
        }
        for none in ["0", "0 kB/s"] {
            assert_eq!(none.parse(), Ok(RateLimit(None)));
        }
        for bad in [
            "",
            "5",
            "-1 MB/s",
            "1 B/s",
            "MB/s",
            "1 XB/s",
            "2 iB/s",
            "1 MB/s/s",
            "1e9 MB/s",
            "9999 GB/s",
            "1 M\u{e9}B",
            "NaN kB/s",
        ] {
            assert!(bad.parse::<RateLimit>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!("1.2.3.4:5".parse(), Ok(PeerAddr::Addr("1.2.3.4:5".parse().unwrap())));
        assert_eq!("[::1]:5".parse(), Ok(PeerAddr::Addr("[::1]:5".parse().unwrap())));
        assert_eq!("seed.example:6881".parse(), Ok(PeerAddr::Host("seed.example".into(), 6881)));
        for bad in ["", "1.2.3.4", "1.2.3.4:0", "host:", ":1", "a b:1", "host:70000", "::1:5:x"] {
            assert!(bad.parse::<PeerAddr>().is_err(), "{bad}");
        }
        assert_eq!(listen_addr("6881").unwrap().port(), 6881);
        assert_eq!(listen_addr("[::]:0").unwrap().port(), 0);
        assert!(listen_addr("6881x").is_err());
        assert_eq!(encryption("require").unwrap(), Encryption::Require);
        assert!(encryption("").is_err());
        assert!(http_url("http://[::1]:80/f").is_ok());
        assert!(http_url("ftp://x/").is_err() && http_url("x").is_err());
    }

    #[test]
    fn what_a_new_torrent_is_told() {
        for (s, bytes) in [
            ("auto", None),
            ("16K", Some(16384)),
            ("1MiB", Some(1 << 20)),
            ("65536", Some(65536)),
            ("256kb", Some(262_144)),
        ] {
            assert_eq!(s.parse::<PieceSize>(), Ok(PieceSize(bytes)), "{s}");
        }
        for bad in ["", "K", "15K", "8K", "32M", "1G", "-16K", "99999999999M", "4294967295M"] {
            bad.parse::<PieceSize>().unwrap_err();
        }
        assert_eq!(tracker_tier("udp://a:1, http://b/announce").unwrap().len(), 2);
        assert!(tracker_tier("udp://a:1,,").is_err() && tracker_tier("udp://").is_err());
        assert_eq!(dht_node("[::1]:5").unwrap(), ("::1".to_owned(), 5));
        assert_eq!(dht_node("router.example:6881").unwrap(), ("router.example".to_owned(), 6881));
    }
}
