//! What did the user hand us? First by looking at the words alone ([`classify`]), then by looking at what they point to
//! ([`resolve`]). Every way this can fail is one sentence and an advice.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::failure::{Failure, clause, one_line};
use crate::net::NetRoute;
use crate::origin::{OriginError, get_small, probe_url};
use crate::torrent::{Magnet, Metainfo, TorrentError};

/// What was handed over, by its words alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Magnet(Magnet),
    /// http or https.
    Url(String),
    /// Of a .torrent file or a video.
    Path(PathBuf),
}

/// What it turned out to be.
#[derive(Debug, Clone)]
pub enum Source {
    Torrent(Arc<Metainfo>),
    Magnet(Magnet),
    /// A video behind a plain http(s) address that serves ranges.
    Video {
        url: String,
    },
    /// A video on this machine.
    Local(PathBuf),
}

/// A .torrent larger than this is none: 100,000 files with long names stay below.
const TORRENT_MAX: u64 = 64 << 20;
/// More than this was not meant as something to open.
const TEXT_MAX: usize = 64 << 10;

const GET_OTHER: &str = "Look for a version 1 or hybrid torrent of it";
const OPENS: &str = "Sluicegate opens .torrent files, magnet links, info hashes, web addresses and video files";

/// Tells what pasted or typed text is. Of several lines the first one that can be opened counts.
pub fn classify(text: &str) -> Result<Wanted, Failure> {
    if text.len() > TEXT_MAX {
        return Err(Failure::input("That text is too long to be an address", OPENS));
    }
    let lines: Vec<&str> = text.lines().map(bare).filter(|l| !l.is_empty()).collect();
    let Some(first) = lines.first() else {
        return Err(Failure::input("There is nothing to open", OPENS));
    };
    let line = lines.iter().find(|l| is_address(l)).unwrap_or(first);
    classify_line(line)
}

/// The same for an argument, which may be a path in no known encoding.
pub fn classify_os(arg: &std::ffi::OsStr) -> Result<Wanted, Failure> {
    match arg.to_str() {
        Some(text) => classify(text),
        None => Ok(Wanted::Path(PathBuf::from(arg))),
    }
}

/// Without blanks, quotes or the angle brackets that mail programs put around addresses.
fn bare(line: &str) -> &str {
    let line = line.trim().trim_matches(|c: char| c == '\u{feff}' || c == '\0');
    for (open, close) in [('"', '"'), ('\'', '\''), ('<', '>'), ('`', '`')] {
        if let Some(inner) = line.strip_prefix(open).and_then(|l| l.strip_suffix(close)) {
            return inner.trim();
        }
    }
    line
}

fn is_address(line: &str) -> bool {
    starts_with(line, "magnet:") || scheme(line).is_some() || is_info_hash(line)
}

fn starts_with(line: &str, prefix: &str) -> bool {
    line.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix))
}

/// `http` of `http://…`, in lower case.
fn scheme(line: &str) -> Option<String> {
    let (scheme, _) = line.split_once("://")?;
    let plain =
        scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    plain.then(|| scheme.to_ascii_lowercase())
}

fn is_info_hash(s: &str) -> bool {
    let base32 = |b: u8| b.is_ascii_alphabetic() || (b'2'..=b'7').contains(&b);
    // 64 digits are a version 2 hash, which is refused as such.
    let hex = matches!(s.len(), 40 | 64) && s.bytes().all(|b| b.is_ascii_hexdigit());
    hex || (s.len() == 32 && s.bytes().all(base32))
}

fn classify_line(line: &str) -> Result<Wanted, Failure> {
    if starts_with(line, "magnet:") || is_info_hash(line) {
        return Magnet::parse(line).map(Wanted::Magnet).map_err(|e| {
            let advice = match e {
                TorrentError::V2Only => GET_OTHER,
                _ => "A magnet link holds xt=urn:btih and a hash of 40 letters and digits; copy the whole link",
            };
            Failure::input(e.to_string(), advice)
        });
    }
    match scheme(line).as_deref() {
        Some("http" | "https") => match url::Url::parse(line) {
            Ok(url) if url.has_host() => Ok(Wanted::Url(url.into())),
            _ => Err(Failure::input(
                format!("\"{}\" is not a web address", one_line(line, 80)),
                "Copy the whole address",
            )),
        },
        Some("file") => match url::Url::parse(line).ok().and_then(|u| u.to_file_path().ok()) {
            Some(path) => Ok(Wanted::Path(path)),
            None => Err(Failure::input("That file address names no file on this machine", "Open the file itself")),
        },
        Some(other) => {
            Err(Failure::input(format!("Addresses with {}:// cannot be opened", one_line(other, 20)), OPENS))
        }
        None => Ok(Wanted::Path(from_home(line))),
    }
}

