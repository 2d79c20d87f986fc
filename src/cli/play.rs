//! `sluicegate`, `play` and `demo`: a window where there is a display, headless where asked for or where there is none.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

use sluicegate::app::ending::on_end_in_thread;
use sluicegate::app::headless::{self, HeadlessOptions};
use sluicegate::app::net::NetOverrides;
use sluicegate::app::open::classify_os;
use sluicegate::app::paths::Paths;
use sluicegate::app::process;
use sluicegate::app::session::Opened;
use sluicegate::app::{App, AppOptions, Failure, OpenAtStart};
use sluicegate::ui;

use super::{DemoArgs, MeasureArgs, NetArgs, PlayArgs, fail};

impl From<NetArgs> for NetOverrides {
    fn from(a: NetArgs) -> Self {
        Self {
            cache: a.cache,
            listen: a.listen,
            peers: a.peer,
            web_seeds: a.web_seed,
            no_dht: a.no_dht,
            no_server: a.no_server,
            no_swarm: a.no_swarm,
            encryption: a.encryption,
            no_utp: a.no_utp,
            bind: a.bind,
            proxy: a.proxy,
            name_server: a.name_server,
            blocklist: a.blocklist,
            no_portmap: a.no_portmap,
            up_limit: a.up_limit,
            down_limit: a.down_limit,
        }
    }
}

/// `sluicegate [URI]`.
pub fn window(uri: Option<OsString>, net: NetArgs) -> u8 {
    match open_window(uri.map(at_start), net.into()) {
        Ok(()) => 0,
        Err(why) => no_window(&why),
    }
}

/// `sluicegate play URI`.
pub fn play(args: PlayArgs, entered: Instant) -> u8 {
    if !args.measure.headless {
        return window(Some(args.uri), args.net);
    }
    match classify_os(&args.uri) {
        Ok(wanted) => headless::run(HeadlessOptions {
            seed: args.seed,
            ..options(Opened::Wanted(wanted), args.file, args.measure, args.net, entered)
        }),
        Err(failure) => fail(&failure),
    }
}

/// `sluicegate demo`: without a display it says so and plays headless.
pub fn demo(args: DemoArgs, entered: Instant) -> u8 {
    if args.measure.headless {
        return headless::run(options(Opened::Demo, None, args.measure, args.net, entered));
    }
    let net = NetOverrides::from(args.net);
    match open_window(Some(OpenAtStart::Demo), net.clone()) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{why} The demo plays without one; Ctrl-C ends it.");
            headless::run(HeadlessOptions {
                opened: Opened::Demo,
                net,
                file: None,
                play_for: None,
                seed: false,
                seeks: Vec::new(),
                no_clock: false,
                frames_md5: None,
                report: None,
                // What the window took is not the play's.
                started: Instant::now(),
            })
        }
    }
}

fn options(opened: Opened, file: Option<usize>, m: MeasureArgs, net: NetArgs, entered: Instant) -> HeadlessOptions {
    HeadlessOptions {
        opened,
        net: net.into(),
        file,
        play_for: m.play_for,
        seed: false,
        seeks: m.seek,
        no_clock: m.no_clock,
        frames_md5: m.frames_md5,
        report: m.report,
        started: process::started(entered),
    }
}

fn at_start(uri: OsString) -> OpenAtStart {
    match uri.into_string() {
        Ok(text) => OpenAtStart::Text(text),
        Err(raw) => OpenAtStart::Path(raw.into()),
    }
}

/// Blocks until the window is closed. An error says why there is none.
fn open_window(open: Option<OpenAtStart>, net: NetOverrides) -> Result<(), String> {
    if !has_display() {
        return Err("There is no display for a window.".to_owned());
    }
    let app = App::start(AppOptions { open, net, paths: Paths::find() }).map_err(|e| format!("{e}."))?;
    end_with_signal(app.clone());
    let ran = ui::run(app.clone());
    app.shutdown();
    ran.map_err(|e| sluicegate::app::failure::sentence(&e.to_string()))
}

/// A window says by itself why it cannot be; this only spares it the try.
fn has_display() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    !cfg!(all(unix, not(target_vendor = "apple"))) || set("DISPLAY") || set("WAYLAND_DISPLAY") || set("WAYLAND_SOCKET")
}

fn no_window(why: &str) -> u8 {
    fail(&Failure::machine(why, "Play without a window with: sluicegate play --headless URI"))
}

/// Ctrl-C and a request to terminate end the window as closing it does: with all saved.
fn end_with_signal(app: Arc<App>) {
    on_end_in_thread(move || {
        app.shutdown();
        std::process::exit(0);
    });
}
