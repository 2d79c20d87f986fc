//! Which URL holds which bytes: BEP 19's rules for building a web seed's URLs.
//!
//! Invariant: a URL built here never climbs above the seed's own address, whatever the torrent's names are.

use url::Url;

use super::api::{OriginMap, OriginPart};
use super::error::OriginError;
use crate::units::ByteRange;

/// The map of a web seed (BEP 19). A torrent of one file is at `url` itself, or at `url` + name when it ends in `/`; a
/// folder's files are at `url`/name/path. Files are `(path with / between components, bytes in torrent space,
/// padding)`; padding and empty files get no part.
///
/// Fails on a URL that is not http(s), and on names that a URL cannot express.
pub fn web_seed_map(
    url: &str,
    multi_file: bool,
    name: &str,
    files: &[(String, ByteRange, bool)],
) -> Result<OriginMap, OriginError> {
    let base = parse(url)?;
    let mut base: String = base.into();
    if multi_file {
        if !base.ends_with('/') {
            base.push('/');
        }
        push_component(&mut base, name)?;
    } else if base.ends_with('/') {
        push_component(&mut base, name)?;
    }
    let mut parts = Vec::with_capacity(files.len());
    for (path, range, padding) in files {
        if *padding || range.is_empty() {
            continue;
        }
        let mut url = base.clone();
        if multi_file {
            for component in path.split('/') {
                url.push('/');
                push_component(&mut url, component)?;
            }
        }
        parts.push(OriginPart { range: *range, url });
    }
    parts.sort_by_key(|p| p.range.start);
    Ok(OriginMap { parts })
}

/// Reads an absolute http(s) URL, however the user wrote it; its fragment is dropped.
pub(super) fn parse(url: &str) -> Result<Url, OriginError> {
    let mut parsed = Url::parse(url.trim()).map_err(|e| OriginError::BadUrl(e.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(OriginError::BadUrl(format!("it starts with {}:, not http: or https:", parsed.scheme())));
    }
    parsed.set_fragment(None);
    Ok(parsed)
}

/// The part of `url` that people know a server by: host, and port where it is not the usual one. Never credentials.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the server");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Appends one path component, percent-encoded. Dots are refused: even encoded, URL parsers climb by them.
fn push_component(url: &mut String, component: &str) -> Result<(), OriginError> {
    if matches!(component, "" | "." | "..") {
        return Err(OriginError::BadName(component.to_owned()));
    }
    for &byte in component.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
            _ => {
                url.push('%');
                url.extend(
                    [byte >> 4, byte & 15]
                        .iter()
                        .filter_map(|n| char::from_digit(u32::from(*n), 16))
                        .map(|c| c.to_ascii_uppercase()),
                );
            }
        }
    }
    Ok(())
}

impl OriginMap {
    /// The parts that hold bytes of `range`: index of the part, and the bytes in torrent space that it holds of them.
    pub(super) fn cut(&self, range: ByteRange) -> impl Iterator<Item = (usize, ByteRange)> + '_ {
        let first = self.parts.partition_point(|p| p.range.end <= range.start);
        let meet = move |(i, p): (usize, &OriginPart)| (i + first, p.range.intersect(range));
        self.parts.iter().skip(first).take_while(move |p| p.range.start < range.end).enumerate().map(meet)
    }

    /// The part worth asking first: the largest, most likely the video itself.
    pub(super) fn largest(&self) -> Option<usize> {
        (0..self.parts.len()).max_by_key(|&i| self.parts.get(i).map(|p| p.range.len()))
    }
}

/// A web address for people: without user name, password and query, which may be secrets, and not endless.
pub fn display_url(url: &str) -> String {
    const MOST: usize = 120;
    let Ok(mut u) = url::Url::parse(url) else { return url.chars().filter(|c| !c.is_control()).take(MOST).collect() };
    // Neither can fail for http and https; if it did, nothing secret may be shown.
    let clean = u.set_username("").and_then(|()| u.set_password(None)).is_ok();
    u.set_query(None);
    u.set_fragment(None);
    if clean { u.as_str().chars().take(MOST).collect() } else { u.host_str().unwrap_or_default().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end)
    }

    fn one(url: &str, name: &str) -> String {
        web_seed_map(url, false, name, &[(name.into(), r(0, 9), false)]).unwrap().parts[0].url.clone()
    }

    #[test]
    fn a_single_file_is_the_url_itself_or_below_a_folder() {
        assert_eq!(one("http://h/film.mkv", "other.mkv"), "http://h/film.mkv");
        assert_eq!(one("http://h/dir/", "a film #1.mkv"), "http://h/dir/a%20film%20%231.mkv");
        assert_eq!(one("http://h", "f"), "http://h/f");
        assert_eq!(one("http://u:p@h/get?id=3", "f"), "http://u:p@h/get?id=3");
        assert_eq!(one(" http://[::1]:8080/ü/f.mp4#t ", "f"), "http://[::1]:8080/%C3%BC/f.mp4");
        assert_eq!(one("https://bücher.example/f", "f"), "https://xn--bcher-kva.example/f");
    }

    #[test]
    fn a_folder_has_a_part_per_file_and_none_for_padding_or_empty_files() {
        let files = [
            ("sub/ä b.mkv".to_owned(), r(0, 100), false),
            (".pad/28".to_owned(), r(100, 128), true),
            ("empty".to_owned(), r(128, 128), false),
            ("100%?.txt".to_owned(), r(128, 140), false),
        ];
        let map = web_seed_map("http://h/seed", true, "The Name", &files).unwrap();
        let urls: Vec<_> = map.parts.iter().map(|p| p.url.as_str()).collect();
        assert_eq!(urls, ["http://h/seed/The%20Name/sub/%C3%A4%20b.mkv", "http://h/seed/The%20Name/100%25%3F.txt"]);
        assert_eq!(map.cut(r(90, 130)).collect::<Vec<_>>(), [(0, r(90, 100)), (1, r(128, 130))]);
        assert_eq!(map.cut(r(100, 128)).count(), 0);
        assert_eq!(map.cut(r(140, 500)).count(), 0);
        assert_eq!(map.largest(), Some(0));
    }

    #[test]
    fn names_that_climb_and_urls_that_are_none_are_refused() {
        for path in ["../x", "a/./b", "a//b", ""] {
            assert!(web_seed_map("http://h/", true, "n", &[(path.into(), r(0, 1), false)]).is_err(), "{path:?}");
        }
        assert!(web_seed_map("http://h/", true, "..", &[("x".into(), r(0, 1), false)]).is_err());
        for url in ["ftp://h/f", "file:///etc/passwd", "nonsense", "http://", "javascript:alert(1)"] {
            assert!(web_seed_map(url, false, "n", &[("n".into(), r(0, 1), false)]).is_err(), "{url}");
        }
    }

    #[test]
    fn a_host_is_named_without_credentials() {
        assert_eq!(host_of(&parse("http://user:secret@h.example:81/x").unwrap()), "h.example:81");
        assert_eq!(host_of(&parse("https://user:secret@h.example/x").unwrap()), "h.example");
    }
}
