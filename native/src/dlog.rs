//! Totals from m·G: baby-step giant-step over public points, in variable time.

use std::collections::HashMap;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;

use crate::error::{Result, fail};
use crate::parallel;

/// Far above any election; a walk to it takes about a second.
const MAX_MAXIMUM: u64 = 1 << 40;
/// Keeps the table of baby steps below 40 MB; more would not fit a processor's cache.
const MAX_TABLE: u64 = 1 << 20;
/// Points encoded together, in both kinds of step.
const BATCH: usize = 64;

/// The m of each point m·G with 0 ≤ m ≤ maximum; none where there is none.
pub fn discrete_logs(points: &[[u8; 32]], maximum: u64, threads: usize) -> Result<Vec<Option<u64>>> {
    if maximum > MAX_MAXIMUM {
        fail!("maximum: {maximum} is above {MAX_MAXIMUM}");
    }
    let mut decoded = Vec::with_capacity(points.len());
    for (number, encoding) in points.iter().enumerate() {
        match CompressedRistretto(*encoding).decompress() {
            Some(point) => decoded.push(point),
            None => fail!("points[{number}]: not the canonical encoding of a ristretto255 point"),
        }
    }
    let table = BabySteps::new(maximum, points.len());
    Ok(parallel::map(threads, decoded.len(), |i| table.solve(&decoded[i], maximum)))
}

/// The numbers 0 … width − 1 by the first 8 bytes of i·G.
struct BabySteps {
    width: u64,
    steps: HashMap<[u8; 8], u32>,
}

impl BabySteps {
    /// The width that balances one table against `count` walks.
    fn new(maximum: u64, count: usize) -> Self {
        let width = ((maximum as f64 + 1.0) * count as f64).sqrt().ceil() as u64;
        let width = width.clamp(1, MAX_TABLE).min(maximum + 1);
        let mut steps = HashMap::with_capacity(width as usize);
        let half = half();
        for (i, encoding) in (0..width).zip(walk(RistrettoPoint::identity(), RistrettoPoint::mul_base(&half))) {
            steps.insert(prefix(&encoding), i as u32);
        }
        Self { width, steps }
    }

    fn solve(&self, point: &RistrettoPoint, maximum: u64) -> Option<u64> {
        let half = half();
        let giant = RistrettoPoint::mul_base(&(-Scalar::from(self.width) * half));
        for (i, encoding) in (0..=maximum / self.width).zip(walk(point * half, giant)) {
            if let Some(rest) = self.steps.get(&prefix(&encoding)) {
                let m = i * self.width + u64::from(*rest);
                // A prefix may belong to two points: only the whole point decides.
                if m <= maximum && RistrettoPoint::mul_base(&Scalar::from(m)) == *point {
                    return Some(m);
                }
            }
        }
        None
    }
}

/// The encodings of 2·start, 2·(start + step), 2·(start + 2·step), …
fn walk(start: RistrettoPoint, step: RistrettoPoint) -> impl Iterator<Item = CompressedRistretto> {
    let mut next = start;
    std::iter::repeat_with(move || {
        let batch: Vec<RistrettoPoint> =
            std::iter::successors(Some(next), |point| Some(point + step)).take(BATCH).collect();
        next = batch[BATCH - 1] + step;
        RistrettoPoint::double_and_compress_batch(&batch)
    })
    .flatten()
}

fn half() -> Scalar {
    Scalar::ONE.div_by_2()
}

fn prefix(encoding: &CompressedRistretto) -> [u8; 8] {
    *encoding.as_bytes().first_chunk().expect("an encoding has 32 bytes")
}
