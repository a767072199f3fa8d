//! Multi-scalar multiplication by Pippenger's bucket method, long (253-bit) and short (128-bit) scalars in one pass.
//!
//! Scalars are cut into windows of c bits with signed digits. In each window the points of one digit are summed (their
//! bucket), then Σ digit·bucket is a running sum over the buckets. Eight buckets are filled at a time, one per lane;
//! the running sums of eight windows go side by side.

use curve25519_dalek::scalar::Scalar;

use super::buckets::{Buckets, Term, sum_buckets};
use super::lane_functions;
use super::point::{Columns, Extended, IDENTITY, Niels, Point8};

/// Bits of a scalar below the group order, and of a short one, with one for the sign of the last digit.
const LONG_BITS: usize = 254;
const SHORT_BITS: usize = 129;

const LANES: usize = 8;
/// Eight buckets that hold the identity.
const EMPTY: Columns = {
    let mut columns = [[0; LANES]; 20];
    columns[5] = [1; LANES];
    columns[10] = [1; LANES];
    columns
};

lane_functions! {
    /// Σ scalar·points[number] over both lists.
    pub fn combine(points: &[Niels], long: &[(u32, Scalar)], short: &[(u32, u128)]) -> Extended {
        let bits = window_bits(long.len(), short.len());
        let (windows, short_windows) = (LONG_BITS.div_ceil(bits), SHORT_BITS.div_ceil(bits));
        let count = long.len() + short.len();
        let buckets = 1 << (bits - 1);

        let numbers: Vec<u32> = long.iter().map(|(number, _)| *number).chain(short.iter().map(|(number, _)| *number)).collect();
        let mut digits = vec![0; windows * count];
        for (i, (_, scalar)) in long.iter().enumerate() {
            write_digits(scalar.as_bytes(), bits, digits[i..].iter_mut().step_by(count));
        }
        for (i, (_, scalar)) in short.iter().enumerate() {
            write_digits(&scalar.to_le_bytes(), bits, digits[long.len() + i..].iter_mut().step_by(count).take(short_windows));
        }

        // Bucket b is for the digits b + 1 and −b − 1.
        let mut sorted = Buckets::new(buckets, count);
        let mut table = vec![EMPTY; buckets];
        let mut sums = Vec::with_capacity(windows.next_multiple_of(LANES));
        for group in 0..windows.div_ceil(LANES) {
            table.fill(EMPTY);
            for window in (group * LANES..windows).take(LANES) {
                let terms = if window < short_windows { count } else { long.len() };
                let digits = digits[window * count..][..terms].iter().zip(&numbers).filter(|(digit, _)| **digit != 0);
                sorted.fill(digits.map(|(digit, number)| (digit.unsigned_abs() as usize - 1, Term::new(*number, *digit < 0))));
                sum_buckets(points, &sorted, |bucket, columns, lane| {
                    for (place, column) in table[bucket].iter_mut().zip(columns) {
                        place[window % LANES] = column[lane];
                    }
                });
            }
            // Σ digit·bucket: each bucket counts once for every bucket from 1 to its own.
            let (mut running, mut total) = (Point8::splat(&IDENTITY), Point8::splat(&IDENTITY));
            for bucket in table.iter().rev() {
                running = running.add(Point8::load(bucket));
                total = total.add(running);
            }
            sums.extend((0..LANES).map(|lane| total.lane(lane)));
        }

        let mut result = Point8::splat(&IDENTITY);
        for sum in sums[..windows].iter().rev() {
            for _ in 0..bits {
                result = result.double();
            }
            result = result.add(Point8::splat(sum));
        }
        result.lane(0)
    }
}

/// The c that needs the fewest additions of eight lanes.
fn window_bits(long: usize, short: usize) -> usize {
    let cost = |bits: &usize| {
        let windows = LONG_BITS.div_ceil(*bits);
        let filling = long * windows + short * SHORT_BITS.div_ceil(*bits);
        let running = (2 * LANES * windows.div_ceil(LANES)) << (bits - 1);
        filling + running + running / 2
    };
    (4..=13).min_by_key(cost).expect("the range is not empty")
}

/// Signed digits in −2^(bits−1) + 1 … 2^(bits−1) of a little-endian number, lowest first.
fn write_digits<'a>(number: &[u8], bits: usize, digits: impl Iterator<Item = &'a mut i16>) {
    // Zero bytes beyond the number, as a digit is cut from a word of 32 bits.
    let mut padded = [0; 40];
    padded[..number.len()].copy_from_slice(number);
    let mut carry = 0;
    for (window, digit) in digits.enumerate() {
        let bit = window * bits;
        let word = u32::from_le_bytes(padded[bit / 8..bit / 8 + 4].try_into().expect("four bytes"));
        let value = (word >> (bit % 8) & ((1 << bits) - 1)) as i32 + carry;
        carry = (value > 1 << (bits - 1)) as i32;
        *digit = (value - (carry << bits)) as i16;
    }
}
