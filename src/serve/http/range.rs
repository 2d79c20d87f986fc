//! Which bytes a `Range` header asks for (RFC 9110 §14).
//!
//! Invariant: what comes out lies within the file, no byte of it twice, in at most [`MAX_RANGES`] parts: no header makes the
//! server send more than the file and a few part heads.

use crate::units::ByteRange;

/// Parts of one answer. Players ask for one, browsers' PDF viewers for a handful; "a set of many small ranges" is what
/// RFC 9110 §14.2 lets a server refuse, since each costs a part's head.
pub const MAX_RANGES: usize = 16;

/// What to send of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// No range, or none that can be understood: RFC 9110 §14.2 has those ignored.
    Whole,
    /// Never empty. One is a plain 206, several are a multipart.
    Parts(Vec<ByteRange>),
    /// 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` header for a file of `len` bytes.
pub fn parse(value: &str, len: u64) -> Wanted {
    let Some((unit, set)) = value.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let mut parts = Vec::new();
    let mut specs = 0;
    // Empty elements of a list are to be passed over (RFC 9110 §5.6.1.2).
    for spec in set.split(',').map(|s| s.trim_matches([' ', '\t'])).filter(|s| !s.is_empty()) {
        let Some(range) = one(spec, len) else { return Wanted::Whole };
        specs += 1;
        if specs > MAX_RANGES {
            return Wanted::Unsatisfiable;
        }
        if !range.is_empty() {
            parts.push(range);
        }
    }
    match (specs, parts.is_empty()) {
        (0, _) => Wanted::Whole,
        (_, true) => Wanted::Unsatisfiable,
        _ => Wanted::Parts(coalesce(parts)),
    }
}

/// One `first-last`, `first-` or `-suffix`; empty when it lies past the end, `None` when it is none.
fn one(spec: &str, len: u64) -> Option<ByteRange> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        return Some(ByteRange::new(len.saturating_sub(number(last)?), len));
    }
    let first = number(first)?;
    let end = match last {
        "" => len,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(len)
        }
    };
    Some(ByteRange::new(first.min(len), end))
}

/// Digits alone; more than any file has counts as the largest number.
fn number(s: &str) -> Option<u64> {
    let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| s.parse().unwrap_or(u64::MAX))
}

/// In the order asked for, unless some overlap: then by offset, with those that meet made one (RFC 9110 §15.3.7.2).
fn coalesce(parts: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut sorted = parts.clone();
    sorted.sort_unstable_by_key(|r| (r.start, r.end));
    if sorted.windows(2).all(|w| matches!(w, [a, b] if a.end <= b.start)) {
        return parts;
    }
    let mut out: Vec<ByteRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(list: &[(u64, u64)]) -> Wanted {
        Wanted::Parts(list.iter().map(|&(a, b)| ByteRange::new(a, b)).collect())
    }

    #[test]
    fn what_clients_send() {
        for (value, wanted) in [
            ("bytes=0-0", parts(&[(0, 1)])),
            ("bytes=500-999", parts(&[(500, 1000)])),
            ("bytes=900-5000", parts(&[(900, 1000)])),
            ("bytes=900-", parts(&[(900, 1000)])),
            ("bytes=-300", parts(&[(700, 1000)])),
            ("bytes=-5000", parts(&[(0, 1000)])),
            ("Bytes = 1-2", parts(&[(1, 3)])),
            ("bytes=0-0,-1", parts(&[(0, 1), (999, 1000)])),
            ("bytes=500-599 ,\t, 0-99", parts(&[(500, 600), (0, 100)])),
            ("bytes=0-99,50-149,149-200", parts(&[(0, 201)])),
            ("bytes=0-1,5000-", parts(&[(0, 2)])),
            ("bytes=0-99999999999999999999999", parts(&[(0, 1000)])),
            ("bytes=1000-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=2000-3000,4000-", Wanted::Unsatisfiable),
        ] {
            assert_eq!(parse(value, 1000), wanted, "{value}");
        }
        for ignored in ["", "bytes", "bytes=", "bytes=,", "bytes=a-b", "bytes=5-4", "bytes=--1", "bytes=-", "items=0-1"]
        {
            assert_eq!(parse(ignored, 1000), Wanted::Whole, "{ignored}");
        }
        for ignored in ["bytes=+1-2", "bytes=1-2-3", "bytes=0x1-2", "bytes=1 -2", "bytes=0-1;2-3", "bytes=\u{661}-2"] {
            assert_eq!(parse(ignored, 1000), Wanted::Whole, "{ignored}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-1", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn bombs_are_bounded() {
        let many =
            |n: u64| format!("bytes={}", (0..n).map(|i| format!("{}-{}", i * 2, i * 2)).collect::<Vec<_>>().join(","));
        assert!(matches!(parse(&many(16), 1000), Wanted::Parts(p) if p.len() == 16));
        assert_eq!(parse(&many(17), 1000), Wanted::Unsatisfiable);
        // CVE-2011-3192: the same bytes over and over.
        assert_eq!(parse("bytes=0-,0-,0-,0-,0-,0-,0-,0-", 1000), parts(&[(0, 1000)]));
    }

    proptest! {
        #[test]
        fn any_header_stays_within_the_file(value in "(bytes=)?([0-9]{0,4}-?[0-9]{0,4}[, -]?){0,20}", len in 0u64..3000) {
            if let Wanted::Parts(parts) = parse(&value, len) {
                prop_assert!(!parts.is_empty() && parts.len() <= MAX_RANGES);
                prop_assert!(parts.iter().all(|p| !p.is_empty() && p.end <= len));
                prop_assert!(parts.iter().map(|p| p.len()).sum::<u64>() <= len);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(value in "\\PC{0,60}", len in any::<u64>()) {
            parse(&value, len);
            parse(&format!("bytes={value}"), len);
        }
    }
}
