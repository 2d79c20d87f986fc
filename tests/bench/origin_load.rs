//! The origin under load: thousands of viewers that bid each second and read ranges by their grants, over loopback, beside
//! thousands of connections that do nothing.
//!
//! The server is a process of its own, so that its memory is its own; viewers come from addresses of their own (127.0.0.0/8),
//! as viewers do. Prints what was asked of the server (total, fairness, the time of a bid, memory) and ends with a line of JSON.
//! Exit code 1: something asked for was missed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sluicegate::serve::{ConnectionLimits, Origin, ServeOptions, descriptors, source::SourceSpec};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

#[derive(Parser)]
#[command(about = "Loads an origin with viewers that bid, and says what they got")]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    load: Load,
    /// What `cargo bench` adds.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// The server alone; prints its address and serves until it is killed.
    #[command(hide = true)]
    Serve { file: PathBuf, bytes_per_s: u64 },
}

#[derive(Args, Clone)]
struct Load {
    /// Viewers that bid each second and read what they are granted.
    #[arg(long, default_value_t = 2000)]
    viewers: usize,
    /// What the server may send, Mbit/s.
    #[arg(long, default_value_t = 800)]
    capacity: u64,
    /// What each viewer bids for, as a multiple of its even part of the capacity.
    #[arg(long, default_value_t = 3.0)]
    need: f64,
    /// Every so many-th viewer needs only half of its even part.
    #[arg(long, default_value_t = 4)]
    modest: usize,
    /// Connections that say nothing, in the second half.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Seconds measured in each half, after ten of warming up.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

const FILE_LEN: u64 = 4 << 30;
/// A grant's two seconds, less what a request takes to arrive.
const GRANT_LIFE: Duration = Duration::from_millis(1_900);
const WARM: Duration = Duration::from_secs(10);
/// What is demanded: parts of the capacity, Jain's index among equal bids, milliseconds, bytes.
const TOTAL_OFF: f64 = 0.02;
const FAIR: f64 = 0.98;
const BID_P99_MS: f64 = 50.0;
const RSS_MOST: u64 = 200 << 20;

fn main() {
    let cli = Cli::parse();
    descriptors::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match cli.what {
        Some(What::Serve { file, bytes_per_s }) => runtime.block_on(serve(file, bytes_per_s)),
        None => {
            let met = runtime.block_on(load(&cli.load));
            std::process::exit(i32::from(!met));
        }
    }
}

async fn serve(file: PathBuf, bytes_per_s: u64) {
    let options = ServeOptions {
        sources: vec![SourceSpec::Path(file)],
        bytes_per_s: Some(bytes_per_s),
        connections: ConnectionLimits { total: 20_000, idle: Duration::from_secs(600), ..ConnectionLimits::default() },
        ..ServeOptions::default()
    };
    let origin = Origin::open(options).await.unwrap();
    let listener = TcpSocket::new_v4().unwrap();
    listener.set_reuseaddr(true).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = listener.listen(4096).unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    origin.run(listener, None, None, std::future::pending()).await;
}

/// The server's process; ends with this.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(file: &std::path::Path, bytes_per_s: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve".as_ref(), file.as_os_str(), bytes_per_s.to_string().as_ref()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    /// Bytes of memory: now, and the most so far; zero where the system does not say.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the viewers saw since it was last asked.
struct Seen {
    /// Bytes by viewer.
    bytes: Vec<AtomicU64>,
    bids_ms: Mutex<Vec<f64>>,
    refused: AtomicU64,
    lapsed: AtomicU64,
}

struct Grant {
    bits: u64,
    id: String,
    until: Instant,
}

struct Viewer {
    index: usize,
    server: SocketAddr,
    /// Bits per second.
    need: u64,
    seen: Arc<Seen>,
}

/// One address per viewer, as homes have; `net` tells viewers from the idle.
fn address(net: u8, index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, net, (index >> 8) as u8, index as u8)
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer; its body goes to `took`, piece by piece.
async fn answer(stream: &mut BufStream<TcpStream>, mut took: impl FnMut(&[u8])) -> std::io::Result<u16> {
    let (mut status, mut left) = (0, 0u64);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if status == 0 {
            status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            left = value.trim().parse().unwrap_or(0);
        }
    }
    let mut buffer = [0; 16 * 1024];
    while left > 0 {
        let most = buffer.len().min(left as usize);
        match stream.read(&mut buffer[..most]).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                left -= n as u64;
                took(&buffer[..n]);
            }
        }
    }
    Ok(status)
}

