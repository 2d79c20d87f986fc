//! The GL half of the video: one program, three textures, one square.
//!
//! Runs on GL 3.x core and GLES 3; on GL 2.1 and GLES 2 with luminance textures and repacked rows.

use eframe::egui_glow::ShaderVersion;
use eframe::glow::{self, HasContext, PixelUnpackData};

use super::video::{Rows, conversion, rows, texel_bytes};
use crate::app::snapshot::{Picture, PixelLayout, Plane};

pub(super) struct GlVideo {
    program: glow::Program,
    vao: Option<glow::VertexArray>,
    square: glow::Buffer,
    textures: [Option<Texture>; 3],
    place: Places,
    caps: Caps,
    serial: Option<u64>,
    /// What came of uploading that picture.
    verdict: Result<(), &'static str>,
}

/// What this context can do.
#[derive(Debug, Clone, Copy)]
struct Caps {
    /// GL 2.1 or GLES 2: no R8, no vertex arrays.
    old: bool,
    /// UNPACK_ROW_LENGTH is there.
    row_length: bool,
    /// 16-bit normalised textures are there.
    norm16: bool,
    max_side: u32,
}

struct Texture {
    name: glow::Texture,
    width: u32,
    height: u32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    R8,
    R16,
    Rg8,
    Rgba8,
}

struct Places {
    planes: [Option<glow::UniformLocation>; 3],
    matrix: Option<glow::UniformLocation>,
    offset: Option<glow::UniformLocation>,
    scale: Option<glow::UniformLocation>,
    layout: Option<glow::UniformLocation>,
    turn: Option<glow::UniformLocation>,
    chroma_shift: Option<glow::UniformLocation>,
    position: u32,
}

const VERTEX: &str = r"
ATTRIBUTE vec2 corner;
OUT vec2 uv;
uniform mat3 turn;
void main() {
    uv = (turn * vec3(corner.x, 1.0 - corner.y, 1.0)).xy;
    gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}
";

const FRAGMENT: &str = r"
IN vec2 uv;
uniform sampler2D plane0;
uniform sampler2D plane1;
uniform sampler2D plane2;
uniform mat3 matrix;
uniform vec3 offset;
uniform float scale;
uniform int layout_kind;
uniform float chroma_shift;
void main() {
    if (layout_kind == 2) {
        COLOR = vec4(SAMPLE(plane0, uv).rgb, 1.0);
        return;
    }
    vec2 at = vec2(uv.x + chroma_shift, uv.y);
    vec2 chroma = layout_kind == 1 ? SAMPLE(plane1, at).SECOND : vec2(SAMPLE(plane1, at).r, SAMPLE(plane2, at).r);
    vec3 yuv = vec3(SAMPLE(plane0, uv).r, chroma) * scale - offset;
    COLOR = vec4(clamp(matrix * yuv, 0.0, 1.0), 1.0);
}
";

impl GlVideo {
    pub fn new(gl: &glow::Context) -> Result<Self, String> {
        let version = ShaderVersion::get(gl);
        let old = matches!(version, ShaderVersion::Gl120 | ShaderVersion::Es100);
        let es = matches!(version, ShaderVersion::Es100 | ShaderVersion::Es300);
        // SAFETY: plain calls on the current context; every name used below was made by it just before.
        unsafe {
            let caps = Caps {
                old,
                row_length: version != ShaderVersion::Es100,
                norm16: !old && (!es || gl.supported_extensions().contains("GL_EXT_texture_norm16")),
                max_side: gl.get_parameter_i32(glow::MAX_TEXTURE_SIZE).max(0) as u32,
            };
            let program = build(gl, version, old)?;
            let uniform = |name: &str| gl.get_uniform_location(program, name);
            let place = Places {
                planes: [uniform("plane0"), uniform("plane1"), uniform("plane2")],
                matrix: uniform("matrix"),
                offset: uniform("offset"),
                scale: uniform("scale"),
                layout: uniform("layout_kind"),
                turn: uniform("turn"),
                chroma_shift: uniform("chroma_shift"),
                position: gl.get_attrib_location(program, "corner").unwrap_or(0),
            };
            let square = gl.create_buffer()?;
            gl.bind_buffer(glow::ARRAY_BUFFER, Some(square));
            let corners = [0.0f32, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0].map(f32::to_ne_bytes).concat();
            gl.buffer_data_u8_slice(glow::ARRAY_BUFFER, &corners, glow::STATIC_DRAW);
            gl.bind_buffer(glow::ARRAY_BUFFER, None);
            let vao = if old { None } else { Some(gl.create_vertex_array()?) };
            Ok(Self { program, vao, square, textures: [None, None, None], place, caps, serial: None, verdict: Ok(()) })
        }
    }

