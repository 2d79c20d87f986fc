//! Made-up snapshots, one for each state of the window, and a picture that moves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sluicegate::app::snapshot::*;
use sluicegate::units::{Instant, PieceIndex};

pub const STATES: [&str; 28] = [
    "home",
    "home empty",
    "home error",
    "home light",
    "opening",
    "opening light",
    "choose",
    "choose light",
    "no video",
    "playing",
    "panel",
    "panel light",
    "hover",
    "hover map",
    "hover peer",
    "waiting",
    "nobody",
    "paused local",
    "ended",
    "many",
    "early",
    "notice",
    "keys",
    "format ten bit",
    "format nv12",
    "format rgba",
    "format quarter turn",
    "format padded rows",
];

pub fn has_panel(name: &str) -> bool {
    ["panel", "panel light", "hover map", "hover peer", "waiting", "nobody", "many", "early"].contains(&name)
}

pub fn snapshot(name: &str, t: f64) -> Snapshot {
    let notice = (name == "notice").then(|| "No sound card: playing without sound".to_owned());
    Snapshot { screen: screen(name, t), notice }
}

fn screen(name: &str, t: f64) -> Screen {
    match name {
        "home empty" => Screen::default(),
        "home" | "home light" => Screen::Home { recent: recent(), error: None },
        "home error" => Screen::Home {
            recent: recent(),
            error: Some(ErrorText {
                what: "This file is not a torrent: it ends in the middle of its list of files.".into(),
                advice: "Download it again, or paste the magnet link instead.".into(),
            }),
        },
        "opening" | "opening light" => Screen::Opening(Opening {
            title: "Sintel 2010 1080p".into(),
            steps: [
                ("Reading the magnet link", true),
                ("Asking trackers and the DHT for peers", true),
                ("Getting the list of files from a peer", false),
            ]
            .map(|(text, done)| Step { text: text.into(), done })
            .into(),
            detail: "3 trackers, DHT, local network; 4 peers answered, none has sent the list yet".into(),
        }),
        "choose" | "choose light" => choose(true),
        "no video" => choose(false),
        _ => Screen::Playing(Box::new(playing(name, t))),
    }
}

fn recent() -> Vec<Recent> {
    [
        ("The Long Way Round S01E03", 0.36),
        ("Sintel", 0.97),
        ("Big Buck Bunny — a film whose name is so long that it does not fit into its row at any width", 0.0),
    ]
    .map(|(title, watched)| Recent { title: title.into(), uri: "magnet:?".into(), watched })
    .into()
}

fn choose(video: bool) -> Screen {
    let names = [
        ("Season 1/The.Long.Way.Round.S01E01.1080p.mkv", 1_840_000_000, true),
        ("Season 1/The.Long.Way.Round.S01E02.1080p.mkv", 1_790_000_000, true),
        ("Season 1/The.Long.Way.Round.S01E03.1080p.mkv", 1_912_000_000, true),
        ("Season 1/The.Long.Way.Round.S01E04.1080p.mkv", 1_733_000_000, true),
        ("Extras/Making of.mp4", 412_000_000, true),
        ("Extras/Trailer.mp4", 38_000_000, true),
        ("Subtitles/English.srt", 94_000, false),
        ("Cover.jpg", 1_240_000, false),
        ("readme.txt", 812, false),
    ];
    let files: Vec<_> = names
        .iter()
        .enumerate()
        .filter(|(_, f)| video || !f.2)
        .map(|(index, (path, bytes, is_video))| FileChoice {
            index,
            path: (*path).into(),
            bytes: *bytes,
            is_video: *is_video,
        })
        .collect();
    Screen::Choose { name: "The Long Way Round (2004) Season 1".into(), files, suggested: video.then_some(2) }
}

fn playing(name: &str, t: f64) -> Playing {
    let minutes = if name == "many" { 140.0 } else { 46.33 };
    let duration = MediaTime::from_secs_f64(minutes * 60.0);
    let state = match name {
        "waiting" | "nobody" => PlayState::Waiting,
        "paused local" => PlayState::Paused,
        "ended" => PlayState::Ended,
        _ => PlayState::Playing,
    };
    let at = if name == "ended" {
        duration
    } else {
        MediaTime::from_secs_f64(if name == "early" { 4.0 } else { 1002.0 } + t)
    };
    let stream = (name != "paused local").then(|| stream(name, t));
    Playing {
        title: "The Long Way Round".into(),
        subtitle: "S01E03 · 1080p · from 14 peers and one server".into(),
        state,
        at,
        duration: Some(duration),
        volume: 0.68,
        muted: name == "ended",
        seeking_to: None,
        video: VideoTap(Arc::new(Moving { t, name: name.to_owned() })),
        strip: stream.as_ref().map(|s| strip_map(s, duration)),
        stream,
    }
}

