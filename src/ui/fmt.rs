//! Numbers as they are read: with their unit, without false precision.

use crate::app::snapshot::MediaTime;

/// Bytes in the unit that leaves one to three digits before the point: "830 B", "1.2 MB", "18 MB", "4.7 GB".
pub fn bytes(n: u64) -> String {
    scaled(n as f64, ["B", "kB", "MB", "GB", "TB"])
}

/// Bytes per second.
pub fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", bytes(bytes_per_s.max(0.0).round() as u64))
}

/// Bits: "1.2 Mbit".
pub fn bits(n: u64) -> String {
    scaled(n as f64, ["bit", "kbit", "Mbit", "Gbit", "Tbit"])
}

fn scaled(n: f64, units: [&str; 5]) -> String {
    let mut n = n.max(0.0);
    let mut unit = 0;
    // 999.5 would be written "1000".
    while n >= 999.5 && unit + 1 < units.len() {
        n /= 1000.0;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit >= 2 && n < 9.95 { format!("{n:.1} {name}") } else { format!("{n:.0} {name}") }
}

/// The value of `n` in the unit that [`bits`] would choose for `like`: to write "1.2 Mbit, granted 0.9".
pub fn bits_like(n: u64, like: u64) -> String {
    in_unit_of(n as f64, &bits(like), ["bit", "kbit", "Mbit", "Gbit", "Tbit"]).0
}

/// Two rates to be compared, in the unit that [`rate`] would choose for the larger: "1.2 MB/s" and "0.8 MB/s".
pub fn rates(a: f64, b: f64) -> [String; 2] {
    let larger = bytes(a.max(b).max(0.0).round() as u64);
    [a, b].map(|n| {
        let (value, unit) = in_unit_of(n.max(0.0), &larger, ["B", "kB", "MB", "GB", "TB"]);
        format!("{value} {unit}/s")
    })
}

/// `n` in the unit that `like` is written in, and that unit.
fn in_unit_of(n: f64, like: &str, units: [&'static str; 5]) -> (String, &'static str) {
    let found = [1.0, 1e3, 1e6, 1e9, 1e12].into_iter().zip(units).find(|(_, name)| like.ends_with(&format!(" {name}")));
    let (unit, name) = found.unwrap_or((1.0, ""));
    let n = n / unit;
    (if unit >= 1e6 && n < 9.95 { format!("{n:.1}") } else { format!("{n:.0}") }, name)
}

/// Thousands apart: "1,180".
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// "1 piece", "2 pieces".
pub fn plural(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A place in the film: "0:05", "16:42", "1:02:03".
pub fn time(t: MediaTime) -> String {
    let s = (t.0 / 1_000_000).max(0);
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

/// Seconds of film: "23.4 s", "4 min", "1 h 20 min".
pub fn span(seconds: f64) -> String {
    let s = seconds.max(0.0);
    match s {
        s if s < 99.95 => format!("{s:.1} s"),
        s if s < 3570.0 => format!("{:.0} min", s / 60.0),
        s => {
            let min = (s / 60.0).round() as u64;
            format!("{} h {} min", min / 60, min % 60)
        }
    }
}

/// With a capital first letter.
pub fn sentence(s: &str) -> String {
    let mut chars = s.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// A share of one: "94 %". Never "0 %" of something, nor "100 %" of not all.
pub fn percent(share: f64) -> String {
    let p = (share * 100.0).clamp(0.0, 100.0);
    match p {
        p if p > 0.0 && p < 1.0 => "<1 %".to_owned(),
        p if p > 99.0 && p < 100.0 => "99 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_no_false_precision() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(999_700), "1.0 MB");
        assert_eq!(bytes(18_240_000), "18 MB");
        assert_eq!(bytes(4_700_000_000), "4.7 GB");
        assert_eq!(rate(820_400.0), "820 kB/s");
        assert_eq!(rate(f64::NAN), "0 B/s");
        assert_eq!(bits(1_240_000), "1.2 Mbit");
        assert_eq!(bits_like(900_000, 1_240_000), "0.9");
        assert_eq!(bits_like(0, 800_000), "0");
        assert_eq!(rates(1_200_000.0, 800_000.0), ["1.2 MB/s", "0.8 MB/s"]);
        assert_eq!(rates(90_000.0, 700_000.0), ["90 kB/s", "700 kB/s"]);
        assert_eq!(rates(f64::NAN, -1.0), ["0 B/s", "0 B/s"]);
    }

    #[test]
    fn counts_and_shares() {
        assert_eq!(count(1_180), "1,180");
        assert_eq!(count(20), "20");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "peer"), "1 peer");
        assert_eq!(plural(0, "peer"), "0 peers");
        assert_eq!(percent(0.944), "94 %");
        assert_eq!(percent(0.001), "<1 %");
        assert_eq!(percent(0.9999), "99 %");
        assert_eq!(percent(1.0), "100 %");
    }

    #[test]
    fn times_read_like_a_clock() {
        assert_eq!(time(MediaTime::from_secs_f64(5.9)), "0:05");
        assert_eq!(time(MediaTime::from_secs_f64(1002.0)), "16:42");
        assert_eq!(time(MediaTime::from_secs_f64(3723.0)), "1:02:03");
        assert_eq!(time(MediaTime(-5)), "0:00");
        assert_eq!(span(23.44), "23.4 s");
        assert_eq!(span(240.0), "4 min");
        assert_eq!(span(4800.0), "1 h 20 min");
    }
}
