//! The demux thread: bytes to packets. Invariant: it alone touches the container, reads ahead no further than the
//! bounds below, and puts a packet only into the queue of the serial it was read for.

use std::sync::Arc;
use std::thread::JoinHandle;

use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Error, Packet, Rational, ffi};

use super::api::{AudioSink, Pace};
use super::error::MediaError;
use super::io::SharedReader;
use super::open::{Opened, Timing};
use super::packets::Queued;
use super::state::{Lane, Shared, State};
use super::{audio, index, open, video};
use crate::units::MediaTime;

/// Read-ahead per stream. The stream's buffer is on disk; this only has to bridge the decoders' appetite, and what is
/// read ahead is asked for before what others may need more.
const AHEAD_US: i64 = 2_000_000;
/// A stream with nothing in the other's time (a slide show, a film's silent hour) holds at most this.
const ALONE_US: i64 = 10_000_000;
/// Packets in memory: 2 s at 32 Mbit/s.
const SOFT_BYTES: usize = 8 << 20;
/// The same while another stream's queue is empty: bad interleaving, in bytes.
const HARD_BYTES: usize = 24 << 20;
/// How far before the target a seek begins when the last attempt landed after it, microseconds.
const SEEK_BACK_US: [i64; 6] = [0, 500_000, 2_000_000, 6_000_000, 15_000_000, 45_000_000];
/// Packets looked at for a key frame after a seek, before it is taken as it is.
const LOOK_PACKETS: usize = 4_000;
/// Damaged packets in a row until the file counts as ended.
const MAX_ERRORS: u32 = 1_000;
/// Index entries the demuxer collected on its way before they are told again.
const INDEX_STEP: usize = 32;

/// Opens the bytes, starts the decoders, and feeds them until told to stop.
pub(super) fn run(shared: &Arc<Shared>, reader: &SharedReader) {
    let exact = shared.lock().options.frames_md5.is_some();
    let opened = match open::open(reader, &shared.cancel, exact) {
        Ok(Some(opened)) => opened,
        Ok(None) => return,
        Err(e) => return shared.with(|s| s.fail(e.to_string())),
    };
    match Demuxer::start(shared, reader, opened) {
        Ok((mut demuxer, threads)) => {
            demuxer.run();
            threads.into_iter().for_each(|t| drop(t.join()));
        }
        Err(e) => shared.with(|s| s.fail(e.to_string())),
    }
}

struct Demuxer {
    shared: Arc<Shared>,
    reader: SharedReader,
    input: Input,
    timing: Timing,
    video: Option<(usize, Rational)>,
    audio: Option<(usize, Rational)>,
    serial: u64,
    errors: u32,
    indexed: usize,
}

/// What one read gave.
enum Got {
    Packet(Packet),
    /// Nothing, try again.
    Nothing,
    Cancelled,
    End,
}

impl Demuxer {
    fn start(
        shared: &Arc<Shared>,
        reader: &SharedReader,
        opened: Opened,
    ) -> Result<(Self, Vec<JoinHandle<()>>), MediaError> {
        let Opened { input, timing, video, audio, description, note } = opened;
        let place = |t: &open::Track| (t.index, t.time_base);
        let mut demuxer = Self {
            shared: shared.clone(),
            reader: reader.clone(),
            input,
            timing,
            video: video.as_ref().map(place),
            audio: audio.as_ref().map(place),
            serial: 0,
            errors: 0,
            indexed: 0,
        };
        let (sink, pace) = {
            let s = shared.lock();
            (s.options.audio, s.options.pace)
        };
        let video = video.map(|t| video::VideoDecoder::new(shared.clone(), t, timing)).transpose()?;
        let mut audio = audio.map(|t| audio::AudioDecoder::new(shared.clone(), t, timing));
        if video.is_some() && matches!(audio, Some(Err(_))) {
            shared.with(|s| s.note("The sound of this video cannot be decoded: playing without it."));
            (audio, demuxer.audio) = (None, None);
        }
        let audio = audio.transpose()?;
        shared.with(|s| {
            (s.video.exists, s.audio.exists) = (video.is_some(), audio.is_some());
            s.opened = true;
            s.status.duration = timing.duration;
            s.status.description = description;
            note.into_iter().for_each(|n| s.note(n));
            if let (Some(d), Some(to)) = (timing.duration, s.seek) {
                // A start beyond the end, now that the end is known.
                let to = to.min(d);
                (s.seek, s.begin) = (Some(to), to);
                if let Some(goal) = &mut s.goal {
                    goal.to = to;
                }
            }
        });
        demuxer.tell_index();
        let mut threads = Vec::new();
        if let Some(decoder) = video {
            threads.push(spawn(shared, "video", move || decoder.run())?);
        }
        if let Some(decoder) = audio {
            let device = sink == AudioSink::Device && pace == Pace::Clock;
            threads.push(spawn(shared, "audio", move || decoder.run(device))?);
        }
        Ok((demuxer, threads))
    }

