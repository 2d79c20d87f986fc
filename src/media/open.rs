//! From bytes to a demuxer and the streams to play. Invariant: reads as little as will do, because every byte here
//! comes over a network with a deadline; a file can make FFmpeg open nothing but itself.

use std::io::{Read, Seek};

use ffmpeg_next::codec::{Id, Parameters};
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::media::Type;
use ffmpeg_next::{Dictionary, Error, Rational, ffi, format};

use super::error::MediaError;
use super::io::SharedReader;
use crate::stream::reader::Cancel;
use crate::units::MediaTime;

/// Containers of video and sound. Playlists (HLS, concat, DASH) are left out on purpose: they name other files and URLs.
const CONTAINERS: &str = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,flac,mp3,wav,aac,ac3,eac3,dts,h264,hevc,m4v,\
                          mpegvideo,ivf,obu,rm,nut,wv,aiff,caf,w64,mxf,dv,av1,amr,ape,tta";
/// FFmpeg's read unit: one or two blocks of a torrent.
const IO_BUFFER: usize = 32 * 1024;

/// How far FFmpeg may look: bytes, microseconds of media, frames for the frame rate.
struct Limits {
    probe: &'static str,
    analyze: &'static str,
    fps: Option<&'static str>,
    /// Decoders that may be tried on the first packets.
    decoders: Option<&'static str>,
}

/// An MP4 whose tables say all there is to know: no decoder of pictures is tried, which would decode the first one twice, 25 ms for
/// 120 kB on the way to the first picture. Those of sound say what they are to give without a packet; where one may not, FFmpeg
/// would read on for it.
const TABLES: Limits = Limits { decoders: Some("aac,mp3float,mp3,ac3,eac3,opus,flac,alac"), ..SMALL };

/// FFmpeg stops as soon as every stream is known, so that mp4 and mkv never get here; a transport stream brings its
/// sound up to a second after its picture. A quarter of this sent those to the full limits.
const SMALL: Limits = Limits { probe: "524288", analyze: "2000000", fps: Some("0"), decoders: None };
/// FFmpeg's own defaults, for what the small ones left open and for results that must equal FFmpeg's.
const FULL: Limits = Limits { probe: "5000000", analyze: "5000000", fps: None, decoders: None };

/// Where media time 0 lies and how long it goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timing {
    /// Container time of media time 0, microseconds.
    pub start_us: i64,
    pub duration: Option<MediaTime>,
}

/// One stream to play.
pub(super) struct Track {
    pub index: usize,
    pub time_base: Rational,
    pub params: Parameters,
    pub codec: String,
    pub frame_rate: Rational,
    pub sample_aspect: Rational,
    /// Clockwise degrees.
    pub rotation: u16,
    /// Where the stream's own times start, for containers whose streams ffmpeg starts each on their own.
    pub own_start_us: Option<i64>,
}

pub(super) struct Opened {
    pub input: Input,
    pub timing: Timing,
    pub video: Option<Track>,
    pub audio: Option<Track>,
    pub description: String,
    /// What the user should know about a stream that is left out.
    pub note: Option<String>,
}

/// Media times lie within this, microseconds: what a file claims beyond it would overflow whatever reckons with it.
const FAR_US: i64 = 1 << 60;

impl Timing {
    /// A timestamp of a stream on the media clock, microseconds.
    pub(super) fn at(&self, ts: i64, tb: Rational) -> i64 {
        to_us(ts, tb).saturating_sub(self.start_us).clamp(-FAR_US, FAR_US)
    }
}

/// Microseconds of a timestamp in `tb`.
pub(super) fn to_us(ts: i64, tb: Rational) -> i64 {
    // SAFETY: pure arithmetic on values.
    unsafe { ffi::av_rescale_q(ts, tb.into(), ffi::AVRational { num: 1, den: 1_000_000 }) }
}

/// Opens the bytes. `exact` reads as much as FFmpeg would, so that rates and times are FFmpeg's own. `Ok(None)`: cancelled.
pub(super) fn open(reader: &SharedReader, cancel: &Cancel, exact: bool) -> Result<Option<Opened>, MediaError> {
    ffmpeg_next::init().map_err(|_| MediaError::NotMedia)?;
    // Damage in a stream is for the player to count, not for a terminal.
    ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
    let less = if exact { [None, None] } else { [is_mp4(reader).then_some(&TABLES), Some(&SMALL)] };
    for limits in less.into_iter().flatten() {
        match attempt(reader, cancel, limits) {
            Ok(Some(o)) if complete(&o, limits.decoders.is_some()) => return Ok(Some(o)),
            Ok(None) => return Ok(None),
            // A fault of the bytes stays one; anything else may be want of bytes.
            Err(e @ MediaError::Bytes(_)) => return Err(e),
            _ => {}
        }
    }
    attempt(reader, cancel, &FULL)
}

