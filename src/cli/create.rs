//! `sluicegate create`: a torrent of a file or folder.
//!
//! Invariant: Ctrl-C, a full disk or a crash leave either the whole torrent or none.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use sluicegate::app::Failure;
use sluicegate::app::args::{PieceSize, dht_node, http_url, tracker_tier};
use sluicegate::app::ending::on_end_in_thread;
use sluicegate::torrent::create::{CreateError, CreateOptions, Created, Progress, create, default_name, write_whole};
use sluicegate::torrent::describe;

use super::fail;

/// What a shell expects of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// Time between two lines of progress: ten a second look alive and cost nothing.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// What people look for at the end of `--help`.
const EXAMPLES: &str = "\
The same files and options always give the same torrent. Files are listed by name, episode 2 before episode 10; hidden
files and links that lead out of the folder are left out. Existing torrents are not written over unless --force is given.

Examples:
  sluicegate create film.mkv --tracker udp://tracker.example:6969/announce
  sluicegate create Season\\ 1 --tracker URL1,URL2 --tracker URL3       two that share a tier, then one of its own
  sluicegate create film.mkv --web-seed https://example.org/film.mkv   plays from a web server while nobody seeds
  sluicegate create film.mkv --magnet | xclip                          nothing but the link";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CreateArgs {
    /// The file or folder to share.
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Write the torrent here; by default NAME.torrent in the current folder.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Announce to this tracker; may be given several times, each a tier of its own. Trackers joined by commas share one.
    #[arg(short, long, value_name = "URL[,URL…]", value_parser = tracker_tier)]
    tracker: Vec<Vec<String>>,

    /// A web server that holds the same file, or the folder around it; may be given several times.
    #[arg(short, long, value_name = "URL", value_parser = http_url)]
    web_seed: Vec<String>,

    /// Bytes per piece: 16K to 16M, a power of two. Small pieces start and seek faster; auto keeps them at 1M or less up
    /// to 15 GiB.
    #[arg(short = 's', long, value_name = "SIZE", default_value = "auto")]
    piece_size: PieceSize,

    /// Peers may come from the trackers only: neither from the DHT nor from each other.
    #[arg(short, long, conflicts_with = "node")]
    private: bool,

    /// Call it this instead of what the file or folder is called.
    #[arg(short, long)]
    name: Option<String>,

    /// A line for those who look into the torrent.
    #[arg(short, long, value_name = "TEXT")]
    comment: Option<String>,

    /// Where the DHT can be entered, for a torrent without trackers; may be given several times.
    #[arg(long, value_name = "HOST:PORT", value_parser = dht_node)]
    node: Vec<(String, u16)>,

    /// Start each file with a piece of its own, with padding between them.
    #[arg(long)]
    align: bool,

    /// Write down when it was made. Without it the same files give the same torrent.
    #[arg(long)]
    date: bool,

    /// Write over a torrent that is there already.
    #[arg(short, long)]
    force: bool,

    /// Print the magnet link and nothing else.
    #[arg(short, long, conflicts_with = "json")]
    magnet: bool,

    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

/// Makes it; answers the exit code.
pub fn run(args: CreateArgs) -> u8 {
    match make(&args) {
        Ok((created, output)) => {
            // A reader that has seen enough is no error.
            let _ = writeln!(std::io::stdout().lock(), "{}", said(&args, &created, &output));
            0
        }
        Err(CreateFailed::Cancelled) => {
            eprintln!("Cancelled; nothing was written.");
            INTERRUPTED
        }
        Err(CreateFailed::Failure(f)) => fail(&f),
    }
}

enum CreateFailed {
    Cancelled,
    Failure(Failure),
}

impl From<Failure> for CreateFailed {
    fn from(f: Failure) -> Self {
        Self::Failure(f)
    }
}

impl From<CreateError> for CreateFailed {
    fn from(e: CreateError) -> Self {
        let advice = match &e {
            CreateError::Cancelled => return Self::Cancelled,
            CreateError::Read { .. } => "Check the path and its permissions",
            CreateError::Changed { .. } => "Wait until it is written whole, then try again",
            CreateError::Name { .. } => "Rename it, or give another with --name",
            CreateError::TooManyPieces { .. } => "Leave the size of a piece to --piece-size auto",
            CreateError::PrivateAlone => "Name one with --tracker",
            CreateError::Unreadable(_) => "Please report this with the files' names and sizes",
            _ => "",
        };
        Self::Failure(match e.is_input() {
            true => Failure::input(e.to_string(), advice),
            false => Failure::machine(e.to_string(), advice),
        })
    }
}

