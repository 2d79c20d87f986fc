//! Magnet links (BEP 9, BEP 53) and bare info hashes, as people paste them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::names::display_component;
use super::urls::{MAX_URLS, TRACKER, WEB, is_url};
use super::{InfoHash, Magnet, Metainfo, TorrentError};

/// A pasted text longer than this is no magnet link, in bytes.
const MAX_LINK: usize = 256 << 10;

/// `x.pe` addresses kept.
const MAX_PEERS: usize = 256;

/// Addresses of the .torrent file kept: each is asked.
const MAX_SOURCES: usize = 4;

/// Indices kept of `so=`: ranges in it may be hostile.
const MAX_SELECTED: usize = 10_000;

/// Longest `dn=` kept, in characters.
const MAX_NAME: usize = 512;

impl Magnet {
    /// Reads a magnet link, or an info hash of 40 hexadecimal or 32 base32 characters. White space around it, upper
    /// case and `&amp;` from a web page do no harm.
    ///
    /// # Errors
    /// [`TorrentError::NotAMagnet`], [`TorrentError::MagnetWithoutHash`], [`TorrentError::BadInfoHash`], and
    /// [`TorrentError::V2Only`] for a link that has nothing but a version 2 hash.
    pub fn parse(uri: &str) -> Result<Self, TorrentError> {
        let uri = uri.trim();
        if uri.len() > MAX_LINK {
            return Err(TorrentError::NotAMagnet);
        }
        if let Some(info_hash) = info_hash(uri) {
            return Ok(Self::bare(info_hash));
        }
        if is_v2_hash(uri) {
            return Err(TorrentError::V2Only);
        }
        let rest = uri.get(..7).filter(|s| s.eq_ignore_ascii_case("magnet:")).and(uri.get(7..));
        let query = rest.and_then(|r| r.trim_start_matches('/').strip_prefix('?')).ok_or(TorrentError::NotAMagnet)?;
        Self::from_query(query)
    }

    fn bare(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            sources: Vec::new(),
            select_only: Vec::new(),
        }
    }

    fn from_query(query: &str) -> Result<Self, TorrentError> {
        let mut magnet = Self::bare(InfoHash([0; 20]));
        let (mut found, mut malformed, mut v2) = (None, false, false);
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let key = key.strip_prefix("amp;").unwrap_or(&key).to_ascii_lowercase();
            // `tr.1=`, `xt.2=` number what may occur more than once.
            let key = match key.split_once('.') {
                Some((base, n)) if n.bytes().all(|b| b.is_ascii_digit()) => base,
                _ => key.as_str(),
            };
            let value = value.trim();
            match key {
                "xt" => match topic(value) {
                    Topic::V1(hash) => found = found.or(Some(hash)),
                    Topic::Malformed => malformed = true,
                    Topic::V2 => v2 = true,
                    Topic::Other => {}
                },
                "dn" if !value.is_empty() => {
                    magnet.name = Some(display_component(&value.chars().take(MAX_NAME).collect::<String>()));
                }
                "tr" => push_url(&mut magnet.trackers, value, TRACKER),
                "ws" => push_url(&mut magnet.web_seeds, value, WEB),
                // Others are hashes of other networks.
                "xs" | "as" if magnet.sources.len() < MAX_SOURCES => push_url(&mut magnet.sources, value, WEB),
                // A host name would need a resolver that this layer does not have; links write addresses.
                "x.pe" => match value.parse::<SocketAddr>() {
                    Ok(a) if a.port() != 0 && magnet.peers.len() < MAX_PEERS && !magnet.peers.contains(&a) => {
                        magnet.peers.push(a);
                    }
                    _ => {}
                },
                "so" => select(value, &mut magnet.select_only),
                _ => {}
            }
        }
        magnet.info_hash = match (found, malformed, v2) {
            (Some(hash), ..) => hash,
            (None, true, _) => return Err(TorrentError::BadInfoHash),
            (None, false, true) => return Err(TorrentError::V2Only),
            (None, false, false) => return Err(TorrentError::MagnetWithoutHash),
        };
        Ok(magnet)
    }
}

impl Metainfo {
    /// A magnet link to this torrent: hash, name, length, trackers and web seeds. Empty for a plain video.
    pub fn magnet(&self) -> String {
        if self.piece_hashes.is_empty() {
            return String::new();
        }
        let mut link = format!("magnet:?xt=urn:btih:{}&dn=", self.info_hash);
        escape(&mut link, &self.name);
        // What the user gets, without padding.
        let bytes: u64 = self.files.iter().filter(|f| !f.padding).map(|f| f.range.len()).sum();
        // Writing to a string does not fail.
        let _ = write!(link, "&xl={bytes}");
        for (key, urls) in [("&tr=", self.trackers.concat()), ("&ws=", self.web_seeds.clone())] {
            for url in urls {
                link.push_str(key);
                escape(&mut link, &url);
            }
        }
        link
    }
}

/// Percent-encoded, blanks too: not every client reads `+` as one.
fn escape(out: &mut String, text: &str) {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
}

enum Topic {
    V1(InfoHash),
    V2,
    Malformed,
    Other,
}

