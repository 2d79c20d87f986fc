//! The stream panel: is it well, how far ahead, from whom, which pieces, which peers.
//!
//! Beside the film in a wide window, a sheet below it in a narrow one; the same blocks in either.

use eframe::egui::{
    self, Align, Align2, Color32, CornerRadius, Frame, Layout, Margin, Rect, Role, Sense, Ui, UiBuilder, Vec2,
    WidgetInfo, vec2,
};

use super::panel_graphs as graphs;
use super::peers::Peers;
use super::piece_map::PieceMap;
use super::theme::{self, MARGIN, STEP, Tokens};
use super::{fmt, widgets};
use crate::app::snapshot::{MediaTime, Origin, PieceIndex, PlayState, Playing, StreamView};

/// Width beside the film.
pub const WIDTH: f32 = 380.0;
/// A window narrower than this gets the sheet.
pub const NARROW: f32 = 900.0;

/// What the panel remembers.
#[derive(Default)]
pub struct Panel {
    map: PieceMap,
    peers: Peers,
    /// The buffer is deep enough, as last said.
    well: bool,
}

impl Panel {
    /// Draws the panel into `rect`; `at` is where the bar's knob is.
    pub fn show(&mut self, ui: &mut Ui, rect: Rect, p: &Playing, stream: &StreamView, at: MediaTime) {
        let t = theme::of(ui);
        let sheet = rect.width() > WIDTH + 1.0;
        let mut ui = ui.new_child(UiBuilder::new().id_salt("panel").max_rect(rect));
        ui.set_clip_rect(rect.intersect(ui.clip_rect()));
        ui.painter().rect_filled(rect, CornerRadius::ZERO, t.surface);
        let edge = if sheet { [rect.left_top(), rect.right_top()] } else { [rect.left_top(), rect.left_bottom()] };
        ui.painter().line_segment(edge, egui::Stroke::new(1.0, t.line));
        // What lies under the panel must not be pressed through it.
        ui.interact(rect, ui.scope_id().with("ground"), Sense::CLICK);
        let playhead = p.strip.as_ref().map(|map| PieceIndex(map.pieces(at, at).start));
        egui::ScrollArea::vertical().auto_shrink(false).show(&mut ui, |ui| {
            Frame::new().inner_margin(Margin::same(MARGIN as i8)).show(ui, |ui| {
                ui.spacing_mut().item_spacing = vec2(STEP, STEP);
                // Rows of text are as high as text; nothing in here is pressed.
                ui.spacing_mut().interact_size.y = theme::BODY;
                head(ui, health(p, stream, &mut self.well, t), t);
                ui.add_space(STEP);
                if sheet {
                    ui.spacing_mut().item_spacing.x = MARGIN;
                    ui.columns(2, |columns| {
                        columns.iter_mut().for_each(|c| c.spacing_mut().item_spacing.x = STEP);
                        if let [left, right] = columns {
                            flow(left, stream, t, 72.0);
                            self.pieces(right, stream, playhead, t);
                        }
                    });
                } else {
                    flow(ui, stream, t, 92.0);
                    ui.add_space(STEP);
                    self.pieces(ui, stream, playhead, t);
                }
                ui.add_space(STEP);
                let connected = fmt::count(stream.peers.len() as u64);
                let known = stream.peers_known.max(stream.peers.len()) as u64;
                widgets::row(ui, "Peers", &format!("{connected} of {} known", fmt::count(known)), t);
                if stream.peers.is_empty() {
                    lines(ui, "No peer is connected", &stream.sources, t);
                } else {
                    self.peers.show(ui, stream, t);
                }
                if !stream.servers.is_empty() {
                    ui.add_space(STEP);
                    let using = fmt::count(stream.engine.origins.into());
                    widgets::row(ui, "Servers", &format!("{using} in use"), t);
                    lines(ui, "", &stream.servers, t);
                }
                if !stream.peers.is_empty() && !stream.sources.is_empty() {
                    ui.add_space(STEP);
                    widgets::row(ui, "Peers come from", "", t);
                    lines(ui, "", &stream.sources, t);
                }
            });
        });
    }

