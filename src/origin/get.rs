//! URLs that the user opens: is it a torrent, or a video that can be played?

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use url::Url;

use super::check::{self, content_length, content_range, content_type, usable};
use super::client::{Clients, Opened, STALL_TIMEOUT, blame, describe, open};
use super::error::{Fault, OriginError};
use super::map::{host_of, parse};
use crate::net::NetRoute;
use crate::units::ByteRange;

/// Bytes looked at to tell a torrent from a video.
const HEAD: u64 = 4 * 1024;
/// A small file that takes longer than this is not going to come.
const SMALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What is behind a URL that the user opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlProbe {
    /// Length in bytes; 0 where a torrent's is not told.
    pub len: u64,
    /// Parts of it can be asked for, so that one can seek.
    pub ranges: bool,
    /// Media type in lower case, without parameters; empty when not told.
    pub content_type: String,
    /// It is a torrent's metainfo: fetch it with [`get_small`].
    pub is_torrent: bool,
    /// After redirects. Like the URL asked for it may carry credentials: not for display.
    pub final_url: String,
}

/// Looks at the first bytes behind `url`. Fails where nothing playable can be there: no such file, a web page, a file
/// of unknown length.
pub async fn probe_url(route: &NetRoute, url: &str) -> Result<UrlProbe, OriginError> {
    let asked = parse(url)?;
    let mut opened = open(&Clients::common(), route, &asked, Some(ByteRange::new(0, HEAD)), None)
        .await
        .map_err(|f| blame(&asked, f))?;
    let host = opened.url.clone();
    look(&mut opened).await.map_err(|f| blame(&host, f))
}

async fn look(opened: &mut Opened) -> Result<UrlProbe, Fault> {
    let (status, headers) = (opened.response.status(), opened.response.headers());
    // An empty file has no first byte to give: 416 with its length.
    usable(status, headers)?;
    let (ranges, len) = match status.as_u16() {
        206 => {
            let told =
                headers.get(reqwest::header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).and_then(content_range);
            let told = told.filter(|t| t.body.start == 0);
            let told = told.ok_or_else(|| Fault::Refused("answers a range without saying which".into()))?;
            (true, told.total)
        }
        _ => (false, content_length(headers)?),
    };
    let content_type = content_type(headers);
    let page = check::is_web_page(headers);
    let head = head(&mut opened.response).await?;
    let is_torrent = content_type == "application/x-bittorrent" || looks_like_torrent(&head);
    if !is_torrent {
        if page || looks_like_page(&head) {
            return Err(Fault::Refused("has a web page there, not a video or a torrent".into()));
        }
        if len.is_none() {
            return Err(Fault::Refused("does not say how long the file is".into()));
        }
    }
    let len = len.unwrap_or(0);
    if len == 0 && !is_torrent {
        return Err(Fault::Refused("has an empty file there".into()));
    }
    Ok(UrlProbe { len, ranges, content_type, is_torrent, final_url: opened.url.to_string() })
}

/// The first bytes of a body. A body that ends with them leaves its connection open for what is fetched next.
async fn head(response: &mut Response) -> Result<Vec<u8>, Fault> {
    let mut head = Vec::new();
    while head.len() < HEAD as usize {
        match next(response).await? {
            Some(bytes) => head.extend_from_slice(&bytes),
            None => return Ok(head),
        }
    }
    if response.status().as_u16() == 206 {
        // Only now does the client see that the body is over.
        let _ = tokio::time::timeout(Duration::from_millis(500), response.chunk()).await;
    }
    head.truncate(HEAD as usize);
    Ok(head)
}

