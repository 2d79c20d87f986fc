//! The window under test: found by name, pressed, typed into; what it sends is recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eframe::egui::{Event, Key, Modifiers, Role, ViewportCommand, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;

use super::Window;
use super::testing::{Film, film, playing, secs, sized, window};
use crate::app::snapshot::*;

#[test]
fn home_plays_the_demo_and_goes_on_with_a_film() {
    let recent = Recent { title: "Sintel".into(), uri: "magnet:?xt=urn:btih:00".into(), watched: 0.4 };
    let error = ErrorText { what: "This is not a torrent.".into(), advice: "Download it again.".into() };
    let (mut h, fake) = window(Screen::Home { recent: vec![recent], error: Some(error) });
    h.run();
    h.get_by_label("This is not a torrent.");
    h.get_by_label("Download it again.");
    h.get_by_label("Play the demo").click();
    h.run();
    h.get_by_label("Play Sintel, 40 % watched").click();
    h.run();
    h.get_by_label("Forget Sintel").click();
    h.run();
    let wanted = [Command::PlayDemo, Command::Open("magnet:?xt=urn:btih:00".into()), Command::ForgetRecent(0)];
    assert_eq!(fake.sent(), wanted);
}

#[test]
fn what_is_pasted_or_typed_is_opened() {
    let (mut h, fake) = window(Screen::default());
    h.run();
    h.event(Event::Paste("\n  magnet:?xt=urn:btih:11 \nmore".into()));
    h.event(Event::Paste(" \n ".into()));
    h.run();
    assert_eq!(fake.sent(), [Command::Open("magnet:?xt=urn:btih:11 \nmore".into())]);
    h.get_by_role(Role::TextInput).focus();
    h.run();
    h.get_by_role(Role::TextInput).type_text("https://example.org/film.torrent");
    h.run();
    h.key_press(Key::Enter);
    h.run();
    assert_eq!(fake.sent(), [Command::Open("https://example.org/film.torrent".into())]);
}

#[test]
fn a_paste_into_the_field_stays_there() {
    let (mut h, fake) = window(Screen::default());
    h.get_by_role(Role::TextInput).focus();
    h.run();
    h.event(Event::Paste("magnet:?xt=urn:btih:22".into()));
    h.run();
    assert_eq!(fake.sent(), []);
    h.get_by_label("Open").click();
    h.run();
    assert_eq!(fake.sent(), [Command::Open("magnet:?xt=urn:btih:22".into())]);
}

#[test]
fn opening_can_be_cancelled() {
    let steps = vec![Step { text: "Asking the DHT".into(), done: false }];
    let (mut h, fake) =
        window(Screen::Opening(Opening { title: "Sintel".into(), steps, detail: "no peers yet".into() }));
    h.step();
    h.get_by_label("Asking the DHT");
    h.get_by_label("No peers yet");
    h.get_by_label("Cancel").click();
    h.run_steps(2);
    assert_eq!(fake.sent(), [Command::Close]);
}

fn choice(index: usize, path: &str, bytes: u64, is_video: bool) -> FileChoice {
    FileChoice { index, path: path.into(), bytes, is_video }
}

#[test]
fn enter_plays_the_suggestion_and_escape_goes_back() {
    for (key, command) in [(Key::Enter, Command::PlayFile(7)), (Key::Escape, Command::Close)] {
        let files = vec![choice(3, "a/small.mp4", 1_000_000, true), choice(7, "a/large.mp4", 9_000_000, true)];
        let (mut h, fake) = window(Screen::Choose { name: "Both".into(), files, suggested: Some(1) });
        h.run();
        h.key_press(key);
        h.run();
        assert_eq!(fake.sent(), [command]);
    }
}

#[test]
fn a_video_is_chosen_by_its_index_in_the_torrent() {
    let files = vec![choice(3, "a/small.mp4", 1_000_000, true), choice(7, "a/large.mp4", 9_000_000, true)];
    let (mut h, fake) = window(Screen::Choose { name: "Both".into(), files, suggested: Some(1) });
    h.run();
    let large = h.get_by_label("a/large.mp4, 9.0 MB, suggested").rect();
    let small = h.get_by_label("a/small.mp4, 1.0 MB").rect();
    assert!(large.top() < small.top());
    h.get_by_label("a/small.mp4, 1.0 MB").click();
    h.run();
    assert_eq!(fake.sent(), [Command::PlayFile(3)]);
}

