//! The user's settings: TOML, written by hand. Read once at start, never written but for the template.
//!
//! Invariant: no settings file can keep the player from starting. What is wrong in it is named in one sentence, and the
//! default is used in its place.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::app::paths::{read_bounded, write_atomic};
use crate::net::{Bind, NetRoute, Socks5};
use crate::swarm::api::Encryption;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// 0 takes a free port.
    pub listen_port: u16,
    pub dht: bool,
    pub lsd: bool,
    pub pex: bool,
    pub max_links: usize,
    pub encryption: Encryption,
    pub utp: bool,
    pub use_server: bool,
    pub web_seeds: Vec<String>,
    pub cache_folder: Option<PathBuf>,
    /// 0 to 1; `None` keeps the last one used.
    pub volume: Option<f32>,
    /// Which way packets leave. What is wrong here is closed, not left out: see [`Settings::close`].
    pub bind: Option<Bind>,
    pub proxy: Option<Socks5>,
    pub name_server: Option<IpAddr>,
    pub blocklist: Option<PathBuf>,
    pub map_port: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen_port: 0,
            dht: true,
            lsd: true,
            pex: true,
            // Past some dozens, more links only share out the same access line; fewer would miss rare pieces.
            max_links: 60,
            encryption: Encryption::Prefer,
            utp: true,
            use_server: true,
            web_seeds: Vec::new(),
            cache_folder: None,
            volume: None,
            bind: None,
            proxy: None,
            name_server: None,
            blocklist: None,
            map_port: true,
        }
    }
}

/// The template with comments that a first start leaves for the user to find.
const TEMPLATE: &str = include_str!("../../assets/settings.toml");
/// No interface has this name: what the user wished is not known, so nothing leaves.
const CLOSED: &str = "(what the settings were meant to say)";
/// A larger file is not one of ours.
const FILE_MAX: u64 = 256 << 10;
/// More web seeds than this are a mistake: each would be probed at every start.
const WEB_SEEDS_MAX: usize = 16;
const MAX_LINKS_MAX: i64 = 500;

impl Settings {
    /// Reads the file. The second value is a sentence for the user when something in it was not understood.
    pub fn load(path: &Path) -> (Self, Option<String>) {
        let name = path.display();
        match read_bounded(path, FILE_MAX) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => {
                    let (settings, problem) = Self::parse(&text);
                    (settings, problem.map(|p| format!("{p} (in {name})")))
                }
                Err(e) => {
                    let settings = Self::default().closed_where_named(&String::from_utf8_lossy(e.as_bytes()));
                    (settings, Some(format!("The settings are not text and were left out: {name}")))
                }
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => (Self::default(), None),
            Err(e) => {
                let mut settings = Self::default();
                if e.kind() != std::io::ErrorKind::FileTooLarge {
                    settings.close();
                }
                (settings, Some(format!("The settings could not be read: {name}: {e}")))
            }
        }
    }

    /// Which way packets leave.
    pub fn route(&self) -> NetRoute {
        NetRoute { bind: self.bind.clone(), proxy: self.proxy.clone(), name_server: self.name_server }
    }

    /// Reads the words of a file.
    pub fn parse(text: &str) -> (Self, Option<String>) {
        let mut settings = Self::default();
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(e) => {
                let line = e.span().map_or(1, |s| text.bytes().take(s.start).filter(|b| *b == b'\n').count() + 1);
                let said = format!("The settings were left out: line {line} is not TOML");
                return (settings.closed_where_named(text), Some(said));
            }
        };
        let wrong: Vec<&str> = table.iter().filter(|(k, v)| !settings.set(k, v)).map(|(k, _)| k.as_str()).collect();
        let problem = match wrong.as_slice() {
            [] => None,
            [one] => Some(format!("The setting \"{}\" was not understood and left out", short(one))),
            [one, rest @ ..] => {
                Some(format!("The setting \"{}\" and {} more were not understood and left out", short(one), rest.len()))
            }
        };
        (settings, problem)
    }

    /// The way out that the user wished is not understood. The system's own is not what was wished, so there is none.
    fn close(&mut self) -> bool {
        self.bind = Some(Bind::Interface(CLOSED.to_owned()));
        false
    }

    /// Of settings that cannot be read at all, whether they may have named a way out.
    fn closed_where_named(mut self, text: &str) -> Self {
        let named =
            |l: &str| ["bind", "proxy"].iter().any(|k| l.trim_start().trim_start_matches(['"', '\'']).starts_with(k));
        if text.lines().any(named) {
            self.close();
        }
        self
    }

    /// False when the key is not known or its value makes no sense.
    fn set(&mut self, key: &str, value: &toml::Value) -> bool {
        let flag = |to: &mut bool| value.as_bool().map(|b| *to = b).is_some();
        match key {
            "dht" => flag(&mut self.dht),
            "lsd" => flag(&mut self.lsd),
            "map_port" => flag(&mut self.map_port),
            "pex" => flag(&mut self.pex),
            "utp" => flag(&mut self.utp),
            "encryption" => {
                let policy = value.as_str().and_then(|s| crate::app::args::encryption(s).ok());
                policy.map(|p| self.encryption = p).is_some()
            }
            "use_server" => flag(&mut self.use_server),
            "listen_port" => value.as_integer().and_then(|n| n.try_into().ok()).map(|n| self.listen_port = n).is_some(),
            "max_links" => {
                let n = value.as_integer().filter(|n| (1..=MAX_LINKS_MAX).contains(n));
                n.map(|n| self.max_links = n as usize).is_some()
            }
            "volume" => {
                let n = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
                n.filter(|n| (0.0..=1.0).contains(n)).map(|n| self.volume = Some(n as f32)).is_some()
            }
            "cache_folder" => {
                let path = value.as_str().map(PathBuf::from).filter(|p| p.is_absolute());
                path.map(|p| self.cache_folder = Some(p)).is_some()
            }
            "blocklist" => {
                let path = value.as_str().map(PathBuf::from).filter(|p| p.is_absolute());
                path.map(|p| self.blocklist = Some(p)).is_some()
            }
            "name_server" => {
                value.as_str().and_then(|s| s.parse().ok()).map(|ip| self.name_server = Some(ip)).is_some()
            }
            "bind" => match value.as_str().and_then(|s| s.parse().ok()) {
                Some(bind) => self.bind.replace(bind).is_none(),
                None => self.close(),
            },
            "proxy" => match value.as_str().and_then(|s| s.parse().ok()) {
                Some(proxy) => self.proxy.replace(proxy).is_none(),
                None => self.close(),
            },
            "web_seeds" => {
                let list = value.as_array().filter(|l| l.len() <= WEB_SEEDS_MAX);
                let urls = list.and_then(|l| {
                    l.iter().map(|v| v.as_str().and_then(|s| crate::app::args::http_url(s).ok())).collect()
                });
                urls.map(|u| self.web_seeds = u).is_some()
            }
            _ => false,
        }
    }
}

