//! The window: draws the latest snapshot, turns what the user does into commands.
//!
//! Invariants: it owns nothing but view state; it never waits; and it asks for no frame of its own while nothing moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eframe::egui::{self, Event, Key, Modifiers, Rect, Ui, ViewportCommand, pos2};

use super::dialog::Dialog;
use super::film::{Film, Over};
use super::home::{self, Home};
use super::keys::{self, Act};
use super::panel::{self, Panel};
use super::video::VideoPainter;
use super::{choose, fonts, opening, overlay, theme};
use crate::app::snapshot::{AppHandle, Command, PlayState, Playing, Screen, Snapshot};

/// The view's own state.
pub struct Window {
    handle: Arc<dyn AppHandle>,
    video: VideoPainter,
    dialog: Dialog,
    home: Home,
    film: Film,
    panel: Panel,
    panel_open: bool,
    help_open: bool,
    title: String,
    /// For whoever wakes the window.
    film_runs: Arc<AtomicBool>,
}

/// Until news are drawn.
const NEWS: Duration = Duration::from_millis(1);
/// The same while a film runs: its next picture takes them along. A frame of their own would cost as much again.
const NEWS_IN_FILM: Duration = Duration::from_millis(45);

impl Window {
    /// Prepares the context and asks to be woken by changes.
    pub fn new(ctx: &egui::Context, handle: Arc<dyn AppHandle>) -> Self {
        fonts::install(ctx);
        theme::install(ctx);
        let (wake, film_runs) = (ctx.clone(), Arc::new(AtomicBool::new(false)));
        let runs = film_runs.clone();
        // Never at once, which egui takes as two frames.
        handle.on_change(Box::new(move || {
            wake.request_repaint_after(if runs.load(Ordering::Relaxed) { NEWS_IN_FILM } else { NEWS });
        }));
        Self {
            handle,
            video: VideoPainter::default(),
            dialog: Dialog::default(),
            home: Home::default(),
            film: Film::default(),
            panel: Panel::default(),
            panel_open: false,
            help_open: false,
            title: String::new(),
            film_runs,
        }
    }

    /// Opens or closes the stream panel.
    pub fn set_panel(&mut self, open: bool) {
        self.panel_open = open;
    }

    /// Draws one frame.
    pub fn ui(&mut self, ui: &mut Ui) {
        let snapshot = self.handle.snapshot();
        let film = match &snapshot.screen {
            Screen::Playing(p) => Some(p.state),
            _ => None,
        };
        let runs = film == Some(PlayState::Playing);
        self.film_runs.store(runs, Ordering::Relaxed);
        let room = ui.max_rect();
        if film.is_none() {
            ui.painter().rect_filled(room, egui::CornerRadius::ZERO, theme::of(ui).ground);
        }
        self.input(ui);
        self.name_window(ui, &snapshot);
        let dropping = ui.input(|i| !i.raw.hovered_files.is_empty());
        let mut commands = Vec::new();
        match &snapshot.screen {
            Screen::Home { recent, error } => {
                for ask in self.home.show(ui, recent, error.as_ref(), dropping) {
                    match ask {
                        home::Ask::Send(command) => commands.push(command),
                        home::Ask::Dialog => self.dialog.show(&self.handle),
                    }
                }
            }
            Screen::Opening(opening) => commands.extend(opening::show(ui, opening)),
            Screen::Choose { name, files, suggested } => commands.extend(choose::show(ui, name, files, *suggested)),
            Screen::Playing(playing) => commands.extend(self.playing(ui, room, playing)),
        }
        if !matches!(snapshot.screen, Screen::Playing(_)) {
            self.film = Film::default();
            self.help_open = false;
            if ui.input(|i| i.viewport().fullscreen == Some(true)) {
                ui.ctx().send_viewport_cmd(ViewportCommand::Fullscreen(false));
            }
            if dropping && !matches!(snapshot.screen, Screen::Home { .. }) {
                overlay::dropping(ui, room);
            }
        } else if dropping {
            overlay::dropping(ui, room);
        }
        if let Some(text) = &snapshot.notice
            && overlay::notice(ui, room, text)
        {
            commands.push(Command::DismissNotice);
        }
        for command in commands {
            self.handle.send(command);
        }
    }