#[test]
fn a_torrent_without_video_says_so_and_what_it_holds() {
    let files = vec![choice(0, "readme.txt", 812, false)];
    let (mut h, fake) = window(Screen::Choose { name: "Text".into(), files, suggested: None });
    h.run();
    h.get_by_label("There is no video in this torrent");
    h.get_by_label("It holds 1 file, 812 B");
    h.get_by_label("readme.txt, 812 B");
    h.get_by_label("Open something else").click();
    h.run();
    assert_eq!(fake.sent(), [Command::Close]);
}

#[test]
fn controls_are_found_by_name_and_work() {
    let (mut h, fake) = window(film(playing(PlayState::Paused)));
    h.run();
    h.get_by_label("The Long Way Round");
    h.get_by_label("6:40");
    for name in ["Play", "Sound off", "Back to the start"] {
        h.get_by_label(name).click();
        h.run();
    }
    assert_eq!(fake.sent(), [Command::TogglePause, Command::ToggleMute, Command::Close]);
    h.get_by_label("Seek").set_value_accesskit(250.0);
    h.run();
    assert_eq!(fake.sent(), [Command::SeekTo(secs(250.0))]);
    h.get_by_label("Volume").set_value_accesskit(80.0);
    h.run();
    assert_eq!(fake.sent(), [Command::SetVolume(0.8)]);
    // A click in the middle of the bar seeks to the middle of the film.
    h.get_by_label("Seek").click();
    h.run();
    let [Command::SeekTo(to)] = fake.sent()[..] else { panic!("one seek") };
    assert!((to.as_secs_f64() - 500.0).abs() < 2.0, "{to:?}");
}

#[test]
fn a_drag_on_the_bar_seeks_once_where_it_ends() {
    let (mut h, fake) = window(film(playing(PlayState::Paused)));
    h.run();
    let bar = h.get_by_label("Seek").rect();
    h.drag_at(bar.center());
    h.run();
    for share in [0.6, 0.7, 0.75] {
        h.hover_at(bar.left_center() + vec2(bar.width() * share, 0.0));
        h.run();
    }
    assert_eq!(fake.sent(), []);
    h.get_by_label("12:30");
    h.drop_at(bar.left_center() + vec2(bar.width() * 0.75, 0.0));
    h.run();
    let [Command::SeekTo(to)] = fake.sent()[..] else { panic!("one seek") };
    assert!((to.as_secs_f64() - 750.0).abs() < 2.0, "{to:?}");
}

#[test]
fn keys_mean_what_the_help_says() {
    let (mut h, fake) = window(film(playing(PlayState::Paused)));
    h.run();
    let keys =
        [Key::Space, Key::K, Key::ArrowLeft, Key::ArrowRight, Key::J, Key::L, Key::M, Key::Num4, Key::Home, Key::End];
    for key in keys {
        h.key_press(key);
        h.run();
    }
    let by = Command::SeekBy;
    let to = |s| Command::SeekTo(secs(s));
    let wanted = [
        Command::TogglePause,
        Command::TogglePause,
        by(-5.0),
        by(5.0),
        by(-10.0),
        by(10.0),
        Command::ToggleMute,
        to(400.0),
        to(0.0),
        to(1000.0),
    ];
    assert_eq!(fake.sent(), wanted);
    h.key_press(Key::ArrowUp);
    h.key_press_modifiers(Modifiers::COMMAND, Key::W);
    h.run();
    assert_eq!(fake.sent(), [Command::SetVolume(0.55), Command::Close]);
    h.key_press(Key::Questionmark);
    h.run();
    h.get_by_label("Space  K");
    h.key_press(Key::Escape);
    h.run();
    assert!(h.query_by_label("Space  K").is_none());
    assert_eq!(fake.sent(), []);
}

#[test]
fn space_presses_the_focused_button_and_nothing_else() {
    let (mut h, fake) = window(film(playing(PlayState::Paused)));
    h.run();
    h.get_by_label("Sound off").focus();
    h.run();
    h.key_press(Key::Space);
    h.run();
    assert_eq!(fake.sent(), [Command::ToggleMute]);
}