/// A pasted `~/film.mp4` is meant as the shell would read it.
fn from_home(line: &str) -> PathBuf {
    let home = line.strip_prefix("~/").zip(std::env::var_os("HOME"));
    home.map_or_else(|| PathBuf::from(line), |(rest, home)| Path::new(&home).join(rest))
}

/// Looks at what the words point to. Reads files on a blocking thread and asks the server behind a web address; a caller
/// gives up by dropping the future.
///
/// A web address is asked for along `route`.
pub async fn resolve(wanted: Wanted, route: &NetRoute) -> Result<Source, Failure> {
    match wanted {
        Wanted::Magnet(magnet) => Ok(Source::Magnet(magnet)),
        Wanted::Path(path) => match tokio::task::spawn_blocking(move || resolve_path(&path)).await {
            Ok(found) => found,
            Err(_) => Err(Failure::machine("Reading the file broke off", "Try again")),
        },
        Wanted::Url(url) => resolve_url(url, route).await,
    }
}

/// A .torrent is told by how it starts, whatever it is called; all other files are handed to the demuxer.
pub fn resolve_path(path: &Path) -> Result<Source, Failure> {
    let name = file_name(path);
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Failure::input(
            format!("There is no file called {}", one_line(&path.to_string_lossy(), 300)),
            "Check the name, and whether the disk it lies on is there",
        ),
        ErrorKind::PermissionDenied => {
            Failure::input(format!("{name} may not be read"), "Change its permissions, or open it as another user")
        }
        // A name no file system takes is not the machine's fault either.
        _ => Failure::input(format!("{name} cannot be read: {e}"), "Check the disk it lies on"),
    };
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_dir() {
        return Err(Failure::input(format!("{name} is a folder"), "Open one of the files in it"));
    }
    // Opening a pipe or a device could wait for ever.
    if !meta.is_file() {
        return Err(Failure::input(format!("{name} is not a file that can be played"), OPENS));
    }
    if meta.len() == 0 {
        return Err(Failure::input(format!("{name} is empty"), "Download it again"));
    }
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut head = [0u8; 16];
    let n = file.read(&mut head).map_err(failed)?;
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("torrent"));
    if !named && !looks_like_bencode(head.get(..n).unwrap_or_default()) {
        return Ok(Source::Local(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())));
    }
    if meta.len() > TORRENT_MAX {
        return Err(Failure::input(format!("{name} is too large to be a torrent"), OPENS));
    }
    let mut bytes = head.get(..n).unwrap_or_default().to_vec();
    file.take(TORRENT_MAX).read_to_end(&mut bytes).map_err(failed)?;
    parse_torrent(&bytes, &name)
}

/// A dictionary whose first key has a length: `d8:announce…`.
fn looks_like_bencode(head: &[u8]) -> bool {
    let Some((b'd', rest)) = head.split_first() else { return false };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && digits < 4 && rest.get(digits) == Some(&b':')
}

fn parse_torrent(bytes: &[u8], name: &str) -> Result<Source, Failure> {
    let refused = |e: TorrentError| match e {
        TorrentError::NotATorrent => Failure::input(format!("{name} is not a torrent file"), OPENS),
        TorrentError::V2Only => {
            Failure::input(format!("{name} cannot be opened: {}", clause(&e.to_string())), GET_OTHER)
        }
        _ => Failure::input(
            format!("{name} cannot be opened: {}", clause(&e.to_string())),
            "Check that it was downloaded whole, or get it again",
        ),
    };
    Metainfo::parse(bytes).map(|meta| Source::Torrent(Arc::new(meta))).map_err(refused)
}

async fn resolve_url(url: String, route: &NetRoute) -> Result<Source, Failure> {
    let shown = shown_url(&url);
    let failed = |e: OriginError| {
        let advice = match e {
            OriginError::Refused { .. } => "Give the address of the video or of the .torrent file itself",
            _ => "Check the address and the connection, then open it again",
        };
        Failure::input(format!("{shown} cannot be opened: {}", clause(&e.to_string())), advice)
    };
    let probe = probe_url(route, &url).await.map_err(failed)?;
    if probe.is_torrent {
        return parse_torrent(&get_small(route, &url, TORRENT_MAX as usize).await.map_err(failed)?, &shown);
    }
    if !probe.ranges {
        let what =
            format!("The server of {shown} does not hand out parts of a file, so it cannot be played while it arrives");
        return Err(Failure::input(what, "Download it with a browser and open the file"));
    }
    Ok(Source::Video { url })
}

