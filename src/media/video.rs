//! The video decode thread: packets to pictures. Invariant: after a seek no picture before the goal leaves it, and the
//! first one that does is on screen at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ffmpeg_next::codec::{Context, threading};
use ffmpeg_next::{Packet, decoder, frame};

use super::api::Pace;
use super::error::MediaError;
use super::framemd5::Lines;
use super::frames::Converter;
use super::open::{Timing, Track, to_us};
use super::pictures::Timed;
use super::state::Shared;
use crate::units::MediaTime;

/// Pictures waiting for their moment: enough to bridge a slow one, 19 MB at 1080p.
const QUEUE: usize = 5;
/// The same where nobody keeps the planes.
const QUEUE_BARE: usize = 8;
/// Frame threads each hold a picture back. More than four add to the memory and to the wait for the first picture.
const MAX_THREADS: usize = 4;
/// Packets kept from the key frame on while the first picture is awaited, for decoding them again.
const KEPT_PACKETS: usize = 600;
/// A picture this late makes the decoder leave out those that no other needs.
const LAG_US: i64 = 200_000;

/// Serial numbers of pictures, one sequence for all films: a window tells the next film's picture from this one's by it.
static NEXT: AtomicU64 = AtomicU64::new(1);

pub(super) struct VideoDecoder {
    shared: Arc<Shared>,
    decoder: decoder::Video,
    track: Track,
    timing: Timing,
    converter: Converter,
    lines: Option<Lines>,
    keep: bool,
    paced: bool,
    serial: u64,
    place: Place,
}

/// Where this serial stands.
#[derive(Default)]
struct Place {
    /// Pictures before this are dropped, until the first has been handed on.
    goal: Option<MediaTime>,
    /// The last picture before the goal: shown if none comes after it.
    before: Option<(frame::Video, i64, i64)>,
    /// End of the last picture.
    next: Option<i64>,
    /// Handed on already by draining early; skipped when decoded again.
    upto: i64,
    /// Packets since the key frame, until the first picture is there.
    kept: Vec<Packet>,
    /// Decoding time of the last packet sent.
    sent: Option<i64>,
    /// Draining before the end: only the goal's own picture may leave, what follows it is not complete.
    early: bool,
    /// The first packet was a key frame at or after the goal: nothing is shown before it.
    starts_at_key: bool,
}

impl Place {
    fn new(goal: Option<MediaTime>) -> Self {
        Self { goal, upto: i64::MIN, ..Self::default() }
    }
}

enum Job {
    Packet(Packet, i64),
    /// No packet is there, the goal not reached, and what was sent may hold its picture.
    Early,
    End,
    Serial,
    Stop,
}

impl VideoDecoder {
    pub(super) fn new(shared: Arc<Shared>, track: Track, timing: Timing) -> Result<Self, MediaError> {
        let failed = |_| MediaError::DecoderFailed(track.codec.clone());
        let mut context = Context::from_parameters(track.params.clone()).map_err(failed)?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        context.set_threading(threading::Config {
            kind: threading::Type::Frame,
            count: cores.clamp(2, MAX_THREADS),
            ..Default::default()
        });
        let mut context = context.decoder();
        context.set_packet_time_base(track.time_base);
        let decoder = context.video().map_err(failed)?;
        let (options, goal, serial) = {
            let s = shared.lock();
            (s.options.clone(), s.goal.map(|g| g.to), s.serial)
        };
        let paced = options.pace == Pace::Clock;
        let lines = options.frames_md5.as_ref().map(|_| Lines::new(&track, &timing));
        Ok(Self {
            converter: Converter::new(&track),
            shared,
            decoder,
            track,
            timing,
            lines,
            keep: options.keep_pictures,
            paced,
            serial,
            place: Place::new(goal),
        })
    }

    pub(super) fn run(mut self) {
        loop {
            match self.job() {
                Job::Packet(packet, dts) => self.feed(packet, dts),
                Job::Early => self.early(),
                Job::End => self.end(),
                Job::Serial => {}
                Job::Stop => return,
            }
        }
    }

    fn job(&mut self) -> Job {
        let mut s = self.shared.lock();
        loop {
            if s.stop {
                return Job::Stop;
            }
            if s.serial != self.serial {
                self.serial = s.serial;
                self.place = Place::new(s.goal.map(|g| g.to));
                s.video.waiting = false;
                drop(s);
                self.decoder.flush();
                if let Some(lines) = &mut self.lines {
                    lines.restart();
                }
                return Job::Serial;
            }
            if let Some(q) = s.video.queue.pop() {
                s.video.waiting = false;
                self.shared.demux.notify_all();
                return Job::Packet(q.packet, q.dts);
            }
            if s.video.queue.ended && !s.video.drained {
                s.video.waiting = false;
                return Job::End;
            }
            if self.may_drain() {
                return Job::Early;
            }
            s.video.waiting = true;
            self.shared.decode.wait(&mut s);
        }
    }

    /// Whether the goal's picture must be among those the decoder holds back.
    fn may_drain(&self) -> bool {
        let p = &self.place;
        let (Some(goal), false) = (p.goal, p.kept.is_empty()) else { return false };
        // Every packet still to come is shown after its decoding time.
        p.starts_at_key || p.sent.is_some_and(|dts| dts > goal.0.saturating_add(frame_time(&self.track)))
    }

