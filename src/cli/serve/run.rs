//! From what was asked for to a server that ends when it is asked to.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use sluicegate::app::Failure;
use sluicegate::app::ending::on_end;
use sluicegate::serve::bids::Known;
use sluicegate::serve::source::{SourceSpec, path::encode};
use sluicegate::serve::torrents::{self, Made, MakeError};
use sluicegate::serve::{ConnectionLimits, Origin, ServeOptions, Tls, descriptors};
use sluicegate::torrent::create::{CreateError, CreateOptions, Progress};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ServeArgs;
use super::seeds::Seeds;
use crate::cli::create::Shown;
use crate::cli::signals::each_hangup;

const PORT: u16 = 8080;

/// Left for the swarm of `--seed`.
const SEED_FILES: usize = 1024;

pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let rt = tokio::runtime::Builder::new_multi_thread().thread_name("sluicegate-net").enable_all().build();
    let rt = rt.map_err(|e| Failure::machine(format!("The network could not be started: {e}"), "Try again"))?;
    let done = rt.block_on(serve(args));
    // A thread that hashes or reads is not waited for.
    rt.shutdown_background();
    done
}

async fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let (sources, token) = (args.sources()?, args.token()?);
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => {
            Some(Arc::new(Tls::load(cert, key).map_err(|e| Failure::input(e.to_string(), "Give both in PEM format"))?))
        }
        _ => None,
    };
    let files = descriptors::raise();
    let listener = listen(args.listen).await?;
    let metrics = match args.metrics_listen {
        Some(addr) => Some(bind(addr).await?),
        None => None,
    };
    let at = listener.local_addr().map_err(|e| Failure::machine(format!("The server's socket failed: {e}"), ""))?;
    let base = base(args, at, tls.is_some());
    if token.is_some() && tls.is_none() && !at.ip().is_loopback() {
        tracing::warn!("without TLS the token can be read by whoever sees the packets");
    }
    let ended = ended();
    let made = tokio::select! {
        made = make_torrents(args, &sources, &base) => made?,
        () = ended.cancelled() => return Ok(()),
    };
    let files = files.saturating_sub(if args.seed { SEED_FILES } else { 0 }).max(64);
    let connections = limits(args, files);
    let options = ServeOptions {
        known: known(&sources, &made)?,
        sources: sources.clone(),
        bytes_per_s: args.capacity.and_then(|c| c.0),
        token,
        connections,
        files: files.saturating_sub(connections.total).max(32),
        proxies: args.trust_proxy.clone(),
        viewers_per_address: match args.viewers_per_address {
            Some(n) => Some(n).filter(|n| *n > 0),
            None => ServeOptions::default().viewers_per_address,
        },
        metrics: args.metrics_listen.is_none(),
        grace: args.grace,
    };
    let origin = Origin::open(options).await.map_err(|e| Failure::input(e.to_string(), ""))?;
    tell(&sources, &base, &made);
    let seeds = match args.seed {
        true => {
            let places = made.into_iter().filter_map(|m| m.place).collect();
            Some(Seeds::start(&tokio::runtime::Handle::current(), args, places)?)
        }
        false => None,
    };
    tracing::info!(listen = %at, tls = tls.is_some(), connections = connections.total, "serving");
    let reload = || match &tls {
        Some(tls) => match tls.reload() {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(e) => tracing::error!("the certificate stays as it was: {e}"),
        },
        None => tracing::info!("nothing to read again"),
    };
    let watch = async {
        match &seeds {
            Some(seeds) => seeds.watch().await,
            None => std::future::pending().await,
        }
    };
    let shutdown = async {
        ended.cancelled().await;
        tracing::info!(grace_s = args.grace.as_secs_f64(), "stopping");
    };
    tokio::select! {
        () = origin.run(listener, tls.clone(), metrics, shutdown) => {}
        () = each_hangup(reload) => {}
        () = watch => {}
    }
    if let Some(seeds) = seeds {
        let _ = tokio::task::spawn_blocking(move || seeds.stop()).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Cancelled when it is asked to end; asked again it ends at once.
fn ended() -> CancellationToken {
    let ended = CancellationToken::new();
    let set = ended.clone();
    tokio::spawn(on_end(move || set.cancel()));
    ended
}

/// Half of the descriptors are for connections, half for the files they read.
fn limits(args: &ServeArgs, files: usize) -> ConnectionLimits {
    let default = ConnectionLimits::default();
    let wanted = |n: Option<u32>, d: usize| n.map_or(d, |n| usize::try_from(n).unwrap_or(d));
    let total = wanted(args.max_connections, default.total).min(files / 2).max(1);
    if args.max_connections.is_some_and(|n| usize::try_from(n).unwrap_or(usize::MAX) > total) {
        tracing::warn!("the system's limit of open files allows {total} connections; raise it (ulimit -n)");
    }
    let per_address = wanted(args.max_per_address, default.per_address.min(total.div_ceil(2)));
    ConnectionLimits { total, per_address, ..default }
}

async fn listen(addr: Option<SocketAddr>) -> Result<TcpListener, Failure> {
    match addr {
        Some(addr) => bind(addr).await,
        // Both families, or where there is no IPv6 the other.
        None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).await {
            Ok(listener) => Ok(listener),
            Err(_) => bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await,
        },
    }
}

