//! Addresses the user does not want to meet: ranges from a file, in the formats such lists come in.
//!
//! ```text
//! Some company:1.2.3.0-1.2.3.255              PeerGuardian (P2P)
//! 001.002.003.000 - 001.002.003.255 , 000 , x  eMule (ipfilter.dat); a level above 127 lets pass
//! 1.2.3.0/24    fd00::/8    1.2.3.4    1.2.3.0-1.2.3.255    fd00::1-fd00::9
//! ```
//!
//! Invariant: ranges are sorted and do not touch, so that one binary search answers; memory is bounded by the ranges that
//! are left (8 bytes for one of IPv4, 32 for IPv6), and a list that is longer than anyone needs is refused, not cut.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// Ranges at most; the largest lists in circulation have about a million.
const MAX_RANGES: usize = 8_000_000;
/// Bytes of text at most, unpacked: what that many lines of such lists take.
const MAX_TEXT: u64 = 1 << 30;
/// Longer lines are read past. eMule's hold a description, which some make long.
const MAX_LINE: usize = 4096;
/// eMule: levels up to here are blocked.
const MAX_LEVEL: u32 = 127;
/// How gzip files begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BlocklistError {
    #[error("The blocklist {file} cannot be read: {source}.")]
    Read { file: String, source: io::Error },
    #[error("The blocklist {file} holds more than {MAX_RANGES} ranges, which is more than this player keeps.")]
    TooLong { file: String },
    #[error("The blocklist {file} holds no address range in any format this player reads.")]
    Nothing { file: String },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Blocklist {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
    bad_lines: usize,
}

/// What one line means.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Nothing,
    Bad,
    V4(u32, u32),
    V6(u128, u128),
}

impl Blocklist {
    /// Reads a file, gzipped or not. Blocks for as long as that takes: about half a second for a million lines.
    pub fn load(path: &Path) -> Result<Self, BlocklistError> {
        let file = || path.display().to_string();
        let failed = |source| BlocklistError::Read { file: file(), source };
        let mut plain = BufReader::with_capacity(64 * 1024, File::open(path).map_err(failed)?);
        let packed = plain.fill_buf().map_err(failed)?.starts_with(&GZIP);
        let list = if packed {
            Self::read(&mut BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(plain).take(MAX_TEXT)))
        } else {
            Self::read(&mut plain.take(MAX_TEXT))
        };
        let list = list.map_err(failed)?.ok_or_else(|| BlocklistError::TooLong { file: file() })?;
        // A web page saved in the list's place would leave the user without one, unknowing.
        if list.is_empty() && list.bad_lines > 0 { Err(BlocklistError::Nothing { file: file() }) } else { Ok(list) }
    }

    /// `None` when there are too many ranges.
    fn read(text: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut list = Self::default();
        let mut merged_at = 1 << 16;
        let mut line = Vec::new();
        while next_line(text, &mut line)? {
            match read_line(&line) {
                Line::Nothing => {}
                Line::Bad => list.bad_lines += 1,
                Line::V4(a, b) => list.v4.push((a, b)),
                Line::V6(a, b) => list.v6.push((a, b)),
            }
            // Many lists repeat themselves: what counts is what is left.
            if list.len() >= merged_at {
                list.merge();
                if list.len() >= MAX_RANGES {
                    return Ok(None);
                }
                merged_at = (list.len() * 2).clamp(1 << 16, MAX_RANGES);
            }
        }
        list.merge();
        list.v4.shrink_to_fit();
        list.v6.shrink_to_fit();
        Ok(Some(list))
    }

    fn merge(&mut self) {
        merge(&mut self.v4, |end| end.checked_add(1));
        merge(&mut self.v6, |end| end.checked_add(1));
    }

    /// Ranges kept, after merging.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines that were not understood and left out.
    pub fn bad_lines(&self) -> usize {
        self.bad_lines
    }

    /// Whether the address lies in a range. An IPv4 address dressed as IPv6 is looked up as what it is.
    pub fn blocks(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => holds(&self.v6, ip.to_bits()),
        }
    }

    /// For the list of sources: "blocklist · 412000 ranges · 3 lines not understood".
    pub fn words(&self) -> String {
        let bad = match self.bad_lines {
            0 => String::new(),
            1 => " · 1 line not understood".to_owned(),
            n => format!(" · {n} lines not understood"),
        };
        format!("blocklist · {} {}{bad}", self.len(), if self.len() == 1 { "range" } else { "ranges" })
    }
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], ip: T) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= ip);
    after.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|(_, end)| ip <= *end)
}

