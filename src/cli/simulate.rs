//! `sluicegate simulate`: an experiment or a scenario in; tables, a JSON file and pictures out.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use sluicegate::app::Failure;
use sluicegate::sim::Scenario;
use sluicegate::sim::experiments::{Experiment, ExperimentError, Findings, Monitor, Plan, own};
use sluicegate::sim::output;

use super::fail;

/// What a shell expects of a program that was interrupted.
const INTERRUPTED: u8 = 130;
/// The line of progress on a terminal.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// Elsewhere a line each so often: enough for a log.
const LOG_EVERY: Duration = Duration::from_secs(20);
/// A scenario longer than this is none.
const SCENARIO_MOST: u64 = 1 << 20;

/// What people look for at the end of `--help`.
const EXPERIMENTS: &str = "\
Experiments:
  laws     what a server carries for N viewers with too little, just enough and ample upload (a quarter of an hour; --most 10000: an hour or so)
  share    how much of one viewer's film comes of the server, against the bound and random order
  bass     the comparison of the BASS paper: a server alone, BitTorrent alone, both
  greedy   what it gains to bid ten times one's need
  dead     what it costs when the origin dies
  riders   what it costs when three in ten never give

The same seed gives the same files. A scenario is a TOML file; tests/scenarios in the sources has examples.";

#[derive(Debug, Args)]
#[command(after_help = EXPERIMENTS)]
pub struct SimulateArgs {
    /// A scenario, SCENARIO.toml, or an experiment: laws, share, bass, greedy, dead or riders.
    #[arg(value_name = "SCENARIO.toml|EXPERIMENT")]
    what: PathBuf,

    /// All chance comes from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Write CSV, JSON and SVG files here; the folder is made.
    #[arg(long, value_name = "DIR", default_value = "simulated")]
    out: PathBuf,

    /// Small worlds and few of them, for a first look.
    #[arg(long)]
    quick: bool,

    /// For laws: worlds of up to so many viewers run real engines, larger ones the fluid model.
    #[arg(long, value_name = "VIEWERS", default_value_t = 0, hide_default_value = true)]
    most: u32,
}

/// Runs it; answers the exit code.
pub fn run(args: SimulateArgs) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    sluicegate::app::ending::on_end_in_thread({
        let stop = stop.clone();
        move || stop.store(true, Ordering::Relaxed)
    });
    let mut screen = Screen::new(stop);
    let found = simulate(&args, &mut screen);
    screen.clear();
    match found {
        Ok(findings) => report(&findings, &args.out),
        Err(Failed::Stopped) => {
            eprintln!("Ended; nothing was written.");
            INTERRUPTED
        }
        Err(Failed::Failure(f)) => fail(&f),
    }
}

enum Failed {
    Stopped,
    Failure(Failure),
}

impl From<ExperimentError> for Failed {
    fn from(e: ExperimentError) -> Self {
        match e {
            ExperimentError::Stopped => Self::Stopped,
            ExperimentError::Scenario(e) => {
                Self::Failure(Failure::input(e.to_string(), "Correct it; tests/scenarios in the sources has examples"))
            }
        }
    }
}

fn simulate(args: &SimulateArgs, screen: &mut Screen) -> Result<Findings, Failed> {
    let mut plan = Plan { seed: args.seed, quick: args.quick, most: args.most, monitor: screen };
    if let Some(experiment) = args.what.to_str().and_then(Experiment::of) {
        return Ok(experiment.run(&mut plan)?);
    }
    let text = read(&args.what).map_err(Failed::Failure)?;
    let mut scenario = Scenario::from_toml(&text).map_err(ExperimentError::from)?;
    if args.quick {
        scenario.seconds = (scenario.seconds / 4.0).max(1.0);
        scenario.groups.iter_mut().for_each(|g| g.count = g.count.div_ceil(4));
    }
    let name = args.what.file_stem().map_or_else(|| "scenario".into(), |s| s.to_string_lossy().into_owned());
    Ok(own(&name, &scenario, &mut plan)?)
}

fn read(path: &Path) -> Result<String, Failure> {
    let names = Experiment::ALL.map(Experiment::name).join(", ");
    let shown = path.display();
    let advice = format!("Name a scenario's TOML file, or one of {names}");
    let failed = |e: std::io::Error| Failure::input(format!("{shown} cannot be read: {e}"), &advice);
    if std::fs::metadata(path).map_err(failed)?.len() > SCENARIO_MOST {
        return Err(Failure::input(format!("{shown} is too long for a scenario"), &advice));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// Writes the files and prints the tables.
fn report(findings: &Findings, out: &Path) -> u8 {
    let paths = match output::write(findings, out) {
        Ok(paths) => paths,
        Err(e) => return fail(&Failure::machine(e.to_string(), "Choose with --out where")),
    };
    let mut text = String::new();
    for table in findings.tables.iter().filter(|t| !t.long) {
        text.push_str(&format!("{table}\n"));
    }
    findings.remarks.iter().for_each(|r| text.push_str(&format!("{r}\n")));
    paths.iter().for_each(|p| text.push_str(&format!("wrote {}\n", p.display())));
    // A reader that has seen enough is no error.
    let _ = write!(std::io::stdout().lock(), "{text}");
    0
}

/// Progress on stderr: a line that changes on a terminal, a line now and then elsewhere.
struct Screen {
    stop: Arc<AtomicBool>,
    terminal: bool,
    began: Instant,
    shown: Option<Instant>,
}

impl Screen {
    fn new(stop: Arc<AtomicBool>) -> Self {
        Self { stop, terminal: std::io::stderr().is_terminal(), began: Instant::now(), shown: None }
    }

    fn clear(&self) {
        if self.terminal && self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Monitor for Screen {
    fn progress(&mut self, what: &str, done: f64) {
        let every = if self.terminal { SHOW_EVERY } else { LOG_EVERY };
        if self.shown.get_or_insert(self.began).elapsed() < every {
            return;
        }
        self.shown = Some(Instant::now());
        let line = format!("{what}: {:.0} %, {:.0} s", 100.0 * done, self.began.elapsed().as_secs_f64());
        let _ = match self.terminal {
            true => write!(std::io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(std::io::stderr(), "{line}"),
        };
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