fn topic(value: &str) -> Topic {
    let lower = value.to_ascii_lowercase();
    if let Some(hash) = lower.strip_prefix("urn:btih:") {
        return info_hash(hash).map_or(Topic::Malformed, Topic::V1);
    }
    if lower.starts_with("urn:btmh:") { Topic::V2 } else { Topic::Other }
}

/// 40 hexadecimal or 32 base32 characters, in either case.
fn info_hash(s: &str) -> Option<InfoHash> {
    if !matches!(s.len(), 32 | 40) || !s.is_ascii() {
        return None;
    }
    s.to_ascii_uppercase().parse::<librqbit_core::Id20>().ok().map(|id| InfoHash(id.0))
}

/// A bare SHA-256, alone or as a multihash.
fn is_v2_hash(s: &str) -> bool {
    let digest = if s.len() == 68 { s.strip_prefix("1220").unwrap_or_default() } else { s };
    digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit())
}

fn push_url(urls: &mut Vec<String>, url: &str, schemes: &[&str]) {
    if urls.len() < MAX_URLS && is_url(url, schemes) && !urls.iter().any(|u| u == url) {
        urls.push(url.to_owned());
    }
}

/// `0,2,4-6` (BEP 53); what does not parse is passed over.
fn select(value: &str, out: &mut Vec<usize>) {
    for part in value.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else { continue };
        let room = MAX_SELECTED.saturating_sub(out.len());
        out.extend((first..=last).take(room));
    }
    out.sort_unstable();
    out.dedup();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "cfe1119f124881ca70f7306f32e292194c88c195";
    const BASE32: &str = "Z7QRDHYSJCA4U4HXGBXTFYUSDFGIRQMV";

    #[test]
    fn a_full_link_is_read() {
        let link = format!(
            "  magnet:?xt=urn:btih:{HEX}&dn=A+film%20%28x%29&tr=udp%3A%2F%2Ft.example%3A6969&tr=http://b.example/announce\
             &tr=wss://no.example&tr.1=http://b.example/announce&ws=http%3A%2F%2Fw.example%2Ff.mkv&x.pe=10.0.0.1:51413\
             &x.pe=[2001:db8::1]:6881&x.pe=host.example:1&xs=https://s.example/a.torrent&xs=urn:btih:x&as=http://127.0.0.1/reboot?now&so=0,2,4-6,x,9-7\n"
        );
        let m = Magnet::parse(&link).unwrap();
        assert_eq!(m.info_hash.to_string(), HEX);
        assert_eq!(m.name.as_deref(), Some("A film (x)"));
        assert_eq!(m.trackers, ["udp://t.example:6969", "http://b.example/announce"]);
        assert_eq!(m.web_seeds, ["http://w.example/f.mkv"]);
        assert_eq!(m.peers, ["10.0.0.1:51413".parse().unwrap(), "[2001:db8::1]:6881".parse().unwrap()]);
        assert_eq!(m.sources, ["https://s.example/a.torrent"]);
        assert_eq!(m.select_only, [0, 2, 4, 5, 6]);
    }

    #[test]
    fn every_way_to_write_a_hash_is_one() {
        for s in [
            HEX.to_owned(),
            HEX.to_uppercase(),
            BASE32.to_owned(),
            BASE32.to_lowercase(),
            format!("MAGNET:?XT=URN:BTIH:{BASE32}"),
            format!("magnet:?dn=x&amp;xt=urn:btih:{HEX}"),
            format!("magnet:?xt.1=urn:btmh:1220{}&xt.2=urn:btih:{HEX}", "a".repeat(64)),
            format!("magnet://?xt=urn:btih:{HEX}"),
        ] {
            assert_eq!(Magnet::parse(&s).unwrap().info_hash.to_string(), HEX, "{s}");
        }
    }

    #[test]
    fn each_wrong_link_says_what_is_wrong() {
        let v2 = "a".repeat(64);
        let cases = [
            ("magnet:?dn=film".to_owned(), TorrentError::MagnetWithoutHash),
            ("magnet:?xt=urn:ed2k:354B15E68FB8F36D7CD88FF94116CDC1".to_owned(), TorrentError::MagnetWithoutHash),
            ("magnet:?xt=urn:btih:1234".to_owned(), TorrentError::BadInfoHash),
            (format!("magnet:?xt=urn:btih:{}", "ж".repeat(20)), TorrentError::BadInfoHash),
            (format!("magnet:?xt=urn:btmh:1220{v2}"), TorrentError::V2Only),
            (v2.clone(), TorrentError::V2Only),
            (format!("1220{v2}"), TorrentError::V2Only),
            ("magnet:".to_owned(), TorrentError::NotAMagnet),
            ("https://example.org/".to_owned(), TorrentError::NotAMagnet),
            (String::new(), TorrentError::NotAMagnet),
        ];
        for (link, want) in cases {
            assert_eq!(Magnet::parse(&link), Err(want), "{link}");
        }
    }

    #[test]
    fn a_hostile_selection_is_bounded() {
        let m = Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}&so=0-18446744073709551615,5-18446744073709551615"))
            .unwrap();
        assert_eq!(m.select_only.len(), MAX_SELECTED);
    }

    proptest! {
        #[test]
        fn no_text_panics(s in ".{0,200}", q in "([a-z.]{0,4}=[^&]{0,60}&){0,8}") {
            let _ = Magnet::parse(&s);
            let _ = Magnet::parse(&format!("magnet:?{q}"));
        }
    }
}
