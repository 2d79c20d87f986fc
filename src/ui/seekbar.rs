//! The seek bar: where the film is, what lies ahead of it, and the strip that says why.
//!
//! While it is dragged nothing is sent; the seek is the release. Its knob then stays where the user left it until the
//! player says that it is under way.

use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, EventFilter, Key, Pos2, Rect, Response, Role, Sense, Stroke, StrokeKind,
    Ui, WidgetInfo, accesskit, pos2, vec2,
};

use super::pieces;
use super::strip::Strip;
use super::theme::{self, DARK};
use super::{fmt, widgets};
use crate::app::snapshot::{Command, MediaTime, Playing};

const BAR: f32 = 5.0;
const STRIP: f32 = 4.0;
/// From the bar's middle to the strip's top.
const STRIP_BELOW: f32 = 7.0;
/// How long the knob waits for the player to take up a seek, seconds.
const PATIENCE: f64 = 1.5;

/// What the bar remembers.
#[derive(Default)]
pub struct SeekBar {
    strip: Strip,
    drag: Option<MediaTime>,
    /// Sent, not yet taken up; and when.
    sent: Option<(MediaTime, f64)>,
}

impl SeekBar {
    /// Where the knob is.
    pub fn shown(&self, p: &Playing) -> MediaTime {
        self.drag.or(p.seeking_to).or(self.sent.map(|s| s.0)).unwrap_or(p.at)
    }

    pub fn dragging(&self) -> bool {
        self.drag.is_some()
    }

    /// Draws the bar with its middle at `y`; what the user asks for goes to `send`.
    pub fn show(&mut self, ui: &mut Ui, left: f32, right: f32, y: f32, p: &Playing, send: &mut Vec<Command>) {
        let rect = Rect::from_min_max(pos2(left, y - 16.0), pos2(right.max(left + 1.0), y + 18.0));
        let duration = p.duration.filter(|d| d.0 > 0);
        let sense = if duration.is_some() { Sense::click_and_drag() } else { Sense::hover() };
        let r = ui.interact(rect, ui.scope_id().with("seek"), sense);
        let now = ui.input(|i| i.time);
        if p.seeking_to.is_some() || self.sent.is_some_and(|(_, at)| now - at > PATIENCE) {
            self.sent = None;
        }
        if let Some(duration) = duration {
            self.pointer(&r, rect, duration, now, send);
            keyboard(ui, &r, p, duration, send);
        }
        self.paint(ui, &r, rect, y, p, duration);
        let value = self.shown(p).as_secs_f64();
        r.widget_info(|| WidgetInfo::slider(duration.is_some(), value, "Seek"));
        if let Some(duration) = duration {
            ui.ctx().accesskit_node_builder(r.id, |node| {
                node.set_role(Role::Slider);
                node.set_min_numeric_value(0.0);
                node.set_max_numeric_value(duration.as_secs_f64());
                node.set_value(format!("{} of {}", fmt::time(self.shown(p)), fmt::time(duration)));
                for action in [accesskit::Action::SetValue, accesskit::Action::Increment, accesskit::Action::Decrement]
                {
                    node.add_action(action);
                }
            });
        }
    }

    fn pointer(&mut self, r: &Response, rect: Rect, duration: MediaTime, now: f64, send: &mut Vec<Command>) {
        let place = r.interact_pointer_pos().map(|pos| time_at(rect, duration, pos));
        if r.dragged() {
            self.drag = place.or(self.drag);
        }
        let asked = if r.drag_stopped() { self.drag.take() } else { place.filter(|_| r.clicked()) };
        if let Some(to) = asked {
            self.sent = Some((to, now));
            send.push(Command::SeekTo(to));
        }
        if !r.dragged() {
            self.drag = None;
        }
    }

