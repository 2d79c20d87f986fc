//! Who may read: those with the token, and those with an address that somebody with the token signed.
//!
//! Invariant: neither how long a comparison takes nor what is answered tells how near a guess was.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use axum::http::{HeaderMap, header};
use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};

use super::source::path;

/// Sets what is signed here apart from anything else signed with the same token.
const DOMAIN: &str = "sluicegate url 1";

/// RFC 4648 §4; who leaves the padding out is understood.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Longer tokens are a mistake; headers end at 64 KiB anyway.
const MAX_CREDENTIAL: usize = 4096;

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denied {
    /// Neither token nor signature.
    Missing,
    Wrong,
    Expired,
}

/// Checks credentials.
pub struct Auth {
    /// `None`: everybody may.
    key: Option<hmac::Key>,
}

impl Auth {
    /// With the token that viewers must present; without one everybody may read.
    pub fn new(token: Option<&str>) -> Self {
        Self { key: token.map(|t| hmac::Key::new(hmac::HMAC_SHA256, t.as_bytes())) }
    }

    /// Whether anybody is kept out at all.
    pub fn is_open(&self) -> bool {
        self.key.is_none()
    }

    /// Whether a request with these headers may read `url_path`, with what stands behind its `?`.
    pub fn check(
        &self,
        headers: &HeaderMap,
        url_path: &str,
        query: Option<&str>,
        now: SystemTime,
    ) -> Result<(), Denied> {
        let Some(key) = &self.key else { return Ok(()) };
        match self.bearer(key, headers) {
            Err(Denied::Missing) => signed(key, url_path, query, now),
            said => said,
        }
    }

    /// `url_path?expires=…&sig=…`, good for that path until `expires`. `None` without a token, or for a path that is none.
    pub fn sign(&self, url_path: &str, expires: SystemTime) -> Option<String> {
        let (key, names) = (self.key.as_ref()?, path::names(url_path)?);
        let expires = expires.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let sig = hex::encode(hmac::sign(key, &message(&names, expires)).as_ref());
        let encoded: Vec<String> = names.iter().map(|n| path::encode(n)).collect();
        Some(format!("/{}?expires={expires}&sig={sig}", encoded.join("/")))
    }

    /// `Authorization: Bearer TOKEN`, or `Basic` with the token as password: what `https://any:TOKEN@host/` becomes.
    fn bearer(&self, key: &hmac::Key, headers: &HeaderMap) -> Result<(), Denied> {
        let value = headers.get(header::AUTHORIZATION).ok_or(Denied::Missing)?;
        let (scheme, rest) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or(Denied::Wrong)?;
        let rest = rest.trim();
        if rest.len() > MAX_CREDENTIAL {
            return Err(Denied::Wrong);
        }
        let given = if scheme.eq_ignore_ascii_case("bearer") {
            rest.as_bytes().to_vec()
        } else if scheme.eq_ignore_ascii_case("basic") {
            let login = BASIC.decode(rest).map_err(|_| Denied::Wrong)?;
            let colon = login.iter().position(|b| *b == b':').ok_or(Denied::Wrong)?;
            login.get(colon + 1..).unwrap_or_default().to_vec()
        } else {
            return Err(Denied::Wrong);
        };
        // Tags under the key that is the token: equal exactly when the tokens are, compared in constant time.
        let theirs = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &given), DOMAIN.as_bytes());
        hmac::verify(key, DOMAIN.as_bytes(), theirs.as_ref()).map_err(|_| Denied::Wrong)
    }
}

/// `?expires=UNIX&sig=HEX`, among whatever else the query says.
fn signed(key: &hmac::Key, url_path: &str, query: Option<&str>, now: SystemTime) -> Result<(), Denied> {
    let (mut expires, mut sig) = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "expires" => expires = Some(value),
            "sig" => sig = Some(value),
            _ => {}
        }
    }
    let (Some(expires), Some(sig)) = (expires, sig) else { return Err(Denied::Missing) };
    let digits = expires.bytes().all(|b| b.is_ascii_digit());
    let expires: u64 = expires.parse().ok().filter(|_| digits).ok_or(Denied::Wrong)?;
    let (sig, names) = (hex::decode(&*sig).map_err(|_| Denied::Wrong)?, path::names(url_path).ok_or(Denied::Wrong)?);
    hmac::verify(key, &message(&names, expires), &sig).map_err(|_| Denied::Wrong)?;
    match UNIX_EPOCH.checked_add(Duration::from_secs(expires)) {
        Some(end) if now >= end => Err(Denied::Expired),
        _ => Ok(()),
    }
}

