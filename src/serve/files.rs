//! Files by range. tower-http reads requests and ranges; what a path may lead to is checked here first.
//!
//! Invariant: the file that is opened lies, with every link resolved, inside the root.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::services::{ServeDir, ServeFile};

use super::bids::Visitor;
use super::gate::Gate;

/// Routes for the files of `root`, a folder, or for the one file that it is. Fails when it cannot be read.
pub(super) fn router(root: &Path, gate: Gate) -> io::Result<Router> {
    let root = root.canonicalize()?;
    let router = if root.is_dir() {
        let files = ServeDir::new(&root).append_index_html_on_directories(false);
        Router::new().fallback_service(files).layer(from_fn_with_state(root, inside))
    } else {
        // Opened once, so that a file nobody may read is told of now and not by each viewer.
        std::fs::File::open(&root)?;
        let file = ServeFile::new(&root);
        let name = root.file_name().map(|n| encode(&n.to_string_lossy())).unwrap_or_default();
        Router::new().route_service("/", file.clone()).route_service(&format!("/{name}"), file)
    };
    Ok(router.layer(from_fn_with_state(gate, paced)))
}

async fn paced(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    let headers = request.headers().clone();
    let visitor = request.extensions().get::<Visitor>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |v| v.0);
    let response = next.run(request).await;
    let (head, body) = response.into_parts();
    let len = hyper::body::Body::size_hint(&body).exact().unwrap_or_default();
    let turn = gate.admit(&headers, visitor, len);
    Response::from_parts(head, turn.body(body.into_data_stream()))
}

/// Lets a request on only if what it names lies inside the root.
async fn inside(State(root): State<PathBuf>, request: Request, next: Next) -> Response {
    let Some(relative) = relative(request.uri().path()) else { return StatusCode::NOT_FOUND.into_response() };
    match tokio::fs::canonicalize(root.join(relative)).await {
        Ok(path) if path.starts_with(&root) => next.run(request).await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The relative path that a URL path names; `None` when it climbs, is hidden, or is no path at all.
fn relative(url_path: &str) -> Option<PathBuf> {
    let decoded = decode(url_path.trim_start_matches('/'))?;
    let mut path = PathBuf::new();
    for component in Path::new(&decoded).components() {
        match component {
            Component::Normal(c) if !c.to_string_lossy().starts_with('.') => path.push(c),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Percent-decoding. `None` on a broken escape, NUL, backslash or what is no UTF-8.
fn decode(s: &str) -> Option<String> {
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        let b = match b {
            b'%' => {
                let hex = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            b => b,
        };
        if matches!(b, 0 | b'\\') {
            return None;
        }
        out.push(b);
    }
    String::from_utf8(out).ok()
}

/// A file name as a route that only it matches: braces and the like mean something to the router.
fn encode(name: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    name.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_path_climbs(path in "/([./%a2eEfF5cC0]|..){0,40}") {
            if let Some(p) = relative(&path) {
                proptest::prop_assert!(p.is_relative() && p.components().all(|c| matches!(c, Component::Normal(_))));
            }
        }
    }

    #[test]
    fn paths_that_climb_or_hide_are_none() {
        assert_eq!(relative("/a%20b/c.mkv"), Some("a b/c.mkv".into()));
        assert_eq!(relative("//a"), Some("a".into()));
        for bad in [
            "/..",
            "/a/../../b",
            "/%2e%2e/b",
            "/a/%2E%2E%2Fb",
            "/a%00",
            "/a%5c..%5cb",
            "/%zz",
            "/%",
            "/%ff",
            "/.ssh/id",
        ] {
            assert_eq!(relative(bad), None, "{bad}");
        }
    }
}
