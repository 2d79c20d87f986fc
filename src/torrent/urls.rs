//! The addresses that torrents and magnet links carry: which are kept, and how many.

use librqbit_bencode::BencodeValue;
use librqbit_buffers::ByteBufOwned;

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

/// A URL of one of these schemes, of sane length.
pub(super) fn is_url(s: &str, schemes: &[&str]) -> bool {
    s.len() <= MAX_URL
        && url::Url::parse(s)
            .is_ok_and(|u| schemes.contains(&u.scheme()) && u.host_str().is_some_and(|h| !h.is_empty()))
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
