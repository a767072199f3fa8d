//! Many linear equations over the group, checked as one (docs/protocol.md, section 13).
//!
//! A *claim* is a set of equations that hold or fail together: one ballot's contests, one signature, one proof.
//! Each equation is multiplied by a fresh 128-bit weight from the operating system and all are added up; the sum is
//! the identity if every equation holds, and is so with probability 2^−128 if one does not. A sum that is not the
//! identity is split in halves until the claims that fail are named.

use std::ops::Range;

use curve25519_dalek::scalar::Scalar;

use crate::arithmetic::{Arithmetic, IDENTITY};

/// The number of points common to all claims, such as G and K.
pub const FIXED: usize = 2;

pub struct Batch {
    /// The encodings of all points, the fixed ones first.
    encodings: Vec<[u8; 32]>,
    /// (number of the point, coefficient)
    long: Vec<(u32, Scalar)>,
    short: Vec<(u32, u128)>,
    claims: Vec<Claim>,
    weights: Weights,
}

/// Where the terms of a claim are; its points begin at `points`.
struct Claim {
    points: Range<usize>,
    long: Range<usize>,
    short: Range<usize>,
    fixed: [Scalar; FIXED],
}

/// A claim under construction: terms are added to it, and it ends when it is dropped.
pub struct Terms<'a> {
    batch: &'a mut Batch,
    fixed: [Scalar; FIXED],
    start: (usize, usize, usize),
}

/// The number of a claim in its batch.
pub type ClaimNumber = usize;

impl Batch {
    /// `fixed` are valid points other than the identity.
    pub fn new(fixed: [[u8; 32]; FIXED]) -> Self {
        Self { encodings: fixed.to_vec(), long: vec![], short: vec![], claims: vec![], weights: Weights::default() }
    }

    pub fn claim(&mut self) -> Terms<'_> {
        let start = (self.encodings.len(), self.long.len(), self.short.len());
        Terms { batch: self, fixed: [Scalar::ZERO; FIXED], start }
    }

    pub fn points(&self) -> usize {
        self.encodings.len()
    }

    /// For each claim whether all its points are canonical and not the identity, and whether its equations hold.
    /// Equations over a wrong point do not hold.
    pub fn check<A: Arithmetic>(mut self, arithmetic: A) -> Vec<Verdict> {
        let (points, canonical) = arithmetic.decode(&self.encodings);
        let sent = |number: usize| canonical[number] && self.encodings[number] != IDENTITY;
        let mut verdicts: Vec<Verdict> = self
            .claims
            .iter()
            .map(|claim| if claim.points.clone().all(sent) { Verdict::Holds } else { Verdict::WrongPoint })
            .collect();
        for (claim, verdict) in self.claims.iter_mut().zip(&verdicts) {
            if *verdict == Verdict::WrongPoint {
                claim.fixed = [Scalar::ZERO; FIXED];
                self.long[claim.long.clone()].iter_mut().for_each(|(_, scalar)| *scalar = Scalar::ZERO);
                self.short[claim.short.clone()].iter_mut().for_each(|(_, scalar)| *scalar = 0);
            }
        }
        let all = 0..self.claims.len();
        let sum = self.sum(arithmetic, &points, all.clone());
        self.bisect(arithmetic, &points, all, sum, &mut verdicts);
        verdicts
    }

    fn sum<A: Arithmetic>(&self, arithmetic: A, points: &[A::Point], range: Range<usize>) -> A::Sum {
        let claims = &self.claims[range];
        let (Some(first), Some(last)) = (claims.first(), claims.last()) else { return arithmetic.identity() };
        let mut long = self.long[first.long.start..last.long.end].to_vec();
        for base in 0..FIXED {
            long.push((base as u32, claims.iter().map(|claim| claim.fixed[base]).sum()));
        }
        arithmetic.combine(points, &long, &self.short[first.short.start..last.short.end])
    }

    /// `sum` is that of `range`. The sum of a right half is the difference to the left, so a level costs half a batch.
    fn bisect<A: Arithmetic>(
        &self,
        arithmetic: A,
        points: &[A::Point],
        range: Range<usize>,
        sum: A::Sum,
        verdicts: &mut [Verdict],
    ) {
        if arithmetic.is_identity(&sum) {
            return;
        }
        if range.len() == 1 {
            verdicts[range.start] = Verdict::Fails;
            return;
        }
        let middle = range.start + range.len() / 2;
        let left = self.sum(arithmetic, points, range.start..middle);
        self.bisect(arithmetic, points, range.start..middle, left, verdicts);
        self.bisect(arithmetic, points, middle..range.end, arithmetic.subtract(&sum, &left), verdicts);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    Fails,
    WrongPoint,
}

impl Terms<'_> {
    /// A fresh weight for an equation.
    pub fn weight(&mut self) -> u128 {
        self.batch.weights.next()
    }

    pub fn long(&mut self, encoding: &[u8; 32], scalar: Scalar) {
        self.batch.long.push((self.batch.encodings.len() as u32, scalar));
        self.batch.encodings.push(*encoding);
    }

    pub fn short(&mut self, encoding: &[u8; 32], scalar: u128) {
        self.batch.short.push((self.batch.encodings.len() as u32, scalar));
        self.batch.encodings.push(*encoding);
    }

    pub fn fixed(&mut self, base: usize, scalar: Scalar) {
        self.fixed[base] += scalar;
    }
}

impl Drop for Terms<'_> {
    fn drop(&mut self) {
        let (points, long, short) = self.start;
        let batch = &mut *self.batch;
        batch.claims.push(Claim {
            points: points..batch.encodings.len(),
            long: long..batch.long.len(),
            short: short..batch.short.len(),
            fixed: self.fixed,
        });
    }
}

/// Random 128-bit numbers from the operating system, fetched many at a time.
struct Weights {
    buffer: [u8; 16 * Self::FETCH],
    used: usize,
}

impl Weights {
    /// The cost of a call to the system is small against 256 numbers.
    const FETCH: usize = 256;

    fn next(&mut self) -> u128 {
        if self.used == self.buffer.len() {
            getrandom::fill(&mut self.buffer).expect("the operating system gives random bytes");
            self.used = 0;
        }
        let weight = crate::transcript::low128(&self.buffer[self.used..]);
        self.used += 16;
        weight
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self { buffer: [0; 16 * Self::FETCH], used: 16 * Self::FETCH }
    }
}
