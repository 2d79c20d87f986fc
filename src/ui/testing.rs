//! What the window's tests are made of: an app that remembers, a film that counts, and a window of any size around them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eframe::egui::vec2;
use egui_kittest::Harness;

use super::Window;
use super::{fonts, theme};
use crate::app::snapshot::*;

/// An app that only remembers what it was told.
pub(super) struct Fake {
    pub(super) snapshot: Mutex<Arc<Snapshot>>,
    sent: Mutex<Vec<Command>>,
    wake: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Fake {
    pub(super) fn set(&self, screen: Screen) {
        *self.snapshot.lock().unwrap() = Arc::new(Snapshot { screen, notice: None });
        if let Some(wake) = &*self.wake.lock().unwrap() {
            wake();
        }
    }

    pub(super) fn sent(&self) -> Vec<Command> {
        std::mem::take(&mut self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AppHandle for Fake {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().unwrap().clone()
    }

    fn send(&self, command: Command) {
        self.sent.lock().unwrap().push(command);
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        *self.wake.lock().unwrap() = Some(wake);
    }
}

/// Counts how often a picture was pulled: once a frame.
#[derive(Default)]
pub(super) struct Film {
    pub(super) pulled: AtomicUsize,
    pub(super) next: Option<Duration>,
}

impl PictureSource for Film {
    fn current(&self, _ahead: Duration) -> Option<Arc<Picture>> {
        self.pulled.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn next_in(&self, _ahead: Duration) -> Option<Duration> {
        self.next
    }
}

pub(super) fn secs(s: f64) -> MediaTime {
    MediaTime::from_secs_f64(s)
}

pub(super) fn playing(state: PlayState) -> Playing {
    let here = PieceCell { state: PieceState::Here, origin: Origin::Peers, ..PieceCell::default() };
    let coming = PieceCell { on_its_way: true, availability: 2, blocks_here: 3, ..PieceCell::default() };
    let mut pieces = vec![here; 40];
    pieces.extend(vec![coming; 60]);
    let engine = EngineSnapshot {
        pieces: pieces.into(),
        pieces_here: 40,
        file_pieces: 0..100,
        ahead_s: 23.4,
        urgent_s: 3.0,
        window_s: 15.0,
        origins: 1,
        totals: Totals { swarm: 94_000_000, server: 6_000_000, ..Totals::default() },
        bids: [BidRecord { at: Default::default(), max_bits: 1_200_000, grant_bits: 1_200_000, used_bits: 900_000 }]
            .into(),
        ..EngineSnapshot::default()
    };
    let peer = |i: usize| PeerView {
        addr: format!("10.0.0.{i}:6881"),
        client: format!("Client {i}"),
        flags: "DXEP".into(),
        has: 1.0,
        down: 1e6 - i as f64,
        up: 0.0,
        in_flight: 4,
    };
    let file = ByteRange::new(0, 100 << 20);
    Playing {
        title: "The Long Way Round".into(),
        subtitle: "720p".into(),
        state,
        at: secs(400.0),
        duration: Some(secs(1000.0)),
        volume: 0.5,
        muted: false,
        seeking_to: None,
        video: VideoTap(Arc::new(Film::default())),
        stream: Some(StreamView {
            engine: Arc::new(engine),
            peers: (0..100).map(peer).collect(),
            peers_known: 261,
            history: vec![HealthSample { ahead_s: 10.0, swarm: 1e6, server: 1e5 }; 480].into(),
            waiting_text: Some("waiting for piece 40: 3 of 64 blocks, 2 peers have it".into()),
            sources: vec!["DHT · 61 nodes".into()],
            servers: vec!["https://seed.example".into()],
            file,
            piece_len: 1 << 20,
        }),
        strip: Some(Arc::new(StripMap {
            timeline: Arc::new(Timeline::linear(secs(1000.0), file.len())),
            file,
            piece_len: 1 << 20,
        })),
    }
}

pub(super) fn film(p: Playing) -> Screen {
    Screen::Playing(Box::new(p))
}

pub(super) fn window(screen: Screen) -> (Harness<'static, Option<Window>>, Arc<Fake>) {
    sized(screen, 1280.0, 800.0)
}

pub(super) fn sized(screen: Screen, width: f32, height: f32) -> (Harness<'static, Option<Window>>, Arc<Fake>) {
    let snapshot = Mutex::new(Arc::new(Snapshot { screen, notice: None }));
    let fake = Arc::new(Fake { snapshot, sent: Mutex::default(), wake: Mutex::default() });
    let handle = fake.clone();
    let harness = Harness::builder()
        .with_size(vec2(width, height))
        .with_context_setup(|ctx| {
            fonts::install(ctx);
            theme::install(ctx);
        })
        .build_ui_state(
            move |ui, window: &mut Option<Window>| {
                window.get_or_insert_with(|| Window::new(ui.ctx(), handle.clone())).ui(ui);
            },
            None,
        );
    (harness, fake)
}