#[test]
fn the_panel_opens_with_its_numbers() {
    let (mut h, _fake) = window(film(playing(PlayState::Paused)));
    h.run();
    assert!(h.query_by_label("23.4 s ahead").is_none());
    h.key_press(Key::I);
    h.run();
    for text in [
        "healthy",
        "23.4 s ahead",
        "peers 94 % (94 MB)",
        "server 6 % (6.0 MB)",
        "Last bid 1.2 Mbit, granted 1.2, used 0.9",
        "Peers unthrottled",
        "40 of 100 here",
        "Piece map, 40 of 100 pieces here",
        "100 of 261 known",
    ] {
        h.get_by_label(text);
    }
    // Of a hundred peers only those in sight are drawn.
    let rows = h.query_all_by_label_contains("requests in flight").count();
    assert!((1..30).contains(&rows), "{rows} rows");
    h.get_by_label("Stream panel").click();
    h.run();
    assert!(h.query_by_label("23.4 s ahead").is_none());
}

#[test]
fn the_panel_says_while_peers_are_held_for_the_server() {
    let mut p = playing(PlayState::Playing);
    if let Some(s) = &mut p.stream {
        let held = EngineSnapshot { peer_budget: Some(1_200_000), server_share: 800_000, ..(*s.engine).clone() };
        s.engine = Arc::new(held);
    }
    let says = [
        "Peers held to 1.2 MB/s so that the server's 0.8 MB/s arrive",
        "Peers held to 1.2 MB/s, the server has 0.8 MB/s",
    ];
    // Beside the film, as a sheet, and where half a sheet has no room for it.
    for (width, height, said) in [(1280.0, 800.0, 0), (800.0, 500.0, 0), (640.0, 400.0, 1)] {
        let (mut h, _fake) = sized(film(p.clone()), width, height);
        h.key_press(Key::I);
        h.run_steps(4);
        h.get_by_label(says[said]);
        assert!(h.query_by_label(says[1 - said]).is_none() && h.query_by_label("Peers unthrottled").is_none());
    }
}

#[test]
fn a_peers_flags_are_told_in_words() {
    let mut p = playing(PlayState::Paused);
    if let Some(s) = &mut p.stream {
        let peer = |i: usize, flags: &str| PeerView {
            addr: format!("[2001:db8:1234:5678:9abc:def0:1234:{i}]:51413"),
            flags: flags.into(),
            ..s.peers[0].clone()
        };
        s.peers = Arc::new([peer(1, "dUIHEP"), peer(2, ""), peer(3, "K?XL")]);
    }
    let (mut h, _fake) = window(film(p));
    h.key_press(Key::I);
    h.run();
    let told = |h: &mut Harness<'_, Option<Window>>, row: usize, wanted: &[&str]| {
        let all = wanted.join(", ");
        let found = h.query_all_by_label_contains("requests in flight").nth(row).map(|n| n.rect().center());
        h.hover_at(found.unwrap());
        // The hint comes after a moment of rest.
        h.run_steps(20);
        if wanted.len() > 1 {
            h.get_by_label_contains(&all);
        }
        for says in wanted {
            h.get_by_label(says);
        }
        h.get_by_label(&format!("[2001:db8:1234:5678:9abc:def0:1234:{}]:51413", row + 1));
    };
    let first = ["we would download, but it holds us back", "it downloads from us", "it called us"];
    told(&mut h, 0, &[&first[..], &["found through the DHT", "encrypted", "over uTP"]].concat());
    told(&mut h, 1, &["Nothing goes either way"]);
    let third = ["it would let us download, we want nothing", "we would let it download, it wants nothing"];
    told(&mut h, 2, &[&third[..], &["found through another peer", "found on the local network"]].concat());
}

#[test]
fn the_panel_lists_servers_and_where_peers_come_from() {
    let mut p = playing(PlayState::Paused);
    let servers =
        ["https://seed.example/films · takes bids", "https://cdn.example · ignores ranges", "https://new.example"];
    if let Some(s) = &mut p.stream {
        s.peers = s.peers.iter().take(2).cloned().collect();
        s.servers = servers.map(str::to_owned).into();
    }
    let (mut h, _fake) = window(film(p));
    h.key_press(Key::I);
    h.run();
    h.get_by_label("1 in use");
    for line in servers.iter().chain(&["DHT · 61 nodes"]) {
        h.get_by_label(line);
    }
    // What is cut short can be read in whole.
    h.get_by_label(servers[0]).hover();
    h.run_steps(20);
    assert_eq!(h.query_all_by_label(servers[0]).count(), 2);
}

