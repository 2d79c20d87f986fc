//! The addresses that torrents and magnet links carry: which are kept, and how many.
//!
//! Invariant: a stranger's torrent cannot make the player ask a service on this machine or its network for anything but
//! an announce or a plain file (as libtorrent's `ssrf_mitigation`). What the user names is not held to this.

use std::net::IpAddr;

use librqbit_bencode::BencodeValue;
use librqbit_buffers::ByteBufOwned;
use url::{Host, Url};

use super::names::is_direction;

/// Trackers and web seeds kept; real torrents have up to about 100 trackers.
pub(super) const MAX_URLS: usize = 256;

/// Longest URL kept, in bytes.
pub(super) const MAX_URL: usize = 2048;

/// Any bencode, for fields whose shape varies in the wild.
pub(super) type Value = BencodeValue<ByteBufOwned>;

/// What a tracker may be reached by.
pub(super) const TRACKER: &[&str] = &["http", "https", "udp"];

/// What a web seed may be reached by.
pub(super) const WEB: &[&str] = &["http", "https"];

/// A URL of one of these schemes, of sane length, that a stranger may name. It is kept and shown as it is written: what
/// would move a terminal's cursor or turn the text around it is refused, though a URL's parser drops it silently.
pub(super) fn is_url(s: &str, schemes: &[&str]) -> bool {
    if s.contains(|c: char| c.is_control() || is_direction(c)) {
        return false;
    }
    let fit = |u: &Url| schemes.contains(&u.scheme()) && u.host_str().is_some_and(|h| !h.is_empty());
    s.len() <= MAX_URL && Url::parse(s).is_ok_and(|u| fit(&u) && is_harmless(&u, schemes == TRACKER))
}

/// Whether asking for it can do nothing on a host of this network but what a tracker or a file server does.
fn is_harmless(url: &Url, tracker: bool) -> bool {
    if url.scheme() == "udp" || !is_local(url) {
        return true;
    }
    if tracker {
        return url.path_segments().and_then(|mut s| s.next_back()).is_some_and(|last| last.starts_with("announce"));
    }
    url.query().is_none()
}

fn is_local(url: &Url) -> bool {
    let ip = match url.host() {
        Some(Host::Domain(d)) => return d == "localhost" || d.ends_with(".localhost") || d.ends_with(".local"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).to_canonical(),
        None => return false,
    };
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_unique_local(),
    }
}

/// BEP 12: the list replaces `announce` where there is one.
pub(super) fn trackers(announce: Option<&Value>, list: Option<&Value>) -> Vec<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    let mut tiers = Vec::new();
    let listed = match list {
        Some(BencodeValue::List(tiers)) => tiers.as_slice(),
        _ => &[],
    };
    for tier in listed {
        let before = all.len();
        collect_urls(Some(tier), TRACKER, &mut all);
        if let Some(new) = all.get(before..).filter(|new| !new.is_empty()) {
            tiers.push(new.to_vec());
        }
    }
    // A list with nothing usable in it is as good as none.
    if tiers.is_empty() {
        collect_urls(announce, TRACKER, &mut all);
        tiers.extend((!all.is_empty()).then_some(all));
    }
    tiers
}

/// DHT nodes kept: a few are enough to enter by.
const MAX_NODES: usize = 32;

/// BEP 5: a list of lists of host and port. What is none is passed over.
pub(super) fn nodes(value: Option<&Value>) -> Vec<(String, u16)> {
    let Some(BencodeValue::List(list)) = value else { return Vec::new() };
    let node = |v: &Value| {
        let BencodeValue::List(pair) = v else { return None };
        let [BencodeValue::Bytes(host), BencodeValue::Integer(port)] = pair.as_slice() else { return None };
        let host = std::str::from_utf8(&host.0).ok().filter(|h| !h.is_empty() && h.len() <= 253)?;
        // A name or an address, and nothing that a resolver or a screen could take for something else.
        let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
        let port = u16::try_from(*port).ok().filter(|p| *p != 0 && plain)?;
        Some((host.to_owned(), port))
    };
    list.iter().filter_map(node).take(MAX_NODES).collect()
}

/// The URLs in a string or a list of strings that are of these schemes and not there yet.
pub(super) fn collect_urls(value: Option<&Value>, schemes: &[&str], out: &mut Vec<String>) {
    let values = match value {
        Some(BencodeValue::List(list)) => list.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    for value in values {
        if out.len() >= MAX_URLS {
            return;
        }
        let BencodeValue::Bytes(bytes) = value else { continue };
        let Ok(url) = std::str::from_utf8(&bytes.0) else { continue };
        let url = url.trim();
        if is_url(url, schemes) && !out.iter().any(|u| u == url) {
            out.push(url.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_make_us_press_buttons_at_home() {
        for ok in ["http://127.0.0.1:8080/announce", "http://10.0.0.1/key/announce.php?key=1", "udp://192.168.1.1:6969"]
        {
            assert!(is_url(ok, TRACKER), "{ok}");
        }
        assert!(is_url("http://127.0.0.1:8080/films/", WEB) && is_url("https://h.example/get?id=3", WEB));
        assert!(is_url("https://t.example/x?passkey=1", TRACKER));
        for bad in
            ["http://127.0.0.1:631/admin", "http://localhost/shutdown", "http://[::1]/x", "http://[::ffff:10.0.0.1]/x"]
        {
            assert!(!is_url(bad, TRACKER), "{bad}");
        }
        for bad in ["http://h.example/\u{1b}[31m", "http://h.example/\u{202e}gpj.exe", "http://h\n.example/"] {
            assert!(!is_url(bad, WEB), "{bad:?}");
        }
        for bad in ["http://169.254.169.254/latest?x", "http://192.168.1.1/reboot?now=1", "http://printer.local/?a"] {
            assert!(!is_url(bad, WEB), "{bad}");
        }
    }
}
