//! Which program a peer runs, by its peer id (BEP 20) or by its own word.

/// Names as their makers write them, by the two letters of an Azureus-style peer id.
const NAMES: &[(&[u8; 2], &str)] = &[
    (b"7T", "aTorrent"),
    (b"AG", "Ares"),
    (b"AZ", "Vuze"),
    (b"BC", "BitComet"),
    (b"BI", "BiglyBT"),
    (b"BT", "BitTorrent"),
    (b"DE", "Deluge"),
    (b"FD", "Free Download Manager"),
    (b"FL", "Flud"),
    (b"FW", "FrostWire"),
    (b"JS", "JSTorrent"),
    (b"KT", "KTorrent"),
    (b"LP", "Lphant"),
    (b"LT", "libtorrent"),
    (b"MG", "MediaGet"),
    (b"PI", "PicoTorrent"),
    (b"qB", "qBittorrent"),
    (b"rQ", "rqbit"),
    (b"SD", "Xunlei"),
    (b"SG", "Sluicegate"),
    (b"TL", "Tribler"),
    (b"TR", "Transmission"),
    (b"TX", "Tixati"),
    (b"UM", "µTorrent for Mac"),
    (b"UT", "µTorrent"),
    (b"UW", "µTorrent Web"),
    (b"WW", "WebTorrent"),
    (b"XL", "Xunlei"),
    (b"lt", "libTorrent (Rakshasa)"),
];

/// "qBittorrent 5.1", or "unknown client" when the id follows no custom.
pub fn from_peer_id(id: &[u8; 20]) -> String {
    let [b'-', a, b, v @ ..] = id else { return "unknown client".into() };
    let Some(&[v1, v2, v3, _, b'-']) = v.first_chunk::<5>() else { return "unknown client".into() };
    let name = NAMES.iter().find(|(k, _)| **k == [*a, *b]).map(|(_, n)| (*n).to_owned());
    let name = match name {
        Some(n) => n,
        None if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric() => format!("{}{}", *a as char, *b as char),
        None => return "unknown client".into(),
    };
    let [Some(x), Some(y), Some(z)] = [v1, v2, v3].map(|c| (c as char).to_digit(36)) else { return name };
    match (*a, *b) {
        // Transmission 3 writes "300Z" for 3.00, 4 writes "4060" for 4.0.6.
        (b'T', b'R') if x < 4 => format!("{name} {x}.{y}{z}"),
        _ if z == 0 => format!("{name} {x}.{y}"),
        _ => format!("{name} {x}.{y}.{z}"),
    }
}

/// A name from the wire, made fit for the screen: no control characters, at most 64 characters. `None` when nothing is
/// left.
pub fn clean(name: &[u8]) -> Option<String> {
    let name: String = String::from_utf8_lossy(name.get(..256).unwrap_or(name))
        .chars()
        .filter(|c| !c.is_control() && !('\u{200b}'..='\u{202e}').contains(c) && !('\u{2066}'..='\u{2069}').contains(c))
        .take(64)
        .collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids_become_names() {
        for (id, name) in [
            (b"-qB5110-abcdefghijkl", "qBittorrent 5.1.1"),
            (b"-TR300Z-abcdefghijkl", "Transmission 3.00"),
            (b"-TR4060-abcdefghijkl", "Transmission 4.0.6"),
            (b"-SG0100-abcdefghijkl", "Sluicegate 0.1"),
            (b"-Zz1200-abcdefghijkl", "Zz 1.2"),
            (b"M7-9-2--abcdefghijkl", "unknown client"),
            (b"-\x01\x021200-abcdefghijkl", "unknown client"),
        ] {
            assert_eq!(from_peer_id(id), name);
        }
    }

    #[test]
    fn names_from_the_wire_are_made_safe_to_show() {
        assert_eq!(clean(b"  good\x1b[31m \xff 1.0\0 ").as_deref(), Some("good[31m \u{fffd} 1.0"));
        assert_eq!(clean("\u{202e}evil".as_bytes()).as_deref(), Some("evil"));
        assert_eq!(clean(b"\n\t "), None);
        assert_eq!(clean(&[b'x'; 10_000]).map(|s| s.len()), Some(64));
    }
}
