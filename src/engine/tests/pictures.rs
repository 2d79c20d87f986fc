//! One decision each, small enough to draw.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Action, Config, Engine, Event, Phase, Timeline};
use crate::units::*;

/// An engine over pieces of two blocks, a tenth of a second each, with links that have what the pictures say.
fn engine(pieces: u32, links: &[&str]) -> (Engine, Vec<Action>) {
    let len = u64::from(pieces) * 32_768;
    let mut e = Engine::new(Layout::new(len, 32_768).unwrap(), PieceSet::new(pieces), 1, Config::default());
    let mut out = Vec::new();
    let mut tell = |event| e.handle(Instant::ZERO, event, &mut out);
    for (i, has) in links.iter().enumerate() {
        let link = LinkId(i as u32);
        let mut set = PieceSet::new(pieces);
        has.chars().enumerate().filter(|c| c.1 == 'x').for_each(|c| {
            set.insert(PieceIndex(c.0 as u32));
        });
        tell(Event::LinkUp { link, rtt: Some(Duration::from_millis(40)) });
        tell(Event::Bitfield { link, pieces: set });
    }
    tell(Event::FileChosen { range: ByteRange::new(0, len) });
    let duration = MediaTime::from_secs_f64(f64::from(pieces) * 0.2);
    tell(Event::Timeline(Arc::new(Timeline::linear(duration, len))));
    (e, out)
}

fn requests(actions: &[Action]) -> Vec<(u32, u32, u32)> {
    actions
        .iter()
        .filter_map(|a| match a {
            Action::Request { link, block } => Some((link.0, block.piece.0, block.block)),
            _ => None,
        })
        .collect()
}

fn tell(e: &mut Engine, ms: u64, event: Event) -> Vec<Action> {
    let mut out = Vec::new();
    e.handle(Instant(ms * 1_000_000), event, &mut out);
    e.check().unwrap();
    out
}

#[test]
fn interest_is_told_once_to_those_who_have_something() {
    let (_, out) = engine(4, &["x   ", "    "]);
    let told: Vec<_> = out.iter().filter(|a| matches!(a, Action::Interest { .. })).collect();
    assert_eq!(told, [&Action::Interest { link: LinkId(0), interested: true }]);
}

#[test]
fn the_first_blocks_go_round_not_all_to_one() {
    let (mut e, _) = engine(8, &["xxxxxxxx", "xxxxxxxx"]);
    let a = requests(&tell(&mut e, 1, Event::Unchoked { link: LinkId(0) }));
    assert_eq!(a, [(0, 0, 0), (0, 0, 1)]);
    let b = requests(&tell(&mut e, 2, Event::Unchoked { link: LinkId(1) }));
    assert_eq!(b, [(1, 1, 0), (1, 1, 1)]);
}

#[test]
fn padding_is_asked_of_nobody_and_its_piece_is_checked() {
    let layout = Layout::new(3 * 65_536, 65_536).unwrap();
    for (padding, asked) in [((30_000, 65_536), 10), ((16_384, 65_536), 9), ((0, 65_536), 12), ((65_536, 131_072), 12)]
    {
        let mut e = Engine::new(layout, PieceSet::new(3), 1, Config::default());
        e.set_padding(vec![ByteRange::new(padding.0, padding.1)]);
        let link = LinkId(0);
        tell(&mut e, 0, Event::LinkUp { link, rtt: Some(Duration::from_millis(1)) });
        tell(&mut e, 0, Event::Bitfield { link, pieces: PieceSet::full(3) });
        tell(&mut e, 0, Event::FileChosen { range: ByteRange::new(0, layout.total_len()) });
        let mut out = tell(&mut e, 1, Event::Unchoked { link });
        let (mut got, mut ms) = (Vec::new(), 1);
        while !requests(&out).is_empty() {
            let all = requests(&std::mem::take(&mut out));
            assert!(all.iter().all(|r| !got.contains(&(r.1, r.2))), "asked twice: {all:?}");
            for (_, piece, block) in all {
                got.push((piece, block));
                ms += 10;
                let block = BlockRef { piece: PieceIndex(piece), block };
                out.extend(tell(&mut e, ms, Event::BlockArrived { link, block }));
            }
            let checked = out.iter().filter_map(|a| match a {
                Action::Verify { piece } => Some(*piece),
                _ => None,
            });
            for piece in checked.collect::<Vec<_>>() {
                out.extend(tell(&mut e, ms, Event::PieceVerified { piece }));
            }
        }
        assert_eq!(got.len(), asked, "{padding:?}: {got:?}");
        assert!(e.verified().is_full(), "{padding:?}");
    }
}