async fn bind(addr: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |e| Failure::input(format!("{addr} cannot be listened on: {e}"), "Choose another address or port");
    TcpListener::bind(addr).await.map_err(failed)
}

/// What the server is reached at, without a slash at its end.
fn base(args: &ServeArgs, at: SocketAddr, tls: bool) -> String {
    if let Some(url) = &args.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let ip = if at.ip().is_unspecified() { own_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { at.ip() };
    format!("{}://{}", if tls { "https" } else { "http" }, SocketAddr::new(ip, at.port()))
}

/// The address that packets to elsewhere would bear. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Set aside for documentation (RFC 5737): no such host.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

async fn make_torrents(args: &ServeArgs, sources: &[SourceSpec], base: &str) -> Result<Vec<Made>, Failure> {
    let Some(dir) = args.torrent_out.clone() else { return Ok(Vec::new()) };
    let mut made = Vec::new();
    for source in sources {
        if matches!(source, SourceSpec::Path(path) if is_torrent(path)) {
            continue;
        }
        let options = CreateOptions {
            trackers: args.tracker.clone(),
            // Name and path come behind it (BEP 19), which is where the server has them.
            web_seeds: vec![format!("{base}/")],
            ..CreateOptions::default()
        };
        let (progress, dir) = (Arc::new(Progress::default()), dir.clone());
        // Whoever no longer waits for it ends it.
        let _cancel = CancelOnDrop(progress.clone());
        let _shown = Shown::start(progress.clone());
        let done = match source.clone() {
            SourceSpec::Path(path) => {
                let task = tokio::task::spawn_blocking(move || torrents::make(&path, &dir, &options, &progress));
                task.await.map_err(|e| Failure::machine(format!("Hashing failed: {e}"), "Try again"))?
            }
            SourceSpec::Bucket { bucket, prefix } => {
                torrents::make_of_bucket(&bucket, &prefix, &dir, options, progress).await
            }
        };
        made.push(done.map_err(|e| Failure::input(e.to_string(), advice(&e)))?);
    }
    Ok(made)
}

struct CancelOnDrop(Arc<Progress>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn advice(e: &MakeError) -> &'static str {
    match e {
        MakeError::Create(CreateError::Changed { .. }) => "Try again when nothing writes to it any more",
        MakeError::Inside { .. } | MakeError::Write { .. } => "Choose another folder with --torrent-out",
        _ => "",
    }
}

fn is_torrent(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("torrent")) && path.is_file()
}

/// The torrents that were made and those that are served; where there are none, any.
fn known(sources: &[SourceSpec], made: &[Made]) -> Result<Known, Failure> {
    let mut hashes: HashSet<[u8; 20]> = made.iter().map(|m| m.meta.info_hash.0).collect();
    let given: Vec<&PathBuf> = sources
        .iter()
        .filter_map(|s| match s {
            SourceSpec::Path(path) if is_torrent(path) => Some(path),
            _ => None,
        })
        .collect();
    for path in given {
        hashes.insert(torrents::info_hash_of(path).map_err(|e| Failure::input(e.to_string(), ""))?);
    }
    Ok(if hashes.is_empty() { Known::Any } else { Known::Only(Arc::new(hashes)) })
}

/// Where everything is, on stdout: for people, and to be copied.
fn tell(sources: &[SourceSpec], base: &str, made: &[Made]) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for source in sources {
        if let Ok(name) = source.name() {
            // A closed pipe is no reason not to serve.
            let _ = writeln!(out, "{source}  {base}/{}", encode(&name));
        }
    }
    for made in made {
        for path in &made.left_out {
            eprintln!("Left out: {}", path.display());
        }
        let how = if made.reused { "was there" } else { "made" };
        let _ = writeln!(out, "{}  ({how})\n{}", made.file.display(), made.magnet);
    }
    let _ = out.flush();
}
