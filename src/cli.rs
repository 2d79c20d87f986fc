//! Arguments in, exit code out: 0 fine, 2 what was given is at fault (with a sentence and an advice on stderr), 130 ended
//! with Ctrl-C while making a torrent, 1 the rest.

mod create;
mod info;
#[cfg(feature = "gui")]
mod play;
mod serve;
mod signals;
mod simulate;

use std::ffi::OsString;
#[cfg(feature = "gui")]
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
#[cfg(feature = "gui")]
use sluicegate::app::args::{PeerAddr, RateLimit, SeekAt, encryption, http_url, listen_addr, seconds};
#[cfg(feature = "gui")]
use sluicegate::net::{Bind, Socks5};
#[cfg(feature = "gui")]
use sluicegate::swarm::api::Encryption;

/// What a new user tries first.
#[cfg(feature = "gui")]
const EXAMPLES: &str = "\
Without arguments a window opens, to drop or paste things into.

Examples:
  sluicegate demo                          a clip from a swarm on this machine
  sluicegate film.torrent                  or a magnet link, an info hash, a web address, a video file
  sluicegate info film.torrent             what it holds
  sluicegate create film.mkv               a torrent of your own
  sluicegate serve film.mkv                an origin for it
  sluicegate play --headless film.torrent  without a window, measured";

/// Plays a torrent as if it were a local file: the swarm carries the stream, a server fills in what it is about to miss.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, args_conflicts_with_subcommands = true)]
#[cfg_attr(feature = "gui", command(after_help = EXAMPLES))]
#[cfg_attr(not(feature = "gui"), command(arg_required_else_help = true))]
struct Cli {
    #[command(subcommand)]
    command: Option<Do>,

    /// A .torrent file, magnet link, info hash, web address of a .torrent or a video, or a video file.
    #[cfg(feature = "gui")]
    #[arg(value_name = "URI")]
    uri: Option<OsString>,

    #[cfg(feature = "gui")]
    #[command(flatten)]
    net: NetArgs,
}

#[derive(Debug, Subcommand)]
enum Do {
    /// Play, in a window or without one.
    #[cfg(feature = "gui")]
    Play(Box<PlayArgs>),
    /// Play a bundled clip from a swarm and a server on this machine; needs no internet.
    #[cfg(feature = "gui")]
    Demo(Box<DemoArgs>),
    /// Print what a torrent or a magnet link holds.
    Info(InfoArgs),
    /// Make a torrent and a magnet link of a file or folder.
    Create(Box<create::CreateArgs>),
    /// Run swarms of viewers against an origin in virtual time, with the player's own engine.
    Simulate(Box<simulate::SimulateArgs>),
    /// Serve films to players over HTTP, at a capacity that they bid for.
    Serve(Box<serve::ServeArgs>),
}

#[cfg(feature = "gui")]
#[derive(Debug, Args)]
struct PlayArgs {
    /// A .torrent file, magnet link, info hash, web address of a .torrent or a video, or a video file.
    #[arg(value_name = "URI")]
    uri: OsString,

    /// Of a torrent with several videos, play this file (its index as `info` prints it).
    #[arg(long, value_name = "INDEX", requires = "headless")]
    file: Option<usize>,

    /// After the end, stay and upload to others until told to end. What lies in the cache already is checked and served too.
    #[arg(long, requires = "headless")]
    seed: bool,

    #[command(flatten)]
    measure: MeasureArgs,

    #[command(flatten)]
    net: NetArgs,
}

#[cfg(feature = "gui")]
#[derive(Debug, Args)]
struct DemoArgs {
    #[command(flatten)]
    measure: MeasureArgs,

    #[command(flatten)]
    net: NetArgs,
}

#[cfg(feature = "gui")]
#[derive(Debug, Default, Args)]
struct MeasureArgs {
    /// Play on the clock to null outputs, without a window.
    #[arg(long)]
    headless: bool,

