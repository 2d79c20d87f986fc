//! URL paths as relative paths.
//!
//! Invariant: a path that comes out of here has plain names alone, none of them `..`, hidden, or anything that some file
//! system reads as more than a name.

/// The names along the path of a URL, decoded; `None` when it climbs, hides, or is no path at all.
pub fn names(url_path: &str) -> Option<Vec<String>> {
    let decoded = decode(url_path)?;
    let mut names = Vec::new();
    for name in decoded.split('/') {
        match name {
            "" | "." => {}
            name if is_name(name) => names.push(name.to_owned()),
            _ => return None,
        }
    }
    Some(names)
}

/// Whether it is a visible name on every system: no drive (`C:`), no stream (`a::$DATA`), no control characters.
fn is_name(name: &str) -> bool {
    let plain = !name.starts_with('.') && !name.contains(|c: char| c == '\\' || c == '/' || c.is_control());
    // Windows alone gives colons, device names and trailing dots and blanks a meaning; elsewhere films have them in their names.
    plain && (!cfg!(windows) || is_windows_name(name))
}

fn is_windows_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || ((stem.starts_with("COM") || stem.starts_with("LPT")) && stem.chars().count() == 4);
    !device && !name.contains([':', '*', '?', '"', '<', '>', '|']) && !name.ends_with(['.', ' '])
}

/// Percent-decoding, once. `None` on a broken escape or what is no UTF-8.
pub fn decode(s: &str) -> Option<String> {
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        let b = match b {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
                u8::try_from(high * 16 + low).ok()?
            }
            b => b,
        };
        out.push(b);
    }
    String::from_utf8(out).ok()
}

/// Percent-encoding of one name along a path.
pub fn encode(name: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    name.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_or_hide_are_none() {
        let names = |s| names(s).map(|n| n.join("|"));
        assert_eq!(names("/a%20b/c.mkv").as_deref(), Some("a b|c.mkv"));
        assert_eq!(names("//a/./b//").as_deref(), Some("a|b"));
        assert_eq!(names("/").as_deref(), Some(""));
        assert_eq!(names("/%C3%A9%25").as_deref(), Some("é%"));
        // Decoded once: what is an escape after that is a name.
        assert_eq!(names("/%252e%252e/x").as_deref(), Some("%2e%2e|x"));
        for bad in [
            "/..",
            "/a/../../b",
            "/%2e%2e/b",
            "/.%2e/b",
            "/a/%2E%2E%2Fb",
            "/a%00",
            "/a%0d%0ab",
            "/a%5c..%5cb",
            "/a\\b",
            "/%zz",
            "/%",
            "/%2",
            "/%+1",
            "/%ff",
            "/%c0%ae%c0%ae/x",
            "/.ssh/id",
            "/a/.git/config",
            "/...",
        ] {
            assert_eq!(names(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_windows_reads_otherwise_is_no_name_there() {
        for bad in ["C:", "a:b", "file::$DATA", "nul", "COM1.txt", "aux.mkv", "a.", "b ", "lpt9", "a?b"] {
            assert!(!is_windows_name(bad), "{bad}");
        }
        for good in ["common.mkv", "a b.mkv", "null", "console.srt", "é.mkv"] {
            assert!(is_windows_name(good), "{good}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_climbs(path in "/([./%a2eEfF5cC0:\\\\]|\\.\\.|%2e|%2f){0,40}") {
            for name in names(&path).unwrap_or_default() {
                proptest::prop_assert!(!name.is_empty() && !name.starts_with('.'));
                proptest::prop_assert!(!name.contains(['/', '\\', '\0']));
            }
        }

        #[test]
        fn a_name_comes_back(name in "[^/\\\\.\\pC][^/\\\\\\pC]{0,20}") {
            let back = names(&format!("/{}", encode(&name)));
            if !cfg!(windows) {
                proptest::prop_assert_eq!(back, Some(vec![name]));
            }
        }
    }
}
