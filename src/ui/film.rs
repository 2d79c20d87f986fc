//! The film and what is said over it: the picture, what it waits for, that it ended, and the controls.
//!
//! Invariant: a frame asks for the next one only while a picture is due, something fades, or something is waited for.

use std::time::Duration;

use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, Event, Id, MouseWheelUnit, Pos2, Rect, Sense, Ui, UiBuilder, pos2, vec2,
};

use super::controls::{self, Controls};
use super::keys::Act;
use super::theme::{self, DARK};
use super::video::VideoPainter;
use super::{fmt, icons, widgets};
use crate::app::snapshot::{Command, MediaTime, PlayState, Playing};

/// How long the controls stay after the last movement, seconds.
const STAY: f64 = 2.0;
const FADE: f32 = 0.18;
/// A spinner at 30 frames a second looks smooth; more would only cost.
const SPIN: Duration = Duration::from_millis(33);
/// The least wait for a next picture: a clock that says "now" each time must not spin the window.
const LEAST: Duration = Duration::from_millis(2);

/// Room of the ring over a text.
const RING: f32 = 56.0;

/// What the film's surface remembers.
#[derive(Default)]
pub struct Film {
    pub controls: Controls,
    /// Input time of the last sign of life.
    moved: f64,
    shown_before: bool,
    /// Share of frames of late that took longer than there was time for, 0 to 1.
    behind: f32,
    /// Where the pointer was.
    pointer: Option<Pos2>,
}

impl Film {
    /// Draws the film into `rect`, and gives what was asked for.
    pub fn show(&mut self, ui: &mut Ui, rect: Rect, p: &Playing, video: &VideoPainter, view: Over) -> Vec<Act> {
        let mut ui = ui.new_child(UiBuilder::new().id_salt("film").max_rect(rect));
        ui.set_clip_rect(rect.intersect(ui.clip_rect()));
        let ui = &mut ui;
        // The window was cleared to black: filling it again would cost as much as the picture where a processor draws.
        let frame = video.latency();
        // A screen that does not keep up shows each frame for as long as the next takes: meant is the middle of that.
        let ahead = frame.mul_f32(1.0 + self.behind * 0.5);
        let picture = p.video.0.current(ahead);
        let pending = picture.is_none();
        if let Some(picture) = picture {
            video.paint(ui.painter(), rect, picture);
        }
        if p.state == PlayState::Playing
            && let Some(next) = p.video.0.next_in(ahead)
        {
            self.behind += (f32::from(u8::from(next < frame)) - self.behind) * 0.1;
            ui.ctx().request_repaint_after(next.max(LEAST));
        }
        let mut acts = self.surface(ui, rect, p);
        self.middle(ui, rect, p, pending, video.trouble(), &mut acts);
        let alpha = self.alpha(ui, p, view.help);
        if alpha > 0.0 {
            ui.multiply_opacity(alpha);
            acts.extend(self.controls.show(ui, rect, p, view.panel, view.full));
        } else if ui.rect_contains_pointer(rect) {
            ui.set_cursor_icon(CursorIcon::None);
        }
        acts
    }

    /// Clicks and the wheel on the picture itself.
    fn surface(&mut self, ui: &Ui, rect: Rect, p: &Playing) -> Vec<Act> {
        let mut acts = Vec::new();
        let r = ui.interact(rect, ui.scope_id().with("picture"), Sense::CLICK);
        // The second click of a double click undoes the first one's pause.
        if r.clicked() {
            acts.push(Act::Send(Command::TogglePause));
        }
        if r.double_clicked() {
            acts.push(Act::Fullscreen);
        }
        if r.contains_pointer() {
            let notches: f32 = ui.input(|i| {
                let turn = i.events.iter().map(|e| match e {
                    Event::MouseWheel { unit: MouseWheelUnit::Point, delta, .. } => delta.y / 50.0,
                    Event::MouseWheel { delta, .. } => delta.y,
                    _ => 0.0,
                });
                turn.sum()
            });
            if notches != 0.0 {
                acts.push(Act::Send(Command::SetVolume((p.volume + notches * 0.05).clamp(0.0, 1.0))));
            }
        }
        acts
    }

    /// How visible the controls are.
    fn alpha(&mut self, ui: &Ui, p: &Playing, help: bool) -> f32 {
        let ctx = ui.ctx();
        let now = ui.input(|i| i.time);
        let (place, pressed) = ui.input(|i| {
            let press = |e: &Event| matches!(e, Event::Key { pressed: true, .. } | Event::MouseWheel { .. });
            (i.pointer.latest_pos(), i.pointer.any_down() || i.events.iter().any(press))
        });
        // Some systems tell again and again of a pointer that stands still.
        let moved = place.is_some() && place != self.pointer;
        self.pointer = place.or(self.pointer);
        let alive = moved || pressed;
        if alive || !self.shown_before {
            self.moved = now;
            self.shown_before = true;
        }
        let held = !matches!(p.state, PlayState::Playing | PlayState::Waiting)
            || self.controls.seek.dragging()
            || help
            || ctx.memory(|m| m.focused().is_some());
        let left = self.moved + STAY - now;
        let visible = held || left > 0.0;
        if visible && !held {
            ctx.request_repaint_after(Duration::from_secs_f64(left.max(0.01)));
        }
        ctx.animate_bool_with_time(Id::unique("controls"), visible, FADE)
    }

