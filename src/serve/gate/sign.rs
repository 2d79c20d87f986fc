//! Grants as viewers carry them: signed, so that each server that shares the secret can honour them, and none keeps a list.
//!
//! Form: hex of 48 bytes (instance, serial, viewer, bits, expiry as milliseconds of Unix time; big-endian) and the first 16
//! of their HMAC-SHA256 (RFC 2104; cut in half, as §5 of it allows).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};

use crate::serve::allocate::{GrantId, ViewerKey};

const TAG_LEN: usize = 16;
const BODY_LEN: usize = 48;
/// Keys for other uses are made of the same secret.
const LABEL: &[u8] = b"sluicegate grant v1";
/// A viewer's id, at most: random, of the viewer's own making.
const VIEWER_LEN: usize = 64;

/// What a grant says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub id: GrantId,
    pub viewer: ViewerKey,
    pub bits: u64,
    /// Milliseconds of Unix time.
    pub expires_ms: u64,
}

/// Signs, and checks what is signed.
pub(super) struct Signer(hmac::Key);

impl Signer {
    pub fn new(secret: &[u8]) -> Self {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    pub fn sign(&self, said: &Said) -> String {
        let mut bytes = Vec::with_capacity(BODY_LEN + TAG_LEN);
        bytes.extend(said.id.instance.to_be_bytes());
        bytes.extend(said.id.serial.to_be_bytes());
        bytes.extend(said.viewer.0.to_be_bytes());
        bytes.extend(said.bits.to_be_bytes());
        bytes.extend(said.expires_ms.to_be_bytes());
        let tag = hmac::sign(&self.0, &bytes);
        bytes.extend(tag.as_ref().iter().take(TAG_LEN));
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// `None` when it is no grant, or not of this secret.
    pub fn read(&self, grant: &str) -> Option<Said> {
        if grant.len() != 2 * (BODY_LEN + TAG_LEN) || !grant.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let pairs = grant.as_bytes().chunks_exact(2);
        let bytes: Vec<u8> = pairs
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|s| u8::from_str_radix(s, 16).ok()))
            .collect::<Option<_>>()?;
        let (body, tag) = bytes.split_at_checked(BODY_LEN)?;
        let whole = hmac::sign(&self.0, body);
        verify_slices_are_equal(whole.as_ref().get(..TAG_LEN)?, tag).ok()?;
        let number = |at: usize| Some(u64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?));
        Some(Said {
            id: GrantId { instance: number(0)?, serial: number(8)? },
            viewer: ViewerKey(u128::from_be_bytes(body.get(16..32)?.try_into().ok()?)),
            bits: number(32)?,
            expires_ms: number(40)?,
        })
    }
}

/// The key of a viewer that calls itself `id`; the same on every server. `None` when it is no id: 1 to 64 letters, digits
/// or `-._~`.
pub fn viewer_key(id: &str) -> Option<ViewerKey> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if id.is_empty() || id.len() > VIEWER_LEN || !id.bytes().all(fine) {
        return None;
    }
    let hash = digest::digest(&digest::SHA256, id.as_bytes());
    Some(ViewerKey(u128::from_be_bytes(hash.as_ref().get(..16)?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        let id = GrantId { instance: u64::MAX, serial: 7 };
        Said { id, viewer: ViewerKey(1 << 100 | 5), bits: 123_456_789, expires_ms: 1_800_000_000_123 }
    }

    #[test]
    fn what_is_signed_is_read_by_who_shares_the_secret_only() {
        let grant = Signer::new(b"secret").sign(&said());
        assert_eq!(Signer::new(b"secret").read(&grant), Some(said()));
        assert_eq!(Signer::new(b"secret").read(&grant.to_uppercase()), Some(said()));
        assert_eq!(Signer::new(b"Secret").read(&grant), None);
    }

    #[test]
    fn no_bit_of_it_can_be_changed() {
        let signer = Signer::new(b"secret");
        let grant = signer.sign(&said());
        for at in 0..grant.len() {
            let mut forged = grant.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(signer.read(std::str::from_utf8(&forged).unwrap()), None, "digit {at}");
        }
        for bad in ["", "00", "é", &grant[1..], &format!("{grant}00"), &"é".repeat(64), &"+".repeat(128)] {
            assert_eq!(signer.read(bad), None, "{bad}");
        }
    }

    #[test]
    fn viewers_are_told_apart_by_ids_of_sober_letters() {
        assert_ne!(viewer_key("a"), viewer_key("b"));
        assert_eq!(viewer_key("0123456789abcdef-._~"), viewer_key("0123456789abcdef-._~"));
        for bad in ["", "a b", "a,b", "é", "a\n", &"a".repeat(65)] {
            assert_eq!(viewer_key(bad), None, "{bad}");
        }
    }
}
