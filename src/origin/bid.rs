//! Bids over the wire: `POST {origin}/v1/bids`, and the headers by which a range names what it is counted against.
//!
//! Invariants: an answer is believed only as far as it makes sense (never more bits than were bid for, never valid for longer
//! than a minute). Names of grants go to the host that gave them and to no other, wherever it redirects.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use url::Url;

use super::api::OriginEvent;
use super::map;
use super::state::Shared;

/// Where an origin takes bids.
pub(super) const PATH: &str = "/v1/bids";
/// Who asks: an id that the player draws anew for each stream.
pub(super) const VIEWER: &str = "sluicegate-viewer";
/// The grants that a range is counted against, separated by commas.
pub(super) const GRANT: &str = "sluicegate-grant";
/// An answer later than this is of no use: the next bid is under way.
const TIMEOUT: Duration = Duration::from_secs(5);
/// An answer is one short object.
const ANSWER_MOST: usize = 4 * 1024;
/// Grants' names are a signature and what it signs.
const NAME_MOST: usize = 512;
/// A grant that is said to last longer is taken to last this long: the engine lets them lapse anyway.
const LIFE_MOST: Duration = Duration::from_secs(60);

/// On whose behalf an origin is asked.
#[derive(Debug, Clone, Default)]
pub struct Bidder {
    /// Drawn at random, and for this stream only.
    pub viewer: String,
    /// Hexadecimal.
    pub info_hash: String,
}

/// What is bid, in bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BidOut {
    pub max_bits: u64,
    /// Bits that fall due in each second of the horizon.
    pub due_bits: Vec<u64>,
}

#[derive(Serialize)]
struct Body<'a> {
    info_hash: &'a str,
    viewer: &'a str,
    horizon_ms: u64,
    max_bits: u64,
    due_bits: &'a [u64],
    /// What the viewer was given: a link that is signed speaks for its bids as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    grant_bits: u64,
    expires_ms: u64,
    grant: String,
}

/// A bid's outcome but for whose it is.
struct Won {
    name: String,
    bits: u64,
    life: Duration,
}

/// Why there is none: whether the server knows nothing of bids.
struct Lost {
    plain: bool,
}

/// Submits a bid and tells what came of it.
pub(super) async fn run(shared: std::sync::Arc<Shared>, bid: BidOut) {
    let stop = shared.root.clone();
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        outcome = tokio::time::timeout(TIMEOUT, submit(&shared, &bid)) => outcome,
    };
    let origin = shared.id();
    let event = match outcome {
        Ok(Ok(won)) => {
            shared.takes_bids(true);
            OriginEvent::Granted { origin, name: won.name, bits: won.bits, life: won.life }
        }
        Ok(Err(Lost { plain })) => {
            if plain {
                shared.takes_bids(false);
            }
            OriginEvent::BidFailed { origin, plain }
        }
        Err(_) => OriginEvent::BidFailed { origin, plain: false },
    };
    shared.tell(event).await;
}

async fn submit(shared: &Shared, bid: &BidOut) -> Result<Won, Lost> {
    const BROKE: Lost = Lost { plain: false };
    let bidder = shared.bidder();
    let given = shared.map.parts.first().and_then(|p| map::parse(&p.url).ok()).ok_or(Lost { plain: true })?;
    let at = address(&given).ok_or(Lost { plain: true })?;
    let path = given.query().map(|q| format!("{}?{q}", given.path()));
    let body = Body {
        info_hash: &bidder.info_hash,
        viewer: &bidder.viewer,
        horizon_ms: bid.due_bits.len() as u64 * 1000,
        max_bits: bid.max_bits,
        due_bits: &bid.due_bits,
        path: path.as_deref(),
    };
    let body = serde_json::to_vec(&body).map_err(|_| BROKE)?;
    let client = shared.clients().reach(shared.route(), &at).await.map_err(|_| BROKE)?;
    let sent = Instant::now();
    let request = client.post(at).header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
    let mut response = request.send().await.map_err(|_| BROKE)?;
    // Whoever redirects a bid, or says that there is no such thing, is no origin that takes them. One that is too busy is.
    match response.status().as_u16() {
        200 => {}
        429 | 500 | 502..=504 => return Err(BROKE),
        _ => return Err(Lost { plain: true }),
    }
    let mut text = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|_| BROKE)? {
        if text.len() + part.len() > ANSWER_MOST {
            return Err(Lost { plain: true });
        }
        text.extend_from_slice(&part);
    }
    read(&text, bid.max_bits, sent.elapsed())
}

