//! Both sides of the obfuscated handshake against each other, and against who breaks it.

use bytes::BytesMut;
use proptest::prelude::*;

use super::api::Encryption;
use super::mse::{Ciphers, Done, Initiator, MseError, Pads, Responder};
use super::mse_crypto::{KEY_LEN, KeyPair};
use crate::torrent::InfoHash;

const HASH: InfoHash = InfoHash([7; 20]);

type Ended = (Result<Done, MseError>, BytesMut);

/// Lets the two talk, `chunk` bytes at a time, and the dialling side say `after` once it is through. Gives how each ended
/// and what the stream starts with for it.
fn talk(mut a: Initiator, mut b: Responder, mut to_b: BytesMut, chunk: usize, after: &[u8]) -> (Ended, Ended) {
    let (mut to_a, mut at_a, mut at_b) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    let (mut end_a, mut end_b) = (None, None);
    while !(to_a.is_empty() && to_b.is_empty()) {
        let n = to_b.len().min(chunk);
        let mut piece = to_b.split_to(n);
        match &mut end_b {
            Some(Ok(Done { ciphers: Some(Ciphers { read, .. }) })) => read.apply(&mut piece),
            Some(_) => {}
            None => {
                at_b.extend_from_slice(&piece);
                end_b = b.step(&mut at_b, &mut to_a).transpose();
                piece.clear();
            }
        }
        at_b.extend_from_slice(&piece);
        let n = to_a.len().min(chunk);
        if n > 0 && end_a.is_none() {
            at_a.extend_from_slice(&to_a.split_to(n));
            end_a = a.step(&mut at_a, &mut to_b).transpose();
            if let Some(Ok(done)) = &mut end_a {
                let mut more = BytesMut::from(after);
                if let Some(c) = &mut done.ciphers {
                    c.write.apply(&mut more);
                }
                to_b.extend_from_slice(&more);
            }
        } else {
            to_a.clear();
        }
        if matches!(end_b, Some(Err(_))) {
            break;
        }
    }
    let missing = || Err(MseError::Broken);
    ((end_a.unwrap_or_else(missing), at_a), (end_b.unwrap_or_else(missing), at_b))
}

fn meet(a: Encryption, b: Encryption, pads: (Pads, Pads), chunk: usize, first: &[u8]) -> (Ended, Ended) {
    let mut out = BytesMut::new();
    let dials = Initiator::new(HASH, a, pads.0, first, &mut out);
    talk(dials, Responder::new(HASH, b, pads.1), out, chunk, b"and then more")
}

fn pads(outer: usize, inner: usize) -> Pads {
    Pads { outer, inner }
}

#[test]
fn each_policy_meets_each_and_the_strictest_decides() {
    use Encryption::{Off, Prefer, Require};
    for (a, b, encrypted) in [(Prefer, Prefer, true), (Prefer, Require, true), (Require, Prefer, true)] {
        let ((a, _), (b, first)) = meet(a, b, (Pads::random(), Pads::random()), 4096, b"hello");
        assert_eq!((a.unwrap().ciphers.is_some(), b.unwrap().ciphers.is_some()), (encrypted, encrypted));
        assert_eq!(&first[..], b"helloand then more");
    }
    let (_, (b, _)) = meet(Off, Require, (pads(0, 0), pads(0, 0)), 4096, b"");
    assert_eq!(b.unwrap_err(), MseError::NoMethod);
}

/// Peers of other makes often choose a plain stream behind an obfuscated handshake: its first bytes are encrypted still.
#[test]
fn a_plain_stream_may_follow_the_obfuscated_handshake() {
    let mut out = BytesMut::new();
    let keys = KeyPair::new();
    let mut a = Initiator::new(HASH, Encryption::Prefer, pads(3, 0), b"first", &mut out);
    let secret = keys.secret(out.first_chunk().unwrap()).unwrap();
    let mut input = BytesMut::from(&keys.public[..]);
    out.clear();
    assert!(a.step(&mut input, &mut out).unwrap().is_none());
    let (mut to_b, mut to_a) = secret.ciphers(&HASH.0);
    let mut said = out.split_off(40);
    to_b.apply(&mut said);
    assert_eq!(said[..], *b"\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\x05first");
    let mut answer = *b"\0\0\0\0\0\0\0\0\0\0\0\x01\0\0";
    to_a.apply(&mut answer);
    input.extend_from_slice(&answer);
    input.extend_from_slice(b"plain");
    assert!(a.step(&mut input, &mut out).unwrap().unwrap().ciphers.is_none());
    assert_eq!(&input[..], b"plain");

    // The other way about, by a dialling side that offers no RC4.
    let (mut b, keys) = (Responder::new(HASH, Encryption::Prefer, pads(0, 0)), KeyPair::new());
    let (mut input, mut out) = (BytesMut::from(&keys.public[..]), BytesMut::new());
    assert!(b.step(&mut input, &mut out).unwrap().is_none());
    let secret = keys.secret(out.first_chunk().unwrap()).unwrap();
    let mut offer = *b"\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x05first";
    secret.ciphers(&HASH.0).0.apply(&mut offer);
    for part in [&secret.mark()[..], &secret.torrent(&HASH.0), &offer, b"plain"] {
        input.extend_from_slice(part);
    }
    assert!(b.step(&mut input, &mut out).unwrap().unwrap().ciphers.is_none());
    assert_eq!(&input[..], b"firstplain");
}