    fn pieces(&mut self, ui: &mut Ui, stream: &StreamView, playhead: Option<PieceIndex>, t: &Tokens) {
        let engine = &stream.engine;
        let (here, all) = (fmt::count(engine.pieces_here.into()), fmt::count(engine.pieces.len() as u64));
        widgets::row(ui, "Pieces", &format!("{here} of {all} here"), t);
        self.map.show(ui, engine, playhead, stream.piece_len, t);
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(9.0, 4.0);
            widgets::legend(ui, t.from_peers, "peers", t);
            widgets::legend(ui, t.from_server, "server", t);
            widgets::legend(ui, t.on_its_way, "on its way", t);
            widgets::legend(ui, t.available(4), "available", t);
            widgets::legend(ui, t.nobody, "nobody", t);
            if engine.pieces.iter().any(|c| c.origin == Origin::Disk) {
                widgets::legend(ui, t.from_disk, "earlier", t);
            }
        });
    }
}

fn head(ui: &mut Ui, (word, color): (&str, Color32), t: &Tokens) {
    ui.horizontal(|ui| {
        ui.set_height(20.0);
        ui.label(theme::heavy("Stream", theme::BODY, t.text));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.label(theme::heavy(word, theme::SMALL, color));
            let (dot, _) = ui.allocate_exact_size(Vec2::splat(8.0), Sense::hover());
            ui.painter().circle_filled(dot.center(), 4.0, color);
        });
    });
}

/// How the stream is, in a word. `well` is what was said last, so that a buffer right at the bound does not flicker.
fn health(p: &Playing, stream: &StreamView, well: &mut bool, t: &Tokens) -> (&'static str, Color32) {
    let e = &stream.engine;
    // A full window hovers a little below its bound, as what lies beyond comes rarest first: half of it is plenty.
    let plenty = (e.urgent_s + e.window_s) / 2.0 + if *well { -1.0 } else { 1.0 };
    // Near the end less is left than that.
    let left = p.duration.map_or(f64::INFINITY, |d| d.as_secs_f64() - p.at.as_secs_f64());
    *well = e.ahead_s >= plenty.min(left - 0.5);
    let sources = !stream.peers.is_empty() || e.origins > 0;
    let file = e.pieces.get(e.file_pieces.start as usize..e.file_pieces.end as usize).unwrap_or_default();
    let complete = !file.is_empty() && file.iter().all(|c| c.state == crate::app::snapshot::PieceState::Here);
    let stuck = e.waiting.is_some_and(|w| w.peers_with_it == 0 && !w.from_server) && e.origins == 0;
    match p.state {
        _ if complete => ("complete", t.healthy),
        PlayState::Waiting if stuck => ("nobody has it", t.short),
        _ if !sources => ("no source", t.short),
        PlayState::Waiting => ("waiting", t.short),
        _ if *well => ("healthy", t.healthy),
        _ if e.ahead_s < e.urgent_s => ("short", t.short),
        _ => ("fair", t.text_soft),
    }
}

/// Buffer and what is received.
fn flow(ui: &mut Ui, stream: &StreamView, t: &Tokens, height: f32) {
    let e = &stream.engine;
    widgets::row(ui, "Buffer", &format!("{} ahead", fmt::span(e.ahead_s)), t);
    graphs::buffer(ui, &stream.history, e, height, t);
    widgets::row(ui, "Received", &fmt::rate(e.swarm_rate + e.server_rate), t);
    graphs::received(ui, &stream.history, e, height * 0.7, t);
    let (swarm, server) = (e.totals.swarm, e.totals.server);
    let share = |n: u64| fmt::percent(n as f64 / (swarm + server).max(1) as f64);
    ui.horizontal(|ui| {
        ui.set_height(theme::BODY);
        ui.spacing_mut().item_spacing.x = 9.0;
        widgets::legend(ui, t.from_peers, &format!("peers {} ({})", share(swarm), fmt::bytes(swarm)), t);
        ui.add_space(STEP);
        widgets::legend(ui, t.from_server, &format!("server {} ({})", share(server), fmt::bytes(server)), t);
    });
    let bid = match e.bids.back() {
        Some(b) => format!(
            "Last bid {}, granted {}, used {}",
            fmt::bits(b.max_bits),
            fmt::bits_like(b.grant_bits, b.max_bits),
            fmt::bits_like(b.used_bits, b.max_bits)
        ),
        None if e.origins == 0 => "No server to bid to".to_owned(),
        None => "No bid needed so far".to_owned(),
    };
    let held = match e.peer_budget {
        Some(budget) => {
            let [peers, server] = fmt::rates(budget as f64, e.server_share as f64);
            vec![
                format!("Peers held to {peers} so that the server's {server} arrive"),
                format!("Peers held to {peers}, the server has {server}"),
            ]
        }
        None => vec!["Peers unthrottled".to_owned()],
    };
    let sent = format!("Sent {} · {}", fmt::bytes(e.totals.uploaded), fmt::rate(e.upload_rate));
    let held_color = if e.peer_budget.is_some() { t.text_soft } else { t.text_dim };
    // A row each, always: what comes and goes within a second must not push all below it about.
    for (texts, color) in [(vec![bid], t.text_soft), (held, held_color), (vec![sent], t.text_dim)] {
        ui.horizontal(|ui| {
            ui.set_height(theme::BODY);
            ui.add(egui::Label::new(theme::words(fitting(ui, texts), theme::SMALL, color)).truncate());
        });
    }
}

