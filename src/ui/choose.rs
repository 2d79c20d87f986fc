//! Several videos in one torrent: which one. None: what it holds instead.

use eframe::egui::{
    self, Align2, CornerRadius, CursorIcon, Key, Rect, Role, ScrollArea, Sense, Stroke, StrokeKind, Ui, UiBuilder,
    WidgetInfo, pos2, vec2,
};

use super::icons::{self, Icon};
use super::theme::{self, MARGIN, STEP, Tokens};
use super::{fmt, widgets};
use crate::app::snapshot::{Command, FileChoice};

const WIDTH: f32 = 720.0;
const ROW: f32 = 48.0;

pub fn show(ui: &mut Ui, name: &str, files: &[FileChoice], suggested: Option<usize>) -> Option<Command> {
    let t = theme::of(ui);
    let full = ui.max_rect();
    let width = WIDTH.min(full.width() - 2.0 * MARGIN).max(100.0);
    let area = Rect::from_center_size(full.center(), vec2(width, full.height() - 2.0 * MARGIN));
    let mut ui = ui.new_child(UiBuilder::new().id_salt("choose").max_rect(area));
    let ui = &mut ui;
    let mut command = None;
    ui.add_space(STEP);
    ui.horizontal(|ui| {
        let (spot, _) = ui.allocate_exact_size(vec2(theme::HIT, theme::HIT), Sense::hover());
        if widgets::icon_button(ui, "back", spot, Icon::Back, 16.0, "Back to the start", t).clicked() {
            command = Some(Command::Close);
        }
        ui.add(egui::Label::new(theme::heavy(name, theme::TITLE, t.text)).truncate());
    });
    let bytes = files.iter().map(|f| f.bytes).fold(0u64, u64::saturating_add);
    let held = format!("{}, {}", fmt::plural(files.len() as u64, "file"), fmt::bytes(bytes));
    let (what, about) = match suggested {
        Some(_) => {
            let videos = files.iter().filter(|f| f.is_video).count() as u64;
            ("Choose what to play".to_owned(), format!("{} in {held}", fmt::plural(videos, "video")))
        }
        None => ("There is no video in this torrent".to_owned(), format!("It holds {held}")),
    };
    ui.add_space(STEP);
    ui.label(theme::heavy(what, theme::BODY, t.text));
    ui.label(theme::words(about, 13.0, t.text_soft));
    if suggested.is_none() {
        ui.add_space(STEP);
        if widgets::button(ui, "Open something else", true).clicked() {
            command = Some(Command::Close);
        }
    }
    ui.add_space(STEP);
    // Videos first, then the largest.
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|&i| files.get(i).map(|f| (!f.is_video, std::cmp::Reverse(f.bytes))));
    ui.spacing_mut().item_spacing.y = 4.0;
    ScrollArea::vertical().auto_shrink(false).show_rows(ui, ROW, order.len(), |ui, rows| {
        for &i in order.get(rows).unwrap_or_default() {
            if let Some(file) = files.get(i)
                && row(ui, file, suggested == Some(i), t)
            {
                command = Some(Command::PlayFile(file.index));
            }
        }
    });
    // The suggestion has the keyboard until something else takes it.
    if ui.memory(|m| m.focused().is_none()) {
        let (enter, escape) = ui.input(|i| (i.key_pressed(Key::Enter), i.key_pressed(Key::Escape)));
        let file = suggested.and_then(|i| files.get(i)).filter(|_| enter);
        command = command.or(file.map(|f| Command::PlayFile(f.index))).or(escape.then_some(Command::Close));
    }
    command
}

/// One file; true when it was chosen.
fn row(ui: &mut Ui, file: &FileChoice, suggested: bool, t: &Tokens) -> bool {
    let sense = if file.is_video { Sense::click() } else { Sense::hover() };
    let (rect, r) = ui.allocate_exact_size(vec2(ui.available_width() - 10.0, ROW), sense);
    let size = fmt::bytes(file.bytes);
    let role = if file.is_video { Role::Button } else { Role::Label };
    let note = if suggested { ", suggested" } else { "" };
    r.widget_info(|| WidgetInfo::labeled(role, true, format!("{}, {size}{note}", file.path)));
    let active = file.is_video && (r.hovered() || r.has_focus());
    let painter = ui.painter();
    let radius = CornerRadius::same(8);
    painter.rect_filled(rect, radius, if active || suggested { t.raised } else { t.surface });
    if suggested {
        painter.rect_stroke(rect, radius, Stroke::new(1.0, t.accent), StrokeKind::Inside);
    }
    if r.has_focus() {
        theme::focus_ring(painter, rect.shrink(1.0), t);
    }
    if file.is_video {
        let color = if active || suggested { t.accent } else { t.text_soft };
        icons::paint(painter, Icon::Play, pos2(rect.left() + 22.0, rect.center().y), 12.0, color);
    }
    let size_w = 76.0;
    let note_w = if suggested { 84.0 } else { 0.0 };
    let y = rect.center().y;
    let color = if file.is_video { t.text } else { t.text_soft };
    // The end of a path tells more than its start: folder and name apart.
    let (folder, base) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let left = rect.left() + 44.0;
    let width = rect.width() - 44.0 - size_w - note_w - 24.0;
    let name_y = if folder.is_empty() { y } else { y - 8.0 };
    widgets::text_at(ui, pos2(left, name_y), Align2::LEFT_CENTER, width, base, theme::font(14.0), color);
    if !folder.is_empty() {
        widgets::text_at(
            ui,
            pos2(left, y + 10.0),
            Align2::LEFT_CENTER,
            width,
            folder,
            theme::font(theme::SMALL),
            t.text_dim,
        );
    }
    let right = rect.right() - 16.0;
    widgets::text_at(ui, pos2(right, y), Align2::RIGHT_CENTER, size_w, &size, theme::font(13.0), t.text_soft);
    if suggested {
        let at = pos2(right - size_w, y);
        widgets::text_at(ui, at, Align2::RIGHT_CENTER, note_w, "suggested", theme::font(theme::SMALL), t.accent);
    }
    r.on_hover_cursor(if file.is_video { CursorIcon::PointingHand } else { CursorIcon::Default }).clicked()
        && file.is_video
}
