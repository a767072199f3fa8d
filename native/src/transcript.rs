//! The hash of docs/protocol.md, section 1: `H(tag, p1, …) = SHA-512(lp("ballotboard/v1/" + tag) || lp(p1) || …)`.

use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

const PREFIX: &str = "ballotboard/v1/";

/// A hash under construction. Every part is preceded by its length, so no two lists of parts hash alike.
pub struct Transcript(Sha512);

impl Transcript {
    pub fn new(tag: &str) -> Self {
        Self(Sha512::new()).begin(PREFIX.len() + tag.len()).piece(PREFIX.as_bytes()).piece(tag.as_bytes())
    }

    pub fn part(self, bytes: &[u8]) -> Self {
        self.begin(bytes.len()).piece(bytes)
    }

    /// Announces a part of `length` bytes that follows in pieces.
    pub fn begin(self, length: usize) -> Self {
        self.piece(&(length as u32).to_be_bytes())
    }

    pub fn piece(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// H
    pub fn digest(self) -> [u8; 64] {
        self.0.finalize().into()
    }

    /// Hs: the digest as a little-endian integer modulo the group order. It is taken for a secret.
    pub fn scalar(self) -> Scalar {
        Scalar::from_bytes_mod_order_wide(&Zeroizing::new(self.digest()))
    }

    /// H128: the first 16 bytes as a little-endian integer.
    pub fn challenge(self) -> u128 {
        low128(&self.digest())
    }
}

/// The first 16 bytes as a little-endian integer.
pub fn low128(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes[..16].try_into().expect("a digest is longer than 16 bytes"))
}