#[test]
fn who_is_in_another_torrent_or_offers_too_little_is_refused() {
    let mut out = BytesMut::new();
    let a = Initiator::new(InfoHash([8; 20]), Encryption::Prefer, pads(512, 0), b"", &mut out);
    let (_, (b, _)) = talk(a, Responder::new(HASH, Encryption::Prefer, pads(0, 0)), out, 50, b"");
    assert_eq!(b.unwrap_err(), MseError::OtherTorrent);
}

/// Both sides refuse who never says the mark after no more bytes than the longest pad takes.
#[test]
fn a_mark_that_never_comes_is_not_waited_for() {
    let key = KeyPair::new().public;
    let (mut b, mut out) = (Responder::new(HASH, Encryption::Prefer, pads(0, 0)), BytesMut::new());
    let mut a = Initiator::new(HASH, Encryption::Prefer, pads(0, 0), b"", &mut BytesMut::new());
    for (mark, step) in [
        (20, &mut (|i: &mut BytesMut| b.step(i, &mut out).map(|d| d.is_some())) as &mut dyn FnMut(&mut _) -> _),
        (8, &mut |i: &mut BytesMut| a.step(i, &mut BytesMut::new()).map(|d| d.is_some())),
    ] {
        let mut input = BytesMut::from(&key[..]);
        assert_eq!(step(&mut input), Ok(false));
        for i in 1..512 + mark {
            input.extend_from_slice(&[(i % 251) as u8]);
            assert_eq!(step(&mut input), Ok(false), "{i}");
        }
        input.extend_from_slice(&[0]);
        assert_eq!(step(&mut input), Err(MseError::NoMark));
        assert_eq!(step(&mut input), Err(MseError::Broken), "it is over");
    }
    let mut input = BytesMut::from(&[0; KEY_LEN][..]);
    assert_eq!(
        Responder::new(HASH, Encryption::Prefer, pads(0, 0)).step(&mut input, &mut BytesMut::new()).unwrap_err(),
        MseError::BadKey
    );
}

proptest! {
    // A key exchange each, which takes its time without optimisation.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_pads_in_any_pieces_lead_to_the_same_stream(
        outer in (0usize..=512, 0usize..=512), inner in (0usize..=512, 0usize..=512), chunk in 1usize..700,
        first in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let pads = (pads(outer.0, inner.0), pads(outer.1, inner.1));
        let ((a, _), (b, got)) = meet(Encryption::Prefer, Encryption::Prefer, pads, chunk, &first);
        prop_assert_eq!(&got[..], [&first[..], b"and then more"].concat());
        let (mut a, mut b) = (a.unwrap().ciphers.unwrap(), b.unwrap().ciphers.unwrap());
        let mut bytes = *b"back";
        b.write.apply(&mut bytes);
        a.read.apply(&mut bytes);
        prop_assert_eq!(&bytes, b"back");
    }

    /// Whoever knows the torrent can say anything in the encrypted part.
    #[test]
    fn whatever_is_said_after_the_mark_ends_in_a_verdict_and_holds_little(
        said in proptest::collection::vec(any::<u8>(), 0..200), zeros in any::<bool>(), chunk in 1usize..64,
    ) {
        let (mut b, keys) = (Responder::new(HASH, Encryption::Require, pads(0, 0)), KeyPair::new());
        let (mut input, mut out) = (BytesMut::from(&keys.public[..]), BytesMut::new());
        prop_assert!(b.step(&mut input, &mut out).unwrap().is_none());
        let secret = keys.secret(out.first_chunk().unwrap()).unwrap();
        let mut clear = if zeros { vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2] } else { vec![] };
        clear.extend_from_slice(&said);
        secret.ciphers(&HASH.0).0.apply(&mut clear);
        let bytes = [&secret.mark()[..], &secret.torrent(&HASH.0), &clear].concat();
        for piece in bytes.chunks(chunk) {
            input.extend_from_slice(piece);
            if !matches!(b.step(&mut input, &mut out), Ok(None)) {
                break;
            }
        }
        prop_assert!(out.len() < 2 * (KEY_LEN + 2 * 512));
    }
}
