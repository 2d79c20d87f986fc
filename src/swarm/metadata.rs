//! The info dictionary from peers (BEP 9), many at once.
//!
//! Invariant: nothing leaves here whose SHA-1 is not the info hash. Peers may claim different sizes; each size is put
//! together on its own. When what several peers gave does not check, each further attempt is one peer's alone, so that
//! the one whose word fails is known, and told to go.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::benc::{Value, Writer};
use crate::units::LinkId;

/// Bytes of one piece of metadata.
pub const PIECE: u32 = 16 * 1024;

/// A request older than this no longer keeps others from asking.
const PATIENCE: Duration = Duration::from_secs(3);

/// Requests in flight to one peer, and peers asked for the same piece once every piece is asked for.
const PER_LINK: usize = 4;
const SAME_PIECE: usize = 3;

/// Bytes that all attempts together may come to, and attempts at once. Whoever claims a huge size makes room for smaller
/// ones, and no link has more than one attempt to itself: a crowd that claims what it does not have, and gives it slowly
/// or never, keeps nobody else from being asked.
const MAX_BYTES: u64 = 64 << 20;
const MAX_JOBS: usize = 500;

/// Sizes remembered at which peers together failed.
const MAX_DOUBTED: usize = 64;

/// A `ut_metadata` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataMessage {
    Request(u32),
    Data { piece: u32, total: u32, data: Bytes },
    Reject(u32),
}

impl MetadataMessage {
    /// `None` for what is none, or of a type nobody knows.
    pub fn parse(payload: &Bytes) -> Option<Self> {
        let (dict, rest) = Value::read(payload)?;
        let piece = u32::try_from(dict.int("piece")?).ok()?;
        match dict.int("msg_type")? {
            0 => Some(Self::Request(piece)),
            1 => {
                let total = u32::try_from(dict.int("total_size")?).ok()?;
                Some(Self::Data { piece, total, data: payload.slice_ref(rest) })
            }
            2 => Some(Self::Reject(piece)),
            _ => None,
        }
    }

    pub fn encode(&self) -> Bytes {
        let mut w = Writer::dict();
        match self {
            Self::Request(p) => w.int("msg_type", 0).int("piece", *p),
            Self::Data { piece, total, .. } => w.int("msg_type", 1).int("piece", *piece).int("total_size", *total),
            Self::Reject(p) => w.int("msg_type", 2).int("piece", *p),
        };
        let mut out = w.finish();
        if let Self::Data { data, .. } = self {
            out.extend_from_slice(data);
        }
        Bytes::from(out)
    }

    /// The answer to a request for `piece` of `info`; empty `info` is not known yet.
    pub fn answer(info: &Bytes, piece: u32) -> Self {
        let start = piece as usize * PIECE as usize;
        let end = info.len().min(start + PIECE as usize);
        match u32::try_from(info.len()) {
            Ok(total) if start < end => Self::Data { piece, total, data: info.slice(start..end) },
            _ => Self::Reject(piece),
        }
    }
}

/// One attempt at one size.
#[derive(Debug)]
struct Job {
    size: u32,
    /// Only this peer is asked.
    alone: Option<LinkId>,
    pieces: Vec<Option<(Bytes, LinkId)>>,
    asked: HashMap<u32, Vec<(LinkId, Instant)>>,
}

/// What a piece of metadata led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is needed.
    More,
    /// All is here; whether it checks is for the caller to find out and to tell with [`Fetch::checked`].
    Whole { bytes: Bytes, from: Vec<LinkId> },
    /// The peer broke the rules.
    Garbage,
}

/// What a check led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This is it, and nobody had it before.
    First,
    /// Nothing new; go on.
    Again,
    /// This peer lied for certain.
    Liar(LinkId),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Fetch {
    jobs: Vec<Job>,
    /// Sizes at which peers together failed: from now on one by one.
    doubted: Vec<u32>,
    done: bool,
}

impl Fetch {
    /// Pieces to ask this peer for now.
    pub fn ask(&mut self, link: LinkId, size: u32, now: Instant) -> Vec<u32> {
        let mut out = Vec::new();
        if self.done || size == 0 {
            return out;
        }
        let Some(job) = self.job(link, size, now) else { return out };
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < PATIENCE;
        job.asked.values_mut().for_each(|a| a.retain(|(_, at)| fresh(at)));
        let mut mine = job.asked.values().flatten().filter(|(l, _)| *l == link).count();
        while mine < PER_LINK {
            let askers = |p: u32| job.asked.get(&p).map_or(0, Vec::len);
            let best = (0..job.pieces.len() as u32)
                .filter(|&p| job.pieces.get(p as usize).is_some_and(Option::is_none))
                .filter(|&p| askers(p) < SAME_PIECE)
                .filter(|p| !job.asked.get(p).is_some_and(|a| a.iter().any(|(l, _)| *l == link)))
                .min_by_key(|&p| askers(p));
            let Some(p) = best else { break };
            job.asked.entry(p).or_default().push((link, now));
            out.push(p);
            mine += 1;
        }
        out
    }

