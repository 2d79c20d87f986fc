//! The first screen: drop, paste or open something, go on where you were, or play the demo.

use eframe::egui::{
    self, Align, Align2, CornerRadius, CursorIcon, Id, Key, Layout, Rect, Role, Sense, Shape, Stroke, Ui, WidgetInfo,
    pos2, vec2,
};

use super::icons::{self, Icon};
use super::theme::{self, STEP, Tokens};
use super::{fmt, widgets};
use crate::app::snapshot::{Command, ErrorText, Recent};

const WIDTH: f32 = 600.0;
/// Longest text that is looked at as an address: a magnet link with many trackers has a few thousand characters.
pub const LONGEST: usize = 64 * 1024;

/// What the first screen remembers.
#[derive(Default)]
pub struct Home {
    typed: String,
}

/// What the first screen asks for.
pub enum Ask {
    Send(Command),
    Dialog,
}

impl Home {
    pub fn show(&mut self, ui: &mut Ui, recent: &[Recent], error: Option<&ErrorText>, dropping: bool) -> Vec<Ask> {
        let mut asks = Vec::new();
        let t = theme::of(ui);
        widgets::column(ui, WIDTH, |ui| {
            ui.horizontal(|ui| {
                let (mark, _) = ui.allocate_exact_size(vec2(36.0, 36.0), Sense::hover());
                icons::mark(ui.painter(), mark, t.text, t.accent);
                ui.add_space(4.0);
                ui.label(theme::heavy("Sluicegate", theme::TITLE, t.text));
            });
            ui.add_space(STEP);
            if let Some(error) = error {
                show_error(ui, error, t);
                ui.add_space(STEP);
            }
            self.place(ui, dropping, t, &mut asks);
            if !recent.is_empty() {
                ui.add_space(2.0 * STEP);
                ui.label(theme::heavy("Go on with", theme::SMALL, t.text_soft));
                for (i, r) in recent.iter().enumerate() {
                    recent_row(ui, i, r, t, &mut asks);
                }
            }
        });
        asks
    }

    /// Where things are dropped, pasted and opened.
    fn place(&mut self, ui: &mut Ui, dropping: bool, t: &Tokens, asks: &mut Vec<Ask>) {
        let frame =
            egui::Frame::new().fill(if dropping { t.raised } else { t.surface }).corner_radius(CornerRadius::same(10));
        let r = frame.inner_margin(egui::Margin::symmetric(24, 28)).show(ui, |ui| {
            ui.vertical_centered(|ui| {
                ui.label(theme::heavy("Drop a torrent or a video here", theme::BODY, t.text));
                ui.label(theme::words("or paste a magnet link, an info hash or a web address", 13.0, t.text_soft));
            });
            ui.add_space(STEP);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let open = widgets::button(ui, "Open", true);
                let field = egui::TextEdit::singleline(&mut self.typed)
                    .id(Id::unique("address"))
                    .hint_text(theme::words("magnet:?xt=urn:btih:…", 13.0, t.text_dim))
                    .font(theme::font(13.0))
                    .text_color(t.text)
                    .char_limit(LONGEST)
                    .margin(egui::Margin::symmetric(12, 9))
                    .desired_width(ui.available_width());
                let field = ui.add(field);
                field.widget_info(|| {
                    let mut info = WidgetInfo::labeled(Role::TextInput, true, "Magnet link, info hash or web address");
                    info.current_text_value = Some(self.typed.clone());
                    info
                });
                let entered = field.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
                if (entered || open.clicked()) && !self.typed.trim().is_empty() {
                    asks.push(Ask::Send(Command::Open(self.typed.trim().to_owned())));
                    self.typed.clear();
                }
            });
            ui.add_space(STEP);
            ui.columns(2, |columns| {
                if let [left, right] = columns {
                    if widgets::wide_button(left, "Open a file…").clicked() {
                        asks.push(Ask::Dialog);
                    }
                    if widgets::wide_button(right, "Play the demo").clicked() {
                        asks.push(Ask::Send(Command::PlayDemo));
                    }
                }
            });
        });
        outline(ui, r.response.rect, if dropping { t.accent } else { t.raised_hover });
    }
}

