//! The system's file dialog, on a thread of its own: the film plays on behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::app::snapshot::{AppHandle, Command};

/// What the dialog offers first: torrents and the containers that can be played.
const KINDS: [&str; 14] =
    ["torrent", "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mpg", "mpeg", "ogv", "wmv", "flv"];

/// At most one dialog.
#[derive(Default)]
pub struct Dialog {
    open: Arc<AtomicBool>,
}

impl Dialog {
    /// Shows the dialog; what is chosen is opened. Nothing happens while one is open.
    pub fn show(&self, handle: &Arc<dyn AppHandle>) {
        if self.open.swap(true, Ordering::AcqRel) {
            return;
        }
        // Made here, since one system wants it made on the main thread; waited for elsewhere.
        let chosen = rfd::AsyncFileDialog::new()
            .set_title("Open a torrent or a video")
            .add_filter("Torrents and videos", &KINDS)
            .add_filter("All files", &["*"])
            .pick_file();
        let (handle, open) = (handle.clone(), self.open.clone());
        let thread = std::thread::Builder::new().name("file dialog".to_owned()).spawn(move || {
            let path: Option<PathBuf> = futures::executor::block_on(chosen).map(|file| file.path().to_owned());
            open.store(false, Ordering::Release);
            if let Some(path) = path {
                handle.send(Command::OpenPath(path));
            }
        });
        if let Err(e) = thread {
            self.open.store(false, Ordering::Release);
            tracing::warn!("no file dialog: {e}");
        }
    }
}