/// Sorts, and makes one range of those that overlap or touch.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, kept| {
        let joined = next(kept.1).is_none_or(|n| later.0 <= n);
        if joined {
            kept.1 = kept.1.max(later.1);
        }
        joined
    });
}

/// The next line without its end; false at the end of the text. What is beyond [`MAX_LINE`] is dropped.
fn next_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let buf = match text.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if buf.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = buf.iter().position(|b| *b == b'\n');
        let part = buf.get(..end.unwrap_or(buf.len())).unwrap_or_default();
        let room = MAX_LINE.saturating_sub(line.len()).min(part.len());
        line.extend_from_slice(part.get(..room).unwrap_or_default());
        let used = end.map_or(buf.len(), |e| e + 1);
        text.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn read_line(line: &[u8]) -> Line {
    // Descriptions are in whatever encoding; addresses are ASCII.
    let text = String::from_utf8_lossy(line);
    let text = text.trim().trim_start_matches('\u{feff}');
    if text.is_empty() || text.starts_with('#') || text.starts_with("//") || text.starts_with(';') {
        return Line::Nothing;
    }
    if let Some((range, rest)) = text.split_once(',')
        && let Some(read) = dashed(range)
    {
        let level = rest.split(',').next().unwrap_or_default().trim();
        return match level.parse::<u32>() {
            Ok(level) if level > MAX_LEVEL => Line::Nothing,
            Ok(_) => read,
            // Not eMule's after all, but a range all the same.
            Err(_) => read,
        };
    }
    // A name may hold colons and dashes: the range is behind the last colon that leaves one, and IPv6 has colons itself.
    if let Some(read) = whole(text) {
        return read;
    }
    let after = text.match_indices(':').filter_map(|(i, _)| text.get(i + 1..));
    after.take(MAX_COLONS).find_map(dashed).unwrap_or(Line::Bad)
}

/// Colons looked behind: those of a name, of which some are web addresses.
const MAX_COLONS: usize = 64;

/// A line that is a range and nothing else.
fn whole(text: &str) -> Option<Line> {
    let text = text.split('#').next()?.trim();
    if let Some((ip, bits)) = text.split_once('/') {
        let bits: u32 = bits.trim().parse().ok()?;
        return match address(ip)? {
            IpAddr::V4(ip) if bits <= 32 => {
                let mask = u32::MAX.checked_shr(bits).unwrap_or(0);
                Some(Line::V4(ip.to_bits() & !mask, ip.to_bits() | mask))
            }
            IpAddr::V6(ip) if bits <= 128 => {
                let mask = u128::MAX.checked_shr(bits).unwrap_or(0);
                Some(Line::V6(ip.to_bits() & !mask, ip.to_bits() | mask))
            }
            _ => None,
        };
    }
    match address(text) {
        Some(IpAddr::V4(ip)) => Some(Line::V4(ip.to_bits(), ip.to_bits())),
        Some(IpAddr::V6(ip)) => Some(Line::V6(ip.to_bits(), ip.to_bits())),
        None => dashed(text),
    }
}

