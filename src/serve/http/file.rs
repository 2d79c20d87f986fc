//! GET and HEAD of a file: which bytes, with what head.
//!
//! Invariant: the head tells exactly the length of the body, and both are of the version that the ETag names.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;

use super::body::Part;
use super::conditional::{Verdict, judge, whole_seconds};
use super::range::{self, Wanted};
use super::types::content_type;
use super::{BIDS, Refused, Routed, Site, Visit};
use crate::serve::bids::BIDS_PATH;
use crate::serve::gate::Turn;
use crate::serve::source::{Object, OpenError};
use crate::units::ByteRange;

/// A body to be made.
pub(super) struct Sending {
    pub parts: Vec<Part>,
    pub object: Object,
    pub turn: Turn,
    pub room: OwnedSemaphorePermit,
}

impl Site {
    pub(super) async fn file(
        &self,
        asked: &HeaderMap,
        head: bool,
        names: &[String],
        visit: &Visit,
    ) -> Result<Routed, Refused> {
        let room = self.files.clone().try_acquire_owned().map_err(|_| Refused::busy())?;
        let object = self.tree.find(names).await.map_err(|e| match e {
            OpenError::NotFound => Refused::not_found(),
            OpenError::Busy => Refused::busy(),
            OpenError::Failed => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "The file cannot be read."),
        })?;
        let kind = content_type(names.last().map_or(object.name.as_str(), String::as_str));
        let mut response = Response::new(Body::empty());
        self.describe(&object, response.headers_mut());
        let verdict = judge(asked, &object.version);
        match verdict {
            Verdict::NotModified => *response.status_mut() = StatusCode::NOT_MODIFIED,
            Verdict::Failed => {
                return Err(Refused::new(
                    StatusCode::PRECONDITION_FAILED,
                    "changed",
                    "The file is not that one any more.",
                ));
            }
            Verdict::Send | Verdict::SendWhole => {}
        }
        if verdict == Verdict::NotModified {
            return Ok(Routed::Done(response));
        }
        let wanted = match asked.get(header::RANGE).map(|v| v.to_str()) {
            // RFC 9110 §14.2: ranges are defined for GET alone.
            Some(Ok(value)) if !head && verdict == Verdict::Send => range::parse(value, object.len),
            _ => Wanted::Whole,
        };
        let (parts, kind) = match wanted {
            Wanted::Whole => (vec![Part::File(ByteRange::new(0, object.len))], HeaderValue::from_static(kind)),
            Wanted::Unsatisfiable => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                response.headers_mut().insert(header::CONTENT_RANGE, text(&format!("bytes */{}", object.len)));
                return Ok(Routed::Done(response));
            }
            Wanted::Parts(ranges) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                match ranges.as_slice() {
                    [range] => {
                        response.headers_mut().insert(header::CONTENT_RANGE, text(&content_range(*range, object.len)));
                        (vec![Part::File(*range)], HeaderValue::from_static(kind))
                    }
                    ranges => {
                        // Bytes of the file that happen to be the boundary must not end a part.
                        let boundary = format!("{:032x}", rand::random::<u128>());
                        let parts = multipart(ranges, object.len, kind, &boundary);
                        (parts, text(&format!("multipart/byteranges; boundary={boundary}")))
                    }
                }
            }
        };
        let len: u64 = parts.iter().map(Part::len).sum();
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response.headers_mut().insert(header::CONTENT_LENGTH, text(&len.to_string()));
        if head || len == 0 {
            return Ok(Routed::Done(response));
        }
        let turn = self.gate.admit(asked, visit.from, len);
        Ok(Routed::File(response, Box::new(Sending { parts, object, turn, room })))
    }

    /// What is said of a file whatever is sent of it.
    fn describe(&self, object: &Object, headers: &mut HeaderMap) {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::ETAG, text(&object.version.etag));
        if let Some(modified) = object.version.modified {
            headers.insert(header::LAST_MODIFIED, text(&httpdate::fmt_http_date(whole_seconds(modified))));
        }
        if !self.auth.is_open() {
            // What is not for everybody is not for caches that everybody shares.
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        headers.insert(BIDS, HeaderValue::from_static(BIDS_PATH));
    }
}

fn content_range(range: ByteRange, len: u64) -> String {
    format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1))
}

/// RFC 9110 §14.6.
fn multipart(ranges: &[ByteRange], len: u64, kind: &str, boundary: &str) -> Vec<Part> {
    let mut parts = Vec::with_capacity(ranges.len() * 2 + 1);
    let mut line = "";
    for range in ranges {
        let head = format!(
            "{line}--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n",
            content_range(*range, len)
        );
        parts.push(Part::Text(Bytes::from(head)));
        parts.push(Part::File(*range));
        line = "\r\n";
    }
    parts.push(Part::Text(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    parts
}

/// ASCII of our own making; anything else would be left out rather than break the answer.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}
