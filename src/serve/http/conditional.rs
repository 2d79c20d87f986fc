//! Conditional requests (RFC 9110 §13): whether what the client has is still what there is.
//!
//! Invariant: bytes of one version are never sent to a client that asked to continue another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, header};

use super::super::source::Version;

/// What is to be done with a GET or HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Send,
    /// Send, but all of it: the client's part is of another version.
    SendWhole,
    /// 304
    NotModified,
    /// 412
    Failed,
}

/// Evaluates the preconditions in the order of RFC 9110 §13.2.2.
pub fn judge(headers: &HeaderMap, version: &Version) -> Verdict {
    let strong = |tag: &str| tag == "*" || (tag == version.etag && !tag.starts_with("W/"));
    let weak = |tag: &str| tag == "*" || tag.trim_start_matches("W/") == version.etag.trim_start_matches("W/");
    if headers.contains_key(header::IF_MATCH) {
        if !tags(headers, header::IF_MATCH).any(strong) {
            return Verdict::Failed;
        }
    } else if let Some(since) = date(headers, header::IF_UNMODIFIED_SINCE)
        && version.modified.is_some_and(|m| whole_seconds(m) > since)
    {
        return Verdict::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if tags(headers, header::IF_NONE_MATCH).any(weak) {
            return Verdict::NotModified;
        }
    } else if let Some(since) = date(headers, header::IF_MODIFIED_SINCE)
        && version.modified.is_some_and(|m| whole_seconds(m) <= since)
    {
        return Verdict::NotModified;
    }
    let Some(value) = headers.get(header::IF_RANGE).and_then(|v| v.to_str().ok()) else {
        return if headers.contains_key(header::IF_RANGE) { Verdict::SendWhole } else { Verdict::Send };
    };
    let value = value.trim();
    let same = match value.starts_with('"') || value.starts_with("W/") {
        true => strong(value),
        // Only the very date that was told will do (RFC 9110 §13.1.5).
        false => httpdate::parse_http_date(value).ok() == version.modified.map(whole_seconds),
    };
    if same { Verdict::Send } else { Verdict::SendWhole }
}

/// As an HTTP date can say it.
pub fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// A date that cannot be read is as if it were not there (RFC 9110 §13.1.3).
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Entity tags of a list. A comma may be part of a tag, so it is cut at the quotes.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).flat_map(|mut rest| {
        std::iter::from_fn(move || {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if let Some(after) = rest.strip_prefix('*') {
                rest = after;
                return Some("*");
            }
            let open = if rest.starts_with("W/") { 2 } else { 0 };
            let body = rest.get(open..)?.strip_prefix('"')?;
            let (tag, after) = rest.split_at_checked(open + 2 + body.find('"')?)?;
            rest = after;
            Some(tag)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LM: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn verdict(headers: &[(&'static str, &str)]) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let modified = httpdate::parse_http_date(LM).unwrap() + Duration::from_millis(500);
        judge(&map, &Version { etag: "\"a,b\"".into(), modified: Some(modified) })
    }

    #[test]
    fn each_condition_by_itself() {
        use Verdict::{Failed, NotModified, Send, SendWhole};
        for (name, value, expected) in [
            ("if-match", "\"x\", \"a,b\"", Send),
            ("if-match", "*", Send),
            ("if-match", "\"x\"", Failed),
            ("if-match", "W/\"a,b\"", Failed),
            ("if-match", "nonsense", Failed),
            ("if-none-match", "\"a,b\"", NotModified),
            ("if-none-match", "W/\"a,b\"", NotModified),
            ("if-none-match", "\"a\",\"b\"", Send),
            ("if-none-match", "*", NotModified),
            ("if-modified-since", LM, NotModified),
            ("if-modified-since", LATER, NotModified),
            ("if-modified-since", EARLIER, Send),
            ("if-modified-since", "yesterday", Send),
            ("if-unmodified-since", LM, Send),
            ("if-unmodified-since", EARLIER, Failed),
            ("if-range", "\"a,b\"", Send),
            ("if-range", "W/\"a,b\"", SendWhole),
            ("if-range", "\"old\"", SendWhole),
            ("if-range", LM, Send),
            ("if-range", LATER, SendWhole),
            ("if-range", EARLIER, SendWhole),
            ("if-range", "nonsense", SendWhole),
        ] {
            assert_eq!(verdict(&[(name, value)]), expected, "{name}: {value}");
        }
        assert_eq!(verdict(&[]), Send);
    }

    #[test]
    fn tags_go_before_dates_and_lists_may_be_split() {
        assert_eq!(verdict(&[("if-none-match", "\"x\""), ("if-modified-since", LATER)]), Verdict::Send);
        assert_eq!(verdict(&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")]), Verdict::Failed);
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_read(value in "[ -~]{0,40}") {
            for name in ["if-match", "if-none-match", "if-range", "if-modified-since"] {
                verdict(&[(name, &value)]);
            }
        }
    }
}