fn strip_map(s: &StreamView, duration: MediaTime) -> Arc<StripMap> {
    static MAPS: OnceLock<Mutex<Vec<Arc<StripMap>>>> = OnceLock::new();
    let mut maps = MAPS.get_or_init(Default::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(m) = maps.iter().find(|m| m.file == s.file && m.timeline.duration() == duration) {
        return m.clone();
    }
    let made = Arc::new(StripMap {
        timeline: Arc::new(Timeline::linear(duration, s.file.len())),
        file: s.file,
        piece_len: s.piece_len,
    });
    maps.push(made.clone());
    made
}

/// A number that looks random and is the same each time.
fn hash(n: u64) -> u64 {
    let x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 17
}

fn cells(name: &str, count: u32) -> Arc<[PieceCell]> {
    let here_upto = match name {
        "early" => 9,
        "nobody" => 425,
        "ended" => count,
        _ => (f64::from(count) * 0.43) as u32,
    };
    (0..count)
        .map(|i| {
            let h = hash(u64::from(i));
            let scattered = i > here_upto + 20 && h % 100 < 12;
            let mut c = PieceCell { availability: (h % 11) as u16 + 1, ..PieceCell::default() };
            if i < here_upto || scattered {
                c.state = PieceState::Here;
                c.origin = match h % 37 {
                    0 => Origin::Server,
                    1 => Origin::Both,
                    _ if name == "waiting" && i < 90 => Origin::Disk,
                    _ => Origin::Peers,
                };
            } else if i < here_upto + 14 && name != "nobody" {
                c.on_its_way = true;
                c.state = PieceState::Begun;
                c.blocks_here = (h % 60) as u16;
            } else if (count * 76 / 100..count * 77 / 100).contains(&i) || (name == "nobody" && i < here_upto + 12) {
                c.availability = 0;
            }
            c
        })
        .collect()
}

/// The pieces of a state, made once: the window knows by their address that they did not change.
type Named = (String, Arc<[PieceCell]>);

fn stream(name: &str, t: f64) -> StreamView {
    let count = if name == "many" { 20_000 } else { 1_180 };
    let peers = match name {
        "many" => 100,
        "nobody" => 0,
        "early" => 3,
        _ => 14,
    };
    static CELLS: OnceLock<Mutex<Vec<Named>>> = OnceLock::new();
    let mut made = CELLS.get_or_init(Default::default).lock().unwrap_or_else(PoisonError::into_inner);
    let pieces = match made.iter().find(|(n, _)| n == name) {
        Some((_, p)) => p.clone(),
        None => {
            let p = cells(name, count);
            made.push((name.to_owned(), p.clone()));
            p
        }
    };
    let piece_len = 1u32 << 20;
    let waits = matches!(name, "waiting" | "nobody");
    let origins = u32::from(!matches!(name, "nobody" | "waiting" | "panel light" | "panel" | "hover" | "hover map"));
    let origins = if matches!(name, "panel" | "hover" | "hover map" | "panel light") { 0 } else { origins };
    let server = if name == "nobody" { 0 } else { 18_200_000 };
    let engine = EngineSnapshot {
        at: Instant::from_secs_f64(t),
        pieces_here: pieces.iter().filter(|c| c.state == PieceState::Here).count() as u32,
        file_pieces: if name == "many" { 0..20_000 } else { 40..1_180 },
        pieces,
        ahead_s: if waits { 0.0 } else { 23.4 },
        urgent_s: 3.0,
        window_s: 15.0,
        servers: Vec::new(),
        waiting: waits.then_some(Waiting {
            piece: PieceIndex(425),
            blocks_here: 3,
            blocks: 64,
            peers_with_it: u32::from(name == "waiting") * 2,
            on_its_way: 4,
            from_server: false,
        }),
        gate_open: !waits,
        totals: Totals {
            swarm: if name == "nobody" { 0 } else { 286_000_000 },
            server,
            duplicate: 0,
            corrupt: 0,
            uploaded: 41_300_000,
        },
        swarm_rate: if name == "nobody" { 0.0 } else { 2.92e6 },
        server_rate: if server > 0 { 0.18e6 } else { 0.0 },
        upload_rate: 310e3,
        bids: VecDeque::from([BidRecord {
            at: Instant::ZERO,
            max_bits: 1_240_000,
            grant_bits: 1_240_000,
            used_bits: 880_000,
        }]),
        peer_budget: (name == "many").then_some(1_200_000),
        server_share: if name == "many" { 800_000 } else { 0 },
        origins,
        links: Vec::new(),
    };
    StreamView {
        engine: Arc::new(engine),
        peers: (0..peers).map(peer).collect(),
        peers_known: if peers == 0 { 0 } else { peers * 4 + 5 },
        history: history(name),
        waiting_text: match name {
            "waiting" => Some("waiting for piece 425: 3 of 64 blocks, 2 peers have it".into()),
            "nobody" => Some("waiting for piece 425: 0 of 64 blocks, nobody has it".into()),
            _ => None,
        },
        sources: vec![
            "udp://tracker.example.org:6969 · 0 peers".into(),
            "DHT · 61 nodes, 0 peers".into(),
            "Local network · nobody".into(),
        ],
        servers: if name == "nobody" {
            vec!["https://seed.example.org/films · ignores ranges".into()]
        } else {
            vec![
                "https://seed.example.org/films · takes bids".into(),
                "http://10.0.0.7:8080/a-name-that-is-long/film.mkv · takes no bids".into(),
            ]
        },
        file: if name == "many" { ByteRange::new(0, 20_000 << 20) } else { ByteRange::new(40 << 20, 1_180 << 20) },
        piece_len,
    }
}

fn peer(i: usize) -> PeerView {
    let h = hash(i as u64 + 77);
    let clients =
        ["qBittorrent 5.1", "Transmission 4.0", "libtorrent 2.1", "Sluicegate 0.1", "µTorrent 3.6", "Deluge 2.2"];
    let addr = match i % 5 {
        1 => format!("[2a02:8071:{:x}::9f1]:51413", h % 65_536),
        _ => format!("{}.{}.{}.{}:{}", 60 + h % 130, h / 7 % 256, h / 11 % 256, h / 13 % 256, 6881 + h % 9000),
    };
    PeerView {
        addr,
        client: clients[i % clients.len()].into(),
        flags: ["DXE", "DUEP", "dX", "DHIP", "?L"][i % 5].into(),
        has: if i.is_multiple_of(3) { 1.0 } else { (h % 100) as f32 / 100.0 },
        down: 820_000.0 / (1.0 + i as f64 * 0.6),
        up: if i.is_multiple_of(4) { (h % 90_000) as f64 } else { 0.0 },
        in_flight: (h % 50) as u32,
    }
}

fn history(name: &str) -> Arc<[HealthSample]> {
    let n = if name == "early" { 30 } else { 480 };
    (0..n)
        .map(|i| {
            let x = i as f32 / 480.0;
            let dip = if (210..220).contains(&i) { -4.0 } else { 0.0 };
            let noise = (hash(i) % 100) as f32 / 100.0;
            let ahead = if matches!(name, "waiting" | "nobody") {
                (16.0 - x * 17.0).max(0.0)
            } else {
                2.0 + x * 21.0 + dip + noise
            };
            let swarm = 2.4e6 + 6e5 * (x * 14.0).sin() + 1e5 * noise;
            let server = if i < 40 || (200..260).contains(&i) { 5e5 } else { 0.0 };
            let dead = name == "nobody" && x > 0.4;
            HealthSample {
                ahead_s: ahead,
                swarm: if dead { 0.0 } else { swarm },
                server: if dead { 0.0 } else { server },
            }
        })
        .collect()
}

/// An evening sky over hills, and a sun that moves: 4:2:0, as a decoder would give it.
struct Moving {
    t: f64,
    name: String,
}

const W: usize = 640;
const H: usize = 360;

impl PictureSource for Moving {
    fn current(&self, _ahead: Duration) -> Option<Arc<Picture>> {
        let serial = (self.t * 24.0) as u64 + 1;
        let mut y = vec![0u8; W * H];
        let (cw, ch) = (W / 2, H / 2);
        let (mut u, mut v) = (vec![0u8; cw * ch], vec![0u8; cw * ch]);
        let sun = (W as f64 * (0.62 + 0.1 * (self.t * 0.4).sin()), H as f64 * 0.37);
        let hill = |x: f64, base: f64, a: f64, f: f64| {
            H as f64 * (base - a * (x / W as f64 * f).sin() - 0.4 * a * (x / W as f64 * f * 2.3).cos())
        };
        for py in 0..H {
            for px in 0..W {
                let (x, fy) = (px as f64, py as f64 / H as f64);
                let mut c = [26.0 + 170.0 * fy, 38.0 + 92.0 * fy, 52.0 + 40.0 * fy];
                if (x - sun.0).hypot(py as f64 - sun.1) < 30.0 {
                    c = [238.0, 208.0, 160.0];
                }
                for (base, a, f, k) in [
                    (0.66, 0.08, 7.0, [44.0, 54.0, 72.0]),
                    (0.76, 0.05, 11.0, [32.0, 40.0, 56.0]),
                    (0.86, 0.04, 5.0, [20.0, 26.0, 38.0]),
                ] {
                    if py as f64 > hill(x, base, a, f) {
                        c = k;
                    }
                }
                let [r, g, b] = c;
                y[py * W + px] = (16.0 + 0.1826 * r + 0.6142 * g + 0.0620 * b) as u8;
                if py % 2 == 0 && px % 2 == 0 {
                    let i = py / 2 * cw + px / 2;
                    u[i] = (128.0 - 0.1006 * r - 0.3386 * g + 0.4392 * b) as u8;
                    v[i] = (128.0 + 0.4392 * r - 0.3989 * g - 0.0403 * b) as u8;
                }
            }
        }
        Some(Arc::new(as_format(&self.name, serial, y, u, v)))
    }

    fn next_in(&self, _ahead: Duration) -> Option<Duration> {
        Some(Duration::from_millis(42))
    }
}

/// The same picture in the layout that a state asks for.
fn as_format(name: &str, serial: u64, y: Vec<u8>, u: Vec<u8>, v: Vec<u8>) -> Picture {
    let plane = |data: Vec<u8>, stride: usize, w: usize, h: usize| Plane {
        data: Arc::new(PlaneData::new(data)),
        stride,
        width: w as u32,
        height: h as u32,
    };
    let (cw, ch) = (W / 2, H / 2);
    let ten = |p: Vec<u8>| -> Vec<u8> { p.into_iter().flat_map(|b| (u16::from(b) << 2).to_le_bytes()).collect() };
    let padded =
        |p: &[u8], w: usize| -> Vec<u8> { p.chunks(w).flat_map(|r| r.iter().copied().chain([255; 13])).collect() };
    let (format, planes) = match name {
        "format ten bit" => {
            let planes = [plane(ten(y), W * 2, W, H), plane(ten(u), W, cw, ch), plane(ten(v), W, cw, ch)];
            (PixelLayout::Yuv16 { bits: 10 }, planes)
        }
        "format nv12" => {
            let uv = u.iter().zip(&v).flat_map(|(u, v)| [*u, *v]).collect();
            (PixelLayout::Nv12, [plane(y, W, W, H), plane(uv, W, cw, ch), Plane::default()])
        }
        "format rgba" => {
            let grey = y.iter().flat_map(|y| [*y, *y, *y, 255]).collect();
            (PixelLayout::Rgba, [plane(grey, W * 4, W, H), Plane::default(), Plane::default()])
        }
        "format padded rows" => {
            let planes = [
                plane(padded(&y, W), W + 13, W, H),
                plane(padded(&u, cw), cw + 13, cw, ch),
                plane(padded(&v, cw), cw + 13, cw, ch),
            ];
            (PixelLayout::Yuv8, planes)
        }
        _ => (PixelLayout::Yuv8, [plane(y, W, W, H), plane(u, cw, cw, ch), plane(v, cw, cw, ch)]),
    };
    Picture {
        serial,
        width: W as u32,
        height: H as u32,
        sample_aspect: 1.0,
        rotation: if name == "format quarter turn" { 90 } else { 0 },
        format,
        matrix: ColorMatrix::Bt709,
        full_range: false,
        planes,
    }
}
