//! Bencode as strangers send it: small dictionaries, read without trust, written by hand.
//!
//! Invariant: bounded depth and number of values, no recursion beyond the bound, no panic, nothing copied. Fields of an
//! unexpected type read as absent, so that one odd field of a peer does not lose the rest.

const MAX_DEPTH: u32 = 16;
const MAX_VALUES: u32 = 20_000;

/// A value that borrows from the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    Dict(Vec<(&'a [u8], Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads one value; gives it and what follows it. `None` for anything that is not bencode within the bounds.
    pub fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut r = Reader { rest: bytes, values: 0 };
        let v = r.value(0)?;
        Some((v, r.rest))
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dict(d) => d.iter().find(|(k, _)| *k == key.as_bytes()).map(|(_, v)| v),
            _ => None,
        }
    }

    pub fn int(&self, key: &str) -> Option<i64> {
        match self.get(key) {
            Some(Self::Int(i)) => Some(*i),
            _ => None,
        }
    }

    pub fn bytes(&self, key: &str) -> Option<&'a [u8]> {
        match self.get(key) {
            Some(Self::Bytes(b)) => Some(b),
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    values: u32,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: u32) -> Option<Value<'a>> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return None;
        }
        match *self.rest.first()? {
            b'i' => {
                self.skip(1);
                Some(Value::Int(self.number(b'e')?))
            }
            b'l' => {
                self.skip(1);
                let mut list = Vec::new();
                while !self.end()? {
                    list.push(self.value(depth + 1)?);
                }
                Some(Value::List(list))
            }
            b'd' => {
                self.skip(1);
                let mut dict = Vec::new();
                while !self.end()? {
                    dict.push((self.string()?, self.value(depth + 1)?));
                }
                Some(Value::Dict(dict))
            }
            _ => Some(Value::Bytes(self.string()?)),
        }
    }

    fn skip(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or_default();
    }

    fn end(&mut self) -> Option<bool> {
        let end = *self.rest.first()? == b'e';
        if end {
            self.skip(1);
        }
        Some(end)
    }

    fn number(&mut self, stop: u8) -> Option<i64> {
        // 20 characters hold any i64 with its sign.
        let at = self.rest.iter().take(21).position(|&b| b == stop)?;
        let n = std::str::from_utf8(self.rest.get(..at)?).ok()?.parse().ok()?;
        self.skip(at + 1);
        Some(n)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number(b':')?).ok()?;
        let (s, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(s)
    }
}

/// Writes a dictionary; keys must be given in order.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Opens a dictionary.
    pub fn dict() -> Self {
        Self(vec![b'd'])
    }

    pub fn key(&mut self, key: &str) -> &mut Self {
        self.raw(key.as_bytes())
    }

    pub fn int(&mut self, key: &str, n: impl Into<i64>) -> &mut Self {
        self.key(key).0.extend_from_slice(format!("i{}e", n.into()).as_bytes());
        self
    }

    pub fn bytes(&mut self, key: &str, b: &[u8]) -> &mut Self {
        self.key(key).raw(b)
    }

    /// Opens a dictionary within this one; `close` ends it.
    pub fn open(&mut self, key: &str) -> &mut Self {
        self.key(key).0.push(b'd');
        self
    }

    pub fn close(&mut self) -> &mut Self {
        self.0.push(b'e');
        self
    }

    /// Ends the outermost dictionary.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.push(b'e');
        self.0
    }

    fn raw(&mut self, b: &[u8]) -> &mut Self {
        self.0.extend_from_slice(format!("{}:", b.len()).as_bytes());
        self.0.extend_from_slice(b);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_it_wrote_and_gives_the_rest() {
        let mut w = Writer::dict();
        w.open("m").int("ut_pex", 1).close().int("n", -5i64).bytes("v", b"x\0y");
        let mut bytes = w.finish();
        bytes.extend_from_slice(b"tail");
        let (v, rest) = Value::read(&bytes).unwrap();
        assert_eq!(rest, b"tail");
        assert_eq!(v.get("m").and_then(|m| m.int("ut_pex")), Some(1));
        assert_eq!((v.int("n"), v.bytes("v"), v.int("v"), v.int("absent")), (Some(-5), Some(&b"x\0y"[..]), None, None));
    }

    #[test]
    fn hostile_depth_and_lengths_are_refused() {
        assert!(Value::read(&vec![b'l'; 100_000]).is_none());
        assert!(Value::read(b"0:").is_some());
        assert!(Value::read(format!("l{}e", "0:".repeat(30_000)).as_bytes()).is_none());
        for bad in ["i99999999999999999999e", "99999999999999999999:a", "-1:", "d1:a", "i-e", "5:abc", "", "x"] {
            assert!(Value::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(prop_oneof![
            Just(b'd'), Just(b'l'), Just(b'e'), Just(b'i'), Just(b':'), b'0'..=b'9', any::<u8>()], 0..200)) {
            let _ = Value::read(&bytes);
        }
    }
}
