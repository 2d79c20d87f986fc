//! The panel's two graphs over the last two minutes: seconds ahead with the zones, and what is received from whom.

use eframe::egui::{
    Align2, Color32, CornerRadius, Mesh, Painter, Pos2, Rect, Role, Sense, Shape, Stroke, Ui, WidgetInfo, pos2, vec2,
};

use super::theme::{self, Tokens};
use super::{fmt, widgets};
use crate::app::snapshot::{EngineSnapshot, HealthSample};

/// Samples over the whole width: two minutes at four a second.
const SPAN: usize = 480;
/// Rates are smoothed over this many samples, a second.
const SMOOTH: usize = 4;
const AXIS: f32 = 16.0;

/// Seconds ahead, over the zones they are measured by.
pub fn buffer(ui: &mut Ui, history: &[HealthSample], engine: &EngineSnapshot, height: f32, t: &Tokens) {
    let label = format!("Buffer over the last two minutes, now {} ahead", fmt::span(engine.ahead_s));
    let Some(rect) = frame(ui, height, &label, t) else { return };
    let painter = ui.painter().with_clip_rect(rect);
    let most = history.iter().map(|s| s.ahead_s).fold(engine.window_s as f32 * 1.5, f32::max).max(1.0);
    // A scale that stays while the curve moves a little: the next step of 1, 1.5, 2, 3, 5, 7.5 times a power of ten.
    let top = nice(most * 1.05);
    let y = |seconds: f32| rect.bottom() - rect.height() * (seconds / top).clamp(0.0, 1.0);
    let zone = |from: f64, to: f64, color: Color32| {
        let r = Rect::from_min_max(pos2(rect.left(), y(to as f32)), pos2(rect.right(), y(from as f32)));
        painter.rect_filled(r, CornerRadius::ZERO, color);
    };
    zone(engine.urgent_s, engine.window_s, t.zone_window);
    zone(0.0, engine.urgent_s, t.zone_urgent);
    let points: Vec<Pos2> = places(rect, history.len()).zip(history).map(|(x, s)| pos2(x, y(s.ahead_s))).collect();
    if points.len() > 1 {
        painter.add(Shape::line(points, Stroke::new(1.75, t.text)));
    }
    let (window, urgent) = (y(engine.window_s as f32), y(engine.urgent_s as f32));
    // Two labels that would touch: the outer one stays.
    for (seconds, at, room) in [(engine.window_s, window, true), (engine.urgent_s, urgent, urgent - window > 13.0)] {
        if seconds > 0.0 && room && at - 13.0 > rect.top() {
            zone_label(ui, pos2(rect.left() + 6.0, at - 1.0), seconds, t);
        }
    }
    axis(ui, rect, t);
}

/// Bytes per second, the peers' below, the server's on top of them.
pub fn received(ui: &mut Ui, history: &[HealthSample], engine: &EngineSnapshot, height: f32, t: &Tokens) {
    let total = engine.swarm_rate + engine.server_rate;
    let label = format!("Received over the last two minutes, now {}", fmt::rate(total));
    let Some(rect) = frame(ui, height, &label, t) else { return };
    let smooth: Vec<(f32, f32)> = (0..history.len())
        .map(|i| {
            let part = history.get(i.saturating_sub(SMOOTH - 1)..=i).unwrap_or_default();
            let n = part.len().max(1) as f32;
            (part.iter().map(|s| s.swarm).sum::<f32>() / n, part.iter().map(|s| s.server).sum::<f32>() / n)
        })
        .collect();
    let top = nice(smooth.iter().map(|(a, b)| a + b).fold(1000.0, f32::max) * 1.15);
    let y = |rate: f32| rect.bottom() - rect.height() * (rate / top).clamp(0.0, 1.0);
    let painter = ui.painter().with_clip_rect(rect);
    let xs: Vec<f32> = places(rect, smooth.len()).collect();
    area(&painter, &xs, |i| (rect.bottom(), y(smooth.get(i).map_or(0.0, |s| s.0))), t.from_peers);
    area(&painter, &xs, |i| smooth.get(i).map_or((0.0, 0.0), |s| (y(s.0), y(s.0 + s.1))), t.from_server);
    let text = fmt::rate(f64::from(top));
    widgets::text_at(ui, rect.min + vec2(6.0, 3.0), Align2::LEFT_TOP, 80.0, &text, theme::font(10.0), t.text_dim);
}