    /// Uploads the picture where it is new and draws it over the current viewport.
    pub fn paint(&mut self, gl: &glow::Context, picture: &Picture) -> Result<(), &'static str> {
        if self.serial != Some(picture.serial) {
            // Even a picture that cannot be uploaded is not tried again each frame.
            self.serial = Some(picture.serial);
            self.verdict = self.upload(gl, picture);
        }
        self.verdict?;
        if self.textures.iter().flatten().count() < texel_bytes(picture.format).len() {
            return Err("A picture of this film came damaged.");
        }
        self.draw(gl, picture);
        Ok(())
    }

    fn upload(&mut self, gl: &glow::Context, picture: &Picture) -> Result<(), &'static str> {
        for (i, &texel) in texel_bytes(picture.format).iter().enumerate() {
            let plane = picture.planes.get(i).ok_or("A picture of this film came damaged.")?;
            if plane.width > self.caps.max_side || plane.height > self.caps.max_side {
                return Err("The picture is larger than this graphics card can draw.");
            }
            let rows = rows(plane.data.bytes(), plane.stride, plane.width, plane.height, texel)
                .ok_or("A picture of this film came damaged.")?;
            let kind = match (picture.format, texel) {
                (PixelLayout::Rgba, _) => Kind::Rgba8,
                (PixelLayout::Nv12, 2) => Kind::Rg8,
                (PixelLayout::Yuv16 { .. }, _) if self.caps.norm16 => Kind::R16,
                _ => Kind::R8,
            };
            if let (PixelLayout::Yuv16 { bits }, Kind::R8) = (picture.format, kind) {
                let narrow = narrow(&rows, plane, bits);
                self.put(gl, i, plane, kind, &Rows { bytes: &narrow, row_texels: plane.width as usize })?;
            } else if rows.row_texels == plane.width as usize || self.caps.row_length {
                self.put(gl, i, plane, kind, &rows)?;
            } else {
                let row = plane.width as usize * texel;
                let tight: Vec<u8> =
                    rows.bytes.chunks(plane.stride).flat_map(|r| r.get(..row).unwrap_or_default()).copied().collect();
                self.put(gl, i, plane, kind, &Rows { bytes: &tight, row_texels: plane.width as usize })?;
            }
        }
        Ok(())
    }

    /// Fills texture `i`, made anew only when size or kind changed.
    fn put(
        &mut self,
        gl: &glow::Context,
        i: usize,
        plane: &Plane,
        kind: Kind,
        rows: &Rows,
    ) -> Result<(), &'static str> {
        let slot = self.textures.get_mut(i).ok_or("A picture of this film came damaged.")?;
        let (internal, format, ty) = gl_format(kind, self.caps.old);
        let (w, h) = (plane.width as i32, plane.height as i32);
        // SAFETY: `rows` checked that the bytes hold all rows at this row length, and GL reads no more than that;
        // the texture was made by this context.
        unsafe {
            gl.pixel_store_i32(glow::UNPACK_ALIGNMENT, 1);
            if self.caps.row_length {
                gl.pixel_store_i32(glow::UNPACK_ROW_LENGTH, rows.row_texels as i32);
            }
            let fits =
                slot.as_ref().is_some_and(|t| t.width == plane.width && t.height == plane.height && t.kind == kind);
            if !fits {
                if let Some(old) = slot.take() {
                    gl.delete_texture(old.name);
                }
                let name = gl.create_texture().map_err(|_| "The graphics card has no memory left for the picture.")?;
                gl.bind_texture(glow::TEXTURE_2D, Some(name));
                for (what, value) in [
                    (glow::TEXTURE_MIN_FILTER, glow::LINEAR),
                    (glow::TEXTURE_MAG_FILTER, glow::LINEAR),
                    (glow::TEXTURE_WRAP_S, glow::CLAMP_TO_EDGE),
                    (glow::TEXTURE_WRAP_T, glow::CLAMP_TO_EDGE),
                ] {
                    gl.tex_parameter_i32(glow::TEXTURE_2D, what, value as i32);
                }
                let data = PixelUnpackData::Slice(Some(rows.bytes));
                gl.tex_image_2d(glow::TEXTURE_2D, 0, internal, w, h, 0, format, ty, data);
                *slot = Some(Texture { name, width: plane.width, height: plane.height, kind });
            } else if let Some(texture) = slot {
                gl.bind_texture(glow::TEXTURE_2D, Some(texture.name));
                let data = PixelUnpackData::Slice(Some(rows.bytes));
                gl.tex_sub_image_2d(glow::TEXTURE_2D, 0, 0, 0, w, h, format, ty, data);
            }
            if self.caps.row_length {
                gl.pixel_store_i32(glow::UNPACK_ROW_LENGTH, 0);
            }
            gl.pixel_store_i32(glow::UNPACK_ALIGNMENT, 4);
            gl.bind_texture(glow::TEXTURE_2D, None);
        }
        Ok(())
    }

    fn draw(&self, gl: &glow::Context, picture: &Picture) {
        let wide = self.textures.first().and_then(Option::as_ref).is_some_and(|t| t.kind == Kind::R16);
        let bits = match picture.format {
            PixelLayout::Yuv16 { bits } if wide => bits.clamp(9, 16),
            _ => 8,
        };
        // A word of 16 bits holds fewer: what the texture unit gives is scaled up to 0..1.
        let scale = if wide { 65_535.0 / f32::from(u16::MAX >> (16 - bits)) } else { 1.0 };
        let c = conversion(picture.matrix, picture.full_range, bits);
        let kind = match picture.format {
            PixelLayout::Nv12 => 1,
            PixelLayout::Rgba => 2,
            _ => 0,
        };
        let chroma = picture.planes.get(1).map_or(0, |p| p.width);
        // 4:2:0 and 4:2:2 sit their chroma on the left luma sample, a quarter of a chroma sample off the texel's centre.
        let shift = if kind < 2 && chroma > 0 && chroma < picture.width { 0.25 / chroma as f32 } else { 0.0 };
        // Columns of the matrix that takes a place on screen (y down) to one in the picture.
        #[rustfmt::skip]
        let turn: [f32; 9] = match picture.rotation {
            90 => [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0],
            180 => [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 1.0, 1.0],
            270 => [0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, 1.0],
            _ => [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        };
        let p = &self.place;
        // SAFETY: plain calls with names of this context; the square holds the four corners that are drawn. egui sets
        // up all of its own state again after a callback.
        unsafe {
            gl.use_program(Some(self.program));
            gl.disable(glow::BLEND);
            for (unit, (texture, place)) in self.textures.iter().zip(&p.planes).enumerate() {
                gl.active_texture(glow::TEXTURE0 + unit as u32);
                gl.bind_texture(glow::TEXTURE_2D, texture.as_ref().map(|t| t.name));
                gl.uniform_1_i32(place.as_ref(), unit as i32);
            }
            gl.uniform_matrix_3_f32_slice(p.matrix.as_ref(), false, &c.matrix);
            gl.uniform_3_f32(p.offset.as_ref(), c.offset[0], c.offset[1], c.offset[2]);
            gl.uniform_1_f32(p.scale.as_ref(), scale);
            gl.uniform_1_i32(p.layout.as_ref(), kind);
            gl.uniform_matrix_3_f32_slice(p.turn.as_ref(), false, &turn);
            gl.uniform_1_f32(p.chroma_shift.as_ref(), shift);
            if self.vao.is_some() {
                gl.bind_vertex_array(self.vao);
            }
            gl.bind_buffer(glow::ARRAY_BUFFER, Some(self.square));
            gl.enable_vertex_attrib_array(p.position);
            gl.vertex_attrib_pointer_f32(p.position, 2, glow::FLOAT, false, 8, 0);
            gl.draw_arrays(glow::TRIANGLE_STRIP, 0, 4);
            gl.disable_vertex_attrib_array(p.position);
            if self.vao.is_some() {
                gl.bind_vertex_array(None);
            }
            gl.bind_buffer(glow::ARRAY_BUFFER, None);
            for unit in (0..3).rev() {
                gl.active_texture(glow::TEXTURE0 + unit);
                gl.bind_texture(glow::TEXTURE_2D, None);
            }
            gl.enable(glow::BLEND);
        }
    }

    /// Frees everything. The context must be current and the one it was made with.
    pub fn destroy(self, gl: &glow::Context) {
        // SAFETY: names of this context, never used again.
        unsafe {
            for texture in self.textures.into_iter().flatten() {
                gl.delete_texture(texture.name);
            }
            gl.delete_buffer(self.square);
            if let Some(vao) = self.vao {
                gl.delete_vertex_array(vao);
            }
            gl.delete_program(self.program);
        }
    }
}