    /// What the viewer must know while nothing moves.
    fn middle(
        &self,
        ui: &mut Ui,
        rect: Rect,
        p: &Playing,
        pending: bool,
        trouble: Option<String>,
        acts: &mut Vec<Act>,
    ) {
        let free =
            Rect::from_x_y_ranges(rect.x_range(), rect.top() + controls::UPPER..=rect.bottom() - controls::LOWER);
        let center = free.center();
        if let Some(trouble) = trouble {
            plate(ui, free, &[trouble], false);
            return;
        }
        match p.state {
            PlayState::Waiting => {
                let waits = p.stream.as_ref().and_then(|s| s.waiting_text.as_deref()).map(fmt::sentence);
                let first = match (waits, p.seeking_to) {
                    (Some(waits), _) => waits,
                    (None, Some(to)) => format!("Going to {}", fmt::time(to)),
                    (None, None) => "Waiting for data".to_owned(),
                };
                let mut lines = vec![first];
                let alone = p.stream.as_ref().filter(|s| s.peers.is_empty() && s.engine.origins == 0);
                if let Some(s) = alone {
                    lines.push("No peer and no server right now. Still looking".to_owned());
                    // The first line names where was asked; here is what came of it.
                    lines.extend(s.sources.iter().chain(&s.servers).filter(|l| l.contains(" · ")).take(4).cloned());
                }
                let under = plate(ui, free, &lines, true);
                if alone.is_some() && under + 44.0 < rect.bottom() - controls::LOWER {
                    let size = vec2(96.0, 32.0);
                    let at = Rect::from_min_size(pos2(center.x - size.x / 2.0, under + 12.0), size);
                    let mut ui = ui.new_child(UiBuilder::new().id_salt("give up").max_rect(at));
                    theme::over_film(&mut ui);
                    if widgets::button(&mut ui, "Cancel", false).clicked() {
                        acts.push(Act::Send(Command::Close));
                    }
                }
                ui.ctx().request_repaint_after(SPIN);
            }
            PlayState::Ended => {
                let at = Rect::from_center_size(center, vec2(64.0, 64.0));
                ui.painter().circle_filled(center, 40.0, Color32::from_black_alpha(150));
                let r = widgets::icon_button(ui, "again", at, icons::Icon::Replay, 34.0, "Play from the start", &DARK);
                if r.clicked() {
                    acts.push(Act::Send(Command::SeekTo(MediaTime::ZERO)));
                }
            }
            PlayState::Paused if pending => {
                plate(ui, free, &["Paused".to_owned()], false);
            }
            PlayState::Playing | PlayState::Paused => {}
        }
    }
}

/// What else is open.
#[derive(Debug, Clone, Copy)]
pub struct Over {
    pub panel: bool,
    pub full: bool,
    pub help: bool,
}

/// Lines of text in the middle on a soft plate, the first one larger, with or without a spinner above; gives the plate's
/// lower edge.
fn plate(ui: &Ui, free: Rect, lines: &[String], spin: bool) -> f32 {
    let center = free.center();
    let width = (free.width() - 48.0).clamp(80.0, 560.0);
    let painter = ui.painter();
    let mut galleys: Vec<_> = lines
        .iter()
        .enumerate()
        .map(|(i, line)| {
            let (font, color) =
                if i == 0 { (theme::strong(15.0), DARK.text) } else { (theme::font(13.0), DARK.text_soft) };
            painter.layout(line.clone(), font, color, width - 48.0)
        })
        .collect();
    // Where there is little room the ring goes first, then what is said last.
    let high = |g: &[std::sync::Arc<eframe::egui::Galley>]| g.iter().map(|g| g.size().y + 6.0).sum::<f32>() + 30.0;
    let spin = spin && high(&galleys) + RING <= free.height().max(120.0);
    while galleys.len() > 1 && high(&galleys) > free.height() {
        galleys.pop();
    }
    let wide = galleys.iter().map(|g| g.size().x).fold(0.0, f32::max);
    let ring = if spin { RING } else { 0.0 };
    let size = vec2(wide + 48.0, high(&galleys) + ring);
    let plate = Rect::from_center_size(center, size);
    painter.rect_filled(plate, CornerRadius::same(12), Color32::from_black_alpha(165));
    let mut y = plate.top() + 18.0;
    if spin {
        let turn = ui.input(|i| i.time) / 1.1;
        icons::spinner(painter, pos2(center.x, y + 20.0), 18.0, turn.fract() as f32, DARK.text);
        y += ring;
    }
    for (i, galley) in galleys.into_iter().enumerate() {
        let at = Align2::CENTER_TOP.anchor_size(pos2(center.x, y), galley.size());
        let r = ui.interact(at, ui.scope_id().with(("plate", i)), Sense::hover());
        r.widget_info(|| {
            eframe::egui::WidgetInfo::labeled(
                eframe::egui::Role::Label,
                true,
                lines.get(i).cloned().unwrap_or_default(),
            )
        });
        y = at.bottom() + 6.0;
        painter.galley(at.min, galley, DARK.text);
    }
    plate.bottom()
}
