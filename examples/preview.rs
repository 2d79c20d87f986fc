//! The window without a program behind it: every state of it on made-up data, to look at while designing.
//!
//! ```text
//! cargo run --example preview                     lists the states
//! cargo run --example preview -- panel            shows one in the real window, with a picture that moves
//! cargo run --example preview -- --shots DIR [..] takes a picture (PPM) of each state at three sizes, or of those named
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eframe::egui::{self, Event, ViewportCommand, pos2};
use sluicegate::app::snapshot::{AppHandle, Command, PlayState, Screen, Snapshot};
use sluicegate::ui::Window;

#[path = "preview/made_up.rs"]
mod made_up;

const SIZES: [[f32; 2]; 3] = [[800.0, 500.0], [1280.0, 800.0], [1920.0, 1080.0]];
/// From a change to its picture: fades are over, the video has moved.
const SETTLE: Duration = Duration::from_millis(900);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (shots, names) = match args.split_first() {
        Some((first, rest)) if first == "--shots" => {
            let (dir, names) = rest.split_first().ok_or("--shots needs a folder")?;
            (Some(PathBuf::from(dir)), names)
        }
        Some(_) => (None, args.as_slice()),
        None => {
            println!("{}", made_up::STATES.join("\n"));
            return Ok(());
        }
    };
    let all: Vec<String> = made_up::STATES.iter().map(|s| (*s).to_owned()).collect();
    let names = if names.is_empty() { all } else { names.to_vec() };
    let Some(shots) = shots else { return live(names.first().map_or("playing", String::as_str)) };
    let queue: Vec<_> = names.iter().flat_map(|n| SIZES.map(|s| (n.clone(), s))).collect();
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default().with_inner_size(SIZES[1]).with_title("preview"),
        renderer: eframe::Renderer::Glow,
        dithering: false,
        ..eframe::NativeOptions::default()
    };
    let create: eframe::AppCreator<'_> = Box::new(|cc| Ok(Box::new(Preview::new(&cc.egui_ctx, queue, shots))));
    eframe::run_native("preview", options, create)?;
    Ok(())
}

/// One state in the real window, its film running by the clock, with news four times a second.
fn live(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let fake = Arc::new(Fake::default());
    fake.set(made_up::snapshot(name, 0.0));
    let (news, state, began) = (fake.clone(), name.to_owned(), Instant::now());
    if matches!(&fake.snapshot().screen, Screen::Playing(p) if p.state == PlayState::Playing) {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(250));
                news.set(made_up::snapshot(&state, began.elapsed().as_secs_f64()));
            }
        });
    }
    Ok(sluicegate::ui::run(fake)?)
}

/// Prints commands, and does none of them.
#[derive(Default)]
struct Fake {
    snapshot: Mutex<Arc<Snapshot>>,
    wake: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Fake {
    fn set(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        if let Some(wake) = &*self.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }
}

impl AppHandle for Fake {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send(&self, command: Command) {
        println!("{command:?}");
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }
}

struct Preview {
    window: Window,
    fake: Arc<Fake>,
    queue: std::vec::IntoIter<(String, [f32; 2])>,
    current: Option<(String, [f32; 2])>,
    since: Instant,
    asked: bool,
    typed: bool,
    shots: PathBuf,
    shot: Arc<Mutex<Option<Arc<egui::ColorImage>>>>,
    began: Instant,
}

impl Preview {
    fn new(ctx: &egui::Context, queue: Vec<(String, [f32; 2])>, shots: PathBuf) -> Self {
        let fake = Arc::new(Fake::default());
        let window = Window::new(ctx, fake.clone());
        let mut queue = queue.into_iter();
        let current = queue.next();
        let now = Instant::now();
        let mut p = Self {
            window,
            fake,
            queue,
            current,
            since: now,
            asked: false,
            typed: false,
            shots,
            shot: Arc::default(),
            began: now,
        };
        p.enter(ctx);
        p
    }

    fn enter(&mut self, ctx: &egui::Context) {
        let Some((name, size)) = &self.current else {
            ctx.send_viewport_cmd(ViewportCommand::Close);
            return;
        };
        ctx.send_viewport_cmd(ViewportCommand::InnerSize((*size).into()));
        ctx.set_theme(if name.contains("light") { egui::Theme::Light } else { egui::Theme::Dark });
        self.window.set_panel(made_up::has_panel(name));
        self.fake.set(made_up::snapshot(name, 0.0));
        self.since = Instant::now();
        (self.asked, self.typed) = (false, false);
        ctx.request_repaint();
    }
}

impl eframe::App for Preview {
    fn clear_color(&self, _visuals: &egui::Visuals) -> [f32; 4] {
        [0.0, 0.0, 0.0, 1.0]
    }

    fn raw_input_hook(&mut self, _ctx: &egui::Context, input: &mut egui::RawInput) {
        let Some((name, _)) = &self.current else { return };
        let Some(size) = input.screen_rect.map(|r| r.size()) else { return };
        // The pointer, where a state is about it; elsewhere moving it only keeps the controls in sight.
        let wave = self.since.elapsed().as_secs_f32().fract();
        let at = match name.as_str() {
            "hover" => pos2(size.x * 0.52 + wave, size.y - 88.0),
            "hover map" => pos2(size.x - 200.0 + wave, 470.0),
            "hover peer" => pos2(size.x - 340.0, 690.0),
            _ => pos2(size.x * 0.3 + wave, size.y * 0.3),
        };
        input.events.push(Event::PointerMoved(at));
        if name == "keys" && !self.typed && self.since.elapsed() > Duration::from_millis(300) {
            self.typed = true;
            let modifiers = egui::Modifiers::default();
            input.events.push(Event::Key {
                key: egui::Key::Questionmark,
                physical_key: None,
                pressed: true,
                repeat: false,
                modifiers,
            });
        }
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        if let Some((name, _)) = &self.current
            && matches!(self.fake.snapshot().screen, Screen::Playing(_))
        {
            self.fake.set(made_up::snapshot(name, self.began.elapsed().as_secs_f64()));
        }
        self.window.ui(ui);
        ctx.request_repaint_after(Duration::from_millis(50));
        let shot = self.shot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(image), Some((name, [w, h]))) = (shot, &self.current) {
            let file = self.shots.join(format!("{} {w}x{h}.ppm", name).replace(' ', "-"));
            if let Err(e) = write_ppm(&file, &image) {
                eprintln!("{}: {e}", file.display());
            }
            self.current = self.queue.next();
            self.enter(&ctx);
        } else if self.since.elapsed() > SETTLE && !self.asked {
            let slot = self.shot.clone();
            ctx.request_screenshot(move |image| *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(image));
            self.asked = true;
        }
    }

    fn on_exit(&mut self, gl: Option<&eframe::glow::Context>) {
        self.window.exit(gl);
    }
}

fn write_ppm(file: &Path, image: &egui::ColorImage) -> std::io::Result<()> {
    let mut out = format!("P6 {} {} 255\n", image.size[0], image.size[1]).into_bytes();
    out.extend(image.pixels.iter().flat_map(|p| [p.r(), p.g(), p.b()]));
    std::fs::write(file, out)
}