fn short(key: &str) -> String {
    crate::app::failure::one_line(key, 40)
}

/// Leaves the template where the user will look for it, unless there is a file. Failing is no matter: the defaults hold.
pub fn leave_template(path: &Path) {
    if !path.exists()
        && let Err(e) = write_atomic(path, TEMPLATE.as_bytes())
    {
        tracing::debug!("no settings template at {}: {e}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_counts_and_the_rest_is_named() {
        let (s, p) = Settings::parse("dht = false\nvolume = 1\nlisten_port = 6881\nweb_seeds = [\"http://h/\"]");
        assert_eq!(p, None);
        assert_eq!((s.dht, s.volume, s.listen_port, s.web_seeds.len()), (false, Some(1.0), 6881, 1));
        for bad in [
            "dht = 1",
            "listen_port = 70000",
            "listen_port = -1",
            "volume = nan",
            "volume = 2.0",
            "max_links = 0",
            "encryption = \"some\"",
            "utp = 1",
            "cache_folder = \"x\"",
            "web_seeds = [\"ftp://h\"]",
            "web_seeds = 3",
            "colour = \"red\"",
            "[dht]\nx = 1",
        ] {
            let (s, p) = Settings::parse(&format!("{bad}\n"));
            assert_eq!(s, Settings::default(), "{bad}");
            assert!(p.unwrap().contains("left out"));
        }
        let (s, p) = Settings::parse("encryption = \"off\"\nutp = false");
        assert_eq!((s.encryption, s.utp, p), (Encryption::Off, false, None));
        let (s, p) = Settings::parse("lsd = false\nfoo = 1\nbar = 2");
        assert!(!s.lsd && p.unwrap().contains("1 more"));
    }

    #[test]
    fn a_way_out_that_is_not_understood_is_none_at_all() {
        let (s, p) = Settings::parse("bind = \"wg0\"\nproxy = \"socks5://127.0.0.1:9050\"\nname_server = \"10.2.0.1\"");
        assert_eq!((p, s.bind), (None, Some(Bind::Interface("wg0".into()))));
        assert_eq!(s.proxy.unwrap().addr.port(), 9050);
        for bad in [
            "bind = 5",
            "bind = \"10.0.0.1:80\"",
            "proxy = \"proxy.example:1\"",
            "bind = \"wg0",
            "x = = 1\n \"proxy\" = 2",
        ] {
            let (s, p) = Settings::parse(bad);
            let bind = s.bind.unwrap_or_else(|| panic!("open: {bad}"));
            assert!(p.is_some() && NetRoute { bind: Some(bind), ..Default::default() }.way().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_broken_file_gives_defaults_and_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings.toml");
        assert_eq!(Settings::load(&file), (Settings::default(), None));
        for bytes in [b"dht = = 1".as_slice(), b"\xff\xfe", &[b'a'; 1 << 20], b"[[[[["] {
            std::fs::write(&file, bytes).unwrap();
            let (s, p) = Settings::load(&file);
            assert_eq!(s, Settings::default());
            assert!(p.unwrap().contains("settings.toml"));
        }
        assert!(Settings::load(dir.path()).1.is_some());
        let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Settings::parse(&deep).1.is_some());
    }

    #[test]
    fn the_template_is_valid_and_sets_nothing() {
        assert_eq!(Settings::parse(TEMPLATE), (Settings::default(), None));
        let all: String = TEMPLATE
            .lines()
            .map(|l| if l.contains(" = ") { l.trim_start_matches('#') } else { l })
            .flat_map(|l| [l, "\n"])
            .collect();
        let (s, problem) = Settings::parse(&all);
        assert_eq!(problem, None);
        assert_eq!(s.max_links, Settings::default().max_links);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c").join("settings.toml");
        leave_template(&file);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), TEMPLATE);
    }
}