    /// A piece came.
    pub fn data(&mut self, link: LinkId, piece: u32, total: u32, data: Bytes) -> Progress {
        if self.done {
            return Progress::More;
        }
        let of_link = |j: &Job| j.size == total && j.alone.is_none_or(|l| l == link);
        let Some(at) = self.jobs.iter().position(of_link) else { return Progress::More };
        let Some(job) = self.jobs.get_mut(at) else { return Progress::More };
        // Only what was asked for: a late answer is no breach, but nothing to keep either.
        let asked = job.asked.get_mut(&piece).map(|a| {
            let before = a.len();
            a.retain(|(l, _)| *l != link);
            before != a.len()
        });
        let (Some(slot), Some(true)) = (job.pieces.get_mut(piece as usize), asked) else { return Progress::More };
        let want = total.saturating_sub(piece.saturating_mul(PIECE)).min(PIECE);
        if data.len() != want as usize {
            return Progress::Garbage;
        }
        if slot.is_none() {
            // A copy of its own, so that the socket's buffer is not kept alive by it.
            *slot = Some((Bytes::copy_from_slice(&data), link));
        }
        if job.pieces.iter().any(Option::is_none) {
            return Progress::More;
        }
        let job = self.jobs.swap_remove(at);
        let mut from: Vec<LinkId> = job.pieces.iter().flatten().map(|(_, l)| *l).collect();
        from.sort_unstable();
        from.dedup();
        let whole: Vec<u8> = job.pieces.iter().flatten().flat_map(|(b, _)| b.iter().copied()).collect();
        Progress::Whole { bytes: Bytes::from(whole), from }
    }

    /// The peer will not answer for this piece, or for anything when `None`.
    pub fn refused(&mut self, link: LinkId, piece: Option<u32>) {
        for job in &mut self.jobs {
            for (p, askers) in &mut job.asked {
                if piece.is_none_or(|q| q == *p) {
                    askers.retain(|(l, _)| *l != link);
                }
            }
        }
        if piece.is_none() {
            self.jobs.retain(|j| j.alone != Some(link));
        }
    }

    /// The hash of a whole was checked.
    pub fn checked(&mut self, size: usize, from: &[LinkId], good: bool) -> Verdict {
        match (good, from) {
            (true, _) => {
                let before = std::mem::replace(self, Self { done: true, ..Self::default() });
                if before.done { Verdict::Again } else { Verdict::First }
            }
            (false, [liar]) => Verdict::Liar(*liar),
            (false, _) => {
                // Peers that agree on ever new sizes must not make us grow; a size forgotten is only doubted anew.
                if self.doubted.len() >= MAX_DOUBTED {
                    self.doubted.remove(0);
                }
                self.doubted.extend(u32::try_from(size).ok().filter(|s| !self.doubted.contains(s)));
                Verdict::Again
            }
        }
    }

    /// Nothing more is wanted.
    pub fn finish(&mut self) {
        *self = Self { done: true, ..Self::default() };
    }

    /// What all attempts may come to.
    fn bytes(&self) -> u64 {
        self.jobs.iter().map(|j| u64::from(j.size)).sum()
    }

