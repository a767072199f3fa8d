//! The packed buffers that cross the border: many small things end to end in one allocation.

use crate::error::{Result, fail};

pub const ROLL_ROW: usize = 36;

/// The pieces of `length || bytes || length || bytes …`, each length big-endian of `N` bytes.
pub fn pieces<const N: usize>(packed: &[u8]) -> Result<Vec<&[u8]>> {
    let mut pieces = Vec::new();
    let mut rest = packed;
    while !rest.is_empty() {
        let Some((head, tail)) = rest.split_at_checked(N) else {
            fail!("packed[{}]: {} bytes where a length of {N} is due", pieces.len(), rest.len());
        };
        let length = head.iter().fold(0, |value, byte| value << 8 | *byte as usize);
        let Some((piece, tail)) = tail.split_at_checked(length) else {
            fail!("packed[{}]: {length} bytes announced, {} left", pieces.len(), tail.len());
        };
        pieces.push(piece);
        rest = tail;
    }
    Ok(pieces)
}

/// Rows of exactly `N` bytes.
pub fn rows<'a, const N: usize>(packed: &'a [u8], what: &str) -> Result<&'a [[u8; N]]> {
    let (rows, rest) = packed.as_chunks::<N>();
    if !rest.is_empty() {
        fail!("{what}: {} bytes, not a multiple of {N}", packed.len());
    }
    Ok(rows)
}

/// The electoral roll: rows `public key (32) || u32(unit)`.
#[derive(Clone, Copy)]
pub struct Roll<'a>(&'a [[u8; ROLL_ROW]]);

impl<'a> Roll<'a> {
    pub fn new(packed: &'a [u8]) -> Result<Self> {
        Ok(Self(rows(packed, "roll")?))
    }

    /// (public key, unit) of a roll index.
    pub fn row(&self, index: u32) -> Option<(&'a [u8; 32], u32)> {
        let (key, unit) = self.0.get(index as usize)?.split_first_chunk::<32>()?;
        Some((key, u32::from_be_bytes(unit.try_into().ok()?)))
    }
}

/// A cursor over bytes whose length was checked to suffice.
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// Panics if fewer than `length` bytes are left.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(length);
        self.0 = tail;
        head
    }

    /// Panics if fewer than `N` bytes are left.
    pub fn array<const N: usize>(&mut self) -> &'a [u8; N] {
        let (head, tail) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = tail;
        head
    }
}
