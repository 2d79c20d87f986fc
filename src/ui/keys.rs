//! What each key means while a film is on.

use eframe::egui::{Context, Event, Key, Modifiers};

use crate::app::snapshot::{Command, MediaTime, Playing};

/// What a key asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Send(Command),
    Panel,
    Fullscreen,
    /// Leaves what is open on top: help, then fullscreen.
    Escape,
    Help,
}

/// Rows of the help, keys and what they do.
pub const HELP: [(&str, &str); 14] = [
    ("Space  K", "Pause, go on"),
    ("←  →", "5 seconds back, on"),
    ("J  L", "10 seconds back, on"),
    ("0 … 9", "To that tenth of the film"),
    ("Home  End", "To the start, to the end"),
    ("↑  ↓", "Louder, quieter"),
    ("M", "Sound off, on"),
    ("F", "Full screen"),
    ("I", "Stream panel"),
    ("Ctrl+O", "Open a file"),
    ("Ctrl+V", "Open what was copied"),
    ("Ctrl+W", "Back to the start"),
    ("?", "This list"),
    ("Esc", "Leave full screen"),
];

const VOLUME_STEP: f32 = 0.05;

/// Takes this pass's key presses, as far as they mean something here. `focused`: a widget has the keyboard, and keeps
/// the keys that move or press it.
pub fn film(ctx: &Context, p: &Playing, focused: bool) -> Vec<Act> {
    let events = ctx.input(|i| i.events.clone());
    events
        .iter()
        .filter_map(|e| match e {
            Event::Key { key, pressed: true, modifiers, repeat, .. } => act(*key, *modifiers, *repeat, p, focused),
            _ => None,
        })
        .collect()
}

fn act(key: Key, modifiers: Modifiers, repeat: bool, p: &Playing, focused: bool) -> Option<Act> {
    let moves = matches!(key, Key::Space | Key::ArrowLeft | Key::ArrowRight | Key::ArrowUp | Key::ArrowDown);
    if modifiers.command || modifiers.alt || (focused && moves) {
        return None;
    }
    let by = |s| Some(Act::Send(Command::SeekBy(s)));
    let volume = |d: f32| Some(Act::Send(Command::SetVolume((p.volume + d).clamp(0.0, 1.0))));
    let to = |share: f64| {
        let to = MediaTime::from_secs_f64(p.duration?.as_secs_f64() * share);
        Some(Act::Send(Command::SeekTo(to)))
    };
    // A held key moves on and on; a toggle must not flutter.
    match key {
        Key::ArrowLeft => by(-5.0),
        Key::ArrowRight => by(5.0),
        Key::J => by(-10.0),
        Key::L => by(10.0),
        Key::ArrowUp => volume(VOLUME_STEP),
        Key::ArrowDown => volume(-VOLUME_STEP),
        _ if repeat => None,
        Key::Space | Key::K => Some(Act::Send(Command::TogglePause)),
        Key::M => Some(Act::Send(Command::ToggleMute)),
        Key::Home => Some(Act::Send(Command::SeekTo(MediaTime::ZERO))),
        Key::End => to(1.0),
        Key::Num0 => to(0.0),
        Key::Num1 => to(0.1),
        Key::Num2 => to(0.2),
        Key::Num3 => to(0.3),
        Key::Num4 => to(0.4),
        Key::Num5 => to(0.5),
        Key::Num6 => to(0.6),
        Key::Num7 => to(0.7),
        Key::Num8 => to(0.8),
        Key::Num9 => to(0.9),
        Key::I => Some(Act::Panel),
        Key::F | Key::F11 => Some(Act::Fullscreen),
        Key::Questionmark | Key::F1 => Some(Act::Help),
        Key::Slash if modifiers.shift => Some(Act::Help),
        Key::Escape => Some(Act::Escape),
        _ => None,
    }
}
