//! `sluicegate info`: what a torrent or a magnet link holds, for people or as JSON.

use std::ffi::OsStr;
use std::io::Write;

use sluicegate::app::Failure;
use sluicegate::app::open::{Source, classify_os, file_name, resolve, shown_url};
use sluicegate::app::paths::Paths;
use sluicegate::app::settings::Settings;
use sluicegate::net::NetRoute;
use sluicegate::torrent::describe;

use super::fail;

/// Prints to stdout; answers the exit code.
pub fn run(uri: &OsStr, json: bool) -> u8 {
    match describe(uri, json) {
        // A reader that has seen enough (`| head`) is no error.
        Ok(text) => {
            let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
            0
        }
        Err(failure) => fail(&failure),
    }
}

fn no_torrent(name: &str) -> Failure {
    Failure::input(format!("{name} is not a torrent"), "Give a .torrent file, its web address or a magnet link")
}

/// A web address is asked for the way the settings say.
fn route() -> NetRoute {
    let (settings, problem) = Settings::load(&Paths::find().settings_file());
    if let Some(problem) = problem {
        eprintln!("{problem}.");
    }
    settings.route()
}

fn describe(uri: &OsStr, json: bool) -> Result<String, Failure> {
    let wanted = classify_os(uri)?;
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let rt = rt.map_err(|e| Failure::machine(format!("The network could not be started: {e}"), "Try again"))?;
    let pretty = |v: &serde_json::Value| {
        serde_json::to_string_pretty(v)
            .map_err(|e| Failure::machine(format!("JSON could not be written: {e}"), "Try again"))
    };
    match rt.block_on(resolve(wanted, &route()))? {
        Source::Torrent(meta) if json => pretty(&describe::json(&meta)),
        Source::Torrent(meta) => Ok(describe::text(&meta)),
        Source::Magnet(magnet) if json => pretty(&describe::magnet_json(&magnet)),
        Source::Magnet(magnet) => Ok(describe::describe_magnet(&magnet)),
        Source::Video { url } => Err(no_torrent(&shown_url(&url))),
        Source::Local(path) => Err(no_torrent(&file_name(&path))),
    }
}
