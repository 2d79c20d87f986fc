//! The connected peers, two lines each, fastest first; pointed at, a row says what the letters of its flags mean. Only the
//! rows in sight are drawn.

use std::collections::HashMap;
use std::sync::Arc;

use eframe::egui::{Align2, CornerRadius, Grid, Rect, Role, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};

use super::theme::{self, Tokens};
use super::{fmt, widgets};
use crate::app::snapshot::{PeerView, StreamView};

const ROW: f32 = 40.0;
/// Rows keep their order this long, in seconds of the engine's clock: a list that shuffles four times a second cannot
/// be read.
const CALM_S: f64 = 3.0;

/// The order of the rows.
#[derive(Default)]
pub struct Peers {
    of: Option<Arc<[PeerView]>>,
    order: Vec<usize>,
    /// Places given at the last sorting.
    rank: HashMap<String, usize>,
    sorted_at: f64,
}

impl Peers {
    pub fn show(&mut self, ui: &mut Ui, stream: &StreamView, t: &Tokens) {
        self.sort(stream);
        let fastest = stream.peers.iter().map(|p| p.down).fold(1.0, f64::max);
        let (rect, _) =
            ui.allocate_exact_size(vec2(ui.available_width(), ROW * self.order.len() as f32), Sense::hover());
        let clip = ui.clip_rect();
        let first = ((clip.top() - rect.top()) / ROW).floor().max(0.0) as usize;
        let last = ((clip.bottom() - rect.top()) / ROW).ceil().max(0.0) as usize;
        for (i, &index) in self.order.iter().enumerate().take(last).skip(first) {
            let Some(peer) = stream.peers.get(index) else { continue };
            let top = rect.top() + ROW * i as f32;
            row(ui, Rect::from_min_size(pos2(rect.left(), top), vec2(rect.width(), ROW)), peer, fastest, t);
        }
    }

    fn sort(&mut self, stream: &StreamView) {
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &stream.peers)) {
            return;
        }
        let now = stream.engine.at.as_secs_f64();
        if self.rank.is_empty() || (now - self.sorted_at).abs() >= CALM_S {
            let mut by_rate: Vec<&PeerView> = stream.peers.iter().collect();
            by_rate.sort_by(|a, b| b.down.total_cmp(&a.down));
            self.rank = by_rate.iter().enumerate().map(|(i, p)| (p.addr.clone(), i)).collect();
            self.sorted_at = now;
        }
        self.order = (0..stream.peers.len()).collect();
        // Who came since stands at the end until the next sorting.
        self.order
            .sort_by_key(|&i| stream.peers.get(i).and_then(|p| self.rank.get(&p.addr)).copied().unwrap_or(usize::MAX));
        self.of = Some(stream.peers.clone());
    }
}

fn row(ui: &Ui, rect: Rect, p: &PeerView, fastest: f64, t: &Tokens) {
    let r = ui.interact(rect, ui.scope_id().with(("peer", &p.addr)), Sense::hover());
    let client = if p.client.is_empty() { "Unknown client" } else { &p.client };
    let has = fmt::percent(f64::from(p.has));
    r.widget_info(|| {
        let (down, asked) = (fmt::rate(p.down), p.in_flight);
        let mut label = format!("{client}, {}, has {has}, {down}, {asked} requests in flight", p.addr);
        for (_, says) in meanings(&p.flags) {
            label.extend([", ", says]);
        }
        WidgetInfo::labeled(Role::Label, true, label)
    });
    let painter = ui.painter();
    if r.hovered() {
        painter.rect_filled(rect.expand2(vec2(6.0, 0.0)), CornerRadius::same(4), t.raised);
    }
    painter.hline(rect.x_range(), rect.bottom() - 0.5, Stroke::new(1.0, t.line.gamma_multiply(0.6)));
    let (upper, lower) = (rect.top() + 13.0, rect.top() + 28.0);
    let small = || theme::font(theme::SMALL);
    let right = rect.right();
    let up_w = 78.0;
    let down_w = 76.0;
    let bar_w = 30.0;
    // First line: who, and how fast.
    let left_w = rect.width() - up_w - down_w - bar_w - 12.0;
    let name = widgets::text_at(ui, pos2(rect.left(), upper), Align2::LEFT_CENTER, left_w, client, small(), t.text);
    let flags_w = rect.left() + left_w - name.right() - 8.0;
    if flags_w > 8.0 {
        widgets::text_at(
            ui,
            pos2(name.right() + 8.0, upper),
            Align2::LEFT_CENTER,
            flags_w,
            &p.flags,
            small(),
            t.text_dim,
        );
    }
    let up = format!("↑ {}", fmt::rate(p.up));
    let up_color = if p.up >= 1.0 { t.text_soft } else { t.text_dim };
    widgets::text_at(ui, pos2(right, upper), Align2::RIGHT_CENTER, up_w, &up, small(), up_color);
    let down = fmt::rate(p.down);
    let down_color = if p.down >= 1.0 { t.text } else { t.text_dim };
    widgets::text_at(ui, pos2(right - up_w, upper), Align2::RIGHT_CENTER, down_w, &down, small(), down_color);
    let bar = Rect::from_min_size(pos2(right - up_w - down_w - bar_w, upper - 2.0), vec2(bar_w, 4.0));
    widgets::bar(painter, bar, (p.down / fastest) as f32, t.line, t.from_peers);
    // Second line: where, what it has, what is asked of it.
    let rest = format!("has {has} · {} in flight", p.in_flight);
    let taken = widgets::text_at(ui, pos2(right, lower), Align2::RIGHT_CENTER, 160.0, &rest, small(), t.text_dim);
    let width = taken.left() - rect.left() - 8.0;
    widgets::text_at(ui, pos2(rect.left(), lower), Align2::LEFT_CENTER, width, &p.addr, small(), t.text_dim);
    if r.hovered() {
        r.on_hover_ui_at_pointer(|ui| hint(ui, p, client, t));
    }
}

/// What the row has no room for: the whole address, and what each letter of the flags says.
fn hint(ui: &mut Ui, p: &PeerView, client: &str, t: &Tokens) {
    ui.spacing_mut().item_spacing.y = 4.0;
    ui.label(theme::heavy(client, theme::SMALL, t.text));
    ui.label(theme::words(&p.addr, theme::SMALL, t.text_soft));
    ui.add_space(4.0);
    Grid::new("flags").spacing(vec2(theme::STEP, 4.0)).min_row_height(theme::BODY).min_col_width(10.0).show(ui, |ui| {
        for (flag, says) in meanings(&p.flags) {
            ui.label(theme::heavy(flag, theme::SMALL, t.text));
            ui.label(theme::words(says, theme::SMALL, t.text_soft));
            ui.end_row();
        }
    });
    if meanings(&p.flags).next().is_none() {
        ui.label(theme::words("Nothing goes either way", theme::SMALL, t.text_soft));
    }
}

/// What the flags say, letter by letter.
fn meanings(flags: &str) -> impl Iterator<Item = (char, &'static str)> {
    let says = |flag| {
        Some(match flag {
            'D' => "we download from it",
            'd' => "we would download, but it holds us back",
            'K' => "it would let us download, we want nothing",
            'U' => "it downloads from us",
            'u' => "it would download, but we hold it back",
            '?' => "we would let it download, it wants nothing",
            'I' => "it called us",
            'X' => "found through another peer",
            'H' => "found through the DHT",
            'L' => "found on the local network",
            'E' => "encrypted",
            'P' => "over uTP",
            _ => return None,
        })
    };
    flags.chars().filter_map(move |flag| Some((flag, says(flag)?)))
}
