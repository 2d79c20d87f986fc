//! What must hold of whatever is in the settings file, and of whatever is pasted.

use std::net::SocketAddr;
use std::str::FromStr;

use crate::app::args::{PeerAddr, SeekAt, http_url, listen_addr, seconds};
use crate::app::failure::{one_line, sentence};
use crate::app::open::{Wanted, classify};
use crate::app::settings::Settings;

/// The words of a settings file.
pub fn settings(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (s, problem) = Settings::parse(&text);
    assert!((1..=500).contains(&s.max_links) && s.web_seeds.len() <= 16);
    assert!(s.volume.is_none_or(|v| (0.0..=1.0).contains(&v)));
    assert!(s.cache_folder.is_none_or(|p| p.is_absolute()));
    assert!(problem.as_deref().is_none_or(is_one_sentence), "{problem:?}");
}

/// What is pasted or given as an argument.
pub fn open(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match classify(&text) {
        Ok(Wanted::Url(url)) => assert!(url::Url::parse(&url).is_ok_and(|u| u.has_host())),
        Ok(Wanted::Magnet(_) | Wanted::Path(_)) => {}
        Err(failure) => assert!(is_one_sentence(&failure.text.what), "{:?}", failure.text.what),
    }
    let _ = (SeekAt::from_str(&text), seconds(&text), http_url(&text));
    let port = |a: SocketAddr| a.port();
    let _ = listen_addr(&text).map(port);
    if let Ok(PeerAddr::Addr(a)) = PeerAddr::from_str(&text) {
        assert_ne!(a.port(), 0);
    }
    assert!(one_line(&text, 80).chars().count() <= 81);
}

/// Short, on one line, and nothing that moves a terminal's cursor.
fn is_one_sentence(said: &str) -> bool {
    let shown = sentence(said);
    said.chars().count() <= 500 && !shown.is_empty() && !shown.chars().any(char::is_control)
}
