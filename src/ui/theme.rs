//! The look in tokens: one colour, one meaning, everywhere; two type sizes and two weights; an 8-px rhythm.
//!
//! Invariant: no other file of the window names a colour or a type size by its number.

use eframe::egui::{self, Color32, CornerRadius, FontFamily, FontId, Stroke, TextStyle, Visuals};

/// Body, labels, rows.
pub const SMALL: f32 = 12.0;
/// Headings of a panel, buttons.
pub const BODY: f32 = 16.0;
/// Film title, name of a screen.
pub const TITLE: f32 = 20.0;
/// Between lines and blocks, all multiples of it.
pub const STEP: f32 = 8.0;
/// From the edge of a surface to what lies on it.
pub const MARGIN: f32 = 20.0;
/// The smallest side of anything that can be hit, beyond its drawn size.
pub const HIT: f32 = 32.0;

/// Colours by meaning. Only greys differ much between the themes: a source keeps its hue.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    pub from_peers: Color32,
    pub from_server: Color32,
    /// Here from an earlier run.
    pub from_disk: Color32,
    pub on_its_way: Color32,
    /// Nobody has it, and no server does.
    pub nobody: Color32,
    pub healthy: Color32,
    /// Buffer below what is needed soon.
    pub short: Color32,
    /// Errors alone.
    pub error: Color32,
    /// In the swarm: few have it … many have it.
    available: [Color32; 2],
    /// Behind everything.
    pub ground: Color32,
    /// Panels, fields.
    pub surface: Color32,
    /// What lies on a surface and can be pressed.
    pub raised: Color32,
    pub raised_hover: Color32,
    pub line: Color32,
    pub text: Color32,
    pub text_soft: Color32,
    /// The faintest that may still have to be read.
    pub text_dim: Color32,
    /// Focus ring, links, the one suggested thing.
    pub accent: Color32,
    /// Text on `accent`.
    pub on_accent: Color32,
    pub zone_urgent: Color32,
    pub zone_window: Color32,
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// The dark theme, also of everything that lies over the film.
pub const DARK: Tokens = Tokens {
    from_peers: rgb(0x56B4E9),
    from_server: rgb(0xE69F00),
    from_disk: rgb(0x6F8FA6),
    on_its_way: rgb(0xCFE8F8),
    nobody: rgb(0xD55E00),
    healthy: rgb(0x3FB68B),
    short: rgb(0xE69F00),
    error: rgb(0xF0616D),
    available: [rgb(0x2A323C), rgb(0x4B5765)],
    ground: rgb(0x0E1116),
    surface: rgb(0x151A21),
    raised: rgb(0x1D242D),
    raised_hover: rgb(0x26303B),
    line: rgb(0x232A33),
    text: rgb(0xE8ECF1),
    text_soft: rgb(0x9AA5B1),
    text_dim: rgb(0x828E9B),
    accent: rgb(0x56B4E9),
    on_accent: rgb(0x0B1218),
    zone_urgent: rgb(0x3D2114),
    zone_window: rgb(0x231E17),
};

/// The light theme.
pub const LIGHT: Tokens = Tokens {
    from_peers: rgb(0x2F8FCB),
    from_server: rgb(0xDB9200),
    from_disk: rgb(0x8AA2B4),
    on_its_way: rgb(0x9CCFF0),
    nobody: rgb(0xD55E00),
    healthy: rgb(0x1B7F5B),
    short: rgb(0x935F00),
    error: rgb(0xB8232F),
    available: [rgb(0xDCE1E7), rgb(0xB4BEC9)],
    ground: rgb(0xF4F6F8),
    surface: rgb(0xFFFFFF),
    raised: rgb(0xEDF0F4),
    raised_hover: rgb(0xE1E6EC),
    line: rgb(0xD9DFE6),
    text: rgb(0x14191F),
    text_soft: rgb(0x4C5763),
    text_dim: rgb(0x616C78),
    accent: rgb(0x1A6FA8),
    on_accent: rgb(0xFFFFFF),
    zone_urgent: rgb(0xF7DCCB),
    zone_window: rgb(0xFBF3E2),
};

/// Availability at and above which a piece counts as plentiful: more peers change nothing for the viewer.
const PLENTY: f32 = 8.0;

impl Tokens {
    /// A missing piece that `peers` connected peers have.
    pub fn available(&self, peers: u16) -> Color32 {
        let [few, many] = self.available;
        few.lerp_to_gamma(many, (f32::from(peers) / PLENTY).min(1.0))
    }
}

/// The tokens of the theme in use.
pub fn of(ui: &egui::Ui) -> &'static Tokens {
    if ui.visuals().dark_mode { &DARK } else { &LIGHT }
}

/// Regular weight.
pub fn font(size: f32) -> FontId {
    FontId::new(size, FontFamily::Proportional)
}

