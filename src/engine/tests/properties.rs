//! Any events in any order: the invariants hold after each, and bytes are never lost from the count.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::engine::{Action, Config, Engine, Event, Phase, Timeline};
use crate::units::*;

const PIECES: u32 = 12;

fn events() -> impl Strategy<Value = Event> {
    let link = (0u32..4).prop_map(LinkId);
    let piece = (0..PIECES).prop_map(PieceIndex);
    let block = (0..PIECES, 0u32..3).prop_map(|(p, block)| BlockRef { piece: PieceIndex(p), block });
    let phase = prop_oneof![
        Just(Phase::Opening),
        Just(Phase::Playing),
        Just(Phase::Paused),
        Just(Phase::Seeking),
        Just(Phase::Stalled),
        Just(Phase::Ended)
    ];
    let origin = (0u32..2).prop_map(OriginId);
    let fetch = (0u32..6).prop_map(FetchId);
    let len = u64::from(PIECES) * 40_000;
    prop_oneof![
        1 => link.clone().prop_map(|link| Event::LinkUp { link, rtt: Some(Duration::from_millis(30)) }),
        1 => link.clone().prop_map(|link| Event::LinkDown { link }),
        1 => (link.clone(), any::<u16>()).prop_map(|(link, bits)| {
            let mut pieces = PieceSet::new(PIECES);
            (0..PIECES).filter(|i| bits >> i & 1 == 1).for_each(|i| {
                pieces.insert(PieceIndex(i));
            });
            Event::Bitfield { link, pieces }
        }),
        1 => (link.clone(), piece.clone()).prop_map(|(link, piece)| Event::Have { link, piece }),
        1 => link.clone().prop_map(|link| Event::Choked { link }),
        4 => link.clone().prop_map(|link| Event::Unchoked { link }),
        1 => (link.clone(), any::<bool>()).prop_map(|(link, interested)| Event::Interested { link, interested }),
        8 => (link.clone(), block.clone()).prop_map(|(link, block)| Event::BlockArrived { link, block }),
        1 => (link.clone(), block.clone()).prop_map(|(link, block)| Event::BlockDuplicate { link, block }),
        1 => (link.clone(), block).prop_map(|(link, block)| Event::BlockRejected { link, block }),
        1 => (link, piece.clone(), 0u32..50_000, 0u32..200_000)
            .prop_map(|(link, piece, begin, len)| Event::BlockRequested { link, piece, begin, len }),
        1 => piece.clone().prop_map(|piece| Event::PieceVerified { piece }),
        1 => piece.prop_map(|piece| Event::PieceCorrupt { piece }),
        1 => (origin.clone(), prop_oneof![Just(None), any::<bool>().prop_map(Some)])
            .prop_map(|(origin, bidding)| Event::OriginUp { origin, bidding, rtt: None }),
        1 => (origin.clone(), any::<bool>()).prop_map(|(origin, plain)| Event::BidFailed { origin, plain }),
        1 => origin.clone().prop_map(|origin| Event::OriginDown { origin }),
        1 => (fetch.clone(), 0..len).prop_map(|(fetch, upto)| Event::ServerBytes { fetch, upto }),
        1 => fetch.clone().prop_map(|fetch| Event::ServerDone { fetch }),
        1 => fetch.prop_map(|fetch| Event::ServerFailed { fetch }),
        2 => (origin, 0u64..1_000_000, 0u64..30_000).prop_map(|(origin, bits, ms)| Event::Granted {
            origin,
            grant: GrantId(0),
            bits,
            expires: Instant(ms * 1_000_000),
        }),
        1 => (0..len, 0..len).prop_map(|(a, b)| Event::FileChosen { range: ByteRange::new(a.min(b), a.max(b) + 1) }),
        1 => (0..len).prop_map(move |at| Event::ReaderBlocked { range: ByteRange::new(at, (at + 5000).min(len)) }),
        1 => Just(Event::ReaderResumed),
        1 => (0i64..10_000_000, phase).prop_map(|(at, phase)| Event::Playhead { at: MediaTime(at), phase }),
        1 => (1i64..10_000_000, 1..len).prop_map(|(d, l)| Event::Timeline(Arc::new(Timeline::linear(MediaTime(d), l)))),
        4 => Just(Event::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn invariants_hold_after_every_event(steps in prop::collection::vec((events(), 0u64..400), 1..120)) {
        let layout = Layout::new(u64::from(PIECES) * 40_000 - 7, 40_000).unwrap();
        let mut e = Engine::new(layout, PieceSet::new(PIECES), 3, Config::default());
        let mut has = vec![PieceSet::new(PIECES); 4];
        let mut up = [false; 4];
        // What is left of each grant, of whom it is and when it lapses; and who takes bids.
        let mut grants: Vec<(OriginId, u64, Instant)> = Vec::new();
        let mut takes: Vec<OriginId> = Vec::new();
        let mut now = 0;
        for (mut event, ms) in steps {
            now += ms;
            // Ids are never reused: a link or origin that is up does not come up again.
            if let Event::LinkUp { link, .. } = &event
                && e.snapshot(Instant::ZERO).links.iter().any(|l| l.link == *link)
            {
                continue;
            }
            match &event {
                Event::LinkUp { link, .. } => {
                    has[link.0 as usize] = PieceSet::new(PIECES);
                    up[link.0 as usize] = true;
                }
                Event::LinkDown { link } => up[link.0 as usize] = false,
                Event::Bitfield { link, pieces } => has[link.0 as usize] = pieces.clone(),
                Event::Have { link, piece } => {
                    has[link.0 as usize].insert(*piece);
                }
                _ => {}
            }
            let known = |o: &OriginId| e.snapshot(Instant::ZERO).servers.iter().any(|s| s.origin == *o);
            match &mut event {
                Event::OriginUp { origin, bidding: Some(true), .. } => takes.push(*origin),
                Event::OriginUp { origin, bidding: Some(false), .. } | Event::OriginDown { origin } => {
                    takes.retain(|o| o != origin);
                }
                Event::Granted { origin, grant, bits, expires } => {
                    *grant = GrantId(grants.len() as u32);
                    grants.push((*origin, *bits, *expires));
                    if known(origin) {
                        takes.push(*origin);
                    }
                }
                _ => {}
            }
            let mut actions = Vec::new();
            e.handle(Instant(now * 1_000_000), event, &mut actions);
            prop_assert_eq!(e.check(), Ok(()));
            for a in actions {
                if let Action::Request { link, block } = a {
                    prop_assert!(up[link.0 as usize] && has[link.0 as usize].contains(block.piece));
                    prop_assert!(block.block < layout.block_count(block.piece));
                }
                // Never a byte more of who takes bids than was granted.
                if let Action::Fetch { origin, range, grants: of, .. } = a {
                    prop_assert!(of.is_empty() != takes.contains(&origin));
                    let mut bits = range.len() * 8;
                    for g in of {
                        let (whose, left, expires) = &mut grants[g.0 as usize];
                        prop_assert!(*whose == origin && *expires >= Instant(now * 1_000_000));
                        let take = bits.min(*left);
                        *left -= take;
                        bits -= take;
                    }
                    prop_assert!(bits == 0 || !takes.contains(&origin), "{bits} bits more than granted");
                }
            }
        }
    }
}