/// Whether the file begins as ISO base media does (ISO/IEC 14496-12, 4.3).
fn is_mp4(reader: &SharedReader) -> bool {
    let mut start = reader.clone();
    let mut head = [0; 8];
    // One read: a short one merely takes the longer way, and to repeat what was cancelled would never end.
    let read = start.rewind().and_then(|()| start.read(&mut head));
    read.is_ok_and(|n| n == head.len()) && &head[4..] == b"ftyp"
}

fn attempt(reader: &SharedReader, cancel: &Cancel, limits: &Limits) -> Result<Option<Opened>, MediaError> {
    let mut start = reader.clone();
    let rewound = std::io::Seek::seek(&mut start, std::io::SeekFrom::Start(0));
    let io = StreamIo::from_read_seek_with_capacity(start, IO_BUFFER).map_err(|_| MediaError::NotMedia)?;
    let mut options = Dictionary::new();
    options.set("probesize", limits.probe);
    options.set("analyzeduration", limits.analyze);
    if let Some(n) = limits.fps {
        options.set("fpsprobesize", n);
        // Matroska has no decoding times: FFmpeg would read 50 packets for one.
        options.set("max_ts_probe", "1");
    }
    if let Some(decoders) = limits.decoders {
        options.set("codec_whitelist", decoders);
    }
    options.set("format_whitelist", CONTAINERS);
    options.set("protocol_whitelist", "none");
    let stop = cancel.clone();
    let opened = rewound
        .map_err(|_| Error::InvalidData)
        .and_then(|_| format::input_from_stream_with_interrupt(io, None, Some(options), move || stop.is_set()));
    match opened {
        Ok(input) => choose(input).map(Some),
        Err(_) if cancel.is_set() => Ok(None),
        Err(e) => Err(match (reader.take_fault(), e) {
            (Some(sentence), _) => MediaError::Bytes(sentence),
            // The container was recognised, its tables make no sense.
            (None, Error::Eof | Error::Other { .. }) => MediaError::BrokenIndex,
            _ => MediaError::NotMedia,
        }),
    }
}

/// Whether the small limits found all that a decoder and a clock need. With an MP4's `tables` pictures need not have been decoded: of these
/// codecs they hold what the decoder's own headers say (`avcC` and its kin; for H.264 FFmpeg takes how far pictures are reordered
/// from the table of times).
fn complete(o: &Opened, tables: bool) -> bool {
    let known = |t: &Track| {
        // SAFETY: the parameters live as long as the track.
        let p = unsafe { &*t.params.as_ptr() };
        match t.params.medium() {
            Type::Video => {
                let told = tables && p.extradata_size > 0 && matches!(t.params.id(), Id::H264 | Id::HEVC | Id::AV1);
                p.width > 0 && p.height > 0 && (p.format >= 0 || told) && t.frame_rate.numerator() > 0
            }
            _ => p.sample_rate > 0 && p.format >= 0,
        }
    };
    // A transport stream lists its streams up front, yet one may have no codec until its first packet.
    let unknown = o.input.streams().any(|s| s.parameters().medium() == Type::Unknown);
    !unknown && o.timing.duration.is_some() && o.video.as_ref().is_none_or(known) && o.audio.as_ref().is_none_or(known)
}

fn choose(mut input: Input) -> Result<Opened, MediaError> {
    let decodable = |t: &Track| ffmpeg_next::decoder::find(t.params.id()).is_some();
    let video = input.streams().best(Type::Video).map(|s| s.index()).or_else(|| first(&input, Type::Video));
    let audio = input.streams().best(Type::Audio).map(|s| s.index()).or_else(|| first(&input, Type::Audio));
    let video = video.and_then(|i| track(&input, i)).filter(|t| !is_cover(&input, t.index));
    let audio = audio.and_then(|i| track(&input, i));
    // A film whose picture nobody can decode is refused; sound nobody can decode leaves a silent film.
    if let Some(v) = video.as_ref().filter(|t| !decodable(t)) {
        return Err(MediaError::NoDecoder(v.codec.clone()));
    }
    let lost = audio.as_ref().filter(|a| !decodable(a)).map(|a| a.codec.clone());
    let note =
        lost.map(|c| format!("The sound uses {c}, which this build of FFmpeg cannot decode: playing without it."));
    let audio = match audio {
        Some(a) if !decodable(&a) && video.is_none() => return Err(MediaError::NoDecoder(a.codec)),
        a => a.filter(decodable),
    };
    if video.is_none() && audio.is_none() {
        return Err(MediaError::NothingToPlay);
    }
    let used: Vec<usize> = video.iter().chain(&audio).map(|t| t.index).collect();
    for i in 0..input.nb_streams() as usize {
        if let (false, Some(mut s)) = (used.contains(&i), input.stream_mut(i)) {
            // SAFETY: the stream belongs to `input`; the field is a plain setting.
            unsafe { (*s.as_mut_ptr()).discard = ffi::AVDiscard::AVDISCARD_ALL };
        }
    }
    let timing = timing(&input, &used);
    let description = describe(video.as_ref(), audio.as_ref());
    Ok(Opened { input, timing, video, audio, description, note })
}