    fn job(&mut self, link: LinkId, size: u32, now: Instant) -> Option<&mut Job> {
        let doubted = self.doubted.contains(&size);
        let alone = doubted.then_some(link);
        if let Some(at) = self.jobs.iter().position(|j| j.size == size && j.alone == alone) {
            return self.jobs.get_mut(at);
        }
        // A job nobody answers goes first.
        let idle = |j: &Job| !j.asked.values().flatten().any(|(_, at)| now.saturating_duration_since(*at) < PATIENCE);
        while self.jobs.len() >= MAX_JOBS || self.bytes() + u64::from(size) > MAX_BYTES {
            let (at, worst) = self.jobs.iter().enumerate().max_by_key(|(_, j)| (idle(j), j.size))?;
            if !idle(worst) && worst.size <= size {
                return None;
            }
            self.jobs.swap_remove(at);
        }
        let pieces = vec![None; size.div_ceil(PIECE) as usize];
        self.jobs.push(Job { size, alone, pieces, asked: HashMap::new() });
        self.jobs.last_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LinkId = LinkId(1);
    const B: LinkId = LinkId(2);

    fn part(piece: u32, size: u32, fill: u8) -> Bytes {
        Bytes::from(vec![fill; (size - piece * PIECE).min(PIECE) as usize])
    }

    #[test]
    fn messages_survive_the_wire() {
        let data = Bytes::from_static(b"hello");
        for m in [MetadataMessage::Request(3), MetadataMessage::Reject(4), MetadataMessage::answer(&data, 0)] {
            assert_eq!(MetadataMessage::parse(&m.encode()), Some(m));
        }
        assert_eq!(MetadataMessage::answer(&data, 1), MetadataMessage::Reject(1));
        assert_eq!(MetadataMessage::answer(&Bytes::new(), 0), MetadataMessage::Reject(0));
        assert_eq!(MetadataMessage::parse(&Bytes::from_static(b"d8:msg_typei1e5:piecei-1ee")), None);
    }

    proptest::proptest! {
        #[test]
        fn what_strangers_send_is_taken_only_where_it_fits(
            steps in proptest::collection::vec((0u32..4, 0u32..4, 0u32..5 * PIECE, 0usize..40_000, 0u64..9), 0..40),
        ) {
            let (mut f, start) = (Fetch::default(), Instant::now());
            for (link, piece, total, len, seconds) in steps {
                let (link, now) = (LinkId(link), start + Duration::from_secs(seconds));
                f.ask(link, total, now);
                if let Progress::Whole { bytes, from } = f.data(link, piece, total, Bytes::from(vec![0; len])) {
                    proptest::prop_assert!(bytes.len() == total as usize && !from.is_empty());
                    f.checked(bytes.len(), &from, false);
                }
                let _ = MetadataMessage::answer(&Bytes::from(vec![0; len]), piece.wrapping_mul(total));
                proptest::prop_assert!(f.jobs.len() <= MAX_JOBS && f.bytes() <= MAX_BYTES);
            }
        }
    }

    #[test]
    fn pieces_are_shared_out_and_put_together() {
        let (mut f, now, size) = (Fetch::default(), Instant::now(), 3 * PIECE + 5);
        assert_eq!(f.ask(A, size, now), [0, 1, 2, 3]);
        // All is asked for already: the second peer doubles, the faster answer counts.
        assert_eq!(f.ask(B, size, now).len(), 4);
        assert_eq!(f.data(A, 0, size, part(0, size, 0)), Progress::More);
        assert_eq!(f.data(A, 0, size, part(0, size, 9)), Progress::More, "not asked for any more");
        for p in 1..3 {
            assert_eq!(f.data(B, p, size, part(p, size, p as u8)), Progress::More);
        }
        let Progress::Whole { bytes, from } = f.data(A, 3, size, part(3, size, 3)) else { panic!() };
        assert_eq!((bytes.len(), bytes[0], bytes[PIECE as usize], from), (size as usize, 0, 1, vec![A, B]));
        assert_eq!(f.checked(bytes.len(), &[A, B], true), Verdict::First);
        assert_eq!(f.checked(bytes.len(), &[A, B], true), Verdict::Again);
        assert!(f.ask(A, size, now).is_empty());
    }

    #[test]
    fn a_liar_is_found_once_each_is_asked_alone() {
        let (mut f, now, size) = (Fetch::default(), Instant::now(), 2 * PIECE);
        f.ask(A, size, now);
        f.ask(B, size, now);
        f.data(A, 0, size, part(0, size, 0));
        let Progress::Whole { from, .. } = f.data(B, 1, size, part(1, size, 66)) else { panic!() };
        assert_eq!(f.checked(size as usize, &from, false), Verdict::Again);
        assert_eq!((f.ask(A, size, now), f.ask(B, size, now)), (vec![0, 1], vec![0, 1]));
        f.data(B, 0, size, part(0, size, 66));
        let Progress::Whole { from, .. } = f.data(B, 1, size, part(1, size, 66)) else { panic!() };
        assert_eq!(f.checked(size as usize, &from, false), Verdict::Liar(B));
        f.data(A, 0, size, part(0, size, 0));
        assert!(matches!(f.data(A, 1, size, part(1, size, 1)), Progress::Whole { .. }));
    }

    #[test]
    fn silence_and_refusal_free_a_piece_for_others_and_garbage_is_told() {
        let (mut f, now) = (Fetch::default(), Instant::now());
        assert_eq!(f.ask(A, 10, now), [0]);
        f.refused(A, Some(0));
        assert_eq!(f.ask(A, 10, now), [0]);
        assert!(f.ask(A, 10, now).is_empty());
        assert_eq!(f.ask(A, 10, now + PATIENCE), [0]);
        assert_eq!(f.data(A, 0, 10, Bytes::from_static(b"short")), Progress::Garbage);
        assert_eq!(f.data(B, 7, 10, Bytes::from_static(b"unasked")), Progress::More);
    }

    #[test]
    fn many_claimed_sizes_do_not_pile_up_nor_keep_the_honest_out() {
        let (mut f, start) = (Fetch::default(), Instant::now());
        let huge = 32 << 20;
        for i in 0..1000 {
            f.ask(LinkId(i), huge - i, start);
        }
        assert!(f.jobs.len() <= 2 && f.bytes() <= MAX_BYTES);
        // They keep their attempts alive; a smaller one still gets its room.
        let now = start + PATIENCE / 2;
        let asked = f.ask(LinkId(2000), 3 * PIECE, now);
        assert_eq!(asked, [0, 1, 2]);
        for p in asked {
            f.data(LinkId(2000), p, 3 * PIECE, part(p, 3 * PIECE, 1));
        }
        assert_eq!(f.checked(3 * PIECE as usize, &[LinkId(2000)], true), Verdict::First);
        let mut f = Fetch::default();
        for i in 0..2 * MAX_JOBS as u32 {
            f.ask(LinkId(i), 1000 + i, start);
        }
        assert!(f.jobs.len() <= MAX_JOBS);
        assert_eq!(f.ask(LinkId(5000), 2_000_000, start + PATIENCE).len(), PER_LINK, "the silent make room");
    }
}