/// Semi-bold weight.
pub fn strong(size: f32) -> FontId {
    FontId::new(size, FontFamily::Name("strong".into()))
}

/// Text in regular weight and the given colour.
pub fn words(text: impl Into<String>, size: f32, color: Color32) -> egui::RichText {
    egui::RichText::new(text).font(font(size)).color(color)
}

/// Text in semi-bold weight and the given colour.
pub fn heavy(text: impl Into<String>, size: f32, color: Color32) -> egui::RichText {
    egui::RichText::new(text).font(strong(size)).color(color)
}

/// Gives both themes to the context. Fonts are [`super::fonts::install`]'s.
pub fn install(ctx: &egui::Context) {
    for (theme, tokens, base) in
        [(egui::Theme::Dark, &DARK, Visuals::dark()), (egui::Theme::Light, &LIGHT, Visuals::light())]
    {
        ctx.style_mut_of(theme, |style| {
            style.text_styles = [
                (TextStyle::Small, font(SMALL)),
                (TextStyle::Body, font(SMALL)),
                (TextStyle::Button, font(SMALL)),
                (TextStyle::Monospace, font(SMALL)),
                (TextStyle::Heading, strong(BODY)),
            ]
            .into();
            style.spacing.item_spacing = egui::vec2(STEP, STEP);
            style.spacing.button_padding = egui::vec2(2.0 * STEP, STEP);
            style.spacing.interact_size = egui::vec2(HIT, HIT);
            style.spacing.scroll =
                egui::style::ScrollStyle { floating_allocated_width: 0.0, ..egui::style::ScrollStyle::thin() };
            style.interaction.selectable_labels = false;
            style.interaction.tooltip_delay = 0.4;
            // Motion costs repaints; the few fades of the window set their own time.
            style.animation_time = 0.0;
            style.visuals = visuals(base.clone(), tokens);
        });
    }
}

/// What lies over the film is dark in either theme.
pub fn over_film(ui: &mut egui::Ui) {
    *ui.visuals_mut() = visuals(Visuals::dark(), &DARK);
}

fn visuals(mut v: Visuals, t: &Tokens) -> Visuals {
    let radius = CornerRadius::same(6);
    v.panel_fill = t.ground;
    v.window_fill = t.surface;
    v.window_stroke = Stroke::new(1.0, t.line);
    v.window_corner_radius = radius;
    v.menu_corner_radius = radius;
    v.extreme_bg_color = t.ground;
    v.faint_bg_color = t.surface;
    v.text_edit_bg_color = Some(t.ground);
    v.error_fg_color = t.error;
    v.hyperlink_color = t.accent;
    v.selection.bg_fill = t.accent.gamma_multiply(0.35);
    v.selection.stroke = Stroke::new(2.0, t.accent);
    let states = [
        (&mut v.widgets.noninteractive, t.surface, t.line, t.text_soft),
        (&mut v.widgets.inactive, t.raised, t.raised, t.text),
        (&mut v.widgets.hovered, t.raised_hover, t.raised_hover, t.text),
        (&mut v.widgets.active, t.raised_hover, t.accent, t.text),
        (&mut v.widgets.open, t.raised, t.line, t.text),
    ];
    for (w, fill, edge, text) in states {
        w.bg_fill = fill;
        w.weak_bg_fill = fill;
        w.bg_stroke = Stroke::new(1.0, edge);
        w.fg_stroke = Stroke::new(1.0, text);
        w.corner_radius = radius;
        w.expansion = 0.0;
    }
    v
}

/// The ring around what has the keyboard's focus.
pub fn focus_ring(painter: &egui::Painter, rect: egui::Rect, t: &Tokens) {
    painter.rect_stroke(rect, CornerRadius::same(6), Stroke::new(2.0, t.accent), egui::StrokeKind::Outside);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.2 contrast ratio.
    fn contrast(a: Color32, b: Color32) -> f32 {
        let luminance = |c: Color32| {
            let c = egui::Rgba::from(c);
            0.2126 * c.r() + 0.7152 * c.g() + 0.0722 * c.b()
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn what_must_be_read_can_be_read() {
        for t in [&DARK, &LIGHT] {
            for ground in [t.ground, t.surface] {
                for text in [t.text, t.text_soft, t.text_dim, t.error, t.healthy, t.short, t.accent] {
                    assert!(contrast(text, ground) >= 4.5, "{text:?} on {ground:?}: {}", contrast(text, ground));
                }
            }
            assert!(contrast(t.on_accent, t.accent) >= 4.5);
        }
    }

    #[test]
    fn greys_rise_with_availability_and_stop() {
        assert_eq!(DARK.available(0), rgb(0x2A323C));
        assert_eq!(DARK.available(8), DARK.available(500));
        assert!(DARK.available(3).r() > DARK.available(1).r());
    }
}
