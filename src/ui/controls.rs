//! What lies over the film: title above, time, bar and buttons below, on soft gradients.
//!
//! They come with any movement and go two seconds after; while the film stands, they stay.

use eframe::egui::{Align2, Color32, EventFilter, Key, Rect, Role, Sense, Ui, WidgetInfo, accesskit, pos2, vec2};

use super::icons::{self, Icon};
use super::keys::Act;
use super::seekbar::SeekBar;
use super::theme::{self, DARK, HIT};
use super::{fmt, widgets};
use crate::app::snapshot::{Command, MediaTime, PlayState, Playing};

/// From the film's edge to the first and last thing on it.
const SIDE: f32 = 28.0;
/// Room the lower controls take.
pub const LOWER: f32 = 128.0;
/// Room the title takes.
pub const UPPER: f32 = 76.0;

/// What the controls remember.
#[derive(Default)]
pub struct Controls {
    pub seek: SeekBar,
    /// Show the length instead of what remains.
    whole: bool,
}

impl Controls {
    /// Draws them over `film`, and gives what was asked for.
    pub fn show(&mut self, ui: &mut Ui, film: Rect, p: &Playing, panel: bool, full: bool) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut send = Vec::new();
        upper(ui, film, p, &mut acts);
        let shade = Rect::from_min_max(pos2(film.left(), film.bottom() - LOWER * 1.35), film.max);
        let dark = Color32::from_black_alpha(215);
        widgets::gradient(ui.painter(), shade, Color32::TRANSPARENT, dark);

        let (left, right) = (film.left() + SIDE, film.right() - SIDE);
        let bar_y = film.bottom() - 88.0;
        let buttons_y = film.bottom() - 40.0;
        self.times(ui, left, right, bar_y - 20.0, p);
        // Tab goes from the button on the left over the bar to those on the right, as the eye does.
        let button = |x: f32| Rect::from_center_size(pos2(x, buttons_y), vec2(HIT + 8.0, HIT + 8.0));
        let (icon, label) = match p.state {
            PlayState::Paused => (Icon::Play, "Play"),
            PlayState::Ended => (Icon::Replay, "Play again"),
            PlayState::Playing | PlayState::Waiting => (Icon::Pause, "Pause"),
        };
        let r = widgets::icon_button(ui, "play", button(left + 10.0), icon, 20.0, label, &DARK);
        if r.on_hover_text(format!("{label}   Space")).clicked() {
            send.push(if p.state == PlayState::Ended {
                Command::SeekTo(MediaTime::ZERO)
            } else {
                Command::TogglePause
            });
        }
        self.seek.show(ui, left, right, bar_y, p, &mut send);
        volume(ui, button(left + 62.0), p, &mut send);

        right_buttons(ui, right, &button, p.stream.is_some().then_some(panel), full, &mut acts);
        acts.extend(send.into_iter().map(Act::Send));
        acts
    }

    fn times(&mut self, ui: &Ui, left: f32, right: f32, y: f32, p: &Playing) {
        let at = self.seek.shown(p);
        let font = || theme::font(14.0);
        widgets::label_at(ui, "time", pos2(left, y), 120.0, &fmt::time(at), font(), DARK.text);
        let Some(duration) = p.duration else { return };
        let rest = MediaTime(duration.0.saturating_sub(at.0).max(0));
        let over = fmt::time(rest) == fmt::time(MediaTime::ZERO);
        let text = match self.whole {
            true => fmt::time(duration),
            false if over => fmt::time(rest),
            false => format!("−{}", fmt::time(rest)),
        };
        let rect = widgets::text_at(ui, pos2(right, y), Align2::RIGHT_CENTER, 120.0, &text, font(), DARK.text_soft);
        let r = ui.interact(rect.expand2(vec2(6.0, 8.0)), ui.scope_id().with("rest"), Sense::CLICK);
        let label = if self.whole { format!("Length {text}") } else { format!("Remaining {}", fmt::time(rest)) };
        r.widget_info(|| WidgetInfo::labeled(Role::Button, true, &label));
        if r.clicked() {
            self.whole = !self.whole;
        }
    }
}

/// Keys, panel, full screen. `panel`: whether it is open; `None` where there is no stream to show.
fn right_buttons(
    ui: &Ui,
    right: f32,
    place: &impl Fn(f32) -> Rect,
    panel: Option<bool>,
    full: bool,
    acts: &mut Vec<Act>,
) {
    let last = right - 10.0;
    let keys = if panel.is_some() { last - 100.0 } else { last - 50.0 };
    let r = widgets::icon_button(ui, "help", place(keys), Icon::Help, 16.0, "Keys", &DARK);
    if r.on_hover_text("Keys   ?").clicked() {
        acts.push(Act::Help);
    }
    if let Some(open) = panel {
        let r = ui.interact(place(last - 50.0), ui.scope_id().with("panel"), Sense::click());
        r.widget_info(|| WidgetInfo::selected(Role::Button, true, open, "Stream panel"));
        let color = if open { DARK.accent } else { DARK.text };
        icons::paint(ui.painter(), Icon::Panel, r.rect.center(), 18.0, color);
        if r.has_focus() {
            theme::focus_ring(ui.painter(), r.rect.shrink(2.0), &DARK);
        }
        if r.on_hover_text("Stream panel   I").clicked() {
            acts.push(Act::Panel);
        }
    }
    let (icon, label) =
        if full { (Icon::LeaveFullscreen, "Leave full screen") } else { (Icon::Fullscreen, "Full screen") };
    let r = widgets::icon_button(ui, "full", place(last), icon, 20.0, label, &DARK);
    if r.on_hover_text(format!("{label}   F")).clicked() {
        acts.push(Act::Fullscreen);
    }
}