    fn feed(&mut self, packet: Packet, dts: i64) {
        let p = &mut self.place;
        if p.goal.is_some() {
            let pts = packet.pts().map(|t| self.timing.at(t, self.track.time_base));
            if p.sent.is_none() {
                p.starts_at_key = packet.is_key() && pts.is_some_and(|t| p.goal.is_some_and(|g| t + 1 >= g.0));
            }
            if p.kept.len() < KEPT_PACKETS && (p.sent.is_none() || !p.kept.is_empty()) {
                p.kept.push(packet.clone());
            } else {
                p.kept = Vec::new();
            }
        } else if !p.kept.is_empty() {
            p.kept = Vec::new();
        }
        p.sent = Some(dts);
        self.send(&packet);
    }

    fn send(&mut self, packet: &Packet) {
        // A decoder that is full takes the packet after its pictures were taken; a damaged packet is skipped.
        for _ in 0..2 {
            match self.decoder.send_packet(packet) {
                Err(ffmpeg_next::Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => self.receive(),
                _ => break,
            }
        }
        self.receive();
    }

    /// The picture at the goal now, without waiting for the packets the decoder would like to see first. It is decoded
    /// again afterwards, while the network brings the next packet.
    fn early(&mut self) {
        let kept = std::mem::take(&mut self.place.kept);
        let _ = self.decoder.send_eof();
        self.place.early = true;
        self.receive();
        self.place.early = false;
        self.decoder.flush();
        for packet in &kept {
            self.send(packet);
        }
    }

    fn end(&mut self) {
        let _ = self.decoder.send_eof();
        self.receive();
        self.decoder.flush();
        if let (Some(_), Some((frame, at, lasts))) = (self.place.goal, self.place.before.take()) {
            // A seek to the very end shows the last picture there is.
            let lines = self.lines.take();
            self.hand_on(frame, at, lasts);
            self.lines = lines;
        }
        let serial = self.serial;
        self.shared.with(|s| s.video.drained |= s.serial == serial);
        self.shared.pacer.notify_all();
    }

    fn receive(&mut self) {
        loop {
            let mut frame = frame::Video::empty();
            if self.decoder.receive_frame(&mut frame).is_err() {
                return;
            }
            let tb = self.track.time_base;
            let lasts = match to_us(frame.packet().duration, tb) {
                d if d > 0 => d,
                _ => frame_time(&self.track),
            };
            let ts = frame.timestamp().map(|t| self.timing.at(t, tb));
            let at = ts.or(self.place.next).unwrap_or(0);
            if at <= self.place.upto {
                continue;
            }
            // One microsecond of grace for rounding.
            if self.place.goal.is_some_and(|g| at + 1 < g.0) && frame.timestamp().is_some() {
                self.place.before = Some((frame, at, lasts));
                continue;
            }
            if !self.place.early {
                self.place.next = Some(at.saturating_add(lasts));
            } else {
                let sure = self.place.starts_at_key || self.place.sent.is_some_and(|dts| at <= dts);
                if self.place.goal.is_none() || !sure {
                    continue;
                }
                self.place.upto = at;
            }
            self.hand_on(frame, at, lasts);
        }
    }

    /// Converts a picture and puts it into the queue, waiting for room.
    fn hand_on(&mut self, frame: frame::Video, at: i64, lasts: i64) {
        let line = self.lines.as_mut().and_then(|l| l.line(&frame));
        let picture = if self.keep {
            self.converter.picture(frame, NEXT.fetch_add(1, Ordering::Relaxed)).map(Arc::new)
        } else {
            None
        };
        let timed = Timed { picture, at: MediaTime(at), lasts, line };
        let first = self.place.goal.take().is_some();
        self.place.before = None;
        let room = if self.keep { QUEUE } else { QUEUE_BARE };
        let mut s = self.shared.lock();
        while !s.stop && s.serial == self.serial && s.pictures.len() >= room && !first {
            self.shared.decode.wait(&mut s);
        }
        let (stop, stale) = (s.stop, s.serial != self.serial);
        drop(s);
        if stop || stale {
            return;
        }
        let (serial, paced) = (self.serial, self.paced);
        let lag = self.shared.with(|s| {
            if s.serial != serial {
                return 0;
            }
            s.status.frames.decoded += 1;
            s.video.end = Some(at.saturating_add(lasts));
            if first || !paced {
                s.pictures.show_now(timed);
                s.reach_goal(Instant::now());
            } else {
                s.pictures.push(timed);
            }
            if s.clock.running() { s.clock.at(Instant::now()).0.saturating_sub(at) } else { 0 }
        });
        self.shared.pacer.notify_all();
        // Checksums are of all pictures; without them, what no other picture needs is the first to go.
        if self.lines.is_none() && paced {
            let skip = if lag > LAG_US { ffmpeg_next::Discard::NonReference } else { ffmpeg_next::Discard::Default };
            self.decoder.skip_frame(skip);
        }
    }
}

fn frame_time(track: &Track) -> i64 {
    let (n, d) = (i64::from(track.frame_rate.numerator()), i64::from(track.frame_rate.denominator()));
    if n > 0 && d > 0 { 1_000_000 * d / n } else { 40_000 }
}
