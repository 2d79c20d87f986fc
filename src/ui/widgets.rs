//! Small things used everywhere: an icon that can be pressed, a line of text at a place, a row of label and value.
//!
//! Invariant: whatever can be pressed is at least 32 points high, has a name for screen readers and shows its focus.

use eframe::egui::text::{LayoutJob, TextWrapping};
use eframe::egui::{
    self, Align, Align2, Color32, CornerRadius, FontId, Layout, Mesh, Pos2, Rect, Response, Role, Sense, Shape, Ui,
    Vec2, WidgetInfo, vec2,
};

use super::icons::{self, Icon};
use super::theme::{self, Tokens};

/// An icon of `size` points in the middle of `rect`, that can be pressed.
pub fn icon_button(ui: &Ui, key: &str, rect: Rect, icon: Icon, size: f32, label: &str, t: &Tokens) -> Response {
    let r = ui.interact(rect, ui.scope_id().with(key), Sense::click());
    r.widget_info(|| WidgetInfo::labeled(Role::Button, true, label));
    let color = if r.hovered() || r.has_focus() { t.text } else { t.text.gamma_multiply(0.88) };
    icons::paint(ui.painter(), icon, rect.center(), size, color);
    if r.has_focus() {
        theme::focus_ring(ui.painter(), rect.shrink(2.0), t);
    }
    r
}

/// A line of text at a place, cut short with "…" at `width`; gives the room it takes.
pub fn text_at(ui: &Ui, at: Pos2, align: Align2, width: f32, text: &str, font: FontId, color: Color32) -> Rect {
    let mut job = LayoutJob::simple_singleline(text.to_owned(), font, color);
    job.wrap = TextWrapping::truncate_at_width(width.max(1.0));
    let galley = ui.painter().layout_job(job);
    let rect = align.anchor_size(at, galley.size());
    ui.painter().galley(rect.min, galley, color);
    rect
}

/// As [`text_at`] to the right of a place, and told to screen readers.
pub fn label_at(ui: &Ui, key: &str, at: Pos2, width: f32, text: &str, font: FontId, color: Color32) -> Rect {
    let rect = text_at(ui, at, Align2::LEFT_CENTER, width, text, font, color);
    let r = ui.interact(rect, ui.scope_id().with(key), Sense::hover());
    r.widget_info(|| WidgetInfo::labeled(Role::Label, true, text));
    rect
}

/// Label on the left, value on the right, on one baseline.
pub fn row(ui: &mut Ui, label: &str, value: &str, t: &Tokens) {
    ui.horizontal(|ui| {
        ui.set_height(theme::BODY);
        ui.label(theme::words(label, theme::SMALL, t.text_soft));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.label(theme::heavy(value, theme::SMALL, t.text));
        });
    });
}

/// A button with words.
pub fn button(ui: &mut Ui, label: &str, primary: bool) -> Response {
    sized_button(ui, label, primary, 0.0)
}

/// A button with words, as wide as there is room.
pub fn wide_button(ui: &mut Ui, label: &str) -> Response {
    let width = ui.available_width();
    ui.vertical_centered(|ui| sized_button(ui, label, false, width)).inner
}

fn sized_button(ui: &mut Ui, label: &str, primary: bool, width: f32) -> Response {
    let t = theme::of(ui);
    let text = if primary { t.on_accent } else { t.text };
    let words = egui::RichText::new(label).font(theme::strong(13.0)).color(text);
    let mut button = egui::Button::new(words).min_size(vec2(width, 36.0));
    if primary {
        button = button.fill(t.accent);
    }
    let r = ui.add(button);
    if r.has_focus() {
        theme::focus_ring(ui.painter(), r.rect.expand(2.0), t);
    }
    r
}

/// A gradient from `top` to `bottom`.
pub fn gradient(painter: &egui::Painter, rect: Rect, top: Color32, bottom: Color32) {
    let mut mesh = Mesh::default();
    for (at, color) in
        [(rect.left_top(), top), (rect.right_top(), top), (rect.left_bottom(), bottom), (rect.right_bottom(), bottom)]
    {
        mesh.colored_vertex(at, color);
    }
    mesh.add_triangle(0, 1, 2);
    mesh.add_triangle(1, 2, 3);
    painter.add(Shape::mesh(mesh));
}

/// A thin horizontal bar filled to `share`.
pub fn bar(painter: &egui::Painter, rect: Rect, share: f32, ground: Color32, fill: Color32) {
    let radius = CornerRadius::same(2);
    painter.rect_filled(rect, radius, ground);
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    if share > 0.0 {
        painter.rect_filled(Rect::from_min_size(rect.min, vec2(rect.width() * share, rect.height())), radius, fill);
    }
}

/// A square of colour and a word.
pub fn legend(ui: &mut Ui, color: Color32, word: &str, t: &Tokens) {
    let (rect, _) = ui.allocate_exact_size(Vec2::splat(9.0), Sense::hover());
    ui.painter().rect_filled(rect, CornerRadius::same(2), color);
    ui.add_space(-3.0);
    ui.label(theme::words(word, theme::SMALL, t.text_soft));
}

/// A column of at most `width`, in the middle of what is there, that scrolls when it is too high.
pub fn column<R>(ui: &mut Ui, width: f32, add: impl FnOnce(&mut Ui) -> R) -> R {
    let full = ui.max_rect();
    let width = width.min(full.width() - 2.0 * theme::MARGIN).max(100.0);
    let known: f32 = ui.data(|d| d.get_temp(ui.scope_id().with("height"))).unwrap_or(0.0);
    let out = egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        ui.vertical_centered(|ui| {
            // A little above the middle looks like the middle.
            ui.add_space(((full.height() - known) * 0.45).max(theme::MARGIN));
            ui.allocate_ui_with_layout(vec2(width, 0.0), Layout::top_down(Align::Min), |ui| {
                ui.set_width(width);
                let out = add(ui);
                (out, ui.min_rect().height())
            })
            .inner
        })
        .inner
    });
    let (out, height) = out.inner;
    if (height - known).abs() > 0.5 {
        let id = ui.scope_id().with("height");
        ui.data_mut(|d| d.insert_temp(id, height));
        ui.ctx().request_discard("the column knows its height now");
    }
    ui.add_space(theme::MARGIN);
    out
}
