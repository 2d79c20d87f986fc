//! What must hold of whatever peers and trackers send.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::api::Encryption;
use super::benc::Value;
use super::handshake::{Extended, Handshake, LEN, MAX_METADATA};
use super::metadata::{Fetch, MetadataMessage, PIECE, Progress};
use super::mse::{Initiator, Pads, Responder};
use super::pex::{self, Peer};
use super::wire::{Decoder, MAX_RAW_BITFIELD, Message, WireError};
use super::{http_tracker, udp_tracker};
use crate::torrent::InfoHash;
use crate::units::{BLOCK_LEN, LinkId};

/// A stream of messages. The first byte says how it is cut into reads, the second of how many pieces the torrent is.
pub fn wire(input: &[u8]) {
    let Some((&[cut, pieces], stream)) = input.split_first_chunk() else { return };
    let pieces = (pieces > 0).then(|| u32::from(pieces) * 3);
    let whole = messages(stream, stream.len(), pieces);
    assert_eq!(messages(stream, usize::from(cut) + 1, pieces), whole, "another reading in chunks");
    let mut again = BytesMut::new();
    for m in &whole.0 {
        check_message(m, pieces);
        m.put(&mut again);
    }
    assert!(again.len() <= stream.len(), "more was read than there is");
    let len = again.len();
    assert_eq!(messages(&again, len, pieces), (whole.0, None), "not what was written");
}

/// Feeds the decoder `step` bytes at a time.
fn messages(stream: &[u8], step: usize, pieces: Option<u32>) -> (Vec<Message>, Option<WireError>) {
    let (mut decoder, mut buf, mut got) = (Decoder::default(), BytesMut::new(), Vec::new());
    if let Some(n) = pieces {
        decoder.set_pieces(n);
    }
    for part in stream.chunks(step.max(1)) {
        buf.extend_from_slice(part);
        loop {
            match decoder.next(&mut buf) {
                Ok(Some(m)) => got.push(m),
                Ok(None) => break,
                Err(e) => return (got, Some(e)),
            }
        }
        assert!(buf.len() < 5 + MAX_RAW_BITFIELD, "{} bytes wait for their end", buf.len());
        assert!(decoder.missing(&buf) <= 4 + MAX_RAW_BITFIELD, "room is made for what never comes");
    }
    (got, None)
}

fn check_message(m: &Message, pieces: Option<u32>) {
    match m {
        Message::Bitfield(bits) => match pieces {
            Some(n) => assert_eq!(bits.len(), (n as usize).div_ceil(8)),
            None => assert!(bits.len() <= MAX_RAW_BITFIELD),
        },
        Message::Block { data, .. } => assert!(data.len() <= BLOCK_LEN as usize),
        _ => {}
    }
}

/// All that comes in one message: both handshakes, metadata, peers of peers.
pub fn extension(input: &[u8]) {
    if let Some(head) = input.first_chunk::<LEN>()
        && let Ok(shake) = Handshake::decode(head)
    {
        assert_eq!(Handshake::decode(&shake.encode()), Ok(shake));
    }
    if let Some((value, rest)) = Value::read(input) {
        let read = input.len() - rest.len();
        assert_eq!(Value::read(input.get(..read).unwrap_or_default()), Some((value, &[][..])));
    }
    if let Some(e) = Extended::parse(input) {
        assert!(e.metadata != Some(0) && e.pex != Some(0) && e.port != Some(0));
        assert!(e.metadata_size.is_none_or(|n| (1..=MAX_METADATA).contains(&n)));
        let shown = |c: &String| !c.is_empty() && c.chars().count() <= 64 && !c.chars().any(char::is_control);
        assert!(e.client.as_ref().is_none_or(shown));
    }
    if let Some(peers) = pex::added(input) {
        assert!(peers.len() <= pex::MAX_TAKEN);
        check_told(peers);
    }
    let payload = Bytes::copy_from_slice(input);
    if let Some(m) = MetadataMessage::parse(&payload) {
        assert_eq!(MetadataMessage::parse(&m.encode()).as_ref(), Some(&m));
        check_metadata(&m);
    }
}

/// What one peer told, told to another.
fn check_told(mut peers: Vec<Peer>) {
    peers.sort_unstable_by_key(|p| p.addr);
    peers.dedup_by_key(|p| p.addr);
    let mut told = pex::Told::default();
    let parts = std::iter::from_fn(|| told.next(peers.iter().copied()));
    let mut heard: Vec<Peer> = parts.filter_map(|p| pex::added(&p)).flatten().collect();
    heard.sort_unstable_by_key(|p| p.addr);
    assert_eq!(heard, peers);
}