/// A dashed outline, as places to drop things have.
fn outline(ui: &Ui, rect: Rect, color: egui::Color32) {
    let rect = rect.shrink(1.0);
    let corners = [rect.left_top(), rect.right_top(), rect.right_bottom(), rect.left_bottom(), rect.left_top()];
    for side in corners.windows(2) {
        if let [a, b] = side {
            // The corners stay free: the ground under them is round.
            let inset = (*b - *a).normalized() * 10.0;
            ui.painter().extend(Shape::dashed_line(&[*a + inset, *b - inset], Stroke::new(1.5, color), 7.0, 6.0));
        }
    }
}

fn show_error(ui: &mut Ui, error: &ErrorText, t: &Tokens) {
    let frame = egui::Frame::new().fill(t.surface).corner_radius(CornerRadius::same(8));
    let r = frame.inner_margin(egui::Margin { left: 20, right: 16, top: 12, bottom: 12 }).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.add(egui::Label::new(theme::heavy(&error.what, 14.0, t.text)).wrap());
        if !error.advice.is_empty() {
            ui.add(egui::Label::new(theme::words(&error.advice, 13.0, t.text_soft)).wrap());
        }
    });
    let r = r.response.rect;
    let edge = Rect::from_min_max(r.min, pos2(r.left() + 4.0, r.bottom()));
    ui.painter().rect_filled(edge, CornerRadius { nw: 8, sw: 8, ne: 0, se: 0 }, t.error);
}

fn recent_row(ui: &mut Ui, index: usize, recent: &Recent, t: &Tokens, asks: &mut Vec<Ask>) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 48.0), Sense::hover());
    let open = Rect::from_min_max(rect.min, pos2(rect.right() - 44.0, rect.bottom()));
    let r = ui.interact(open, ui.scope_id().with(("recent", index)), Sense::click());
    let watched = f64::from(recent.watched.clamp(0.0, 1.0));
    let state = match watched {
        w if w >= 0.95 => "watched".to_owned(),
        w if w > 0.0 => format!("{} watched", fmt::percent(w)),
        _ => "not begun".to_owned(),
    };
    r.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Play {}, {state}", recent.title)));
    let active = r.hovered() || r.has_focus();
    let painter = ui.painter();
    painter.rect_filled(rect, CornerRadius::same(8), if active { t.raised } else { t.surface });
    if r.has_focus() {
        theme::focus_ring(painter, open, t);
    }
    icons::paint(
        painter,
        Icon::Play,
        pos2(rect.left() + 22.0, rect.center().y),
        12.0,
        if active { t.accent } else { t.text_soft },
    );
    let text = pos2(rect.left() + 44.0, rect.center().y);
    let side = 130.0;
    widgets::text_at(
        ui,
        text,
        Align2::LEFT_CENTER,
        open.width() - 60.0 - side,
        &recent.title,
        theme::font(14.0),
        t.text,
    );
    let right = open.right() - 8.0;
    widgets::text_at(
        ui,
        pos2(right, text.y - 5.0),
        Align2::RIGHT_CENTER,
        side,
        &state,
        theme::font(theme::SMALL),
        t.text_soft,
    );
    let bar = Rect::from_min_size(pos2(right - 100.0, text.y + 8.0), vec2(100.0, 3.0));
    widgets::bar(painter, bar, recent.watched, t.line, t.accent);
    if r.on_hover_cursor(CursorIcon::PointingHand).clicked() {
        asks.push(Ask::Send(Command::Open(recent.uri.clone())));
    }
    let forget = Rect::from_center_size(pos2(rect.right() - 22.0, rect.center().y), vec2(36.0, 36.0));
    let label = format!("Forget {}", recent.title);
    let r = widgets::icon_button(ui, &format!("forget {index}"), forget, Icon::Close, 10.0, &label, t);
    if r.on_hover_text("Forget this").clicked() {
        asks.push(Ask::Send(Command::ForgetRecent(index)));
    }
}
