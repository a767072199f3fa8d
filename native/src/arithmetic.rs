//! The group arithmetic that is worth doing for many points at a time, as two traits with two implementations:
//! [`Plain`] is curve25519-dalek and runs everywhere, `lanes::Lanes` is our own for CPUs with AVX-512 IFMA.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoBasepointTable, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity, IsIdentity, VartimeMultiscalarMul};
use zeroize::Zeroizing;

/// The canonical encoding of the identity.
pub const IDENTITY: [u8; 32] = [0; 32];

/// What batches and sums need, on public points: it may take variable time.
pub trait Arithmetic: Copy + Sync {
    /// A decoded point, in the form that is cheapest to add.
    type Point: Send + Sync;
    /// A result of additions.
    type Sum: Copy + Send;

    /// What a report calls it.
    fn name(self) -> &'static str;

    /// The points, and whether each encoding is canonical. The point of an encoding that is not may be anything.
    fn decode(self, encodings: &[[u8; 32]]) -> (Vec<Self::Point>, Vec<bool>);

    /// Σ scalar·points[index] over both lists; `short` is cheaper.
    fn combine(self, points: &[Self::Point], long: &[(u32, Scalar)], short: &[(u32, u128)]) -> Self::Sum;

    /// Adds every point to `sums[cell]`, its own cell from `cells`.
    fn accumulate(self, points: &[Self::Point], cells: &[u32], sums: &mut [Self::Sum]);

    fn identity(self) -> Self::Sum;
    fn add(self, a: &Self::Sum, b: &Self::Sum) -> Self::Sum;
    fn subtract(self, a: &Self::Sum, b: &Self::Sum) -> Self::Sum;
    fn is_identity(self, sum: &Self::Sum) -> bool;
    fn encode(self, sums: &[Self::Sum]) -> Vec<[u8; 32]>;
}

/// What creation needs: multiples of points known in advance by secret scalars, in constant time.
pub trait FixedBase: Copy + Sync {
    /// Multiples of one point.
    type Table: Send + Sync + 'static;

    /// The table of G.
    fn generator(self) -> &'static Self::Table;

    fn table(self, point: &RistrettoPoint) -> Self::Table;

    /// The encoding of Σ point·scalars[i] over the terms, for each i; all terms have as many scalars.
    fn multiply(self, terms: &[(&Self::Table, &[Scalar])]) -> Vec<[u8; 32]>;
}

/// curve25519-dalek
#[derive(Clone, Copy)]
pub struct Plain;

impl Arithmetic for Plain {
    type Point = RistrettoPoint;
    type Sum = RistrettoPoint;

    fn name(self) -> &'static str {
        "curve25519-dalek"
    }

    fn decode(self, encodings: &[[u8; 32]]) -> (Vec<RistrettoPoint>, Vec<bool>) {
        encodings
            .iter()
            .map(|encoding| match CompressedRistretto(*encoding).decompress() {
                Some(point) => (point, true),
                None => (RistrettoPoint::identity(), false),
            })
            .unzip()
    }

    fn combine(self, points: &[RistrettoPoint], long: &[(u32, Scalar)], short: &[(u32, u128)]) -> RistrettoPoint {
        let scalars =
            long.iter().map(|(_, scalar)| *scalar).chain(short.iter().map(|(_, scalar)| Scalar::from(*scalar)));
        let indices = long.iter().map(|(index, _)| index).chain(short.iter().map(|(index, _)| index));
        RistrettoPoint::vartime_multiscalar_mul(scalars, indices.map(|index| &points[*index as usize]))
    }

    fn accumulate(self, points: &[RistrettoPoint], cells: &[u32], sums: &mut [RistrettoPoint]) {
        for (point, cell) in points.iter().zip(cells) {
            sums[*cell as usize] += point;
        }
    }

    fn identity(self) -> RistrettoPoint {
        RistrettoPoint::identity()
    }

    fn add(self, a: &RistrettoPoint, b: &RistrettoPoint) -> RistrettoPoint {
        a + b
    }

    fn subtract(self, a: &RistrettoPoint, b: &RistrettoPoint) -> RistrettoPoint {
        a - b
    }

    fn is_identity(self, sum: &RistrettoPoint) -> bool {
        IsIdentity::is_identity(sum)
    }

    fn encode(self, sums: &[RistrettoPoint]) -> Vec<[u8; 32]> {
        sums.iter().map(|sum| sum.compress().to_bytes()).collect()
    }
}

impl FixedBase for Plain {
    type Table = RistrettoBasepointTable;

    fn generator(self) -> &'static RistrettoBasepointTable {
        RISTRETTO_BASEPOINT_TABLE
    }

    fn table(self, point: &RistrettoPoint) -> RistrettoBasepointTable {
        RistrettoBasepointTable::create(point)
    }

    fn multiply(self, terms: &[(&RistrettoBasepointTable, &[Scalar])]) -> Vec<[u8; 32]> {
        let count = terms.first().map_or(0, |(_, scalars)| scalars.len());
        // Halves, since dalek encodes doubles of many points at a tenth of the price.
        let half =
            |i: usize| terms.iter().map(|(table, scalars)| *table * &*Zeroizing::new(scalars[i].div_by_2())).sum();
        let halves: Zeroizing<Vec<RistrettoPoint>> = Zeroizing::new((0..count).map(half).collect());
        RistrettoPoint::double_and_compress_batch(&*halves).iter().map(CompressedRistretto::to_bytes).collect()
    }
}

/// True for the canonical encoding of a point other than the identity: what section 1 demands of every point sent.
pub fn is_point(encoding: &[u8; 32]) -> bool {
    *encoding != IDENTITY && CompressedRistretto(*encoding).decompress().is_some()
}