#[test]
fn a_choke_gives_the_blocks_to_another() {
    let (mut e, _) = engine(2, &["xx", "xx"]);
    tell(&mut e, 1, Event::Unchoked { link: LinkId(0) });
    tell(&mut e, 2, Event::Unchoked { link: LinkId(1) });
    let out = tell(&mut e, 3, Event::Choked { link: LinkId(0) });
    assert!(requests(&out).is_empty(), "link 1 has its two already");
    tell(&mut e, 60, Event::BlockArrived { link: LinkId(1), block: BlockRef { piece: PieceIndex(1), block: 0 } });
    let out =
        tell(&mut e, 100, Event::BlockArrived { link: LinkId(1), block: BlockRef { piece: PieceIndex(1), block: 1 } });
    assert!(out.contains(&Action::Verify { piece: PieceIndex(1) }));
    assert!(requests(&out).iter().all(|r| r.1 == 0));
}

#[test]
fn without_peers_the_server_is_asked_at_once() {
    let (mut e, _) = engine(100, &[]);
    let out = tell(&mut e, 1, Event::OriginUp { origin: OriginId(0), bidding: Some(false), rtt: None });
    let range = out.iter().find_map(|a| match a {
        Action::Fetch { range, .. } => Some(*range),
        _ => None,
    });
    assert_eq!(range.map(|r| r.start), Some(0));
}

