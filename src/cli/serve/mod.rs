//! `sluicegate serve`: an origin for players. What was asked for is looked at here, and carried out in `run`.

mod run;
mod seeds;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use sluicegate::app::Failure;
use sluicegate::app::args::{RateLimit, http_url, lifetime, listen_addr, seconds, tracker_tier};
use sluicegate::serve::source::SourceSpec;
use sluicegate::serve::{Auth, Proxies};

use super::fail;

/// What stands for the token, so that it need not be seen in the list of processes.
const TOKEN: &str = "SLUICEGATE_TOKEN";

/// A shorter one is guessed.
const TOKEN_MIN: usize = 8;

const EXAMPLES: &str = "\
Each PATH is served at its own name; a single one also at /. Viewers who bid (Sluicegate does) are granted an even share of
the capacity at once; whoever does not bid gets what is left over.

Examples:
  sluicegate serve film.mkv                                             at http://this-machine:8080/film.mkv
  sluicegate serve Films --capacity '200 Mbit/s' --torrent-out torrents  with torrents that name it as web seed
  sluicegate serve s3://bucket/films                                    AWS_ENDPOINT, AWS_ACCESS_KEY_ID, … say where and who
  SLUICEGATE_TOKEN=… sluicegate serve film.mkv --tls-cert c.pem --tls-key k.pem
  SLUICEGATE_TOKEN=… sluicegate serve --sign /film.mkv --for 24h        an address to give away";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Files, folders, or buckets (s3://BUCKET/PREFIX). Of a .torrent file among them bids may name the torrent.
    #[arg(value_name = "PATH", required_unless_present = "sign")]
    paths: Vec<OsString>,

    /// Listen here; by default on port 8080 of all addresses. A port alone means every IPv4 address.
    #[arg(short, long, value_name = "ADDR", value_parser = listen_addr)]
    listen: Option<SocketAddr>,

    /// Send no more than this to all viewers together: 200 Mbit/s, 25 MB/s.
    #[arg(short, long, value_name = "RATE")]
    capacity: Option<RateLimit>,

    /// Speak TLS with this certificate and what leads from it to its authority (PEM). Read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Viewers must present this token, or an address signed with it. Better given in SLUICEGATE_TOKEN or a file.
    #[arg(long, value_name = "SECRET", conflicts_with = "token_file")]
    token: Option<String>,

    /// Read the token from this file.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Print a signed address of this path and end.
    #[arg(long, value_name = "PATH", conflicts_with = "paths")]
    sign: Option<String>,

    /// For how long the signed address is good: 90s, 30m, 24h, 7d.
    #[arg(long = "for", value_name = "TIME", value_parser = lifetime, default_value = "24h", conflicts_with = "paths")]
    sign_for: Duration,

    /// The address viewers reach this server at, where that is not what it listens on.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    public_url: Option<String>,

    /// Write a torrent of each PATH into this folder, with this server as web seed. Those that are there and still right stay.
    #[arg(long, value_name = "DIR")]
    torrent_out: Option<PathBuf>,

    /// Trackers for these torrents; may be given several times, each a tier of its own. Trackers joined by commas share one.
    #[arg(short, long, value_name = "URL[,URL…]", value_parser = tracker_tier, requires = "torrent_out")]
    tracker: Vec<Vec<String>>,

    /// Join the swarms of these torrents as well, as a seed of last resort. Not of buckets.
    #[arg(long, requires = "torrent_out")]
    seed: bool,

    /// Accept peers at this address and port (the next torrent at the next port).
    #[arg(long, value_name = "ADDR", value_parser = listen_addr, requires = "seed")]
    seed_listen: Option<SocketAddr>,

    /// Send peers no more than this, all torrents together.
    #[arg(long, value_name = "RATE", requires = "seed")]
    up_limit: Option<RateLimit>,

    /// Do not announce to the DHT.
    #[arg(long, requires = "seed")]
    no_dht: bool,

    /// Answer /metrics (and /healthz) here, and no longer beside the files.
    #[arg(long, value_name = "ADDR", value_parser = listen_addr)]
    metrics_listen: Option<SocketAddr>,

    /// Believe what this proxy, or network of proxies, says of who asks (X-Forwarded-For); may be given several times.
    #[arg(long, value_name = "ADDR[/BITS]")]
    trust_proxy: Vec<Proxies>,

    /// At most so many connections at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: Option<u32>,

    /// At most so many connections of one address.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_per_address: Option<u32>,

    /// Viewers of one address share at most so many even shares of the capacity; 0 lifts that.
    #[arg(long, value_name = "N")]
    viewers_per_address: Option<u32>,

    /// When asked to end, let answers go on for so long.
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "30")]
    grace: Duration,

    /// How to write the log, to stderr. SLUICEGATE_LOG=debug has a line for each request.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = LogForm::Text)]
    log: LogForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

/// Serves until it is asked to end; answers the exit code.
pub fn run(args: ServeArgs) -> u8 {
    let done = match &args.sign {
        Some(path) => sign(&args, path),
        None => {
            log(args.log);
            run::run(&args)
        }
    };
    match done {
        Ok(()) => 0,
        Err(failure) => fail(&failure),
    }
}

/// What starts, ends and fails, unless `SLUICEGATE_LOG` says otherwise.
fn log(form: LogForm) {
    let wanted = std::env::var("SLUICEGATE_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "sluicegate=info,warn".to_owned() } else { wanted };
    let filter = tracing_subscriber::EnvFilter::try_new(&wanted).unwrap_or_else(|e| {
        eprintln!("SLUICEGATE_LOG is not understood: {e}.");
        tracing_subscriber::EnvFilter::new("sluicegate=info,warn")
    });
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match form {
        LogForm::Text => log.init(),
        LogForm::Json => log.json().flatten_event(true).init(),
    }
}

fn sign(args: &ServeArgs, path: &str) -> Result<(), Failure> {
    let token = args.token()?.ok_or_else(|| {
        Failure::input("There is no token to sign with", format!("Give --token, --token-file or {TOKEN}"))
    })?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let signed = SystemTime::now().checked_add(args.sign_for).and_then(|end| Auth::new(Some(&token)).sign(&path, end));
    let signed = signed
        .ok_or_else(|| Failure::input(format!("{path} is no path of a file served"), "Write it as in its address"))?;
    let base = args.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
    println!("{base}{signed}");
    Ok(())
}

impl ServeArgs {
    fn token(&self) -> Result<Option<String>, Failure> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .map(|t| t.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|e| Failure::input(format!("{} cannot be read: {e}", path.display()), "Name the token's file"))
        };
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => Some(read(path)?),
            (None, None) => std::env::var(TOKEN).ok().filter(|t| !t.is_empty()),
        };
        match token {
            Some(t) if t.len() < TOKEN_MIN || t.contains(char::is_control) => Err(Failure::input(
                format!("A token is one line of at least {TOKEN_MIN} characters"),
                "Make one with: openssl rand -hex 16",
            )),
            token => Ok(token),
        }
    }

    fn sources(&self) -> Result<Vec<SourceSpec>, Failure> {
        let parse = |path: &OsString| SourceSpec::parse(path).map_err(|e| Failure::input(e.to_string(), ""));
        self.paths.iter().map(parse).collect()
    }
}