    /// End after this long, counted from the start of the program.
    #[arg(long = "for", value_name = "SECS", value_parser = seconds, requires = "headless")]
    play_for: Option<std::time::Duration>,

    /// Seek to POS (seconds, mm:ss, hh:mm:ss or a percentage) AT seconds after the start of the program: 60%@5.
    #[arg(long, value_name = "POS@AT", requires = "headless")]
    seek: Vec<SeekAt>,

    /// Play as fast as it decodes.
    #[arg(long, requires = "headless")]
    no_clock: bool,

    /// Write checksums of the video's frames, as `ffmpeg -f framemd5` does.
    #[arg(long, value_name = "FILE", requires = "headless")]
    frames_md5: Option<PathBuf>,

    /// Write what was measured, as JSON.
    #[arg(long, value_name = "FILE", requires = "headless")]
    report: Option<PathBuf>,
}

#[cfg(feature = "gui")]
#[derive(Debug, Args)]
struct NetArgs {
    /// Connect to this peer; may be given several times.
    #[arg(long, value_name = "ADDR")]
    peer: Vec<PeerAddr>,

    /// Ask this server too; may be given several times.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    web_seed: Vec<String>,

    /// Do not look for peers in the DHT.
    #[arg(long)]
    no_dht: bool,

    /// Take nothing from servers.
    #[arg(long)]
    no_server: bool,

    /// Take nothing from peers.
    #[arg(long)]
    no_swarm: bool,

    /// Encrypt links to peers: prefer, require or off.
    #[arg(long, value_name = "HOW", value_parser = encryption)]
    encryption: Option<Encryption>,

    /// Connect to peers over TCP only.
    #[arg(long)]
    no_utp: bool,

    /// Send peers no more than this: 500 kB/s, 2 MB/s, 16 Mbit/s; 0 lifts a limit of the settings.
    #[arg(long, value_name = "RATE")]
    up_limit: Option<RateLimit>,

    /// Take no more than this from peers and servers together.
    #[arg(long, value_name = "RATE")]
    down_limit: Option<RateLimit>,

    /// Keep pieces here.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Accept peers at this address and port.
    #[arg(long, value_name = "ADDR", value_parser = listen_addr)]
    listen: Option<std::net::SocketAddr>,

    /// Send only through this network interface or from this address; while it is away, nothing is sent.
    #[arg(long, value_name = "WHERE")]
    bind: Option<Bind>,

    /// Send only by this SOCKS5 proxy: socks5://[USER:PASSWORD@]ADDRESS:PORT.
    #[arg(long, value_name = "PROXY")]
    proxy: Option<Socks5>,

    /// With --bind, look names up at this name server.
    #[arg(long, value_name = "ADDR")]
    name_server: Option<std::net::IpAddr>,

    /// Neither dial nor accept the addresses in this file (PeerGuardian, eMule or CIDR lines; may be gzipped).
    #[arg(long, value_name = "FILE")]
    blocklist: Option<PathBuf>,

    /// Do not ask the router to let peers in.
    #[arg(long)]
    no_portmap: bool,
}

#[derive(Debug, Args)]
struct InfoArgs {
    /// A .torrent file, magnet link, info hash, or web address of a .torrent.
    #[arg(value_name = "URI")]
    uri: OsString,

    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the program; answers its exit code.
pub fn run(entered: Instant) -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout with 0, errors to stderr with 2; a closed pipe is no error of ours.
            let _ = e.print();
            return u8::try_from(e.exit_code()).unwrap_or(2);
        }
    };
    // A server has a log of its own.
    if !matches!(cli.command, Some(Do::Serve(_))) {
        log();
    }
    #[cfg(not(feature = "gui"))]
    let _ = entered;
    match cli.command {
        Some(Do::Info(args)) => info::run(&args.uri, args.json),
        Some(Do::Create(args)) => create::run(*args),
        Some(Do::Simulate(args)) => simulate::run(*args),
        Some(Do::Serve(args)) => serve::run(*args),
        #[cfg(feature = "gui")]
        Some(Do::Play(args)) => play::play(*args, entered),
        #[cfg(feature = "gui")]
        Some(Do::Demo(args)) => play::demo(*args, entered),
        // Behind options of the network clap takes it for something to open.
        #[cfg(feature = "gui")]
        None if cli.uri.as_deref() == Some("demo".as_ref()) => {
            play::demo(DemoArgs { measure: MeasureArgs::default(), net: cli.net }, entered)
        }
        #[cfg(feature = "gui")]
        None => play::window(cli.uri, cli.net),
        #[cfg(not(feature = "gui"))]
        None => 2,
    }
}