impl Viewer {
    fn id(&self) -> String {
        format!("{:032x}", self.index as u128 + 0xabcd_0000)
    }

    /// Bids each second on a connection of its own, as a player does whose other ones are busy.
    async fn bids(self: Arc<Self>, grants: mpsc::Sender<Grant>) -> std::io::Result<()> {
        let from = address(1, self.index);
        let mut stream = BufStream::new(connect(from, self.server).await?);
        let mut every = tokio::time::interval(Duration::from_secs(1));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let bid = json!({
                "info_hash": "00".repeat(20), "viewer": self.id(), "horizon_ms": 15000,
                "max_bits": self.need, "due_bits": [self.need],
            })
            .to_string();
            let head = format!(
                "POST /v1/bids HTTP/1.1\r\nHost: origin\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                bid.len()
            );
            let began = Instant::now();
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(bid.as_bytes()).await?;
            stream.flush().await?;
            let mut body = Vec::new();
            let status = answer(&mut stream, |bytes| body.extend_from_slice(bytes)).await?;
            self.seen.bids_ms.lock().push(began.elapsed().as_secs_f64() * 1000.0);
            if status != 200 {
                self.seen.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let told: Value = serde_json::from_slice(&body).unwrap_or_default();
            if let (Some(bits @ 1..), Some(grant)) = (told["grant_bits"].as_u64(), told["grant"].as_str()) {
                // A reader that is behind its grants lets them lapse.
                let _ = grants.try_send(Grant { bits, id: grant.to_owned(), until: Instant::now() + GRANT_LIFE });
            }
        }
    }