    fn run(&mut self) {
        while let Some(seek) = self.next_job() {
            if let Some(to) = seek {
                self.seek(to);
                continue;
            }
            match self.read() {
                Got::Packet(packet) => self.deliver(packet),
                Got::End => self.end(),
                Got::Nothing | Got::Cancelled => {}
            }
        }
    }

    /// Waits for room. `None`: stop; `Some(Some(_))`: a seek; `Some(None)`: read on.
    fn next_job(&mut self) -> Option<Option<MediaTime>> {
        let mut told_full = false;
        loop {
            let mut s = self.shared.lock();
            if s.stop || s.status.error.is_some() {
                return None;
            }
            if let Some(to) = s.seek.take() {
                // Under the lock: a newer seek sets it again only afterwards.
                self.shared.cancel.clear();
                (self.serial, s.demux_full) = (s.serial, false);
                return Some(Some(to));
            }
            let full = full(&s);
            if !full {
                s.demux_full = false;
                return Some(None);
            }
            s.demux_full = true;
            if told_full {
                self.shared.demux.wait(&mut s);
            } else {
                // Full queues can be what a start waited for.
                drop(s);
                told_full = true;
                self.shared.with(|_| ());
            }
        }
    }

    fn read(&mut self) -> Got {
        let mut packet = Packet::empty();
        let got = packet.read(&mut self.input);
        if self.shared.cancel.is_set() {
            return Got::Cancelled;
        }
        match got {
            Ok(()) => {
                self.errors = 0;
                Got::Packet(packet)
            }
            Err(Error::Eof) => Got::End,
            Err(Error::Exit) => {
                // Cancelled, and the cancel is gone again: the next read goes on where this one stood.
                self.input.clear_interrupt();
                Got::Nothing
            }
            Err(Error::InvalidData) if self.errors < MAX_ERRORS => {
                self.errors += 1;
                Got::Nothing
            }
            Err(_) => Got::End,
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let Some((is_video, dts)) = self.place(&packet) else { return };
        self.shared.with(|s| {
            if s.serial != self.serial {
                return;
            }
            s.demux_at = s.demux_at.max(dts);
            let lane = if is_video { &mut s.video } else { &mut s.audio };
            lane.queue.push(Queued { packet, dts });
        });
        self.shared.decode.notify_all();
        if index::size(&self.input, &self.streams()) >= self.indexed + INDEX_STEP {
            self.tell_index();
        }
    }

    /// Which queue, and when on the media clock; `None` for a stream that is not played.
    fn place(&self, packet: &Packet) -> Option<(bool, i64)> {
        let is = |t: Option<(usize, Rational)>| t.filter(|t| t.0 == packet.stream());
        let (is_video, tb) = match (is(self.video), is(self.audio)) {
            (Some(t), _) => (true, t.1),
            (_, Some(t)) => (false, t.1),
            _ => return None,
        };
        let ts = packet.dts().or(packet.pts());
        let at = ts.map(|t| self.timing.at(t, tb));
        Some((is_video, at.unwrap_or_else(|| self.shared.lock().demux_at.max(0))))
    }

    fn end(&mut self) {
        let fault = self.reader.take_fault();
        self.shared.with(|s| {
            if s.serial == self.serial && s.seek.is_none() {
                s.fault = fault;
                (s.video.queue.ended, s.audio.queue.ended) = (true, true);
            }
        });
        self.shared.decode.notify_all();
    }

    /// Goes to the last key frame at or before `to`. A container that lands later, or between key frames, is asked
    /// again further back: the picture at `to` must be decodable.
    fn seek(&mut self, to: MediaTime) {
        // An error of the bytes where it stood says nothing about those elsewhere.
        self.reader.take_fault();
        self.input.clear_eof();
        for (attempt, back) in SEEK_BACK_US.into_iter().enumerate() {
            let goal = to.0.saturating_sub(back).max(0);
            let at = goal.saturating_add(self.timing.start_us);
            if self.input.seek(at, ..at).is_err() {
                if self.shared.cancel.is_set() {
                    return;
                }
                // Nothing at or before it, by the container's own times: what it has nearest.
                if self.input.seek(at, ..).is_err() && !self.shared.cancel.is_set() {
                    return self.end();
                }
            }
            let last = attempt + 1 == SEEK_BACK_US.len();
            match self.land(to, last) {
                // A transport stream's search by time finds no way to its own first picture.
                Landed::Short if goal == 0 => {
                    self.rewind();
                    return match self.land(to, true) {
                        Landed::End => self.end(),
                        _ => self.tell_index(),
                    };
                }
                Landed::Short => {}
                Landed::End => return self.end(),
                Landed::Good => return self.tell_index(),
            }
        }
    }

    /// To the first byte, for streams without an index; the others start at their first index entry.
    fn rewind(&mut self) {
        let flags = ffi::AVSEEK_FLAG_BYTE;
        // SAFETY: the context is open and used by this thread alone; its format's flags are static.
        let done = unsafe {
            let context = self.input.as_mut_ptr();
            let by_bytes = (*context).iformat.as_ref().is_some_and(|f| f.flags & ffi::AVFMT_TS_DISCONT != 0);
            by_bytes && ffi::av_seek_frame(context, -1, 0, flags) >= 0
        };
        if !done {
            let _ = self.input.seek(self.timing.start_us, ..);
        }
    }

    /// Reads to the first key frame and says whether it is early enough; if so, hands on what was read.
    fn land(&mut self, to: MediaTime, take_any: bool) -> Landed {
        let mut held: Vec<Packet> = Vec::new();
        let Some((video, tb)) = self.video else { return Landed::Good };
        for _ in 0..LOOK_PACKETS {
            match self.read() {
                Got::Packet(packet) => {
                    let is_video = packet.stream() == video;
                    let key = is_video && packet.is_key();
                    let pts = packet.pts().or(packet.dts()).map(|t| self.timing.at(t, tb));
                    // Pictures before the first key frame cannot be decoded.
                    if !is_video || key || take_any {
                        held.push(packet);
                    }
                    if key {
                        if !take_any && pts.is_some_and(|p| p > to.0 + 1) {
                            return Landed::Short;
                        }
                        held.into_iter().for_each(|p| self.deliver(p));
                        return Landed::Good;
                    }
                }
                Got::Nothing => {}
                Got::Cancelled => return Landed::Good,
                Got::End => {
                    if !take_any {
                        return Landed::Short;
                    }
                    held.into_iter().for_each(|p| self.deliver(p));
                    return Landed::End;
                }
            }
        }
        held.into_iter().for_each(|p| self.deliver(p));
        Landed::Good
    }

    fn streams(&self) -> Vec<usize> {
        self.video.iter().chain(&self.audio).map(|t| t.0).collect()
    }

    fn tell_index(&mut self) {
        let streams = self.streams();
        let size = index::size(&self.input, &streams);
        if size != self.indexed || self.shared.lock().index.is_none() {
            self.indexed = size;
            let points = index::read(&self.input, &streams, &self.timing);
            self.shared.with(|s| s.publish_index(points));
        }
    }
}

enum Landed {
    Good,
    Short,
    End,
}

fn full(s: &State) -> bool {
    let lanes = [&s.video, &s.audio];
    if lanes.iter().all(|l| !l.exists || l.queue.ended) {
        return true;
    }
    let used: Vec<&Lane> = lanes.into_iter().filter(|l| l.exists).collect();
    let bytes: usize = used.iter().map(|l| l.queue.bytes()).sum();
    let starving = used.iter().any(|l| l.queue.is_empty());
    bytes >= HARD_BYTES
        || (bytes >= SOFT_BYTES && !starving)
        || used.iter().any(|l| l.queue.span() >= ALONE_US)
        || used.iter().all(|l| l.queue.span() >= AHEAD_US)
}

/// Starts a named thread of the player. One that panics ends the play with a sentence, not with a frozen window.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, MediaError> {
    let shared = shared.clone();
    let guarded = move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            shared.with(|s| s.fail(MediaError::Inside.to_string()));
            shared.demux.notify_all();
        }
    };
    let builder = std::thread::Builder::new().name(format!("media-{name}"));
    builder.spawn(guarded).map_err(|e| MediaError::Thread(e.to_string()))
}