fn gl_format(kind: Kind, old: bool) -> (i32, u32, u32) {
    let (internal, format, ty) = match kind {
        Kind::R8 if old => (glow::LUMINANCE, glow::LUMINANCE, glow::UNSIGNED_BYTE),
        Kind::Rg8 if old => (glow::LUMINANCE_ALPHA, glow::LUMINANCE_ALPHA, glow::UNSIGNED_BYTE),
        Kind::Rgba8 if old => (glow::RGBA, glow::RGBA, glow::UNSIGNED_BYTE),
        Kind::R8 => (glow::R8, glow::RED, glow::UNSIGNED_BYTE),
        Kind::R16 => (glow::R16, glow::RED, glow::UNSIGNED_SHORT),
        Kind::Rg8 => (glow::RG8, glow::RG, glow::UNSIGNED_BYTE),
        Kind::Rgba8 => (glow::RGBA8, glow::RGBA, glow::UNSIGNED_BYTE),
    };
    (internal as i32, format, ty)
}

/// Words of `bits` bits to bytes, rows tightly packed.
fn narrow(rows: &Rows, plane: &Plane, bits: u8) -> Vec<u8> {
    let shift = u32::from(bits.clamp(8, 16)) - 8;
    let row = plane.width as usize * 2;
    rows.bytes
        .chunks(rows.row_texels * 2)
        .flat_map(|r| r.get(..row).unwrap_or_default().chunks_exact(2))
        .map(|w| (u16::from_le_bytes([w[0], w[1]]) >> shift).min(255) as u8)
        .collect()
}