/// The seconds at a zone's bound, readable over the curve.
fn zone_label(ui: &Ui, at: Pos2, seconds: f64, t: &Tokens) {
    let galley = ui.painter().layout_no_wrap(format!("{seconds:.0} s"), theme::font(10.0), t.text_soft);
    let rect = Align2::LEFT_BOTTOM.anchor_size(at, galley.size());
    ui.painter().rect_filled(rect.expand2(vec2(3.0, 0.0)), CornerRadius::same(3), t.ground.gamma_multiply(0.7));
    ui.painter().galley(rect.min, galley, t.text_soft);
}

/// Room for a graph with its ground; `None` when it cannot be seen.
fn frame(ui: &mut Ui, height: f32, label: &str, t: &Tokens) -> Option<Rect> {
    let (rect, r) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
    r.widget_info(|| WidgetInfo::labeled(Role::Image, true, label));
    ui.painter().rect_filled(rect, CornerRadius::same(4), t.ground);
    ui.is_rect_visible(rect).then_some(rect)
}

fn axis(ui: &mut Ui, above: Rect, t: &Tokens) {
    let (rect, _) = ui.allocate_exact_size(vec2(above.width(), AXIS), Sense::hover());
    for (x, align, text) in [
        (rect.left(), Align2::LEFT_CENTER, "−2 min"),
        (rect.center().x, Align2::CENTER_CENTER, "−1 min"),
        (rect.right(), Align2::RIGHT_CENTER, "now"),
    ] {
        widgets::text_at(ui, pos2(x, rect.center().y - 4.0), align, 60.0, text, theme::font(10.0), t.text_dim);
    }
}

/// Where each sample lies: the last one at the right edge.
fn places(rect: Rect, samples: usize) -> impl Iterator<Item = f32> {
    let step = rect.width() / (SPAN - 1) as f32;
    (0..samples).map(move |i| rect.right() - (samples - 1 - i) as f32 * step)
}

/// A filled area between two curves, as one mesh.
fn area(painter: &Painter, xs: &[f32], bounds: impl Fn(usize) -> (f32, f32), color: Color32) {
    let mut mesh = Mesh::default();
    for (i, &x) in xs.iter().enumerate() {
        let (low, high) = bounds(i);
        mesh.colored_vertex(pos2(x, low), color);
        mesh.colored_vertex(pos2(x, high), color);
        if i > 0 {
            let at = i as u32 * 2;
            mesh.add_triangle(at - 2, at - 1, at);
            mesh.add_triangle(at - 1, at, at + 1);
        }
    }
    painter.add(Shape::mesh(mesh));
}

/// The next round number from `x` on.
fn nice(x: f32) -> f32 {
    let x = if x.is_finite() { x.max(1e-3) } else { 1.0 };
    let power = 10f32.powf(x.log10().floor());
    [1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0].map(|m| m * power).into_iter().find(|n| *n >= x).unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_large_enough() {
        assert!((nice(22.5) - 30.0).abs() < 1e-3);
        assert!((nice(30.0) - 30.0).abs() < 1e-3);
        assert!((nice(3.2e6) - 5.0e6).abs() < 10.0);
        assert!(nice(0.0) > 0.0 && nice(f32::NAN) > 0.0);
    }

    #[test]
    fn the_last_sample_is_now() {
        let rect = Rect::from_min_size(pos2(10.0, 0.0), vec2(479.0, 50.0));
        let xs: Vec<f32> = places(rect, 3).collect();
        assert_eq!(xs, [487.0, 488.0, 489.0]);
        assert_eq!(places(rect, 0).count(), 0);
    }
}