fn ranges(actions: &[Action]) -> Vec<(u64, u64)> {
    let of = |a: &Action| match a {
        Action::Fetch { range, .. } => Some((range.start / 16_384, range.end / 16_384)),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn a_new_server_is_asked_for_its_first_bytes_over_two_connections() {
    let (mut e, _) = engine(100, &[]);
    let out = tell(&mut e, 1, Event::OriginUp { origin: OriginId(0), bidding: Some(false), rtt: None });
    assert_eq!(ranges(&out), [(0, 12), (12, 16)]);
    // Nothing more before the line would idle for want of it.
    let rtt = Some(Duration::from_millis(40));
    let out = tell(&mut e, 40, Event::OriginUp { origin: OriginId(0), bidding: Some(false), rtt });
    assert!(ranges(&out).is_empty());
}

#[test]
fn after_a_jump_a_server_is_asked_for_what_the_reader_waits_for() {
    let (mut e, _) = engine(200, &[]);
    tell(&mut e, 1, Event::OriginUp { origin: OriginId(0), bidding: Some(false), rtt: None });
    tell(&mut e, 100, Event::ServerDone { fetch: FetchId(0) });
    tell(&mut e, 110, Event::ServerDone { fetch: FetchId(1) });
    let to = MediaTime::from_secs_f64(20.0);
    let out = tell(&mut e, 200, Event::Playhead { at: to, phase: Phase::Seeking });
    assert!(ranges(&out).is_empty(), "the key frame may lie before: {out:?}");
    let out = tell(&mut e, 201, Event::ReaderBlocked { range: ByteRange::new(190 * 16_384, 192 * 16_384) });
    assert_eq!(ranges(&out).first().map(|r| r.0), Some(190), "{out:?}");
}

#[test]
fn a_bidding_server_is_asked_for_nothing_before_it_grants() {
    let (mut e, _) = engine(100, &[]);
    let out = tell(&mut e, 1, Event::OriginUp { origin: OriginId(0), bidding: Some(true), rtt: None });
    assert!(out.iter().any(|a| matches!(a, Action::Bid { bid, .. } if bid.max_bits > 0)));
    assert!(!out.iter().any(|a| matches!(a, Action::Fetch { .. })));
    let granted = Event::Granted {
        origin: OriginId(0),
        grant: GrantId(0),
        bits: 2 * 16_384 * 8,
        expires: Instant::from_secs_f64(2.0),
    };
    let out = tell(&mut e, 50, granted);
    let bytes: u64 = out.iter().map(|a| if let Action::Fetch { range, .. } = a { range.len() } else { 0 }).sum();
    assert_eq!(bytes, 2 * 16_384);
}

#[test]
fn a_peer_that_alone_sent_a_bad_piece_is_banned() {
    let (mut e, _) = engine(2, &["xx"]);
    tell(&mut e, 1, Event::Unchoked { link: LinkId(0) });
    for block in 0..2 {
        tell(&mut e, 50, Event::BlockArrived { link: LinkId(0), block: BlockRef { piece: PieceIndex(0), block } });
    }
    let out = tell(&mut e, 60, Event::PieceCorrupt { piece: PieceIndex(0) });
    assert!(out.contains(&Action::Ban { link: LinkId(0) }));
    assert!(out.contains(&Action::Void { piece: PieceIndex(0) }));
}

#[test]
fn the_clock_starts_with_two_seconds_and_after_a_stall_with_four() {
    let (mut e, _) = engine(200, &[&"x".repeat(200)]);
    let mut gate = false;
    let mut here = 0;
    let mut feed = |e: &mut Engine, upto: u32, ms: u64, gate: &mut bool| {
        while here < upto {
            let mut out = Vec::new();
            e.handle(Instant(ms * 1_000_000), Event::PieceVerified { piece: PieceIndex(here) }, &mut out);
            here += 1;
            for a in out {
                if let Action::Gate { open } = a {
                    *gate = open;
                }
            }
        }
    };
    tell(&mut e, 0, Event::OriginUp { origin: OriginId(0), bidding: Some(false), rtt: None });
    feed(&mut e, 9, 1, &mut gate);
    assert!(!gate);
    feed(&mut e, 12, 150, &mut gate);
    assert!(gate);
    let stalled = Event::Playhead { at: MediaTime::from_secs_f64(2.4), phase: Phase::Stalled };
    assert!(tell(&mut e, 2500, stalled).contains(&Action::Gate { open: false }));
    gate = false;
    // The first sends nothing: only one that does may be relied on for what is still missing.
    tell(&mut e, 2550, Event::OriginUp { origin: OriginId(1), bidding: Some(false), rtt: None });
    feed(&mut e, 30, 2600, &mut gate);
    assert!(!gate, "3.6 s are not enough after a stall");
    feed(&mut e, 35, 2750, &mut gate);
    assert!(gate);
}

/// A link answers two blocks at once, is asked for more from four seconds on, and brings nothing. That does not press before the clock
/// runs, so nobody else is asked for it; the server will complete it all the same.
#[test]
fn the_clock_does_not_wait_for_what_a_server_will_complete() {
    let (mut e, _) = engine(100, &[&format!("{}{}", " ".repeat(20), "x".repeat(80))]);
    e.config = Arc::new(Config { priority: false, ..Config::default() });
    let link = LinkId(0);
    let mut coming = vec![
        (1, Event::OriginUp { origin: OriginId(0), bidding: Some(false), rtt: Some(Duration::from_millis(20)) }),
        (1, Event::Unchoked { link }),
    ];
    let (mut open, mut answered) = (None, 0);
    for ms in 1..5000 {
        let due: Vec<Event> = coming.extract_if(.., |c| c.0 <= ms).map(|c| c.1).collect();
        for event in due.into_iter().chain([Event::Tick]) {
            for action in tell(&mut e, ms, event) {
                match action {
                    Action::Request { block, .. } if answered < 2 => {
                        answered += 1;
                        coming.push((ms + 41, Event::BlockArrived { link, block }));
                    }
                    Action::Fetch { fetch, range, .. } => {
                        coming.push((ms + 1000, Event::ServerBytes { fetch, upto: range.end }));
                        coming.push((ms + 1000, Event::ServerDone { fetch }));
                    }
                    Action::Verify { piece } => coming.push((ms + 1, Event::PieceVerified { piece })),
                    Action::Gate { open: true } => open = open.or(Some(ms)),
                    _ => {}
                }
            }
        }
    }
    assert!(open.is_some(), "the first two seconds are here");
}

#[test]
fn uploads_go_to_who_is_unchoked_and_only_what_is_here() {
    let (mut e, _) = engine(4, &["    "]);
    tell(&mut e, 1, Event::PieceVerified { piece: PieceIndex(1) });
    let out = tell(&mut e, 2, Event::Interested { link: LinkId(0), interested: true });
    assert!(out.contains(&Action::Choke { link: LinkId(0), choke: false }));
    tell(&mut e, 3, Event::Playhead { at: MediaTime::ZERO, phase: Phase::Paused });
    let ask = |piece| Event::BlockRequested { link: LinkId(0), piece: PieceIndex(piece), begin: 0, len: 16_384 };
    assert!(!tell(&mut e, 4, ask(0)).iter().any(|a| matches!(a, Action::SendBlock { .. })));
    assert!(tell(&mut e, 5, ask(1)).iter().any(|a| matches!(a, Action::SendBlock { .. })));
}

#[test]
fn who_has_little_itself_gives_a_block_at_a_time() {
    let (mut e, _) = engine(4, &["    "]);
    let link = LinkId(0);
    tell(&mut e, 1, Event::PieceVerified { piece: PieceIndex(1) });
    tell(&mut e, 2, Event::Interested { link, interested: true });
    let ask = |begin| Event::BlockRequested { link, piece: PieceIndex(1), begin, len: 16_384 };
    let sent = |out: Vec<Action>| out.iter().filter(|a| matches!(a, Action::SendBlock { .. })).count();
    assert_eq!(sent(tell(&mut e, 3, ask(0))), 1, "the picture waits, and it gives");
    assert_eq!(sent(tell(&mut e, 4, ask(16_384))), 0, "one is in hand");
    assert_eq!(sent(tell(&mut e, 5, Event::BlockSent { link, len: 16_384 })), 1);
}

#[test]
fn a_server_that_lied_is_not_trusted_again_for_having_been_away() {
    let (mut e, _) = engine(100, &[]);
    let up = || Event::OriginUp { origin: OriginId(0), bidding: Some(false), rtt: None };
    let fetched = |actions: &[Action]| {
        actions.iter().find_map(|a| match a {
            Action::Fetch { fetch, range, .. } => Some((*fetch, *range)),
            _ => None,
        })
    };
    let mut asked = fetched(&tell(&mut e, 1, up()));
    for round in 0..2u64 {
        let at = 2 + round * 2_000;
        let (fetch, range) = asked.expect("a fetch");
        let out = tell(&mut e, at, Event::ServerBytes { fetch, upto: range.end });
        let plays = out.iter().any(|a| matches!(a, Action::Playable { .. }));
        assert_eq!(plays, round == 0, "played as it arrives only while it is trusted");
        let piece =
            out.iter().find_map(|a| if let Action::Verify { piece } = a { Some(*piece) } else { None }).unwrap();
        let out = tell(&mut e, at + 1, Event::PieceCorrupt { piece });
        assert_eq!(out.contains(&Action::DropOrigin { origin: OriginId(0) }), round == 1);
        tell(&mut e, at + 2, Event::OriginDown { origin: OriginId(0) });
        asked = fetched(&tell(&mut e, at + 1_500, up()));
    }
    assert_eq!(asked, None, "a second bad piece was the last");
}

/// Two links give one block each of a piece that fails; one of the two alone brings it again, and the sums tell who lied.
#[test]
fn the_second_copy_tells_which_of_two_lied() {
    let (mut e, _) = engine(2, &["xx", "xx", "xx"]);
    for link in 0..3 {
        tell(&mut e, 1, Event::Unchoked { link: LinkId(link) });
    }
    let piece = PieceIndex(0);
    let arrive = |e: &mut Engine, ms, link, block| {
        tell(e, ms, Event::BlockArrived { link: LinkId(link), block: BlockRef { piece, block } })
    };
    arrive(&mut e, 50, 0, 0);
    let out = arrive(&mut e, 51, 1, 1);
    assert!(out.contains(&Action::Verify { piece }));
    tell(&mut e, 52, Event::Sums { piece, sums: vec![7, 8] });
    let out = tell(&mut e, 52, Event::PieceCorrupt { piece });
    assert!(!out.iter().any(|a| matches!(a, Action::Ban { .. })), "it is not known yet who lied");
    // The link that had no part in it is asked first, and alone.
    let asked = requests(&out);
    assert!(!asked.is_empty() && asked.iter().all(|r| r.0 == 2 || r.1 != 0), "{asked:?}");
    arrive(&mut e, 90, 2, 0);
    let out = arrive(&mut e, 91, 2, 1);
    assert!(out.contains(&Action::Verify { piece }));
    assert!(tell(&mut e, 92, Event::PieceVerified { piece }).contains(&Action::Sum { piece }));
    let out = tell(&mut e, 93, Event::Sums { piece, sums: vec![7, 9] });
    assert!(out.contains(&Action::Ban { link: LinkId(1) }));
    assert!(!out.contains(&Action::Ban { link: LinkId(0) }));
}

#[test]
fn what_a_liar_gave_of_other_pieces_is_asked_for_again() {
    let (mut e, _) = engine(3, &["xxx"]);
    tell(&mut e, 1, Event::Unchoked { link: LinkId(0) });
    let at = |p, block| BlockRef { piece: PieceIndex(p), block };
    tell(&mut e, 40, Event::BlockArrived { link: LinkId(0), block: at(1, 0) });
    tell(&mut e, 50, Event::BlockArrived { link: LinkId(0), block: at(0, 0) });
    tell(&mut e, 50, Event::BlockArrived { link: LinkId(0), block: at(0, 1) });
    assert!(e.has_block(at(1, 0)));
    tell(&mut e, 60, Event::PieceCorrupt { piece: PieceIndex(0) });
    assert!(!e.has_block(at(1, 0)));
    assert!(requests(&tell(&mut e, 200, Event::Tick)).is_empty(), "a banned link is asked for nothing");
}

#[test]
fn uploads_keep_to_the_users_limit() {
    let (mut e, _) = engine(4, &["    "]);
    tell(&mut e, 1, Event::Limits { up: Some(16_384), down: None });
    tell(&mut e, 1, Event::PieceVerified { piece: PieceIndex(0) });
    tell(&mut e, 1, Event::PieceVerified { piece: PieceIndex(1) });
    tell(&mut e, 1, Event::Playhead { at: MediaTime::ZERO, phase: Phase::Paused });
    tell(&mut e, 2, Event::Interested { link: LinkId(0), interested: true });
    let mut sent = 0;
    let mut count = |out: Vec<Action>| sent += out.iter().filter(|a| matches!(a, Action::SendBlock { .. })).count();
    for (piece, begin) in [(0, 0), (0, 16_384), (1, 0), (1, 16_384)] {
        let ask = Event::BlockRequested { link: LinkId(0), piece: PieceIndex(piece), begin, len: 16_384 };
        count(tell(&mut e, 100, ask));
    }
    for ms in (200..=3000).step_by(100) {
        count(tell(&mut e, ms, Event::Tick));
    }
    assert!((2..=4).contains(&sent), "a block a second: {sent} in three");
}

#[test]
fn a_request_that_will_not_be_answered_is_rejected() {
    let (mut e, _) = engine(4, &["    "]);
    tell(&mut e, 1, Event::PieceVerified { piece: PieceIndex(1) });
    let ask = |piece| Event::BlockRequested { link: LinkId(0), piece: PieceIndex(piece), begin: 0, len: 16_384 };
    let rejected = |out: &[Action]| out.iter().any(|a| matches!(a, Action::RejectBlock { .. }));
    assert!(rejected(&tell(&mut e, 2, ask(1))), "choked");
    tell(&mut e, 3, Event::FastGranted { link: LinkId(0), piece: PieceIndex(1) });
    tell(&mut e, 3, Event::Playhead { at: MediaTime::ZERO, phase: Phase::Paused });
    let out = tell(&mut e, 4, ask(1));
    assert!(!rejected(&out) && out.iter().any(|a| matches!(a, Action::SendBlock { .. })), "allowed although choked");
    tell(&mut e, 5, Event::Interested { link: LinkId(0), interested: true });
    assert!(rejected(&tell(&mut e, 6, ask(0))), "not here");
}
