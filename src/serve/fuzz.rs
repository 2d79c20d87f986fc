//! What must hold of whatever a request says: its path, range, conditions and credentials.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderValue, header};

use super::auth::Auth;
use super::http::{MAX_RANGES, Verdict, Wanted, judge, parse_range, visitor};
use super::source::{Version, path};

/// A length, then a line each: path, query, range, condition, credentials, proxies.
pub fn request(input: &[u8]) {
    let (len, rest) = input.split_at_checked(8).unwrap_or((input, &[]));
    let len = len.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let text = String::from_utf8_lossy(rest);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (url_path, query, range, condition, credentials, proxies) = (next(), next(), next(), next(), next(), next());

    for name in path::names(url_path).unwrap_or_default() {
        assert!(!name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']), "{name:?}");
        assert_eq!(path::decode(&path::encode(&name)).as_deref(), Some(name.as_str()));
    }
    if let Wanted::Parts(parts) = parse_range(range, len) {
        assert!((1..=MAX_RANGES).contains(&parts.len()));
        assert!(parts.iter().all(|p| !p.is_empty() && p.end <= len));
        assert!(parts.iter().map(|p| u128::from(p.len())).sum::<u128>() <= u128::from(len));
    }
    let version = Version { etag: "\"1\"".into(), modified: Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000)) };
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes());
    for name in [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE, header::IF_MODIFIED_SINCE] {
        let Ok(value) = value(condition) else { continue };
        let ours = value == "\"1\"" || condition.contains("\"1\"") || condition.contains('*');
        let verdict = judge(&HeaderMap::from_iter([(name.clone(), value)]), &version);
        // A tag that is not ours never passes for it.
        assert!(ours || name != header::IF_MATCH || verdict == Verdict::Failed, "{condition:?}");
        assert!(ours || name != header::IF_NONE_MATCH || verdict == Verdict::Send, "{condition:?}");
    }
    let auth = Auth::new(Some("a token that no fuzzer knows"));
    let mut headers = HeaderMap::new();
    if let Ok(value) = value(credentials) {
        headers.insert(header::AUTHORIZATION, value);
    }
    let query = Some(query).filter(|q| !q.is_empty());
    assert!(auth.check(&headers, url_path, query, SystemTime::now()).is_err());
    if let Ok(value) = value(proxies) {
        headers.insert("x-forwarded-for", value);
    }
    let peer = "192.0.2.1".parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    assert_eq!(visitor(&[], peer, &headers), peer);
    if let Ok(all) = "0.0.0.0/0".parse() {
        let _ = visitor(&[all], peer, &headers);
    }
}
