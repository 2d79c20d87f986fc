//! What lies over every screen: a notice, the list of keys, the sign that something may be dropped.

use eframe::egui::{
    Align2, Area, Color32, Context, CornerRadius, Frame, Grid, Id, Label, LayerId, Margin, Order, Rect, Sense, Stroke,
    StrokeKind, Ui, vec2,
};

use super::icons::Icon;
use super::keys::HELP;
use super::theme::{self, DARK, HIT, STEP};
use super::widgets;

/// One sentence at the top that needs no answer; true when it was closed.
pub fn notice(ui: &Ui, room: Rect, text: &str) -> bool {
    let t = &DARK;
    let width = (room.width() - 80.0).clamp(120.0, 560.0);
    let at = room.center_top() + vec2(0.0, 84.0);
    let area = Area::new(Id::unique("notice")).order(Order::Foreground).pivot(Align2::CENTER_TOP).fixed_pos(at);
    area.show(ui.ctx(), |ui| {
        let frame = Frame::new().fill(t.surface).stroke(Stroke::new(1.0, t.line)).corner_radius(CornerRadius::same(8));
        frame
            .inner_margin(Margin { left: 16, right: 4, top: 4, bottom: 4 })
            .show(ui, |ui| {
                ui.horizontal(|ui| {
                    ui.set_max_width(width);
                    ui.add(Label::new(theme::words(text, 13.0, t.text)).wrap());
                    let (spot, _) = ui.allocate_exact_size(vec2(HIT, HIT), Sense::hover());
                    widgets::icon_button(ui, "close notice", spot, Icon::Close, 10.0, "Close the notice", t).clicked()
                })
                .inner
            })
            .inner
    })
    .inner
}

/// The keys; true when it is to be closed.
pub fn help(ctx: &Context, room: Rect) -> bool {
    let t = &DARK;
    let area =
        Area::new(Id::unique("keys")).order(Order::Foreground).pivot(Align2::CENTER_CENTER).fixed_pos(room.center());
    let r = area.show(ctx, |ui| {
        let frame = Frame::new().fill(t.surface).stroke(Stroke::new(1.0, t.line)).corner_radius(CornerRadius::same(10));
        frame.inner_margin(Margin::same(24)).show(ui, |ui| {
            ui.label(theme::heavy("Keys", theme::BODY, t.text));
            ui.add_space(STEP);
            let pairs: Vec<_> = HELP.chunks(HELP.len().div_ceil(2)).collect();
            Grid::new("keys").spacing(vec2(18.0, 9.0)).show(ui, |ui| {
                for i in 0..HELP.len().div_ceil(2) {
                    for (column, part) in pairs.iter().enumerate() {
                        let (key, does) = part.get(i).copied().unwrap_or_default();
                        ui.label(theme::heavy(key, 13.0, t.text));
                        let gap = if column == 0 { "      " } else { "" };
                        ui.label(theme::words(format!("{does}{gap}"), 13.0, t.text_soft));
                    }
                    ui.end_row();
                }
            });
        });
    });
    r.response.clicked() || r.response.clicked_elsewhere()
}

/// Something is held over the window.
pub fn dropping(ui: &Ui, room: Rect) {
    let t = theme::of(ui);
    let painter = ui.ctx().layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    painter.rect_filled(room, CornerRadius::ZERO, Color32::from_black_alpha(140));
    painter.rect_stroke(room.shrink(12.0), CornerRadius::same(10), Stroke::new(2.0, t.accent), StrokeKind::Inside);
    painter.text(room.center(), Align2::CENTER_CENTER, "Drop to open", theme::strong(theme::TITLE), DARK.text);
}