fn make(args: &CreateArgs) -> Result<(Created, PathBuf), CreateFailed> {
    let output = output(args)?;
    let date = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok());
    let options = CreateOptions {
        name: args.name.clone(),
        piece_len: args.piece_size.0,
        trackers: args.tracker.clone(),
        web_seeds: args.web_seed.clone(),
        nodes: args.node.clone(),
        private: args.private,
        comment: args.comment.clone(),
        align: args.align,
        date: date.filter(|_| args.date),
        except: Some(output.clone()),
    };
    let progress = Arc::new(Progress::default());
    // It ends the work, not the program, which cleans up after itself.
    on_end_in_thread({
        let progress = progress.clone();
        move || progress.cancel()
    });
    let shown = Shown::start(progress.clone());
    let made = create(&args.path, &options, &progress);
    drop(shown);
    let created = made?;
    for path in &created.left_out {
        eprintln!("Left out: {}", path.display());
    }
    // A signal that came after the last byte was hashed.
    write_whole(&output, &created.torrent, None).map_err(|e| {
        Failure::machine(format!("{} cannot be written: {e}", output.display()), "Choose with -o where")
    })?;
    Ok((created, output))
}

/// Where the torrent goes; refused before hours of hashing, not after.
fn output(args: &CreateArgs) -> Result<PathBuf, Failure> {
    let output = match &args.output {
        Some(path) => path.clone(),
        None => {
            let name = args.name.clone().or_else(|| default_name(&args.path));
            PathBuf::from(format!("{}.torrent", name.as_deref().unwrap_or("unnamed")))
        }
    };
    let shown = output.display();
    if output.is_dir() {
        return Err(Failure::input(format!("{shown} is a folder"), "Give -o the name of a file in it"));
    }
    if output.exists() && !args.force {
        return Err(Failure::input(
            format!("{shown} is there already"),
            "Write over it with --force, or choose with -o",
        ));
    }
    if folder_of(&output).is_dir() {
        return Ok(output);
    }
    Err(Failure::input(format!("There is no folder {}", folder_of(&output).display()), "Make it first"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn said(args: &CreateArgs, made: &Created, output: &Path) -> String {
    if args.magnet {
        return made.magnet.clone();
    }
    if args.json {
        let mut json = describe::json(&made.meta);
        json["torrent"] = output.to_string_lossy().into();
        json["left_out"] = made.left_out.iter().map(|p| p.to_string_lossy()).collect();
        return serde_json::to_string_pretty(&json).unwrap_or_default();
    }
    let m = &made.meta;
    let of = format!("{} of {}", m.layout.piece_count(), describe::size(m.layout.piece_len().into()));
    format!(
        "{:<12}{}\n{:<12}{}\n{:<12}{}\n{:<12}{of}\n\n{}",
        "Torrent",
        output.display(),
        "Info hash",
        m.info_hash,
        "Size",
        describe::size(m.layout.total_len()),
        "Pieces",
        made.magnet
    )
}

/// The line of progress; gone when dropped.
pub struct Shown {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Shown {
    /// Only where somebody looks: into a file or a pipe nothing is written.
    pub fn start(progress: Arc<Progress>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        if !std::io::stderr().is_terminal() {
            return Self { over, thread: None };
        }
        let until = over.clone();
        let body = move || {
            let started = Instant::now();
            while !until.load(Ordering::Relaxed) {
                let (done, total) = progress.get();
                let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(done, total, started.elapsed()));
                std::thread::park_timeout(SHOW_EVERY);
            }
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        };
        Self { over, thread: std::thread::Builder::new().name("progress".into()).spawn(body).ok() }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// "43 %  812 MiB of 1.9 GiB  410 MiB/s  3 s left".
fn line(done: u64, total: u64, took: Duration) -> String {
    if total == 0 {
        return "Looking at the files …".to_owned();
    }
    let rate = done as f64 / took.as_secs_f64().max(0.001);
    let left = (total.saturating_sub(done)) as f64 / rate.max(1.0);
    let left = if left < 120.0 { format!("{left:.0} s left") } else { format!("{:.0} min left", left / 60.0) };
    let percent = done as f64 * 100.0 / total as f64;
    format!(
        "{percent:3.0} %  {} of {}  {}/s  {left}",
        describe::size(done),
        describe::size(total),
        describe::size(rate as u64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_well() {
        assert_eq!(line(0, 0, Duration::ZERO), "Looking at the files …");
        assert_eq!(line(512 << 20, 1 << 30, Duration::from_secs(2)), " 50 %  512 MiB of 1 GiB  256 MiB/s  2 s left");
        assert!(line(1, u64::MAX, Duration::ZERO).ends_with("min left"));
    }
}