/// A message to somebody who asked for a dictionary of the size that it names, and of another.
fn check_metadata(m: &MetadataMessage) {
    let (mut fetch, now, link) = (Fetch::default(), Instant::now(), LinkId(1));
    match m {
        MetadataMessage::Request(piece) => {
            let info = Bytes::from(vec![7; 3 * PIECE as usize / 2]);
            match MetadataMessage::answer(&info, *piece) {
                MetadataMessage::Data { data, total, .. } => {
                    assert!(!data.is_empty() && data.len() <= PIECE as usize && total as usize == info.len());
                }
                other => assert_eq!(other, MetadataMessage::Reject(*piece)),
            }
        }
        MetadataMessage::Reject(piece) => fetch.refused(link, Some(*piece)),
        MetadataMessage::Data { piece, total, data } => {
            // No peer is asked for more than the handshake lets it claim.
            let mut asked = Vec::new();
            for size in [(*total).min(MAX_METADATA), PIECE + 1] {
                asked.extend(fetch.ask(link, size, now));
                match fetch.data(link, *piece, *total, data.clone()) {
                    Progress::Whole { bytes, from } => {
                        assert!(bytes.len() == *total as usize && from == [link]);
                        fetch.checked(bytes.len(), &from, false);
                    }
                    Progress::Garbage => assert!(asked.contains(piece)),
                    Progress::More => {}
                }
                fetch.ask(link, size, now + Duration::from_secs(60));
            }
        }
    }
}

/// An obfuscated handshake between two of us with a third in the middle, who changes, drops and adds bytes as the input says,
/// three for each change, and delivers all in reads of the size that its first byte says.
pub fn mse(input: &[u8]) {
    let Some((&[cut, pads], edits)) = input.split_first_chunk() else { return };
    let pads = Pads { outer: usize::from(pads) * 2, inner: usize::from(pads) };
    let (hash, first) = (InfoHash([7; 20]), [9; 100]);
    let (mut to_responder, mut to_initiator) = (BytesMut::new(), BytesMut::new());
    let mut initiator = Initiator::new(hash, Encryption::Prefer, pads, &first, &mut to_responder);
    let mut responder = Responder::new(hash, Encryption::Prefer, pads);
    let (mut from_initiator, mut from_responder, mut at) = (BytesMut::new(), BytesMut::new(), 0);
    let (mut dialled, mut accepted) = (None, None);
    // Each round ends one side's message; there are two each way.
    for _ in 0..4 {
        let sent = tampered(&to_responder.split(), edits, at);
        at += sent.len();
        for part in sent.chunks(usize::from(cut) * 8 + 1) {
            from_initiator.extend_from_slice(part);
            if accepted.is_none() {
                let Ok(done) = responder.step(&mut from_initiator, &mut to_initiator) else { return };
                accepted = done;
            }
            assert!(accepted.is_some() || from_initiator.len() <= MAX_HANDSHAKE, "it waits for ever more");
        }
        for part in to_initiator.split().chunks(usize::from(cut) * 8 + 1) {
            from_responder.extend_from_slice(part);
            if dialled.is_none() {
                let Ok(done) = initiator.step(&mut from_responder, &mut to_responder) else { return };
                dialled = done;
            }
        }
    }
    if edits.len() < 3 {
        assert!(dialled.is_some() && accepted.is_some(), "two of us do not understand each other");
    }
}

/// More than any part of an obfuscated handshake that is waited for: a key, two pads, and the first bytes.
const MAX_HANDSHAKE: usize = 32 * 1024;

/// `sent` with the changes that fall into it: it begins `at` bytes into the stream.
fn tampered(sent: &[u8], edits: &[u8], at: usize) -> Vec<u8> {
    let mut out = sent.to_vec();
    for edit in edits.as_chunks::<3>().0 {
        let [high, low, what] = *edit;
        let place = (usize::from(high) << 8 | usize::from(low)).checked_sub(at);
        let Some(byte) = place.and_then(|p| out.get_mut(p)) else { continue };
        match what {
            0 => drop(out.split_off(place.unwrap_or_default())),
            1..=8 => out.extend(std::iter::repeat_n(what, usize::from(what) * 100)),
            _ => *byte ^= what,
        }
    }
    out
}

/// Answers of trackers, over HTTP and over UDP.
pub fn tracker(input: &[u8]) {
    if let Ok(answer) = http_tracker::parse(input) {
        assert!(answer.peers.len() <= 2 * http_tracker::MAX_PEERS);
    }
    // Only counts come of it, which are bounded by their type.
    let _ = http_tracker::parse_scrape(input, b"hhhhhhhhhhhhhhhhhhhh");
    for v6 in [false, true] {
        if let Ok(answer) = udp_tracker::parse(input, v6) {
            assert!(answer.peers.len() <= input.len() / if v6 { 18 } else { 6 });
        }
    }
}