async fn next(response: &mut Response) -> Result<Option<Bytes>, Fault> {
    match tokio::time::timeout(STALL_TIMEOUT, response.chunk()).await {
        Err(_) => Err(Fault::Break("sends nothing any more".into())),
        Ok(Err(e)) => Err(Fault::Break(describe(&e))),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Fetches a file of at most `max` bytes whole: a .torrent. Fails on anything longer, and after a minute.
pub async fn get_small(route: &NetRoute, url: &str, max: usize) -> Result<Bytes, OriginError> {
    let asked = parse(url)?;
    match tokio::time::timeout(SMALL_TIMEOUT, whole(route, &asked, max)).await {
        Ok(result) => result,
        Err(_) => Err(blame(&asked, Fault::Break("is too slow".into()))),
    }
}

async fn whole(route: &NetRoute, asked: &Url, max: usize) -> Result<Bytes, OriginError> {
    let mut opened = open(&Clients::common(), route, asked, None, None).await.map_err(|f| blame(asked, f))?;
    let at = opened.url.clone();
    let (status, headers) = (opened.response.status(), opened.response.headers());
    usable(status, headers).map_err(|f| blame(&at, f))?;
    if check::is_web_page(headers) {
        return Err(blame(&at, Fault::Refused("has a web page there, not a torrent".into())));
    }
    let told = content_length(headers).map_err(|f| blame(&at, f))?;
    let too_large = || OriginError::TooLarge { host: host_of(&at), max };
    if told.is_some_and(|n| n > max as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(bytes) = next(&mut opened.response).await.map_err(|f| blame(&at, f))? {
        if body.len() + bytes.len() > max {
            return Err(too_large());
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body.freeze())
}

fn looks_like_page(head: &[u8]) -> bool {
    let text: String =
        String::from_utf8_lossy(head.get(..head.len().min(512)).unwrap_or_default()).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with("<!doctype html") || text.starts_with("<html")
}

/// Whether `head` is a bencoded dictionary, or the beginning of one with a whole first entry.
fn looks_like_torrent(head: &[u8]) -> bool {
    let Some(mut rest) = head.strip_prefix(b"d") else { return false };
    let (mut depth, mut tokens) = (1usize, 0usize);
    while depth > 0 {
        let Some(&first) = rest.first() else { return tokens >= 2 };
        let skip = match first {
            b'd' | b'l' => {
                depth += 1;
                1
            }
            b'e' => {
                depth -= 1;
                1
            }
            b'i' => match rest.iter().position(|&b| b == b'e') {
                Some(end) if integer(rest.get(1..end).unwrap_or_default()) => end + 1,
                Some(_) => return false,
                None => return tokens >= 2 && rest.len() < 24,
            },
            b'0'..=b'9' => match rest.iter().position(|&b| b == b':') {
                Some(colon) if colon <= 10 => {
                    let len = std::str::from_utf8(rest.get(..colon).unwrap_or_default())
                        .ok()
                        .and_then(|s| s.parse::<usize>().ok());
                    let Some(len) = len else { return false };
                    // The string may end beyond what was looked at.
                    (colon + 1).saturating_add(len)
                }
                Some(_) => return false,
                None => return tokens >= 2 && rest.len() <= 10,
            },
            _ => return false,
        };
        tokens += 1;
        rest = rest.get(skip..).unwrap_or_default();
    }
    tokens > 2
}

fn integer(digits: &[u8]) -> bool {
    let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
    !unsigned.is_empty() && unsigned.len() <= 20 && unsigned.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_is_known_by_its_first_bytes() {
        assert!(looks_like_torrent(b"d8:announce20:http://t.example/ann4:infod4:name1:xee"));
        assert!(looks_like_torrent(b"d8:announce20:http://t.example/ann4:infod6:lengthi123"));
        assert!(looks_like_torrent(b"d4:infod6:pieces999999:abc"));
        assert!(looks_like_torrent(b"d4:infod6:lengthi5eee"));
        for no in [
            &b"de"[..],
            b"d",
            b"",
            b"<html>",
            b"\x1aE\xdf\xa3",
            b"doctor who",
            b"d-1:x",
            b"d4:infox",
            b"di-ee",
            b"d99999999999999999999:",
        ] {
            assert!(!looks_like_torrent(no), "{:?}", String::from_utf8_lossy(no));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_first_bytes_are_told_apart(bytes in proptest::collection::vec(proptest::prop_oneof![
            proptest::strategy::Just(b'd'), proptest::strategy::Just(b'i'), proptest::strategy::Just(b'e'),
            proptest::strategy::Just(b':'), b'0'..=b'9', proptest::num::u8::ANY], 0..300)) {
            let _ = (looks_like_torrent(&bytes), looks_like_page(&bytes));
        }
    }

    #[test]
    fn a_page_is_known_without_its_type() {
        assert!(looks_like_page(b"\xef\xbb\xbf \n<!DOCTYPE html><title>"));
        assert!(!looks_like_page(b"\0\0\0\x20ftypisom"));
    }
}
