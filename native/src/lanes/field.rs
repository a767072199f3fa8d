//! Eight elements of GF(2^255 − 19) side by side, one per 64-bit lane of AVX-512, on its 52-bit multiply-add (IFMA).
//!
//! An element is five limbs of 51 bits, limb 0 the lowest. It is an invariant that every limb of a [`Field8`] is
//! below 2^51 + 2^18, hence below the 2^52 that the multiplier reads: `carry` establishes it from limbs below 2^63.

use core::arch::x86_64::*;

use super::lane_functions;

#[derive(Clone, Copy)]
pub struct Field8(pub [__m512i; 5]);

/// Five limbs of 51 bits.
pub type Limbs = [u64; 5];

const MASK: u64 = (1 << 51) - 1;
/// 4p, so that a − b + 4p is positive in every limb.
const FOUR_P: Limbs = [(1 << 53) - 76, (1 << 53) - 4, (1 << 53) - 4, (1 << 53) - 4, (1 << 53) - 4];

pub const ZERO: Limbs = [0; 5];
pub const ONE: Limbs = [1, 0, 0, 0, 0];
/// p − 1
pub const MINUS_ONE: Limbs = [MASK - 19, MASK, MASK, MASK, MASK];
/// −121665/121666, of the curve −x² + y² = 1 + d·x²·y²
pub const D: Limbs = [0x34dca135978a3, 0x1a8283b156ebd, 0x5e7a26001c029, 0x739c663a03cbb, 0x52036cee2b6ff];
pub const TWO_D: Limbs = [0x69b9426b2f159, 0x35050762add7a, 0x3cf44c0038052, 0x6738cc7407977, 0x2406d9dc56dff];
/// The even square root of −1
pub const SQRT_M1: Limbs = [0x61b274a0ea0b0, 0x0d5a5fc8f189d, 0x7ef5e9cbd0c60, 0x78595a6804c9e, 0x2b8324804fc1d];
/// 1/√(−1 − d)
pub const INVSQRT_A_MINUS_D: Limbs =
    [0x0fdaa805d40ea, 0x2eb482e57d339, 0x007610274bc58, 0x6510b613dc8ff, 0x786c8905cfaff];

/// The limbs of a little-endian number; bit 255 is dropped.
pub fn limbs(bytes: &[u8; 32]) -> Limbs {
    let [a, b, c, d] = words(bytes);
    [a & MASK, (a >> 51 | b << 13) & MASK, (b >> 38 | c << 26) & MASK, (c >> 25 | d << 39) & MASK, (d >> 12) & MASK]
}

/// The inverse of [`limbs`], of limbs below 2^51.
pub fn bytes(limbs: &Limbs) -> [u8; 32] {
    let [a, b, c, d, e] = *limbs;
    let words = [a | b << 51, b >> 13 | c << 38, c >> 26 | d << 25, d >> 39 | e << 12];
    let mut bytes = [0; 32];
    for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    bytes
}

/// True for a number below p whose lowest bit is 0, as the encoding of a ristretto255 point must be.
pub fn is_canonical_and_even(bytes: &[u8; 32]) -> bool {
    let [a, b, c, d] = words(bytes);
    let below_p = d < u64::MAX >> 1 || d == u64::MAX >> 1 && !(b == u64::MAX && c == u64::MAX && a >= u64::MAX - 18);
    below_p && a & 1 == 0
}

fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    core::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

lane_functions! {
    fn constant(x: u64) -> __m512i {
        _mm512_set1_epi64(x as i64)
    }

    /// 19·x, for x below 2^59.
    fn times_19(x: __m512i) -> __m512i {
        _mm512_add_epi64(_mm512_add_epi64(x, _mm512_slli_epi64::<1>(x)), _mm512_slli_epi64::<4>(x))
    }
}