#[test]
fn in_a_narrow_window_the_panel_is_a_sheet() {
    let (mut h, _fake) = sized(film(playing(PlayState::Paused)), 800.0, 500.0);
    h.key_press(Key::I);
    h.run();
    let seek = h.get_by_label("Seek").rect();
    let map = h.get_by_label("Piece map, 40 of 100 pieces here").rect();
    assert!(map.top() > seek.bottom() && seek.width() > 700.0);
}

#[test]
fn a_stall_says_what_it_waits_for() {
    let (mut h, _fake) = window(film(playing(PlayState::Waiting)));
    h.step();
    h.get_by_label("Waiting for piece 40: 3 of 64 blocks, 2 peers have it");
}

#[test]
fn with_nobody_there_it_says_where_it_looked() {
    let mut p = playing(PlayState::Waiting);
    if let Some(s) = &mut p.stream {
        s.peers = Arc::new([]);
        s.engine = Arc::new(EngineSnapshot { origins: 0, ..(*s.engine).clone() });
    }
    let (mut h, fake) = window(film(p));
    h.step();
    h.get_by_label("No peer and no server right now. Still looking");
    h.get_by_label("DHT · 61 nodes");
    h.get_by_label("Cancel").click();
    h.run_steps(2);
    assert_eq!(fake.sent(), [Command::Close]);
}

#[test]
fn the_end_offers_the_start() {
    let (mut h, fake) = window(film(playing(PlayState::Ended)));
    h.run();
    h.get_by_label("Play from the start").click();
    h.run();
    assert_eq!(fake.sent(), [Command::SeekTo(MediaTime::ZERO)]);
}

#[test]
fn a_notice_can_be_closed() {
    let (mut h, fake) = window(Screen::default());
    let notice = Some("No sound card: playing without sound".to_owned());
    *fake.snapshot.lock().unwrap() = Arc::new(Snapshot { screen: Screen::default(), notice });
    h.run();
    h.get_by_label("No sound card: playing without sound");
    h.get_by_label("Close the notice").click();
    h.run();
    assert_eq!(fake.sent(), [Command::DismissNotice]);
}

/// When the window wants its next frame, of itself.
fn wants_frame_in(h: &Harness<'_, Option<Window>>) -> Duration {
    h.output().viewport_output.values().map(|v| v.repaint_delay).min().unwrap_or(Duration::MAX)
}

#[test]
fn paused_and_idle_nothing_is_repainted() {
    let pulls = Arc::new(Film { next: Some(Duration::ZERO), ..Film::default() });
    let mut p = playing(PlayState::Paused);
    p.video = VideoTap(pulls.clone());
    let (mut h, fake) = window(film(p));
    h.key_press(Key::I);
    h.run();
    // Settled, panel open: no frame is asked for, now or later, though the picture's clock says "at once".
    h.step();
    assert_eq!(wants_frame_in(&h), Duration::MAX);
    let before = pulls.pulled.load(Ordering::Relaxed);
    fake.set(film(playing(PlayState::Paused)));
    h.run();
    h.step();
    assert_eq!(wants_frame_in(&h), Duration::MAX);
    assert_eq!(pulls.pulled.load(Ordering::Relaxed), before);
    for screen in [Screen::default(), Screen::Choose { name: "x".into(), files: Vec::new(), suggested: None }] {
        fake.set(screen);
        h.run();
        h.step();
        assert_eq!(wants_frame_in(&h), Duration::MAX);
    }
}

#[test]
fn while_playing_the_next_picture_sets_the_pace() {
    let mut p = playing(PlayState::Playing);
    p.video = VideoTap(Arc::new(Film { next: Some(Duration::from_millis(400)), ..Film::default() }));
    let (mut h, _fake) = window(film(p));
    // Past the controls' stay and fade.
    h.run_steps(16);
    let wait = wants_frame_in(&h);
    assert!(wait > Duration::from_millis(300) && wait <= Duration::from_millis(400), "{wait:?}");
}