/// Reads an answer that took so long: the grant's life began when it was written, and a range has to get there in time.
fn read(text: &[u8], max_bits: u64, took: Duration) -> Result<Won, Lost> {
    let Answer { grant_bits, expires_ms, grant } = serde_json::from_slice(text).map_err(|_| Lost { plain: true })?;
    let name = grant.len() <= NAME_MOST && grant.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    if !name || grant.is_empty() && grant_bits > 0 {
        return Err(Lost { plain: true });
    }
    let life = Duration::from_millis(expires_ms).min(LIFE_MOST).saturating_sub(took);
    Ok(Won { name: grant, bits: grant_bits.min(max_bits), life })
}

/// Where bids for what is behind `url` go; with the same credentials.
fn address(url: &Url) -> Option<Url> {
    let mut at = url.join(PATH).ok()?;
    at.set_query(None);
    // Neither fails: both are http(s).
    let _ = at.set_username(url.username());
    let _ = at.set_password(url.password());
    Some(at)
}

/// What a range's request says of who asks, to the host of `home` only.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    home: url::Origin,
    viewer: HeaderValue,
    grants: Option<HeaderValue>,
}

impl Claim {
    pub fn new(home: &Url, viewer: &str, grants: &[String]) -> Option<Self> {
        let value = |text: &str| HeaderValue::from_str(text).ok();
        let grants = if grants.is_empty() { None } else { Some(value(&grants.join(","))?) };
        Some(Self { home: home.origin(), viewer: value(viewer).filter(|v| !v.is_empty())?, grants })
    }

    /// Puts its headers on a request to `at`.
    pub fn on(&self, request: reqwest::RequestBuilder, at: &Url) -> reqwest::RequestBuilder {
        if at.origin() != self.home {
            return request;
        }
        let request = request.header(VIEWER, self.viewer.clone());
        match &self.grants {
            Some(grants) => request.header(GRANT, grants.clone()),
            None => request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_only_as_far_as_it_makes_sense() {
        let took = Duration::from_millis(40);
        let read = |text: &str| read(text.as_bytes(), 1000, took).map_err(|l| l.plain);
        let won = read(r#"{"grant_bits":5000,"expires_ms":2000,"grant":"a.b","more":1}"#).unwrap_or_else(|_| panic!());
        assert_eq!((won.bits, won.life, won.name.as_str()), (1000, Duration::from_millis(1960), "a.b"));
        let long =
            read(r#"{"grant_bits":1,"expires_ms":18446744073709551615,"grant":"a"}"#).unwrap_or_else(|_| panic!());
        assert!(long.life <= LIFE_MOST);
        for bad in [
            "<html>",
            "{}",
            r#"{"grant_bits":-1,"expires_ms":2000,"grant":"a"}"#,
            r#"{"grant_bits":1,"expires_ms":2000,"grant":""}"#,
            r#"{"grant_bits":1,"expires_ms":2000,"grant":"a,b"}"#,
            r#"{"grant_bits":1,"expires_ms":2000,"grant":"a\r\nX: y"}"#,
        ] {
            assert!(matches!(read(bad), Err(true)), "{bad}");
        }
    }

    #[test]
    fn bids_go_to_the_host_of_the_film_with_its_credentials() {
        let url = Url::parse("https://me:secret@films.example:8443/a/film.mkv?sig=1").unwrap();
        assert_eq!(address(&url).unwrap().as_str(), "https://me:secret@films.example:8443/v1/bids");
    }

    #[test]
    fn grants_are_shown_to_nobody_else() {
        let home = Url::parse("https://films.example/film").unwrap();
        let claim = Claim::new(&home, "v", &["g1".into(), "g2".into()]).unwrap();
        let client = reqwest::Client::new();
        let of = |to: &str| {
            let to = Url::parse(to).unwrap();
            let request = claim.on(client.get(to.clone()), &to).build().unwrap();
            request.headers().get(GRANT).map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(of("https://films.example/other").as_deref(), Some("g1,g2"));
        assert_eq!(of("https://cdn.example/film"), None);
    }
}