/// Off, unless `SLUICEGATE_LOG` says what to log ("debug", "sluicegate=trace"); to stderr.
fn log() {
    let Ok(filter) = std::env::var("SLUICEGATE_LOG") else { return };
    match tracing_subscriber::EnvFilter::try_new(&filter) {
        Ok(filter) => tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init(),
        Err(e) => eprintln!("SLUICEGATE_LOG is not understood: {e}."),
    }
}

/// Prints an error; answers its exit code.
fn fail(failure: &sluicegate::app::Failure) -> u8 {
    eprintln!("{}", failure.text);
    failure.exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    #[cfg(feature = "gui")]
    fn lines_people_write() {
        for line in [
            "sluicegate",
            "sluicegate film.torrent",
            "sluicegate film.torrent --cache /c --peer 1.2.3.4:5",
            "sluicegate play --headless x.torrent --no-dht --listen 10.77.0.4:6881 --cache d --report r --for 6 --seek 60%@3",
            "sluicegate play --headless x --no-clock --frames-md5 f --no-server --no-swarm --web-seed http://h/ --seek 1:00@1 --seek 2@2",
            "sluicegate play --headless --seed x --for 60",
            "sluicegate play x",
            "sluicegate demo",
            "sluicegate demo --headless --for 5 --report r",
            "sluicegate info x --json",
            "sluicegate create x -o y.torrent --tracker http://a/announce,udp://b:1 -t udp://c:2 --web-seed http://h/ --private",
            "sluicegate create x --piece-size 256K --comment hi --name film --node router.example:6881 --node [::1]:5 --magnet",
            "sluicegate create x --piece-size auto --json --align --date --force",
            "sluicegate simulate laws --seed 7 --out d --quick --most 100",
            "sluicegate simulate swarm.toml",
            "sluicegate serve x --capacity 200Mbit/s",
            "sluicegate serve x y s3://b/p --listen 8080 --tls-cert c --tls-key k --token-file t --log json --grace 5",
            "sluicegate serve x --torrent-out d --tracker udp://a:1 --seed --seed-listen 6881 --up-limit 1MB/s --no-dht",
            "sluicegate serve --sign /x --for 24h --token 12345678 --public-url https://h/",
            "sluicegate serve x --metrics-listen 127.0.0.1:9 --trust-proxy 10.0.0.0/8 --max-connections 9 --max-per-address 3",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap();
        }
        for line in [
            "sluicegate play",
            "sluicegate play x --for 3",
            "sluicegate play x --seed",
            "sluicegate play --headless x --seek 60%",
            "sluicegate info",
            "sluicegate create",
            "sluicegate create x --tracker ftp://a",
            "sluicegate create x --piece-size 100K",
            "sluicegate create x --piece-size 32M",
            "sluicegate create x --node router.example",
            "sluicegate create x --node h:1 --private",
            "sluicegate create x --magnet --json",
            "sluicegate simulate",
            "sluicegate simulate laws --seed -1",
            "sluicegate serve",
            "sluicegate serve x --sign /x",
            "sluicegate serve x --tls-cert c",
            "sluicegate serve x --seed",
            "sluicegate serve x --capacity 5",
            "sluicegate serve x --for 1h",
            "sluicegate serve --sign /x --for 1y",
            "sluicegate serve x --max-connections 0",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
