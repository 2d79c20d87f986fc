//! Every piece of the torrent as a cell: its state, its source, how many have it.
//!
//! The cells are a texture, made anew only when the data, the place or the theme changed: twenty thousand pieces cost one
//! quad to paint. Where there are more pieces than cells fit, a cell stands for several.

use std::ops::Range;
use std::sync::Arc;

use eframe::egui::{
    Color32, ColorImage, CornerRadius, PopupAnchor, Pos2, Rect, Role, Sense, Stroke, StrokeKind, TextureHandle,
    TextureOptions, Tooltip, Ui, WidgetInfo, pos2, vec2,
};

use super::fmt;
use super::pieces::{self, Look};
use super::theme::Tokens;
use crate::app::snapshot::{EngineSnapshot, PieceCell, PieceIndex};

/// Cells are this large at most and at least, in points, with their gap.
const LARGEST: f32 = 12.0;
const SMALLEST: f32 = 3.0;
/// The map is this high at most, in points.
const HIGHEST: f32 = 184.0;

/// How the pieces are laid out, in texels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    pitch: usize,
    columns: usize,
    rows: usize,
    /// Pieces a cell stands for.
    per_cell: usize,
}

impl Grid {
    fn new(pieces: usize, width: usize, scale: f32) -> Self {
        let pieces = pieces.max(1);
        let least = ((SMALLEST * scale).round() as usize).max(2);
        let most = ((LARGEST * scale).round() as usize).max(least);
        let high = (HIGHEST * scale) as usize;
        let columns = |pitch: usize| (width / pitch).max(1);
        for pitch in (least..=most).rev() {
            let rows = pieces.div_ceil(columns(pitch));
            if rows * pitch <= high {
                return Self { pitch, columns: columns(pitch), rows, per_cell: 1 };
            }
        }
        let columns = columns(least);
        let per_cell = pieces.div_ceil(columns * (high / least).max(1));
        Self { pitch: least, columns, rows: pieces.div_ceil(per_cell).div_ceil(columns), per_cell }
    }

    fn pieces(&self, cell: usize) -> Range<u32> {
        let start = cell * self.per_cell;
        start as u32..(start + self.per_cell) as u32
    }
}

/// The map as last made.
#[derive(Default)]
pub struct PieceMap {
    made_of: Option<(Arc<[PieceCell]>, Grid, bool, u32)>,
    texture: Option<TextureHandle>,
}

impl PieceMap {
    /// Draws the map as wide as there is room. `playhead` is outlined.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        engine: &EngineSnapshot,
        playhead: Option<PieceIndex>,
        piece_len: u32,
        t: &Tokens,
    ) {
        let scale = ui.pixels_per_point();
        let width = (ui.available_width() * scale).floor().max(1.0) as usize;
        let grid = Grid::new(engine.pieces.len(), width, scale);
        let size = vec2(grid.columns as f32, grid.rows as f32) * grid.pitch as f32 / scale;
        let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
        let here = engine.pieces_here;
        let total = engine.pieces.len() as u64;
        response.widget_info(|| {
            let label = format!("Piece map, {} of {} pieces here", fmt::count(here.into()), fmt::count(total));
            WidgetInfo::labeled(Role::Image, true, label)
        });
        if engine.pieces.is_empty() || !ui.is_rect_visible(rect) {
            return;
        }
        let dark = ui.visuals().dark_mode;
        let same = self.made_of.as_ref().is_some_and(|(cells, g, d, servers)| {
            Arc::ptr_eq(cells, &engine.pieces) && *g == grid && *d == dark && *servers == engine.origins
        });
        if !same {
            let image = render(engine, grid, t);
            match &mut self.texture {
                Some(texture) => texture.set(image, TextureOptions::NEAREST),
                None => self.texture = Some(ui.ctx().load_texture("pieces", image, TextureOptions::NEAREST)),
            }
            self.made_of = Some((engine.pieces.clone(), grid, dark, engine.origins));
        }
        // On whole pixels, or a nearest texel would be drawn twice here and there.
        let min = (rect.min.to_vec2() * scale).round() / scale;
        let rect = Rect::from_min_size(min.to_pos2(), size);
        if let Some(texture) = &self.texture {
            ui.painter().image(texture.id(), rect, Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0)), Color32::WHITE);
        }
        let step = grid.pitch as f32 / scale;
        let cell_rect = |cell: usize| {
            let at = vec2((cell % grid.columns) as f32, (cell / grid.columns) as f32) * step;
            Rect::from_min_size(rect.min + at, vec2(step, step)).translate(vec2(-0.5, -0.5) / scale)
        };
        if let Some(piece) = playhead {
            let around = cell_rect(piece.get() / grid.per_cell).expand(1.0);
            let around = around.expand((4.0 - around.width() / 2.0).max(0.0));
            ui.painter().rect_stroke(around, CornerRadius::same(2), Stroke::new(1.5, t.text), StrokeKind::Inside);
        }
        let over = response.hover_pos().map(|pos| ((pos - rect.min) / step).max(vec2(0.0, 0.0)));
        if let Some(over) = over {
            let cell = over.y as usize * grid.columns + (over.x as usize).min(grid.columns - 1);
            if let Some(words) = pieces::describe(engine, &grid.pieces(cell), piece_len) {
                ui.painter().rect_stroke(
                    cell_rect(cell),
                    CornerRadius::same(1),
                    Stroke::new(1.0, t.text_soft),
                    StrokeKind::Outside,
                );
                // At once: one sweeps over the map to read it.
                let (id, anchor) = (response.id.with("about"), PopupAnchor::Pointer);
                Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), id, anchor).gap(14.0).show(|ui| ui.label(words));
            }
        }
    }
}

