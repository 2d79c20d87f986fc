//! Whether a response is the range that was asked for. Pure: status and headers in, a verdict out.
//!
//! Invariant: everything here is hostile. A response is used only if it says, without contradiction, where its bytes
//! lie.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER,
};

use super::error::Fault;
use crate::units::ByteRange;

/// The longest a server is let tell us to wait; a longer Retry-After is cut to this.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The wait after "busy" without a Retry-After.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(2);

/// What a useful response told of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Bytes of the resource that its body holds: what was asked for, or a shorter beginning of it.
    pub body: ByteRange,
    /// Length of the whole resource, where told.
    pub total: Option<u64>,
}

/// Checks a response to a GET of `asked` (never empty) of a resource that should be `len` bytes long, if known.
/// `html`: the resource is a web page by its name.
pub(super) fn check(
    status: StatusCode,
    headers: &HeaderMap,
    asked: ByteRange,
    len: Option<u64>,
    html: bool,
) -> Result<Told, Fault> {
    usable(status, headers)?;
    if !html && is_web_page(headers) {
        return refused("answers with a web page instead of the file");
    }
    let told = match status {
        StatusCode::PARTIAL_CONTENT => partial(headers, asked)?,
        _ => whole(headers, asked, len)?,
    };
    match (told.total, len) {
        (Some(total), Some(len)) if total != len => refused(format!("has a file of {total} bytes, not {len}")),
        _ => Ok(told),
    }
}

/// Whether a response carries a resource at all, as 200 or 206, as it is and not compressed.
pub(super) fn usable(status: StatusCode, headers: &HeaderMap) -> Result<(), Fault> {
    match status.as_u16() {
        200 | 206 => {}
        401 | 403 | 407 => return refused(format!("denies access ({status})")),
        404 | 410 => return refused(format!("does not have the file ({status})")),
        416 => return refused(format!("has a shorter file than the torrent ({status})")),
        429 | 503 => {
            let wait = text(headers, &RETRY_AFTER).and_then(|t| retry_after(t, SystemTime::now()));
            let wait = wait.unwrap_or(DEFAULT_RETRY_AFTER).min(MAX_RETRY_AFTER);
            return Err(Fault::Busy { wait, reason: format!("is busy ({status})") });
        }
        408 | 425 | 500 | 502 | 504 => return Err(Fault::Break(format!("answered {status}"))),
        _ => return refused(format!("answers {status}")),
    }
    match text(headers, &CONTENT_ENCODING) {
        None | Some("") | Some("identity") => Ok(()),
        Some(other) => refused(format!("sends the file compressed ({})", clip(other))),
    }
}

/// Whether the response says that it is HTML.
pub(super) fn is_web_page(headers: &HeaderMap) -> bool {
    let mime = content_type(headers);
    mime == "text/html" || mime == "application/xhtml+xml"
}

/// The media type, in lower case, without parameters; empty when not told.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let whole = text(headers, &CONTENT_TYPE).unwrap_or_default();
    clip(whole.split(';').next().unwrap_or_default().trim()).to_ascii_lowercase()
}

/// Content-Length. An error when it is no number, or told twice differently.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        match value.to_str().ok().and_then(|s| s.trim().parse::<u64>().ok()) {
            Some(n) if found.is_none_or(|f| f == n) => found = Some(n),
            _ => return refused("says nonsense about the file's length"),
        }
    }
    Ok(found)
}

fn partial(headers: &HeaderMap, asked: ByteRange) -> Result<Told, Fault> {
    let Some(told) = text(headers, &CONTENT_RANGE).and_then(content_range) else {
        return refused("answers a range without saying which");
    };
    if told.body.start != asked.start || told.body.end > asked.end {
        return refused("answers with another range than it was asked for");
    }
    if content_length(headers)?.is_some_and(|n| n != told.body.len()) {
        return refused("contradicts itself about the length of a range");
    }
    Ok(told)
}

/// A 200 is as good as a 206 only where everything was asked for.
fn whole(headers: &HeaderMap, asked: ByteRange, len: Option<u64>) -> Result<Told, Fault> {
    let sent = content_length(headers)?;
    let Some(total) = len.or(sent) else { return refused("ignores Range") };
    if asked.start != 0 || asked.end < total {
        return refused("ignores Range");
    }
    if let Some(sent) = sent.filter(|&n| n != total) {
        return refused(format!("has a file of {sent} bytes, not {total}"));
    }
    Ok(Told { body: ByteRange::new(0, total), total: sent })
}

/// Reads `bytes 0-99/1000` and `bytes 0-99/*`. `None` for anything else, and for ranges outside their own total.
pub(super) fn content_range(value: &str) -> Option<Told> {
    let (unit, rest) = value.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (digits(first)?, digits(last)?);
    let total = match total.trim() {
        "*" => None,
        n => Some(digits(n)?),
    };
    let end = last.checked_add(1)?;
    let sane = first <= last && total.is_none_or(|t| end <= t);
    sane.then(|| Told { body: ByteRange::new(first, end), total })
}

