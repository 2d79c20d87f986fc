//! What a file is, by its name.

/// Media, what goes with it, and torrents; everything else is just bytes, so that no browser ever runs what is served.
const TYPES: &[(&str, &str)] = &[
    ("mkv", "video/x-matroska"),
    ("mk3d", "video/x-matroska"),
    ("webm", "video/webm"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("mov", "video/quicktime"),
    ("avi", "video/x-msvideo"),
    ("wmv", "video/x-ms-wmv"),
    ("flv", "video/x-flv"),
    ("ts", "video/mp2t"),
    ("m2ts", "video/mp2t"),
    ("mts", "video/mp2t"),
    ("mpg", "video/mpeg"),
    ("mpeg", "video/mpeg"),
    ("vob", "video/mpeg"),
    ("ogv", "video/ogg"),
    ("3gp", "video/3gpp"),
    ("mka", "audio/x-matroska"),
    ("weba", "audio/webm"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("wav", "audio/wav"),
    ("srt", "application/x-subrip"),
    ("vtt", "text/vtt"),
    ("ass", "text/x-ssa"),
    ("ssa", "text/x-ssa"),
    ("sub", "text/plain"),
    ("txt", "text/plain"),
    ("nfo", "text/plain"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("mpd", "application/dash+xml"),
    ("m4s", "video/iso.segment"),
    ("torrent", "application/x-bittorrent"),
];

/// The media type of a file called `name`.
pub fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    TYPES.iter().find(|(e, _)| *e == extension).map_or("application/octet-stream", |(_, t)| t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_last_extension_in_any_case() {
        assert_eq!(content_type("A film.MKV"), "video/x-matroska");
        assert_eq!(content_type("a.mp4.torrent"), "application/x-bittorrent");
        for bytes in ["a", "", "a.html", "a.svg", "a.xhtml", "a.js", "mp4"] {
            assert_eq!(content_type(bytes), "application/octet-stream", "{bytes}");
        }
    }
}