    fn playing(&mut self, ui: &mut Ui, room: Rect, p: &Playing) -> Vec<Command> {
        let full = ui.input(|i| i.viewport().fullscreen == Some(true));
        let stream = p.stream.as_ref().filter(|_| self.panel_open);
        let (film, side) = split(room, stream.is_some());
        let focused = ui.memory(|m| m.focused().is_some());
        let mut acts = keys::film(ui.ctx(), p, focused);
        let over = Over { panel: stream.is_some(), full, help: self.help_open };
        acts.extend(self.film.show(ui, film, p, &self.video, over));
        if let Some(stream) = stream {
            let at = self.film.controls.seek.shown(p);
            self.panel.show(ui, side, p, stream, at);
        }
        if self.help_open && overlay::help(ui.ctx(), film) {
            self.help_open = false;
        }
        let mut commands = Vec::new();
        for act in acts {
            match act {
                Act::Send(command) => commands.push(command),
                Act::Panel => self.panel_open = !self.panel_open,
                Act::Help => self.help_open = !self.help_open,
                Act::Fullscreen => ui.ctx().send_viewport_cmd(ViewportCommand::Fullscreen(!full)),
                Act::Escape if self.help_open => self.help_open = false,
                Act::Escape if full => ui.ctx().send_viewport_cmd(ViewportCommand::Fullscreen(false)),
                Act::Escape => {}
            }
        }
        commands
    }

    /// What means the same on every screen: drop, paste, open, back, quit.
    fn input(&self, ui: &Ui) {
        let typing = ui.ctx().text_edit_focused();
        let (pasted, dropped, open, back, quit) = ui.input_mut(|i| {
            let pasted: Vec<String> = i
                .events
                .iter()
                .filter_map(|e| match e {
                    Event::Paste(text) if !typing => Some(text.clone()),
                    _ => None,
                })
                .collect();
            let dropped: Vec<_> = i.raw.dropped_files.iter().map(|f| f.path().to_owned()).collect();
            let command = Modifiers::COMMAND;
            let open = i.consume_key(command, Key::O);
            (pasted, dropped, open, i.consume_key(command, Key::W), i.consume_key(command, Key::Q))
        });
        for text in pasted {
            if let Some(command) = paste(&text) {
                self.handle.send(command);
            }
        }
        // A torrent plays one film: of several things dropped at once the first counts.
        if let Some(path) = dropped.into_iter().find(|p| !p.as_os_str().is_empty()) {
            self.handle.send(Command::OpenPath(path));
        }
        if open {
            self.dialog.show(&self.handle);
        }
        if back {
            self.handle.send(Command::Close);
        }
        if quit {
            ui.ctx().send_viewport_cmd(ViewportCommand::Close);
        }
    }

    fn name_window(&mut self, ui: &Ui, snapshot: &Snapshot) {
        let what = match &snapshot.screen {
            Screen::Home { .. } => "",
            Screen::Opening(o) => &o.title,
            Screen::Choose { name, .. } => name,
            Screen::Playing(p) => &p.title,
        };
        let title = if what.is_empty() { "Sluicegate".to_owned() } else { format!("{what} — Sluicegate") };
        if title != self.title {
            ui.ctx().send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.title = title;
        }
    }

    /// Frees what lives on the GPU.
    pub fn exit(&mut self, gl: Option<&eframe::glow::Context>) {
        if let Some(gl) = gl {
            self.video.destroy(gl);
        }
    }
}

/// What was pasted, if it says anything; which of its lines is an address is for the app to find.
fn paste(text: &str) -> Option<Command> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= home::LONGEST).then(|| Command::Open(text.to_owned()))
}

/// Where the film and the panel lie.
fn split(room: Rect, panel: bool) -> (Rect, Rect) {
    if !panel {
        return (room, Rect::NOTHING);
    }
    if room.width() >= panel::NARROW {
        let x = room.right() - panel::WIDTH;
        return (
            Rect::from_min_max(room.min, pos2(x, room.bottom())),
            Rect::from_min_max(pos2(x, room.top()), room.max),
        );
    }
    let y = room.top() + room.height() * 0.54;
    (Rect::from_min_max(room.min, pos2(room.right(), y)), Rect::from_min_max(pos2(room.left(), y), room.max))
}
