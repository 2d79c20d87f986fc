//! What the command line says about the network, over what the settings say.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::app::args::{PeerAddr, RateLimit};
use crate::app::paths::Paths;
use crate::app::session::NetOptions;
use crate::app::settings::Settings;
use crate::net::{Bind, NetRoute, Socks5};
use crate::swarm::api::Encryption;

/// Nodes of the DHT, beside the pieces.
const DHT_NODES: &str = "dht-nodes";

/// Options given for this run only.
#[derive(Debug, Clone, Default)]
pub struct NetOverrides {
    pub cache: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub peers: Vec<PeerAddr>,
    pub web_seeds: Vec<String>,
    pub no_dht: bool,
    pub no_server: bool,
    pub no_swarm: bool,
    pub encryption: Option<Encryption>,
    pub no_utp: bool,
    pub bind: Option<Bind>,
    pub proxy: Option<Socks5>,
    pub name_server: Option<IpAddr>,
    pub blocklist: Option<PathBuf>,
    pub no_portmap: bool,
    pub up_limit: Option<RateLimit>,
    pub down_limit: Option<RateLimit>,
}

impl NetOverrides {
    /// Settings with these laid over them.
    pub fn over(&self, settings: &Settings, paths: &Paths) -> NetOptions {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), settings.listen_port);
        let cache = self.cache.clone().or_else(|| settings.cache_folder.clone()).unwrap_or_else(|| paths.cache.clone());
        let cache_dir = std::path::absolute(&cache).unwrap_or(cache);
        NetOptions {
            dht_nodes: Some(cache_dir.join(DHT_NODES)),
            cache_dir,
            listen: Some(self.listen.unwrap_or(any)),
            dht: settings.dht && !self.no_dht,
            lsd: settings.lsd,
            pex: settings.pex,
            peers: self.peers.clone(),
            web_seeds: self.web_seeds.iter().chain(&settings.web_seeds).cloned().collect(),
            use_server: settings.use_server && !self.no_server,
            use_swarm: !self.no_swarm,
            max_links: settings.max_links,
            encryption: self.encryption.unwrap_or(settings.encryption),
            utp: settings.utp && !self.no_utp,
            route: self.route(settings),
            blocklist: self.blocklist.as_ref().or(settings.blocklist.as_ref()).cloned(),
            map_port: settings.map_port && !self.no_portmap,
            up_limit: self.up_limit.unwrap_or(settings.upload_limit).0,
            down_limit: self.down_limit.unwrap_or(settings.download_limit).0,
        }
    }
}

impl NetOverrides {
    /// Which way packets leave, by the settings with these laid over them.
    pub fn route(&self, settings: &Settings) -> NetRoute {
        let set = settings.route();
        NetRoute {
            bind: self.bind.clone().or(set.bind),
            proxy: self.proxy.clone().or(set.proxy),
            name_server: self.name_server.or(set.name_server),
        }
    }
}

/// The runtime that all sockets live on.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    crate::app::process::raise_file_limit();
    // Sockets need little, and the cores are the decoder's. Two threads hand each other work at each block, which costs a
    // tenth of the processor time at a film's pace and gains nothing below what one core moves: half a gigabyte a second.
    let workers = std::thread::available_parallelism().map_or(1, |n| (n.get() / 4).clamp(1, 2));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("sluicegate-net")
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_settings() {
        let settings = Settings {
            listen_port: 7,
            web_seeds: vec!["http://b/".into()],
            upload_limit: RateLimit(Some(5000)),
            download_limit: RateLimit(Some(9000)),
            ..Default::default()
        };
        let paths = Paths::below(std::path::Path::new("/x"));
        let n = NetOverrides::default().over(&settings, &paths);
        assert_eq!((n.cache_dir.as_path(), n.listen.unwrap().port()), (std::path::Path::new("/x/cache"), 7));
        assert!(n.dht && n.use_server && n.use_swarm && n.utp && n.encryption == Encryption::Prefer);
        assert_eq!((n.up_limit, n.down_limit), (Some(5000), Some(9000)));
        let o = NetOverrides {
            cache: Some("/c".into()),
            listen: Some("127.0.0.1:9".parse().unwrap()),
            web_seeds: vec!["http://a/".into()],
            no_dht: true,
            no_server: true,
            no_swarm: true,
            encryption: Some(Encryption::Require),
            no_utp: true,
            up_limit: Some(RateLimit(None)),
            ..Default::default()
        };
        let n = o.over(&settings, &paths);
        assert_eq!((n.cache_dir.as_path(), n.listen.unwrap().port()), (std::path::Path::new("/c"), 9));
        assert!(!n.dht && !n.use_server && !n.use_swarm && !n.utp && n.encryption == Encryption::Require);
        assert_eq!((n.up_limit, n.down_limit), (None, Some(9000)));
        assert_eq!(n.web_seeds, ["http://a/", "http://b/"]);
    }
}
