//! The window's icons, painted as vectors: sharp at every scale, no icon font to miss a glyph.

use std::f32::consts::{PI, TAU};

use eframe::egui::{Color32, CornerRadius, Painter, Pos2, Rect, Shape, Stroke, StrokeKind, pos2, vec2};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icon {
    Play,
    Pause,
    Replay,
    /// Speaker; waves by volume.
    Speaker {
        waves: u8,
    },
    Muted,
    Panel,
    Fullscreen,
    LeaveFullscreen,
    Back,
    Close,
    Check,
    Help,
}

/// Paints `icon` centred at `at`, in a square of `size` points.
pub fn paint(p: &Painter, icon: Icon, at: Pos2, size: f32, color: Color32) {
    let r = size / 2.0;
    // A unit square from -1 to 1 around the centre.
    let xy = |x: f32, y: f32| pos2(at.x + x * r, at.y + y * r);
    let bar = |x0: f32, y0: f32, x1: f32, y1: f32| Rect::from_two_pos(xy(x0, y0), xy(x1, y1));
    let thin = Stroke::new((size / 10.0).max(1.6), color);
    let solid = |points: Vec<Pos2>| {
        p.add(Shape::convex_polygon(points, color, Stroke::NONE));
    };
    match icon {
        Icon::Play => solid(vec![xy(-0.7, -0.95), xy(0.95, 0.0), xy(-0.7, 0.95)]),
        Icon::Pause => {
            for x in [-0.78, 0.22] {
                p.rect_filled(bar(x, -0.95, x + 0.56, 0.95), CornerRadius::same(1), color);
            }
        }
        Icon::Replay => {
            p.add(Shape::line(arc(at, r * 0.78, -0.35 * PI, 1.35 * PI), thin));
            solid(vec![xy(0.1, -1.05), xy(0.75, -0.62), xy(0.1, -0.2)]);
        }
        Icon::Speaker { waves } => {
            speaker(p, &xy, color);
            for w in 0..waves.min(2) {
                let radius = r * (0.5 + 0.42 * f32::from(w));
                p.add(Shape::line(arc(xy(0.05, 0.0), radius, -0.27 * PI, 0.27 * PI), thin));
            }
        }
        Icon::Muted => {
            speaker(p, &xy, color);
            p.line_segment([xy(0.4, -0.35), xy(1.0, 0.35)], thin);
            p.line_segment([xy(1.0, -0.35), xy(0.4, 0.35)], thin);
        }
        Icon::Panel => {
            for y in [-0.85, -0.2, 0.45] {
                p.rect_filled(bar(-1.0, y, 1.0, y + 0.4), CornerRadius::same(1), color);
            }
        }
        Icon::Fullscreen | Icon::LeaveFullscreen => {
            let (tip, knee) = if icon == Icon::Fullscreen { (0.85, 0.3) } else { (0.3, 0.85) };
            for (sx, sy) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
                let corner = xy(sx * tip, sy * tip);
                p.add(Shape::line(vec![xy(sx * knee, sy * tip), corner, xy(sx * tip, sy * knee)], thin));
            }
        }
        Icon::Back => {
            p.add(Shape::line(vec![xy(0.25, -0.75), xy(-0.5, 0.0), xy(0.25, 0.75)], thin));
        }
        Icon::Close => {
            p.line_segment([xy(-0.6, -0.6), xy(0.6, 0.6)], thin);
            p.line_segment([xy(0.6, -0.6), xy(-0.6, 0.6)], thin);
        }
        Icon::Check => {
            p.add(Shape::line(vec![xy(-0.7, 0.05), xy(-0.2, 0.55), xy(0.75, -0.5)], thin));
        }
        Icon::Help => {
            p.add(Shape::line(arc(xy(0.0, -0.35), r * 0.45, -PI, 0.4 * PI), thin));
            p.line_segment([xy(0.0, 0.08), xy(0.0, 0.35)], thin);
            p.circle_filled(xy(0.0, 0.78), thin.width * 0.65, color);
        }
    }
}

fn speaker(p: &Painter, xy: &impl Fn(f32, f32) -> Pos2, color: Color32) {
    p.rect_filled(Rect::from_two_pos(xy(-1.0, -0.35), xy(-0.55, 0.35)), CornerRadius::ZERO, color);
    let cone = vec![xy(-0.6, -0.35), xy(-0.1, -0.85), xy(-0.1, 0.85), xy(-0.6, 0.35)];
    p.add(Shape::convex_polygon(cone, color, Stroke::NONE));
}

fn arc(at: Pos2, radius: f32, from: f32, to: f32) -> Vec<Pos2> {
    (0..=20).map(|i| from + (to - from) * i as f32 / 20.0).map(|a| at + radius * vec2(a.cos(), a.sin())).collect()
}

/// A thin ring with a moving part, at `turn` turns since it began.
pub fn spinner(p: &Painter, at: Pos2, radius: f32, turn: f32, color: Color32) {
    let stroke = Stroke::new((radius / 9.0).max(1.5), color);
    p.circle_stroke(at, radius, Stroke::new(stroke.width, color.gamma_multiply(0.2)));
    let from = turn.fract() * TAU;
    p.add(Shape::line(arc(at, radius, from, from + 0.3 * TAU), stroke));
}

/// The program's mark: a gate half raised over running water.
pub fn mark(p: &Painter, rect: Rect, gate: Color32, water: Color32) {
    let s = rect.width().min(rect.height());
    let at = |x: f32, y: f32| rect.min + s * vec2(x, y);
    let post = |x: f32| Rect::from_two_pos(at(x, 0.08), at(x + 0.1, 0.92));
    p.rect_filled(post(0.1), CornerRadius::same(2), gate);
    p.rect_filled(post(0.8), CornerRadius::same(2), gate);
    p.rect_filled(Rect::from_two_pos(at(0.26, 0.08), at(0.74, 0.5)), CornerRadius::same(2), gate);
    p.rect_stroke(
        Rect::from_two_pos(at(0.26, 0.08), at(0.74, 0.5)),
        CornerRadius::same(2),
        Stroke::NONE,
        StrokeKind::Inside,
    );
    for (row, y) in [0.64, 0.78].into_iter().enumerate() {
        let wave = (0..=24)
            .map(|i| i as f32 / 24.0)
            .map(|x| at(0.24 + 0.52 * x, y + 0.03 * ((x * 2.0 + row as f32 * 0.5) * TAU).sin()))
            .collect();
        p.add(Shape::line(wave, Stroke::new(s * 0.065, water)));
    }
}
