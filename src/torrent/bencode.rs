//! A look at hostile bencode before anything recursive or arithmetic touches it.
//!
//! Invariant: what [`check`] accepts nests at most [`MAX_DEPTH`] deep, has at most [`MAX_TOKENS`] values, every integer
//! in it fits an `i64` and every string lies inside the buffer. The parsers behind it rely on that: they recurse per
//! level and add up digits without looking for overflow.

use super::TorrentError;

/// Real torrents are about 6 deep; a v2 file tree one level per folder. As libtorrent's decoder.
pub(super) const MAX_DEPTH: usize = 100;

/// As libtorrent's limit: some 300,000 files.
pub(super) const MAX_TOKENS: usize = 3_000_000;

#[derive(Clone, Copy)]
enum Open {
    List,
    /// A dictionary whose next value is a key.
    DictKey,
    /// A dictionary that waits for the value of its key.
    DictValue,
}

/// Length in bytes of the first value in `buf`, without recursion and in one pass.
pub(super) fn check(buf: &[u8]) -> Result<usize, TorrentError> {
    const BAD: TorrentError = TorrentError::Damaged("a value in it is not bencode");
    let mut open: Vec<Open> = Vec::with_capacity(16);
    let mut at = 0;
    for _ in 0..MAX_TOKENS {
        let first = *buf.get(at).ok_or(TorrentError::Truncated)?;
        let closes = match (first, open.last()) {
            (b'e', Some(Open::List | Open::DictKey)) => {
                open.pop();
                at += 1;
                true
            }
            (b'0'..=b'9', _) => {
                let (len, colon) = digits(buf, at, b':')?;
                let len = usize::try_from(len).map_err(|_| BAD)?;
                at = colon.checked_add(1 + len).filter(|&end| end <= buf.len()).ok_or(TorrentError::Truncated)?;
                true
            }
            (_, Some(Open::DictKey)) => return Err(TorrentError::Damaged("a key in it is not a string")),
            (b'i', _) => {
                let minus = usize::from(buf.get(at + 1) == Some(&b'-'));
                at = digits(buf, at + 1 + minus, b'e')?.1 + 1;
                true
            }
            (b'l' | b'd', _) if open.len() >= MAX_DEPTH => {
                return Err(TorrentError::Damaged("its lists are nested too deeply"));
            }
            (b'l', _) => {
                open.push(Open::List);
                at += 1;
                false
            }
            (b'd', _) => {
                open.push(Open::DictKey);
                at += 1;
                false
            }
            _ => return Err(BAD),
        };
        if closes {
            match open.last_mut() {
                None => return Ok(at),
                Some(Open::List) => {}
                Some(dict @ Open::DictKey) => *dict = Open::DictValue,
                Some(dict @ Open::DictValue) => *dict = Open::DictKey,
            }
        }
    }
    Err(TorrentError::Damaged("it has too many values"))
}

/// A run of 1 to 19 digits that fits an `i64` and ends with `end`; gives the number and where `end` stands.
fn digits(buf: &[u8], at: usize, end: u8) -> Result<(i64, usize), TorrentError> {
    let run = buf.get(at..).unwrap_or_default();
    let len = run.iter().take(20).take_while(|b| b.is_ascii_digit()).count();
    let number = run.iter().take(len).try_fold(0i64, |n, &d| n.checked_mul(10)?.checked_add(i64::from(d - b'0')));
    match (number, run.get(len)) {
        (_, None) => Err(TorrentError::Truncated),
        (Some(n), Some(&b)) if b == end && len > 0 => Ok((n, at + len)),
        _ => Err(TorrentError::Damaged("a number in it is not possible")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_where_they_should() {
        for (s, len) in [("i-5e", 4), ("3:abcXX", 5), ("le", 2), ("d1:ai1e1:bl1:cee", 16), ("de rest", 2)] {
            assert_eq!(check(s.as_bytes()), Ok(len), "{s}");
        }
    }

    #[test]
    fn nothing_hostile_passes() {
        let bad = ["", "i", "i12", "ie", "i-e", "i+1e", "i1x", "5:ab", "5", "d", "l", "di1e1:ae", "d1:ae", "e", "x"];
        for s in bad {
            assert!(check(s.as_bytes()).is_err(), "{s}");
        }
        for s in
            ["i9223372036854775808e", "99999999999999999999:a", "9223372036854775807:a", "i00000000000000000000001e"]
        {
            assert!(check(s.as_bytes()).is_err(), "{s}");
        }
    }

    #[test]
    fn a_megabyte_of_lists_does_not_reach_the_recursive_parser() {
        assert!(check(&vec![b'l'; 1 << 20]).is_err());
        assert!(check(b"d1:a".repeat(1 << 18).as_slice()).is_err());
        let mut ok = vec![b'l'; MAX_DEPTH];
        ok.extend(vec![b'e'; MAX_DEPTH]);
        assert_eq!(check(&ok), Ok(2 * MAX_DEPTH));
    }

    #[test]
    fn a_flood_of_empty_values_is_cut_off() {
        let mut flood = vec![b'l'];
        flood.extend(b"0:".repeat(MAX_TOKENS + 1));
        flood.push(b'e');
        assert_eq!(check(&flood), Err(TorrentError::Damaged("it has too many values")));
    }
}