#[test]
fn controls_go_while_it_plays_and_come_back_with_the_pointer() {
    let (mut h, _fake) = window(film(playing(PlayState::Playing)));
    h.step();
    h.get_by_label("Pause");
    h.run_steps(16);
    assert!(h.query_by_label("Pause").is_none(), "they stayed");
    h.hover_at(eframe::egui::pos2(300.0, 300.0));
    h.run_steps(2);
    h.get_by_label("Pause");
}

/// A file as the window system hands it over.
#[derive(Debug)]
struct Dropped(std::path::PathBuf);

impl eframe::egui::DroppedFile for Dropped {
    fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("the window reads no files".into())
    }
}

#[test]
fn a_dropped_file_is_opened_on_any_screen() {
    for screen in [Screen::default(), film(playing(PlayState::Paused))] {
        let (mut h, fake) = window(screen);
        h.run();
        h.input_mut().dropped_files.push(Arc::new(Dropped("/films/a.torrent".into())));
        h.run();
        assert_eq!(fake.sent(), [Command::OpenPath("/films/a.torrent".into())]);
    }
}

fn asked_fullscreen(h: &Harness<'_, Option<Window>>) -> Option<bool> {
    let commands = h.output().viewport_output.values().flat_map(|v| &v.commands);
    commands.filter_map(|c| if let ViewportCommand::Fullscreen(on) = c { Some(*on) } else { None }).next_back()
}

#[test]
fn full_screen_by_key_and_back_by_escape() {
    let (mut h, fake) = window(film(playing(PlayState::Paused)));
    h.run();
    h.key_down(Key::F);
    h.step();
    assert_eq!(asked_fullscreen(&h), Some(true));
    if let Some(v) = h.input_mut().viewports.values_mut().next() {
        v.fullscreen = Some(true);
    }
    h.run();
    h.get_by_label("Leave full screen");
    h.key_down(Key::Escape);
    h.step();
    assert_eq!(asked_fullscreen(&h), Some(false));
    // On the way home it leaves full screen by itself.
    fake.set(Screen::default());
    h.step();
    assert_eq!(asked_fullscreen(&h), Some(false));
}

#[test]
fn hostile_numbers_draw_without_harm() {
    let mut p = playing(PlayState::Playing);
    (p.at, p.duration, p.volume) = (MediaTime(i64::MAX), Some(MediaTime(i64::MAX)), f32::NAN);
    if let Some(s) = &mut p.stream {
        s.engine = Arc::new(EngineSnapshot {
            ahead_s: f64::INFINITY,
            urgent_s: f64::NAN,
            window_s: -3.0,
            file_pieces: std::ops::Range { start: 90, end: 7 },
            swarm_rate: f64::NAN,
            ..(*s.engine).clone()
        });
        s.history = vec![HealthSample { ahead_s: f32::NAN, swarm: f32::INFINITY, server: -1.0 }; 3].into();
        s.piece_len = 0;
        s.peers = vec![PeerView { down: f64::NAN, has: f32::NAN, ..s.peers[0].clone() }].into();
    }
    p.strip = Some(Arc::default());
    for (width, height) in [(1280.0, 800.0), (640.0, 400.0), (120.0, 60.0)] {
        let (mut h, _fake) = sized(film(p.clone()), width, height);
        h.key_press(Key::I);
        h.run_steps(4);
        h.hover_at(eframe::egui::pos2(width / 2.0, height - 88.0));
        h.run_steps(3);
    }
}

#[test]
fn tab_goes_through_the_controls_as_the_eye_does() {
    let (mut h, _fake) = window(film(playing(PlayState::Playing)));
    h.step();
    let order = ["Back to the start", "Pause", "Seek", "Sound off", "Volume", "Keys", "Stream panel", "Full screen"];
    for name in order {
        h.key_press(Key::Tab);
        h.run_steps(3);
        assert!(h.get_by_label(name).is_focused(), "{name} has not the focus");
    }
    // What has the keyboard stays in sight although the film plays on.
    h.run_steps(30);
    assert!(h.get_by_label("Full screen").is_focused());
}