/// Seconds, or a date in one of HTTP's forms; a date that is past is no wait.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Some(seconds) = digits(value) {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// `str::parse` would take a sign as well.
fn digits(s: &str) -> Option<u64> {
    let s = s.trim();
    (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A header's value as it may be shown: hostile headers are long.
fn clip(s: &str) -> &str {
    s.get(..64).unwrap_or(if s.len() <= 64 { s } else { "" })
}

fn refused<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused(reason.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, headers: &[(&'static str, &str)], asked: (u64, u64), len: u64) -> Result<Told, Fault> {
        let mut map = HeaderMap::new();
        for (k, v) in headers {
            map.append(*k, v.parse().unwrap());
        }
        check(StatusCode::from_u16(status).unwrap(), &map, ByteRange::new(asked.0, asked.1), Some(len), false)
    }

    fn is_refused(v: Result<Told, Fault>) -> bool {
        matches!(v, Err(Fault::Refused(_)))
    }

    #[test]
    fn a_range_must_be_the_one_asked_for() {
        let ok = verdict(206, &[("content-range", "bytes 10-19/100"), ("content-length", "10")], (10, 20), 100);
        assert_eq!(ok, Ok(Told { body: ByteRange::new(10, 20), total: Some(100) }));
        let shorter = verdict(206, &[("content-range", "bytes 10-14/*")], (10, 20), 100).unwrap();
        assert_eq!(shorter.body, ByteRange::new(10, 15));
        for bad in [
            "bytes 11-19/100",
            "bytes 10-20/100",
            "bytes 10-19/101",
            "bytes 10-19/15",
            "bytes 19-10/100",
            "bytes 10-18446744073709551615/*",
            "bytes +10-19/100",
            "bytes */100",
            "items 10-19/100",
            "",
        ] {
            assert!(is_refused(verdict(206, &[("content-range", bad)], (10, 20), 100)), "{bad:?}");
        }
        assert!(is_refused(verdict(206, &[], (10, 20), 100)));
        let lies = [("content-range", "bytes 10-19/100"), ("content-length", "11")];
        assert!(is_refused(verdict(206, &lies, (10, 20), 100)));
    }

    #[test]
    fn a_whole_body_is_taken_only_where_all_was_asked_for() {
        assert!(verdict(200, &[("content-length", "100")], (0, 100), 100).is_ok());
        assert!(verdict(200, &[], (0, 100), 100).is_ok());
        assert!(is_refused(verdict(200, &[("content-length", "100")], (0, 99), 100)));
        assert!(is_refused(verdict(200, &[("content-length", "100")], (1, 100), 100)));
        assert!(is_refused(verdict(200, &[("content-length", "99")], (0, 100), 100)));
        assert!(is_refused(verdict(200, &[("content-length", "99"), ("content-length", "100")], (0, 100), 100)));
    }

    #[test]
    fn pages_compression_and_denials_are_refused() {
        let range = ("content-range", "bytes 0-9/100");
        assert!(is_refused(verdict(206, &[range, ("content-type", "Text/HTML; charset=x")], (0, 10), 100)));
        assert!(is_refused(verdict(206, &[range, ("content-encoding", "gzip")], (0, 10), 100)));
        assert!(verdict(206, &[range, ("content-encoding", "identity")], (0, 10), 100).is_ok());
        for status in [204, 304, 400, 401, 403, 404, 410, 416, 451, 501] {
            assert!(is_refused(verdict(status, &[], (0, 10), 100)), "{status}");
        }
        for status in [408, 500, 502, 504] {
            assert!(matches!(verdict(status, &[], (0, 10), 100), Err(Fault::Break(_))), "{status}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_gives_more_than_was_asked_for(
            range in "(bytes |items )?[+ -]{0,1}[0-9]{0,21}-[0-9]{0,21}/([0-9]{0,21}|[*])", length in "-?[0-9]{0,21}",
            start in 0u64..1 << 40, n in 1u64..1 << 40, status in 100u16..600,
        ) {
            let headers = [("content-range", range.as_str()), ("content-length", length.as_str())];
            if let Ok(told) = verdict(status, &headers, (start, start + n), start + n) {
                proptest::prop_assert!(told.body.start == start && told.body.end <= start + n && !told.body.is_empty());
            }
            let _ = retry_after(&length, SystemTime::now());
        }
    }

    #[test]
    fn a_busy_server_says_how_long_within_bounds() {
        let wait = |v: &str| match verdict(503, &[("retry-after", v)], (0, 10), 100) {
            Err(Fault::Busy { wait, .. }) => wait.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait("7"), 7);
        assert_eq!(wait("99999999999999"), 60);
        assert_eq!(wait("-3"), 2);
        assert_eq!(wait("Fri, 31 Dec 2100 23:59:59 GMT"), 60);
        assert_eq!(wait("Fri, 31 Dec 1999 23:59:59 GMT"), 0);
    }
}