fn upper(ui: &mut Ui, film: Rect, p: &Playing, acts: &mut Vec<Act>) {
    let shade = Rect::from_min_max(film.min, pos2(film.right(), film.top() + 120.0));
    widgets::gradient(ui.painter(), shade, Color32::from_black_alpha(190), Color32::TRANSPARENT);
    let back = Rect::from_center_size(film.min + vec2(SIDE + 4.0, 33.0), vec2(HIT, HIT));
    let r = widgets::icon_button(ui, "back", back, Icon::Back, 16.0, "Back to the start", &DARK);
    if r.on_hover_text("Back to the start   Ctrl+W").clicked() {
        acts.push(Act::Send(Command::Close));
    }
    let left = film.left() + SIDE + 28.0;
    let width = film.width() - SIDE * 2.0 - 28.0;
    let at = pos2(left, film.top() + 33.0);
    widgets::label_at(ui, "title", at, width, &p.title, theme::strong(theme::TITLE), DARK.text);
    let at = pos2(left, film.top() + 60.0);
    let soft = DARK.text.gamma_multiply(0.86);
    widgets::label_at(ui, "subtitle", at, width, &p.subtitle, theme::font(13.0), soft);
}

fn volume(ui: &Ui, speaker: Rect, p: &Playing, send: &mut Vec<Command>) {
    use accesskit::{Action, ActionData};
    let silent = p.muted || p.volume <= 0.0;
    let icon = if silent { Icon::Muted } else { Icon::Speaker { waves: if p.volume > 0.5 { 2 } else { 1 } } };
    let label = if p.muted { "Sound on" } else { "Sound off" };
    if widgets::icon_button(ui, "mute", speaker, icon, 20.0, label, &DARK)
        .on_hover_text(format!("{label}   M"))
        .clicked()
    {
        send.push(Command::ToggleMute);
    }
    let rect = Rect::from_min_size(pos2(speaker.right() + 4.0, speaker.center().y - HIT / 2.0), vec2(86.0, HIT));
    let r = ui.interact(rect, ui.scope_id().with("volume"), Sense::click_and_drag());
    let dragged = r.interact_pointer_pos().map(|pos| ((pos.x - rect.left()) / rect.width()).clamp(0.0, 1.0));
    let shown = dragged.unwrap_or(p.volume).clamp(0.0, 1.0);
    r.widget_info(|| WidgetInfo::slider(true, f64::from(shown * 100.0).round(), "Volume"));
    ui.ctx().accesskit_node_builder(r.id, |node| {
        node.set_min_numeric_value(0.0);
        node.set_max_numeric_value(100.0);
        node.add_action(Action::SetValue);
    });
    let line = Rect::from_center_size(rect.center(), vec2(rect.width(), 4.0));
    let fill = if silent { Color32::from_white_alpha(90) } else { Color32::WHITE };
    widgets::bar(ui.painter(), line, shown, Color32::from_white_alpha(70), fill);
    let active = r.hovered() || r.dragged() || r.has_focus();
    if active {
        ui.painter().circle_filled(pos2(line.left() + line.width() * shown, line.center().y), 6.0, Color32::WHITE);
    }
    if r.has_focus() {
        theme::focus_ring(ui.painter(), rect.shrink2(vec2(-4.0, 8.0)), &DARK);
        let arrows = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|m| m.set_focus_lock_filter(r.id, arrows));
    }
    // Asked before the input is: it locks the context, as reading input does.
    let focused = r.has_focus();
    let mut wanted = dragged.filter(|_| r.dragged() || r.clicked());
    ui.input(|i| {
        for request in i.accesskit_action_requests(r.id, Action::SetValue) {
            if let Some(ActionData::NumericValue(v)) = request.data {
                wanted = Some((v / 100.0).clamp(0.0, 1.0) as f32);
            }
        }
        let steps = i.num_presses(Key::ArrowRight) as f32 - i.num_presses(Key::ArrowLeft) as f32;
        if focused && steps != 0.0 {
            wanted = Some((p.volume + 0.05 * steps).clamp(0.0, 1.0));
        }
    });
    if let Some(v) = wanted.filter(|v| v.is_finite() && (v - p.volume).abs() > 0.001) {
        send.push(Command::SetVolume(v));
    }
}
