//! Multiples of points known in advance, eight secret scalars at a time, in constant time: every entry of a table row is
//! read, and the wanted one is kept under a mask.

use core::arch::x86_64::*;
use std::iter;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroizing;

use super::point::{self, Niels, Niels8, Point8};
use super::{Lanes, decode, field, lane_functions};

/// Signed digits of four bits in a scalar.
const DIGITS: usize = 64;
/// The largest digit.
const HALF: usize = 8;

/// The multiples j·16^i·P of a point P, for j from 1 to 8 in row i: 64 KB.
pub struct Table(Vec<[Niels; HALF]>);

impl Table {
    pub fn new(_: Lanes, point: &RistrettoPoint) -> Self {
        // dalek encodes doubles of many points at a tenth of the price.
        let mut power = point * Scalar::ONE.div_by_2();
        let mut halves = Vec::with_capacity(DIGITS * HALF);
        for _ in 0..DIGITS {
            halves.extend(iter::successors(Some(power), |multiple| Some(multiple + power)).take(HALF));
            power = halves[halves.len() - 1] + halves[halves.len() - 1];
        }
        let encodings = RistrettoPoint::double_and_compress_batch(&halves);
        let encodings: Vec<_> = encodings.iter().map(CompressedRistretto::to_bytes).collect();
        // SAFETY: a `Lanes` exists, so the processor has the instructions.
        let (points, _) = unsafe { decode(&encodings) };
        Self(points.as_chunks().0.to_vec())
    }
}

/// Digits in −8 … 8 of eight scalars, the lowest first.
type Digits8 = Zeroizing<[[i8; 8]; DIGITS]>;

fn digits(scalars: &[Scalar]) -> Digits8 {
    let mut digits = Digits8::new([[0; 8]; DIGITS]);
    for (lane, scalar) in scalars.iter().enumerate() {
        let nibble = |i: usize| (scalar.as_bytes()[i / 2] >> (4 * (i % 2)) & 15) as i8;
        let mut carry = 0;
        for (i, row) in digits.iter_mut().enumerate() {
            let digit = nibble(i) + carry;
            // None at the end, since a scalar is below 2^253.
            carry = (digit + 8) >> 4;
            row[lane] = digit - (carry << 4);
        }
    }
    digits
}

lane_functions! {
    /// The encoding of Σ table·scalars[i] over the terms, for each i; all terms have as many scalars.
    pub fn multiply(terms: &[(&Table, &[Scalar])]) -> Vec<[u8; 32]> {
        let count = terms.first().map_or(0, |(_, scalars)| scalars.len());
        let mut encodings = Vec::with_capacity(count + 7);
        for start in (0..count).step_by(8) {
            let eight = start..count.min(start + 8);
            let terms: Vec<_> = terms.iter().map(|(table, scalars)| (table, digits(&scalars[eight.clone()]))).collect();
            let mut sum = Point8::splat(&point::IDENTITY);
            for i in 0..DIGITS {
                for (table, digits) in &terms {
                    let (entry, negative) = select(&table.0[i], &digits[i]);
                    sum = sum.add_niels(entry, negative);
                }
            }
            encodings.extend(sum.encode().rows().iter().map(field::bytes));
        }
        encodings.truncate(count);
        encodings
    }

    /// digit·P in each lane, from the row of multiples of P: the positive multiple, and the lanes to negate.
    fn select(row: &[Niels; HALF], digits: &[i8; 8]) -> (Niels8, __mmask8) {
        let digits = _mm512_cvtepi8_epi64(_mm_cvtsi64_si128(i64::from_ne_bytes(digits.map(|digit| digit as u8))));
        let wanted = _mm512_abs_epi64(digits);
        let mut found = Niels8::splat(&Niels::IDENTITY);
        for (j, entry) in row.iter().enumerate() {
            found = found.select(_mm512_cmpeq_epi64_mask(wanted, _mm512_set1_epi64(j as i64 + 1)), Niels8::splat(entry));
        }
        (found, _mm512_movepi64_mask(digits))
    }
}