    fn paint(&mut self, ui: &Ui, r: &Response, rect: Rect, y: f32, p: &Playing, duration: Option<MediaTime>) {
        let painter = ui.painter();
        let active = r.hovered() || r.dragged() || r.has_focus();
        let half = if active { BAR / 2.0 + 1.0 } else { BAR / 2.0 };
        let part = |share: f64| rect.left() + rect.width() * share.clamp(0.0, 1.0) as f32;
        let span = |from: f32, to: f32| Rect::from_min_max(pos2(from, y - half), pos2(to.max(from), y + half));
        let radius = CornerRadius::same(3);
        painter.rect_filled(span(rect.left(), rect.right()), radius, Color32::from_white_alpha(60));
        let Some(duration) = duration else { return };
        let share = |t: f64| t / duration.as_secs_f64().max(1e-6);
        let at = self.shown(p).as_secs_f64();
        if let Some(stream) = &p.stream {
            let ahead = p.at.as_secs_f64() + stream.engine.ahead_s;
            painter.rect_filled(span(part(share(at)), part(share(ahead))), radius, Color32::from_white_alpha(110));
        }
        painter.rect_filled(span(rect.left(), part(share(at))), radius, Color32::WHITE);
        if let (Some(stream), Some(map)) = (&p.stream, &p.strip) {
            let top = y + STRIP_BELOW;
            let strip = Rect::from_min_max(pos2(rect.left(), top), pos2(rect.right(), top + STRIP));
            self.strip.paint(painter, strip, &stream.engine, map, duration, &DARK);
        }
        let knob = pos2(part(share(at)), y);
        painter.circle_filled(knob, if active { 8.0 } else { 6.5 }, Color32::WHITE);
        if r.has_focus() {
            painter.circle_stroke(knob, 11.0, Stroke::new(2.0, DARK.accent));
        }
        let over = self.drag.or_else(|| Some(time_at(rect, duration, r.hover_pos()?)));
        if let Some(t) = over.filter(|_| r.hovered() || r.dragged()) {
            ui.set_cursor_icon(CursorIcon::PointingHand);
            painter.vline(
                part(share(t.as_secs_f64())),
                (y + STRIP_BELOW)..=(y + STRIP_BELOW + STRIP),
                Stroke::new(1.0, Color32::WHITE),
            );
            hover(ui, rect, pos2(part(share(t.as_secs_f64())), y - 18.0), p, duration, t);
        }
    }
}

fn time_at(rect: Rect, duration: MediaTime, pos: Pos2) -> MediaTime {
    let share = f64::from((pos.x - rect.left()) / rect.width().max(1.0)).clamp(0.0, 1.0);
    MediaTime((duration.0 as f64 * share) as i64)
}

fn keyboard(ui: &Ui, r: &Response, p: &Playing, duration: MediaTime, send: &mut Vec<Command>) {
    use accesskit::{Action, ActionData};
    if r.has_focus() {
        let arrows = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|m| m.set_focus_lock_filter(r.id, arrows));
    }
    let (mut steps, value) = ui.input(|i| {
        let steps = i.num_accesskit_action_requests(r.id, Action::Increment) as f64
            - i.num_accesskit_action_requests(r.id, Action::Decrement) as f64;
        let value = i.accesskit_action_requests(r.id, Action::SetValue).find_map(|a| match a.data {
            Some(ActionData::NumericValue(v)) if v.is_finite() => Some(v),
            _ => None,
        });
        (steps, value)
    });
    if r.has_focus() {
        steps += ui.input(|i| i.num_presses(Key::ArrowRight) as f64 - i.num_presses(Key::ArrowLeft) as f64);
    }
    if steps != 0.0 {
        send.push(Command::SeekBy(5.0 * steps));
    }
    if let Some(v) = value {
        send.push(Command::SeekTo(MediaTime::from_secs_f64(
            v.clamp(0.0, duration.as_secs_f64().max(p.at.as_secs_f64())),
        )));
    }
}

/// The box over the pointer: the time, and what is known of that moment's pieces.
fn hover(ui: &Ui, bar: Rect, at: Pos2, p: &Playing, duration: MediaTime, t: MediaTime) {
    // As wide as one pixel of the strip.
    let pixel = (duration.0 as f64 / f64::from(bar.width().max(1.0))) as i64;
    let known = p.stream.as_ref().zip(p.strip.as_ref()).and_then(|(stream, map)| {
        pieces::describe(&stream.engine, &map.pieces(t, MediaTime(t.0.saturating_add(pixel.min(1)))), stream.piece_len)
    });
    let font = theme::strong(theme::SMALL);
    let time = ui.painter().layout_no_wrap(fmt::time(t), font, DARK.text);
    let words = known.map(|k| ui.painter().layout_no_wrap(k, theme::font(theme::SMALL), DARK.text_soft));
    let wide = words.as_ref().map_or(0.0, |w| w.size().x).max(time.size().x);
    let high = time.size().y + words.as_ref().map_or(0.0, |w| w.size().y + 2.0);
    let size = vec2(wide + 20.0, high + 12.0);
    let x = at.x.clamp(bar.left() + size.x / 2.0, (bar.right() - size.x / 2.0).max(bar.left() + size.x / 2.0));
    let rect = Align2::CENTER_BOTTOM.anchor_size(pos2(x, at.y), size);
    let painter = ui.painter();
    painter.rect_filled(rect, CornerRadius::same(6), DARK.surface.gamma_multiply(0.96));
    painter.rect_stroke(rect, CornerRadius::same(6), Stroke::new(1.0, DARK.line), StrokeKind::Inside);
    let inner = rect.shrink2(vec2(10.0, 6.0));
    widgets::text_at(
        ui,
        inner.center_top(),
        Align2::CENTER_TOP,
        wide + 1.0,
        &fmt::time(t),
        theme::strong(theme::SMALL),
        DARK.text,
    );
    if let Some(words) = words {
        painter.galley(
            pos2(inner.center().x - words.size().x / 2.0, inner.bottom() - words.size().y),
            words,
            DARK.text_soft,
        );
    }
}