/// Compiles and links.
// SAFETY: for its callers to uphold: the context must be current on this thread.
unsafe fn build(gl: &glow::Context, version: ShaderVersion, old: bool) -> Result<glow::Program, String> {
    let words: [(&str, &str); 6] = if old {
        [
            ("ATTRIBUTE", "attribute"),
            ("OUT", "varying"),
            ("IN", "varying"),
            ("SAMPLE", "texture2D"),
            ("COLOR", "gl_FragColor"),
            ("SECOND", "ra"),
        ]
    } else {
        [
            ("ATTRIBUTE", "in"),
            ("OUT", "out"),
            ("IN", "in"),
            ("SAMPLE", "texture"),
            ("COLOR", "out_color"),
            ("SECOND", "rg"),
        ]
    };
    let defines: String = words.iter().map(|(from, to)| format!("#define {from} {to}\n")).collect();
    let head = version.version_declaration();
    let precision = if version.is_embedded() { "precision highp float;\nprecision highp int;\n" } else { "" };
    let output = if old { "" } else { "out vec4 out_color;\n" };
    // SAFETY: plain calls on the current context; shaders are deleted once linked.
    unsafe {
        let program = gl.create_program()?;
        let mut shaders = Vec::with_capacity(2);
        for (ty, source) in [
            (glow::VERTEX_SHADER, format!("{head}{defines}{VERTEX}")),
            (glow::FRAGMENT_SHADER, format!("{head}{precision}{defines}{output}{FRAGMENT}")),
        ] {
            let shader = gl.create_shader(ty)?;
            gl.shader_source(shader, &source);
            gl.compile_shader(shader);
            if !gl.get_shader_compile_status(shader) {
                return Err(gl.get_shader_info_log(shader));
            }
            gl.attach_shader(program, shader);
            shaders.push(shader);
        }
        gl.link_program(program);
        let linked = gl.get_program_link_status(program);
        for shader in shaders {
            gl.detach_shader(program, shader);
            gl.delete_shader(shader);
        }
        if linked { Ok(program) } else { Err(gl.get_program_info_log(program)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_bytes_row_by_row() {
        let bytes: Vec<u8> = [1023u16, 512, 9, 4, 0, 9].iter().flat_map(|w| w.to_le_bytes()).collect();
        let plane = Plane { width: 2, height: 2, stride: 6, ..Plane::default() };
        let rows = rows(&bytes, 6, 2, 2, 2).unwrap();
        assert_eq!(narrow(&rows, &plane, 10), [255, 128, 1, 0]);
    }
}