impl Field8 {
    lane_functions! {
        /// The same element in every lane.
        pub fn splat(limbs: &Limbs) -> Self {
            Self(core::array::from_fn(|i| constant(limbs[i])))
        }

        /// Lane l of limb i is `columns[i][l]`.
        pub fn load(columns: &[[u64; 8]]) -> Self {
            // SAFETY: each column has the 64 bytes that are read.
            Self(core::array::from_fn(|i| unsafe { _mm512_loadu_si512(columns[i].as_ptr().cast()) }))
        }

        /// The inverse of `load`.
        pub fn store(&self, columns: &mut [[u64; 8]]) {
            for (column, limb) in columns.iter_mut().zip(self.0) {
                // SAFETY: the column has the 64 bytes that are written.
                unsafe { _mm512_storeu_si512(column.as_mut_ptr().cast(), limb) }
            }
        }

        /// One element per lane.
        pub fn from_rows(rows: &[Limbs; 8]) -> Self {
            Self::load(&core::array::from_fn::<_, 5, _>(|limb| core::array::from_fn(|lane| rows[lane][limb])))
        }

        pub fn rows(&self) -> [Limbs; 8] {
            let mut columns = [[0; 8]; 5];
            self.store(&mut columns);
            core::array::from_fn(|lane| core::array::from_fn(|limb| columns[limb][lane]))
        }

        /// Moves what is above 51 bits to the next limb, and from the last, times 19, to the first.
        fn carry(x: [__m512i; 5]) -> Self {
            let low = x.map(|limb| _mm512_and_si512(limb, constant(MASK)));
            let high = x.map(|limb| _mm512_srli_epi64::<51>(limb));
            Self([
                _mm512_madd52lo_epu64(low[0], high[4], constant(19)),
                _mm512_add_epi64(low[1], high[0]),
                _mm512_add_epi64(low[2], high[1]),
                _mm512_add_epi64(low[3], high[2]),
                _mm512_add_epi64(low[4], high[3]),
            ])
        }

        pub fn add(self, other: Self) -> Self {
            Self::carry(core::array::from_fn(|i| _mm512_add_epi64(self.0[i], other.0[i])))
        }

        pub fn double(self) -> Self {
            self.add(self)
        }

        pub fn sub(self, other: Self) -> Self {
            Self::carry(core::array::from_fn(|i| {
                _mm512_add_epi64(_mm512_sub_epi64(self.0[i], other.0[i]), constant(FOUR_P[i]))
            }))
        }

        pub fn negate(self) -> Self {
            Self::splat(&ZERO).sub(self)
        }

        /// Column sums of a product, in 2^51-steps from 0 to 9: z_i + 2^255·z_(i+5) = z_i + 19·z_(i+5). A column is
        /// below 15 · 2^52, so 20 of them are below 2^63.
        fn fold(z: [__m512i; 10]) -> Self {
            Self::carry(core::array::from_fn(|i| _mm512_add_epi64(z[i], times_19(z[i + 5]))))
        }

        pub fn mul(self, other: Self) -> Self {
            // The high half of a product of limbs i and j counts 2^52 = 2·2^51 steps i + j, hence is doubled.
            let (mut low, mut high) = ([_mm512_setzero_si512(); 10], [_mm512_setzero_si512(); 10]);
            for i in 0..5 {
                for j in 0..5 {
                    low[i + j] = _mm512_madd52lo_epu64(low[i + j], self.0[i], other.0[j]);
                    high[i + j + 1] = _mm512_madd52hi_epu64(high[i + j + 1], self.0[i], other.0[j]);
                }
            }
            Self::fold(core::array::from_fn(|i| _mm512_add_epi64(low[i], _mm512_add_epi64(high[i], high[i]))))
        }

        pub fn square(self) -> Self {
            // As `mul`; products of two different limbs are summed apart and doubled.
            let zero = [_mm512_setzero_si512(); 10];
            let (mut low, mut high, mut cross_low, mut cross_high) = (zero, zero, zero, zero);
            for i in 0..5 {
                low[2 * i] = _mm512_madd52lo_epu64(low[2 * i], self.0[i], self.0[i]);
                high[2 * i + 1] = _mm512_madd52hi_epu64(high[2 * i + 1], self.0[i], self.0[i]);
                for j in i + 1..5 {
                    cross_low[i + j] = _mm512_madd52lo_epu64(cross_low[i + j], self.0[i], self.0[j]);
                    cross_high[i + j + 1] = _mm512_madd52hi_epu64(cross_high[i + j + 1], self.0[i], self.0[j]);
                }
            }
            Self::fold(core::array::from_fn(|i| {
                let twice = _mm512_add_epi64(_mm512_add_epi64(high[i], cross_low[i]), _mm512_add_epi64(cross_high[i], cross_high[i]));
                _mm512_add_epi64(low[i], _mm512_add_epi64(twice, twice))
            }))
        }

        fn square_times(self, n: usize) -> Self {
            (0..n).fold(self, |x, _| x.square())
        }

        /// x^((p − 5)/8) = x^(2^252 − 3)
        pub fn pow_p58(self) -> Self {
            let x2 = self.square();
            let x9 = x2.square_times(2).mul(self);
            let x11 = x9.mul(x2);
            // e(n) = x^(2^n − 1)
            let e5 = x11.square().mul(x9);
            let e10 = e5.square_times(5).mul(e5);
            let e20 = e10.square_times(10).mul(e10);
            let e40 = e20.square_times(20).mul(e20);
            let e50 = e40.square_times(10).mul(e10);
            let e100 = e50.square_times(50).mul(e50);
            let e200 = e100.square_times(100).mul(e100);
            let e250 = e200.square_times(50).mul(e50);
            e250.square_times(2).mul(self)
        }

        /// The representative below p, with limbs below 2^51.
        pub fn canonical(self) -> Self {
            let mask = constant(MASK);
            let mut x = self.0;
            for _ in 0..2 {
                for i in 0..4 {
                    x[i + 1] = _mm512_add_epi64(x[i + 1], _mm512_srli_epi64::<51>(x[i]));
                    x[i] = _mm512_and_si512(x[i], mask);
                }
                x[0] = _mm512_madd52lo_epu64(x[0], _mm512_srli_epi64::<51>(x[4]), constant(19));
                x[4] = _mm512_and_si512(x[4], mask);
            }
            // Now x < 2p. It is at least p if x + 19 reaches 2^255; then that carry, times 19, is added and drops out.
            let mut carry = _mm512_srli_epi64::<51>(_mm512_add_epi64(x[0], constant(19)));
            for limb in &x[1..] {
                carry = _mm512_srli_epi64::<51>(_mm512_add_epi64(*limb, carry));
            }
            x[0] = _mm512_madd52lo_epu64(x[0], carry, constant(19));
            for i in 0..4 {
                x[i + 1] = _mm512_add_epi64(x[i + 1], _mm512_srli_epi64::<51>(x[i]));
                x[i] = _mm512_and_si512(x[i], mask);
            }
            x[4] = _mm512_and_si512(x[4], mask);
            Self(x)
        }

        /// The lanes in which a canonical element is this constant.
        pub fn lanes_equal(&self, other: &Limbs) -> __mmask8 {
            (0..5).fold(0xff, |lanes, i| lanes & _mm512_cmpeq_epi64_mask(self.0[i], constant(other[i])))
        }

        /// The lanes in which the element is negative, that is odd when below p (RFC 9496, section 4.1).
        pub fn lanes_negative(self) -> __mmask8 {
            _mm512_test_epi64_mask(self.canonical().0[0], constant(1))
        }

        /// `other` in these lanes.
        pub fn select(self, lanes: __mmask8, other: Self) -> Self {
            Self(core::array::from_fn(|i| _mm512_mask_blend_epi64(lanes, self.0[i], other.0[i])))
        }

        /// Negated where it is negative.
        pub fn abs(self) -> Self {
            self.select(self.lanes_negative(), self.negate())
        }

        /// r = ±1/√x and the lanes in which x is a non-zero square. Where x is 0, r is 0. In other lanes r has no
        /// meaning.
        pub fn inverse_sqrt(self) -> (Self, __mmask8) {
            let x3 = self.square().mul(self);
            let x7 = x3.square().mul(self);
            let r = x3.mul(x7.pow_p58());
            // x·r² is ±1 where x is a square, and then r or √−1·r is the root; else ±√−1.
            let check = self.mul(r.square()).canonical();
            let (plus, minus) = (check.lanes_equal(&ONE), check.lanes_equal(&MINUS_ONE));
            (r.select(minus, r.mul(Self::splat(&SQRT_M1))), plus | minus)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Lanes;

    /// Elements whose limbs are as large as the invariant allows, as small as can be, and in between.
    const EXTREME: [Limbs; 8] = [
        ZERO,
        ONE,
        MINUS_ONE,
        [MASK - 18, MASK, MASK, MASK, MASK], // p
        [MASK; 5],
        [(1 << 51) + (1 << 18) - 1; 5],
        SQRT_M1,
        [0x123456789abcd, MASK, 0, MASK, 1],
    ];

    lane_functions! {
        fn check() {
            let x = Field8::from_rows(&EXTREME);
            let same = |a: Field8, b: Field8| assert_eq!(a.canonical().rows(), b.canonical().rows());
            for shift in 0..8 {
                let y = Field8::from_rows(&core::array::from_fn(|lane| EXTREME[(lane + shift) % 8]));
                let z = Field8::from_rows(&core::array::from_fn(|lane| EXTREME[(3 * lane + shift) % 8]));
                same(x.mul(y), y.mul(x));
                same(x.mul(y.add(z)), x.mul(y).add(x.mul(z)));
                same(x.mul(y.sub(z)), x.mul(y).sub(x.mul(z)));
                same(x.add(y).square(), x.square().add(x.mul(y).double()).add(y.square()));
                same(x.mul(y).mul(z), x.mul(y.mul(z)));
                same(x.sub(y).add(y), x);
            }
            same(x.square(), x.mul(x));
            same(x.negate().negate(), x);
            let rows = x.canonical().rows();
            assert_eq!((rows[0], rows[1], rows[2], rows[3]), (ZERO, ONE, MINUS_ONE, ZERO));
            assert_eq!(rows[4], [18, 0, 0, 0, 0]); // 2^255 − 1
            assert_eq!(x.canonical().lanes_equal(&ZERO), 0b1001);
            assert_eq!(x.lanes_negative() & 0b1111, 0b0010); // 1 is odd, −1 = p − 1 is even
        }

        fn check_constants() {
            let (d, i) = (Field8::splat(&D), Field8::splat(&SQRT_M1));
            let small = |n: u64| Field8::splat(&[n, 0, 0, 0, 0]);
            assert_eq!(d.mul(small(121_666)).add(small(121_665)).canonical().rows()[0], ZERO);
            assert_eq!(d.double().canonical().rows()[0], TWO_D);
            assert_eq!(i.square().canonical().rows()[0], MINUS_ONE);
            assert_eq!(i.lanes_negative(), 0);
            let a_minus_d = small(1).add(d).negate();
            let root = Field8::splat(&INVSQRT_A_MINUS_D);
            assert_eq!(root.square().mul(a_minus_d).canonical().rows()[0], ONE);
        }
    }

    #[test]
    fn the_laws_of_a_field_hold_for_the_largest_limbs_where_the_processor_has_lanes() {
        if Lanes::detect().is_some() {
            // SAFETY: it has them.
            unsafe { check() };
        }
    }

    #[test]
    fn constants_are_what_they_are_called_where_the_processor_has_lanes() {
        if Lanes::detect().is_some() {
            // SAFETY: it has them.
            unsafe { check_constants() };
        }
    }

    #[test]
    fn limbs_and_bytes_are_inverse() {
        let number = crate::transcript::Transcript::new("number").digest();
        let mut number: [u8; 32] = number[..32].try_into().unwrap();
        number[31] &= 0x7f;
        assert_eq!(bytes(&limbs(&number)), number);
    }
}