/// What is signed: names, not their escapes, which proxies may change. No name holds a slash or a line feed.
fn message(names: &[String], expires: u64) -> Vec<u8> {
    format!("{DOMAIN}\n{expires}\n/{}", names.join("/")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    fn at(s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(s)
    }

    #[test]
    fn tokens() {
        let auth = Auth::new(Some("s3cret"));
        let check = |value: &str| auth.check(&with(value), "/f", None, at(0));
        assert_eq!(check("Bearer s3cret"), Ok(()));
        assert_eq!(check("bearer  s3cret"), Ok(()));
        // any:s3cret and s3cret, the user who forgot the colon
        assert_eq!(check("Basic YW55OnMzY3JldA=="), Ok(()));
        assert_eq!(check("Basic YW55OnMzY3JldA"), Ok(()));
        assert_eq!(check("Basic czNjcmV0"), Err(Denied::Wrong));
        for wrong in
            ["Bearer", "Bearer S3cret", "Bearer s3cre", "Bearer s3cret2", "Digest s3cret", "Basic %%%", "Bearer "]
        {
            assert_eq!(check(wrong), Err(Denied::Wrong), "{wrong}");
        }
        assert_eq!(auth.check(&HeaderMap::new(), "/f", None, at(0)), Err(Denied::Missing));
        assert_eq!(Auth::new(None).check(&HeaderMap::new(), "/f", None, at(0)), Ok(()));
        // A token longer than HMAC's block is hashed first: the hash must not pass for it by accident of ours.
        let long = "x".repeat(100);
        assert_eq!(Auth::new(Some(&long)).check(&with(&format!("Bearer {long}")), "/", None, at(0)), Ok(()));
    }

    #[test]
    fn signed_addresses() {
        let auth = Auth::new(Some("s3cret"));
        let url = auth.sign("/a%20b/film.mkv", at(1000)).unwrap();
        let (path, query) = url.split_once('?').unwrap();
        assert_eq!(path, "/a%20b/film.mkv");
        let check = |path: &str, query: &str, now| auth.check(&HeaderMap::new(), path, Some(query), at(now));
        assert_eq!(check(path, query, 999), Ok(()));
        assert_eq!(check("/a b/./film%2Emkv", &format!("x=1&{query}"), 999), Ok(()));
        assert_eq!(check(path, query, 1000), Err(Denied::Expired));
        assert_eq!(check("/a%20b/other.mkv", query, 999), Err(Denied::Wrong));
        assert_eq!(check(path, &query.replace("1000", "2000"), 999), Err(Denied::Wrong));
        assert_eq!(check(path, query.trim_end_matches(|c: char| c.is_ascii_hexdigit()), 999), Err(Denied::Wrong));
        for (query, why) in [
            ("expires=1000", Denied::Missing),
            ("sig=00", Denied::Missing),
            ("expires=x&sig=00", Denied::Wrong),
            ("expires=-1&sig=00", Denied::Wrong),
            ("expires=99999999999999999999&sig=00", Denied::Wrong),
            ("expires=1000&sig=zz", Denied::Wrong),
            ("expires=1000&sig=0", Denied::Wrong),
        ] {
            assert_eq!(check(path, query, 999), Err(why), "{query}");
        }
        let far = auth.sign("/f", at(u64::MAX / 4)).unwrap();
        assert_eq!(check("/f", far.split_once('?').unwrap().1, 999), Ok(()));
        assert_eq!(auth.sign("/../x", at(1)), None);
        assert_eq!(Auth::new(Some("other")).check(&HeaderMap::new(), path, Some(query), at(1)), Err(Denied::Wrong));
    }

    proptest::proptest! {
        #[test]
        fn no_query_and_no_header_gets_in(query in "[a-z0-9=&%]{0,60}", value in "(Basic |Bearer )?[ -~]{0,40}") {
            let auth = Auth::new(Some("a token that nobody guesses"));
            proptest::prop_assert!(auth.check(&HeaderMap::new(), "/f", Some(&query), at(0)).is_err());
            proptest::prop_assert!(auth.check(&with(&value), "/f", Some(&query), at(0)).is_err());
        }
    }
}
