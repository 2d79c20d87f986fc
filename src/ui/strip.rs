//! The strip under the seek bar: where each moment's bytes are, on the bar's own time axis.
//!
//! It is a texture one pixel high, made anew only when the data or the width changed, so that painting it costs nothing.

use std::sync::Arc;

use eframe::egui::{Color32, ColorImage, Context, Painter, Rect, TextureHandle, TextureOptions, pos2};

use super::pieces::{self, Look};
use super::theme::Tokens;
use crate::app::snapshot::{EngineSnapshot, MediaTime, PieceCell, StripMap};

/// What a strip depends on.
struct MadeOf {
    cells: Arc<[PieceCell]>,
    map: Arc<StripMap>,
    width: usize,
    servers: u32,
}

/// The strip as last made.
#[derive(Default)]
pub struct Strip {
    made_of: Option<MadeOf>,
    texture: Option<TextureHandle>,
}

impl Strip {
    pub fn paint(
        &mut self,
        painter: &Painter,
        rect: Rect,
        engine: &EngineSnapshot,
        map: &Arc<StripMap>,
        duration: MediaTime,
        t: &Tokens,
    ) {
        let ctx = painter.ctx();
        let width = (rect.width() * ctx.pixels_per_point()).round().max(1.0) as usize;
        let same = self.made_of.as_ref().is_some_and(|of| {
            Arc::ptr_eq(&of.cells, &engine.pieces)
                && Arc::ptr_eq(&of.map, map)
                && (of.width, of.servers) == (width, engine.origins)
        });
        if !same {
            self.upload(ctx, ColorImage::new([width, 1], colors(engine, map, duration, width, t)));
            let (cells, map) = (engine.pieces.clone(), map.clone());
            self.made_of = Some(MadeOf { cells, map, width, servers: engine.origins });
        }
        if let Some(texture) = &self.texture {
            let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            painter.image(texture.id(), rect, whole, Color32::WHITE);
        }
    }

    fn upload(&mut self, ctx: &Context, image: ColorImage) {
        match &mut self.texture {
            Some(texture) => texture.set(image, TextureOptions::NEAREST),
            None => self.texture = Some(ctx.load_texture("strip", image, TextureOptions::NEAREST)),
        }
    }
}

/// One colour for each of `width` equal parts of the film.
fn colors(engine: &EngineSnapshot, map: &StripMap, duration: MediaTime, width: usize, t: &Tokens) -> Vec<Color32> {
    let at = |x: usize| MediaTime((duration.0 as f64 * x as f64 / width as f64) as i64);
    (0..width)
        .map(|x| {
            let range = map.pieces(at(x), at(x + 1));
            Look::of_all(pieces::slice(engine, &range), engine.origins).map_or(t.available(0), |look| look.color(t))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::snapshot::{ByteRange, Origin, PieceState, Timeline};
    use crate::ui::theme::DARK;

    /// No index: time runs with the bytes, 25 s to each of four pieces, less one that lies before the film's file.
    #[test]
    fn each_moment_has_the_colour_of_its_own_piece() {
        let here = |origin| PieceCell { state: PieceState::Here, origin, ..PieceCell::default() };
        let coming = PieceCell { on_its_way: true, ..PieceCell::default() };
        let cells = [PieceCell::default(), here(Origin::Peers), here(Origin::Server), coming, PieceCell::default()];
        let engine = EngineSnapshot { pieces: cells.into(), ..EngineSnapshot::default() };
        let duration = MediaTime::from_secs_f64(100.0);
        let map = StripMap {
            timeline: Arc::new(Timeline::linear(duration, 400)),
            file: ByteRange::new(100, 500),
            piece_len: 100,
        };
        let colors = colors(&engine, &map, duration, 400, &DARK);
        assert_eq!(
            [10, 150, 250, 350].map(|x| colors[x]),
            [DARK.from_peers, DARK.from_server, DARK.on_its_way, DARK.nobody]
        );
    }
}