/// Paints the cells into an image, a texel per pixel of the screen.
fn render(engine: &EngineSnapshot, grid: Grid, t: &Tokens) -> ColorImage {
    let (width, height) = (grid.columns * grid.pitch, grid.rows * grid.pitch);
    let mut image = ColorImage::filled([width, height], Color32::TRANSPARENT);
    let gap = ((grid.pitch as f32 * 0.16).round() as usize).max(1);
    let side = grid.pitch - gap;
    let soft = side >= 6;
    for cell in 0..engine.pieces.len().div_ceil(grid.per_cell) {
        let range = grid.pieces(cell);
        let Some(look) = Look::of_all(pieces::slice(engine, &range), engine.origins) else { continue };
        let film = &engine.file_pieces;
        let beside = !film.is_empty() && (range.end <= film.start || range.start >= film.end);
        let fade = if beside { 0.35 } else { 1.0 };
        let left = look.color(t).gamma_multiply(fade);
        let right = if look == Look::FromBoth { t.from_peers.gamma_multiply(fade) } else { left };
        let (x0, y0) = (cell % grid.columns * grid.pitch, cell / grid.columns * grid.pitch);
        for y in 0..side {
            let from = (y0 + y) * width + x0;
            let Some(row) = image.pixels.get_mut(from..from + side) else { continue };
            for (x, texel) in row.iter_mut().enumerate() {
                *texel = if x * 2 < side { left } else { right };
            }
            if soft && (y == 0 || y + 1 == side) {
                for x in [0, side - 1] {
                    if let Some(texel) = row.get_mut(x) {
                        *texel = texel.gamma_multiply(0.45);
                    }
                }
            }
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_pieces_fits() {
        for pieces in [0, 1, 20, 1_180, 7_500, 20_000, 1_000_000] {
            for scale in [1.0, 1.5, 2.0] {
                let width = (340.0 * scale) as usize;
                let g = Grid::new(pieces, width, scale);
                assert!(g.columns * g.pitch <= width, "{pieces} {g:?}");
                assert!((g.rows * g.pitch) as f32 <= (HIGHEST + SMALLEST) * scale + 1.0, "{pieces} {g:?}");
                assert!(g.columns * g.rows * g.per_cell >= pieces, "{pieces} {g:?}");
            }
        }
        assert_eq!(Grid::new(1_180, 340, 1.0).per_cell, 1);
    }

    #[test]
    fn every_cell_is_painted_and_only_cells() {
        let engine = EngineSnapshot { pieces: vec![PieceCell::default(); 5].into(), ..EngineSnapshot::default() };
        let grid = Grid { pitch: 4, columns: 3, rows: 2, per_cell: 1 };
        let image = render(&engine, grid, &super::super::theme::DARK);
        assert_eq!(image.size, [12, 8]);
        let painted = image.pixels.iter().filter(|p| **p != Color32::TRANSPARENT).count();
        assert_eq!(painted, 5 * 9);
    }
}