/// The first wording that there is room for, or the last and shortest.
fn fitting(ui: &Ui, texts: Vec<String>) -> String {
    let wide =
        |text: &String| ui.painter().layout_no_wrap(text.clone(), theme::font(theme::SMALL), Color32::WHITE).size().x;
    let fits = texts.iter().position(|text| wide(text) <= ui.available_width());
    let last = texts.len().saturating_sub(1);
    texts.into_iter().nth(fits.unwrap_or(last)).unwrap_or_default()
}

fn lines(ui: &mut Ui, first: &str, rest: &[String], t: &Tokens) {
    ui.spacing_mut().item_spacing.y = 4.0;
    if !first.is_empty() {
        ui.label(theme::words(first, theme::SMALL, t.text_soft));
    }
    for line in rest.iter().take(12) {
        pair(ui, line, t);
    }
    ui.spacing_mut().item_spacing.y = STEP;
}

/// "who · what of it", who on the left and what on the right. Where there is no room for both, who is cut short.
fn pair(ui: &mut Ui, line: &str, t: &Tokens) {
    let (rect, r) = ui.allocate_exact_size(vec2(ui.available_width(), theme::BODY), Sense::hover());
    r.widget_info(|| WidgetInfo::labeled(Role::Label, true, line));
    let (who, what) = line.split_once(" · ").unwrap_or((line, ""));
    let font = || theme::font(theme::SMALL);
    let most = rect.width() * 0.7;
    let right = widgets::text_at(ui, rect.right_center(), Align2::RIGHT_CENTER, most, what, font(), t.text_soft);
    let room = if what.is_empty() { rect.width() } else { right.left() - rect.left() - STEP };
    widgets::text_at(ui, rect.left_center(), Align2::LEFT_CENTER, room, who, font(), t.text_dim);
    if r.hovered() {
        r.on_hover_text_at_pointer(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::snapshot::{EngineSnapshot, Picture, PictureSource, VideoTap};

    struct NoPicture;

    impl PictureSource for NoPicture {
        fn current(&self, _ahead: std::time::Duration) -> Option<Arc<Picture>> {
            None
        }

        fn next_in(&self, _ahead: std::time::Duration) -> Option<std::time::Duration> {
            None
        }
    }

    /// The word at 100 s of film, with so much of it left.
    fn word(ahead_s: f64, left_s: f64, well: &mut bool) -> &'static str {
        let engine = EngineSnapshot { ahead_s, urgent_s: 3.0, window_s: 15.0, origins: 1, ..Default::default() };
        let stream = StreamView {
            engine: Arc::new(engine),
            peers: Arc::new([]),
            peers_known: 0,
            history: Arc::new([]),
            waiting_text: None,
            sources: Vec::new(),
            servers: Vec::new(),
            file: Default::default(),
            piece_len: 1,
        };
        let playing = Playing {
            title: String::new(),
            subtitle: String::new(),
            state: PlayState::Playing,
            at: MediaTime::from_secs_f64(100.0),
            duration: Some(MediaTime::from_secs_f64(100.0 + left_s)),
            volume: 1.0,
            muted: false,
            seeking_to: None,
            video: VideoTap(Arc::new(NoPicture)),
            stream: None,
            strip: None,
        };
        health(&playing, &stream, well, &theme::DARK).0
    }

    #[test]
    fn the_word_for_the_buffer_is_steady_and_knows_the_end() {
        let well = &mut false;
        let said = [2.0, 5.0, 9.5, 10.5, 9.5, 8.5, 7.5, 8.5].map(|ahead| word(ahead, 1000.0, well));
        assert_eq!(said, ["short", "fair", "fair", "healthy", "healthy", "healthy", "fair", "fair"]);
        assert_eq!(word(2.0, 2.0, &mut false), "healthy");
        assert_eq!(word(2.0, 20.0, &mut false), "short");
    }
}