/// `FIRST-LAST`.
fn dashed(text: &str) -> Option<Line> {
    let (first, last) = text.split_once('-')?;
    match (address(first)?, address(last)?) {
        (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => Some(Line::V4(a.to_bits(), b.to_bits())),
        (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => Some(Line::V6(a.to_bits(), b.to_bits())),
        _ => None,
    }
}

/// An address; eMule's have leading zeros, which are decimal all the same.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical());
    }
    let mut parts = text.split('.');
    let mut octets = [0u8; 4];
    for octet in &mut octets {
        let part = parts.next().filter(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Blocklist {
        Blocklist::read(&mut text.as_bytes()).unwrap().unwrap()
    }

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn lists_of_every_format_are_read() {
        let text = "# a comment\n\n\
            Evil, Inc: http://evil.example:1.2.3.0-1.2.3.255\r\n\
            a-b-c:9.9.9.9-9.9.9.9\n\
            2.0.0.0-2.0.0.9\n\
            003.000.000.000 - 003.000.000.255 , 000 , Company - of some, kind\n\
            004.000.000.000 - 004.000.000.255 , 200 , let pass\n\
            10.0.0.77/8\n\
            7.7.7.7\n\
            IPv6 thing:2001:db8::1-2001:db8::5\n\
            fd00::/8\n\
            ::ffff:6.6.6.6\n\
            11.0.0.0/8 # with a word\n\
            <html>\n5.5.5.5-5.5.5.4\n1.2.3.4/33\n1.2.3.1234-1.2.4.0\n";
        let list = list(text);
        for blocked in [
            "1.2.3.0",
            "1.2.3.255",
            "9.9.9.9",
            "2.0.0.9",
            "3.0.0.8",
            "10.255.0.1",
            "7.7.7.7",
            "2001:db8::3",
            "fd12::1",
            "6.6.6.6",
            "11.1.1.1",
            "::ffff:7.7.7.7",
        ] {
            assert!(list.blocks(ip(blocked)), "{blocked}");
        }
        for free in [
            "1.2.2.255",
            "1.2.4.0",
            "4.0.0.1",
            "9.9.9.8",
            "7.7.7.8",
            "2001:db8::6",
            "fc00::1",
            "5.5.5.5",
            "0.0.0.0",
            "::",
        ] {
            assert!(!list.blocks(ip(free)), "{free}");
        }
        assert_eq!(list.bad_lines(), 4);
        assert!(list.words().ends_with("4 lines not understood"), "{}", list.words());
    }

    #[test]
    fn ranges_that_meet_become_one() {
        let list =
            list("1.0.0.0-1.0.0.5\n1.0.0.6-1.0.0.9\n1.0.0.2-1.0.0.3\n255.255.255.0/24\n255.255.255.255\n0.0.0.0/32\n");
        assert_eq!(list.len(), 3);
        assert!(list.blocks(ip("255.255.255.255")) && list.blocks(ip("0.0.0.0")) && !list.blocks(ip("0.0.0.1")));
        assert_eq!(self::list("::/0\nfe80::1\n").len(), 1);
    }

    #[test]
    fn a_file_may_be_gzipped_and_a_wrong_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.gz");
        let mut gz = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        (0..200_000u32)
            .for_each(|i| writeln!(gz, "x:{}-{}", Ipv4Addr::from(i * 4), Ipv4Addr::from(i * 4 + 1)).unwrap());
        gz.finish().unwrap();
        let list = Blocklist::load(&path).unwrap();
        assert_eq!((list.len(), list.bad_lines()), (200_000, 0));
        assert!(list.blocks(ip("0.0.0.5")) && !list.blocks(ip("0.0.0.6")));
        let cut = std::fs::read(&path).unwrap();
        std::fs::write(&path, &cut[..cut.len() / 2]).unwrap();
        assert!(matches!(Blocklist::load(&path), Err(BlocklistError::Read { .. })), "half a list is none");
        std::fs::write(&path, "<html>\n<body>not found</body>").unwrap();
        assert!(Blocklist::load(&path).unwrap_err().to_string().contains("no address range"));
        std::fs::write(&path, "").unwrap();
        assert!(Blocklist::load(&path).unwrap().is_empty());
        assert!(Blocklist::load(dir.path()).is_err());
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut text = io::repeat(b'x').take(64 << 20);
        let mut line = Vec::new();
        assert!(next_line(&mut BufReader::new(&mut text), &mut line).unwrap());
        assert_eq!(line.len(), MAX_LINE);
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_looking_at_each(ranges in prop::collection::vec((0u32..300, 0u32..20), 0..40), at in 0u32..330) {
            let text: String = ranges.iter().map(|(a, n)| format!("{}-{}\n", Ipv4Addr::from(*a), Ipv4Addr::from(a + n))).collect();
            let within = ranges.iter().any(|(a, n)| (*a..=a + n).contains(&at));
            prop_assert_eq!(list(&text).blocks(Ipv4Addr::from(at).into()), within);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Blocklist::read(&mut &bytes[..]).unwrap();
            let _ = read_line(&bytes);
        }
    }
}
