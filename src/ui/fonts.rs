//! The bundled fonts: Inter in two weights, with tabular figures, cut down by assets/fonts/subset.py.

use std::sync::Arc;

use eframe::egui::{Context, FontData, FontDefinitions, FontFamily};

/// Gives the fonts to the context; they count from the next pass on.
pub fn install(ctx: &Context) {
    let mut fonts = FontDefinitions::empty();
    let mut add = |name: &str, bytes: &'static [u8]| {
        fonts.font_data.insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
    };
    add("regular", include_bytes!("../../assets/fonts/Inter-Regular.otf"));
    add("strong", include_bytes!("../../assets/fonts/Inter-SemiBold.otf"));
    let regular = vec!["regular".to_owned()];
    fonts.families.insert(FontFamily::Proportional, regular.clone());
    fonts.families.insert(FontFamily::Monospace, regular);
    fonts.families.insert(FontFamily::Name("strong".into()), vec!["strong".to_owned(), "regular".to_owned()]);
    ctx.set_fonts(fonts);
}