fn first(input: &Input, kind: Type) -> Option<usize> {
    input.streams().find(|s| s.parameters().medium() == kind).map(|s| s.index())
}

fn is_cover(input: &Input, index: usize) -> bool {
    input.stream(index).is_some_and(|s| s.disposition().contains(format::stream::Disposition::ATTACHED_PIC))
}

fn timing(input: &Input, used: &[usize]) -> Timing {
    // SAFETY: reads plain fields of the open context.
    let start = unsafe { (*input.as_ptr()).start_time };
    let known = |v: i64| (v != ffi::AV_NOPTS_VALUE).then_some(v);
    let streams = || used.iter().filter_map(|&i| input.stream(i));
    let start_us = known(start)
        .or_else(|| streams().filter_map(|s| known(s.start_time()).map(|t| to_us(t, s.time_base()))).min())
        .unwrap_or(0);
    let duration = known(input.duration())
        .or_else(|| streams().filter_map(|s| known(s.duration()).map(|t| to_us(t, s.time_base()))).max())
        .filter(|d| *d > 0)
        .map(MediaTime);
    Timing { start_us, duration }
}

fn track(input: &Input, index: usize) -> Option<Track> {
    let stream = input.stream(index)?;
    let params = stream.parameters();
    // SAFETY: stream and context are alive; the functions read them only (their signatures lack const).
    let (frame_rate, sample_aspect) = unsafe {
        let (ctx, st) = (input.as_ptr().cast_mut(), stream.as_ptr().cast_mut());
        let aspect = ffi::av_guess_sample_aspect_ratio(ctx, st, std::ptr::null_mut());
        (ffi::av_guess_frame_rate(ctx, st, std::ptr::null_mut()), aspect)
    };
    let codec = codec_name(params.id());
    // SAFETY: a container in use has a format; its flags are static.
    let flags = unsafe { (*input.as_ptr()).iformat.as_ref() }.map_or(0, |f| f.flags);
    let own = (flags & ffi::AVFMT_TS_DISCONT != 0 && stream.start_time() != ffi::AV_NOPTS_VALUE)
        .then(|| to_us(stream.start_time(), stream.time_base()));
    Some(Track {
        index,
        time_base: stream.time_base(),
        codec,
        frame_rate: frame_rate.into(),
        sample_aspect: sample_aspect.into(),
        rotation: rotation(&stream),
        own_start_us: own,
        params,
    })
}

fn rotation(stream: &format::stream::Stream<'_>) -> u16 {
    let kind = ffmpeg_next::codec::packet::side_data::Type::DisplayMatrix;
    let Some(data) = stream.side_data().find(|d| d.kind() == kind) else { return 0 };
    let mut matrix = [0i32; 9];
    for (m, b) in matrix.iter_mut().zip(data.data().as_chunks::<4>().0) {
        *m = i32::from_ne_bytes(*b);
    }
    // SAFETY: the matrix has the nine entries the function reads.
    let counter_clockwise = unsafe { ffi::av_display_rotation_get(matrix.as_ptr()) };
    if !counter_clockwise.is_finite() {
        return 0;
    }
    ((-counter_clockwise / 90.0).round().rem_euclid(4.0) as u16 % 4) * 90
}

fn codec_name(id: Id) -> String {
    match id {
        Id::H264 => "H.264",
        Id::HEVC => "HEVC",
        Id::VP8 => "VP8",
        Id::VP9 => "VP9",
        Id::AV1 => "AV1",
        Id::MPEG4 => "MPEG-4",
        Id::MPEG2VIDEO => "MPEG-2",
        Id::AAC => "AAC",
        Id::MP3 => "MP3",
        Id::OPUS => "Opus",
        Id::VORBIS => "Vorbis",
        Id::AC3 => "AC-3",
        Id::EAC3 => "E-AC-3",
        Id::FLAC => "FLAC",
        Id::None => "an unknown codec",
        other => return other.name().to_uppercase(),
    }
    .to_owned()
}

fn describe(video: Option<&Track>, audio: Option<&Track>) -> String {
    let mut parts = Vec::new();
    if let Some(v) = video {
        // SAFETY: the parameters live as long as the track.
        let p = unsafe { &*v.params.as_ptr() };
        parts.push(format!("{}×{}", p.width, p.height));
        parts.push(v.codec.clone());
    }
    if let Some(a) = audio {
        // SAFETY: as above.
        let channels = match unsafe { (*a.params.as_ptr()).ch_layout.nb_channels } {
            1 => " mono".to_owned(),
            2 => " stereo".to_owned(),
            6 => " 5.1".to_owned(),
            8 => " 7.1".to_owned(),
            n if n > 0 => format!(" {n} channels"),
            _ => String::new(),
        };
        parts.push(format!("{}{channels}", a.codec));
    }
    parts.join(" · ")
}
