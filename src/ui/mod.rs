//! The window: draws [`Snapshot`](crate::app::snapshot::Snapshot)s and sends
//! [`Command`](crate::app::snapshot::Command)s.
//!
//! Architecture invariant: it knows of the program only what `app::snapshot` holds, decides nothing about the stream, and
//! keeps nothing but view state.

use std::sync::Arc;

use eframe::egui;

use crate::app::snapshot::AppHandle;

mod choose;
mod controls;
mod dialog;
mod film;
mod fmt;
mod fonts;
mod home;
mod icons;
mod keys;
mod opening;
mod overlay;
mod panel;
mod panel_graphs;
mod peers;
mod piece_map;
mod pieces;
mod seekbar;
mod strip;
mod theme;
mod video;
mod video_gl;
mod widgets;
mod window;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use window::Window;

/// Why there is no window.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    #[error("There is no display to open a window on.")]
    NoDisplay,
    #[error("This display has no working OpenGL, which the window needs.")]
    NoGl,
    #[error("The window could not be opened: {0}.")]
    Window(String),
}

impl From<eframe::Error> for UiError {
    fn from(e: eframe::Error) -> Self {
        use eframe::Error;
        match e {
            Error::Winit(_) | Error::WinitEventLoop(_) => Self::NoDisplay,
            Error::Glutin(_) | Error::NoGlutinConfigs(..) | Error::OpenGL(_) => Self::NoGl,
            other => Self::Window(other.to_string()),
        }
    }
}

/// Shows the window and returns when it is closed. Call it on the main thread.
///
/// # Errors
/// [`UiError::NoDisplay`] without a display, [`UiError::NoGl`] without a working OpenGL.
pub fn run(handle: Arc<dyn AppHandle>) -> Result<(), UiError> {
    let mut viewport = egui::ViewportBuilder::default()
        .with_title("Sluicegate")
        .with_app_id("sluicegate")
        .with_inner_size([1280.0, 760.0])
        .with_min_inner_size([640.0, 400.0])
        .with_drag_and_drop(true);
    if let Ok(icon) = eframe::icon_data::from_png_bytes(include_bytes!("../../assets/icon.png")) {
        viewport = viewport.with_icon(icon);
    }
    let options = eframe::NativeOptions {
        viewport,
        renderer: eframe::Renderer::Glow,
        // Dithering is for smooth shades; over a film it would only be noise.
        dithering: false,
        ..eframe::NativeOptions::default()
    };
    let creator: eframe::AppCreator<'_> =
        Box::new(|cc| Ok(Box::new(Shell { window: Window::new(&cc.egui_ctx, handle) })));
    eframe::run_native("Sluicegate", options, creator).map_err(UiError::from)
}

/// The window as eframe runs it.
struct Shell {
    window: Window,
}

impl eframe::App for Shell {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.window.ui(ui);
    }

    fn clear_color(&self, _visuals: &egui::Visuals) -> [f32; 4] {
        [0.0, 0.0, 0.0, 1.0]
    }

    fn on_exit(&mut self, gl: Option<&eframe::glow::Context>) {
        self.window.exit(gl);
    }
}
