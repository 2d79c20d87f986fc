//! Between asking and the first picture: each step as it comes, what was looked for, and a way out.

use std::time::Duration;

use eframe::egui::{self, Sense, Ui, vec2};

use super::icons::{self, Icon};
use super::theme::{self, STEP};
use super::{fmt, widgets};
use crate::app::snapshot::{Command, Opening};

const WIDTH: f32 = 520.0;
const SPIN: Duration = Duration::from_millis(33);

pub fn show(ui: &mut Ui, opening: &Opening) -> Option<Command> {
    let t = theme::of(ui);
    let mut cancel = false;
    let mut spins = false;
    widgets::column(ui, WIDTH, |ui| {
        let title = if opening.title.is_empty() { "Opening" } else { &opening.title };
        ui.add(egui::Label::new(theme::heavy(title, theme::TITLE, t.text)).wrap());
        ui.add_space(STEP);
        for step in &opening.steps {
            ui.horizontal(|ui| {
                let (spot, _) = ui.allocate_exact_size(vec2(20.0, 20.0), Sense::hover());
                if step.done {
                    icons::paint(ui.painter(), Icon::Check, spot.center(), 13.0, t.healthy);
                } else {
                    spins = true;
                    let turn = (ui.input(|i| i.time) / 1.1).fract() as f32;
                    icons::spinner(ui.painter(), spot.center(), 7.0, turn, t.accent);
                }
                let color = if step.done { t.text_soft } else { t.text };
                ui.add(egui::Label::new(theme::words(&step.text, 14.0, color)).wrap());
            });
        }
        if !opening.detail.is_empty() {
            ui.add_space(STEP);
            ui.add(egui::Label::new(theme::words(fmt::sentence(&opening.detail), 13.0, t.text_soft)).wrap());
        }
        ui.add_space(2.0 * STEP);
        cancel = widgets::button(ui, "Cancel", false).clicked();
    });
    if spins {
        ui.ctx().request_repaint_after(SPIN);
    }
    cancel |= ui.input(|i| i.key_pressed(egui::Key::Escape)) && ui.memory(|m| m.focused().is_none());
    cancel.then_some(Command::Close)
}