/// The last part of a path, for people.
pub fn file_name(path: &Path) -> String {
    one_line(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy(), 120)
}

/// A web address for people: without user name, password and query, which may be secrets.
pub fn shown_url(url: &str) -> String {
    let Ok(mut u) = url::Url::parse(url) else { return one_line(url, 120) };
    // Neither can fail for http and https; if it did, nothing secret may be shown.
    let clean = u.set_username("").and_then(|()| u.set_password(None)).is_ok();
    u.set_query(None);
    u.set_fragment(None);
    if clean { one_line(u.as_str(), 120) } else { u.host_str().unwrap_or_default().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(r: Result<impl std::fmt::Debug, Failure>) -> String {
        let f = r.unwrap_err();
        assert!(f.input && !f.text.advice.is_empty(), "{f:?}");
        f.text.what
    }

    #[test]
    fn words_alone_tell_the_kind() {
        assert_eq!(classify("  https://host/a b.mp4 \n").unwrap(), Wanted::Url("https://host/a%20b.mp4".into()));
        assert_eq!(classify("HTTP://[::1]:8080/x").unwrap(), Wanted::Url("http://[::1]:8080/x".into()));
        assert_eq!(classify("\"/films/a b.mkv\"").unwrap(), Wanted::Path("/films/a b.mkv".into()));
        assert_eq!(classify("file:///films/a%20b.mkv").unwrap(), Wanted::Path("/films/a b.mkv".into()));
        assert_eq!(classify("C:\\x.mkv").unwrap(), Wanted::Path("C:\\x.mkv".into()));
        assert_eq!(classify("# my list\nhttp://h/x\n").unwrap(), Wanted::Url("http://h/x".into()));
        assert_eq!(classify("<http://h/x>").unwrap(), Wanted::Url("http://h/x".into()));
        assert!(what(classify(" \n\t\n")).contains("nothing to open"));
        assert!(what(classify("ftp://h/x")).contains("ftp://"));
        assert!(what(classify(&"x".repeat(1 << 20))).contains("too long"));
        assert!(what(classify("http://")).contains("not a web address"));
        classify("magnet:?dn=x").unwrap_err();
        assert!(what(classify(&"a1".repeat(32))).contains("version 2"));
        assert!(is_info_hash(&"a1".repeat(20)) && is_info_hash(&"A7".repeat(16)) && !is_info_hash(&"g".repeat(40)));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_pasted_is_told_or_refused_in_a_sentence(text in "(magnet:\\?xt=urn:btih:|https?://|file://|~/|)\\PC{0,80}") {
            if let Err(f) = classify(&text) {
                proptest::prop_assert!(f.input && f.text.what.ends_with(['.', '!', '?', '…']), "{:?}", f);
            }
            let _ = (shown_url(&text), text.parse::<crate::app::args::SeekAt>(), text.parse::<crate::app::args::PeerAddr>());
        }
    }

    #[test]
    fn what_lies_at_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, bytes: &[u8]| {
            let p = dir.path().join(name);
            std::fs::write(&p, bytes).unwrap();
            p
        };
        assert!(what(resolve_path(&dir.path().join("none"))).contains("no file called"));
        assert!(what(resolve_path(dir.path())).contains("folder"));
        assert!(what(resolve_path(&at("e.mp4", b""))).contains("empty"));
        assert!(what(resolve_path(&at("a.torrent", b"hello"))).contains("a.torrent"));
        assert!(what(resolve_path(&at("b.bin", b"d8:announce3:x"))).contains("b.bin"));
        assert!(what(resolve_path(&dir.path().join("x\0y"))).contains("cannot be read"));
        assert!(what(resolve_path(&dir.path().join("n".repeat(5000)))).contains("cannot be read"));
        assert!(matches!(resolve_path(&at("v.mp4", b"\0\0\0\x20ftyp")).unwrap(), Source::Local(_)));
        assert!(looks_like_bencode(b"d13:announce-list") && !looks_like_bencode(b"dX") && !looks_like_bencode(b"d"));
    }

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        assert_eq!(shown_url("https://me:pw@host/film.mp4?token=1#x"), "https://host/film.mp4");
    }
}