    /// Reads what is granted.
    async fn reads(self: Arc<Self>, mut grants: mpsc::Receiver<Grant>) -> std::io::Result<()> {
        let from = address(1, self.index);
        let mut stream = BufStream::new(connect(from, self.server).await?);
        let mut at = self.index as u64 * 1_000_003 % FILE_LEN;
        while let Some(Grant { bits, id, until }) = grants.recv().await {
            if Instant::now() >= until {
                self.seen.lapsed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let len = bits / 8;
            if at + len > FILE_LEN {
                at = 0;
            }
            let head = format!(
                "GET / HTTP/1.1\r\nHost: origin\r\nRange: bytes={at}-{}\r\nSluicegate-Viewer: {}\r\nSluicegate-Grant: {id}\r\n\r\n",
                at + len - 1,
                self.id(),
            );
            at += len;
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await?;
            let seen = &self.seen.bytes[self.index];
            let status = answer(&mut stream, |bytes| {
                seen.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            })
            .await?;
            assert_eq!(status, 206);
        }
        Ok(())
    }
}

fn jain(x: &[f64]) -> f64 {
    x.iter().sum::<f64>().powi(2) / (x.len() as f64 * x.iter().map(|v| v * v).sum::<f64>()).max(1e-9)
}

fn percentile(sorted: &[f64], p: f64) -> f64 {
    sorted.get(((sorted.len() as f64 * p) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

async fn load(load: &Load) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let film = dir.path().join("film.mkv");
    std::fs::File::create(&film).unwrap().set_len(FILE_LEN).unwrap();
    let server = Server::start(&film, load.capacity * 125_000);
    let seen = Arc::new(Seen {
        bytes: (0..load.viewers).map(|_| AtomicU64::new(0)).collect(),
        bids_ms: Mutex::default(),
        refused: AtomicU64::new(0),
        lapsed: AtomicU64::new(0),
    });
    let even = load.capacity as f64 * 1e6 / load.viewers as f64;
    let modest = |i: usize| load.modest > 0 && i.is_multiple_of(load.modest);
    let (start, _) = server.memory();
    for index in 0..load.viewers {
        let need = even * if modest(index) { 0.5 } else { load.need };
        let viewer = Arc::new(Viewer { index, server: server.address, need: need as u64, seen: seen.clone() });
        let (tell, told) = mpsc::channel(4);
        tokio::spawn(async move {
            // Viewers come one after another within a second.
            tokio::time::sleep(Duration::from_secs_f64(index as f64 * 0.618_034 % 1.0)).await;
            let (bids, reads) = (viewer.clone().bids(tell), viewer.reads(told));
            if let Err(e) = tokio::try_join!(bids, reads) {
                eprintln!("viewer {index}: {e}");
            }
        });
    }
    tokio::time::sleep(WARM).await;
    println!(
        "{} viewers, {} Mbit/s, bids of {:.0} and {:.0} kbit/s",
        load.viewers,
        load.capacity,
        even * load.need / 1e3,
        even * 0.5 / 1e3
    );
    let mut met = true;
    let mut halves = Vec::new();
    let mut quiet = Vec::new();
    for (name, idle) in [("viewers alone", 0), ("beside idle connections", load.idle)] {
        while quiet.len() < idle {
            match connect(address(2, quiet.len() / 4), server.address).await {
                Ok(stream) => quiet.push(stream),
                Err(e) => {
                    eprintln!("{} idle connections, and no more: {e}", quiet.len());
                    met = false;
                    break;
                }
            }
        }
        if idle > 0 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        for b in &seen.bytes {
            b.store(0, Ordering::Relaxed);
        }
        seen.bids_ms.lock().clear();
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(load.seconds)).await;
        let took = began.elapsed().as_secs_f64();
        let bytes: Vec<f64> = seen.bytes.iter().map(|b| b.load(Ordering::Relaxed) as f64).collect();
        let mut bids = std::mem::take(&mut *seen.bids_ms.lock());
        bids.sort_by(f64::total_cmp);
        let total = bytes.iter().sum::<f64>() * 8.0 / took / 1e6;
        let of =
            |small: bool| -> Vec<f64> { (0..load.viewers).filter(|i| modest(*i) == small).map(|i| bytes[i]).collect() };
        let fair = [jain(&of(false)), if load.modest > 0 { jain(&of(true)) } else { 1.0 }];
        let modest_got = of(true).iter().sum::<f64>() * 8.0 / took / of(true).len().max(1) as f64 / (even * 0.5);
        let (rss, peak) = server.memory();
        let p99 = percentile(&bids, 0.99);
        println!("{name}:");
        println!(
            "  total      {total:.1} Mbit/s, {:+.2} % of the capacity",
            (total / load.capacity as f64 - 1.0) * 100.0
        );
        println!(
            "  fairness   Jain {:.4} among the large bids, {:.4} among the small, which got {:.1} % of what they bid for",
            fair[0],
            fair[1],
            modest_got * 100.0
        );
        println!(
            "  bids       {:.0} per second, p50 {:.2} ms, p99 {p99:.2} ms, most {:.1} ms",
            bids.len() as f64 / took,
            percentile(&bids, 0.5),
            percentile(&bids, 1.0)
        );
        println!("  memory     {} MiB, {} at most, {} before anybody came", rss >> 20, peak >> 20, start >> 20);
        let fine = (total / load.capacity as f64 - 1.0).abs() <= TOTAL_OFF
            && fair.iter().all(|f| *f >= FAIR)
            && p99 <= BID_P99_MS
            && peak <= RSS_MOST
            && seen.refused.load(Ordering::Relaxed) == 0;
        met &= fine;
        halves.push(json!({
            "idle": quiet.len(), "total_mbit": total, "capacity_mbit": load.capacity, "jain_large": fair[0], "jain_small": fair[1],
            "bid_p50_ms": percentile(&bids, 0.5), "bid_p99_ms": p99, "rss": rss, "rss_peak": peak, "met": fine,
        }));
    }
    println!("{} grants lapsed with the viewers", seen.lapsed.load(Ordering::Relaxed));
    println!("{} bids refused", seen.refused.load(Ordering::Relaxed));
    println!("{}", json!({ "viewers": load.viewers, "halves": halves, "met": met }));
    met
}
