//! The group arithmetic in eight lanes of AVX-512 IFMA: decoding is eight times as fast as dalek's, multi-scalar
//! multiplication two to three times. All of it is for public points, in variable time, but for `fixed`, which is for secrets and
//! uses only functions of `point` and `field` that take constant time.

mod buckets;
mod field;
mod fixed;
mod msm;
mod point;

use std::array;
use std::sync::OnceLock;

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;

use crate::arithmetic::{Arithmetic, FixedBase};
use buckets::{Buckets, Term, sum_buckets};
use point::{Extended, Niels, Niels8, Point8};

/// Functions that use the instructions which [`Lanes::detect`] looks for.
macro_rules! lane_functions {
    ($($(#[$meta:meta])* $visibility:vis fn $name:ident $(<$lifetime:lifetime>)? ($($arguments:tt)*) $(-> $result:ty)? $body:block)*) => {
        $($(#[$meta])* #[inline] #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
        $visibility fn $name $(<$lifetime>)? ($($arguments)*) $(-> $result)? $body)*
    };
}
use lane_functions;

/// Proof that this processor has the instructions: there is no other way to make one than [`Lanes::detect`].
#[derive(Clone, Copy)]
pub struct Lanes(());

impl Lanes {
    pub fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma");
        has_all.then_some(Self(()))
    }
}

/// Cells are split into as many buckets as keep all lanes busy.
const MIN_BUCKETS: usize = 32;

// SAFETY of every `unsafe` below: a `Lanes` exists, so the processor has the instructions of the `lane_functions`.
impl Arithmetic for Lanes {
    type Point = Niels;
    type Sum = Extended;

    fn name(self) -> &'static str {
        "AVX-512 IFMA"
    }

    fn decode(self, encodings: &[[u8; 32]]) -> (Vec<Niels>, Vec<bool>) {
        unsafe { decode(encodings) }
    }

    fn combine(self, points: &[Niels], long: &[(u32, Scalar)], short: &[(u32, u128)]) -> Extended {
        unsafe { msm::combine(points, long, short) }
    }

    fn accumulate(self, points: &[Niels], cells: &[u32], sums: &mut [Extended]) {
        unsafe { accumulate(points, cells, sums) }
    }

    fn identity(self) -> Extended {
        point::IDENTITY
    }

    fn add(self, a: &Extended, b: &Extended) -> Extended {
        unsafe { add(a, b) }
    }

    fn subtract(self, a: &Extended, b: &Extended) -> Extended {
        unsafe { subtract(a, b) }
    }

    fn is_identity(self, sum: &Extended) -> bool {
        unsafe { is_identity(sum) }
    }

    fn encode(self, sums: &[Extended]) -> Vec<[u8; 32]> {
        unsafe { encode(sums) }
    }
}

impl FixedBase for Lanes {
    type Table = fixed::Table;

    fn generator(self) -> &'static fixed::Table {
        static GENERATOR: OnceLock<fixed::Table> = OnceLock::new();
        GENERATOR.get_or_init(|| self.table(&RISTRETTO_BASEPOINT_POINT))
    }

    fn table(self, point: &RistrettoPoint) -> fixed::Table {
        fixed::Table::new(self, point)
    }

    fn multiply(self, terms: &[(&fixed::Table, &[Scalar])]) -> Vec<[u8; 32]> {
        unsafe { fixed::multiply(terms) }
    }
}

lane_functions! {
    fn decode(encodings: &[[u8; 32]]) -> (Vec<Niels>, Vec<bool>) {
        let mut points = Vec::with_capacity(encodings.len() + 7);
        let mut canonical = Vec::with_capacity(encodings.len());
        for chunk in encodings.chunks(8) {
            let mut rows = [field::ZERO; 8];
            for (row, encoding) in rows.iter_mut().zip(chunk) {
                *row = field::limbs(encoding);
            }
            let (decoded, good) = Niels8::decode(field::Field8::from_rows(&rows));
            points.extend(decoded.scatter());
            canonical.extend(chunk.iter().enumerate().map(|(lane, encoding)| good >> lane & 1 == 1 && field::is_canonical_and_even(encoding)));
        }
        points.truncate(encodings.len());
        (points, canonical)
    }

    fn accumulate(points: &[Niels], cells: &[u32], sums: &mut [Extended]) {
        let split = MIN_BUCKETS.div_ceil(sums.len().max(1));
        let mut buckets = Buckets::new(sums.len() * split, points.len());
        buckets.fill(cells.iter().enumerate().map(|(i, cell)| (*cell as usize * split + i % split, Term::new(i as u32, false))));
        sum_buckets(points, &buckets, |bucket, columns, lane| {
            let sum = &mut sums[bucket / split];
            *sum = add(sum, &array::from_fn(|coordinate| array::from_fn(|limb| columns[5 * coordinate + limb][lane])));
        });
    }

    fn add(a: &Extended, b: &Extended) -> Extended {
        Point8::splat(a).add(Point8::splat(b)).lane(0)
    }

    fn subtract(a: &Extended, b: &Extended) -> Extended {
        Point8::splat(a).add(Point8::splat(b).negate()).lane(0)
    }

    fn is_identity(sum: &Extended) -> bool {
        Point8::splat(sum).lanes_identity() != 0
    }

    fn encode(sums: &[Extended]) -> Vec<[u8; 32]> {
        let mut encodings = Vec::with_capacity(sums.len() + 7);
        for chunk in sums.chunks(8) {
            let mut rows = [point::IDENTITY; 8];
            rows[..chunk.len()].copy_from_slice(chunk);
            encodings.extend(Point8::from_rows(&rows).encode().rows().iter().map(field::bytes));
        }
        encodings.truncate(sums.len());
        encodings
    }
}
