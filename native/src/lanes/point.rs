//! Eight points of the curve side by side, their decoding and encoding as ristretto255 (RFC 9496, section 4.3).

use core::arch::x86_64::*;

use super::field::{self, Field8, Limbs};
use super::lane_functions;

/// Extended coordinates: x = X/Z, y = Y/Z, x·y = T/Z.
#[derive(Clone, Copy)]
pub struct Point8 {
    pub x: Field8,
    pub y: Field8,
    pub z: Field8,
    pub t: Field8,
}

/// Eight affine points as y + x, y − x, 2d·x·y: what is cheapest to add.
#[derive(Clone, Copy)]
pub struct Niels8 {
    y_plus_x: Field8,
    y_minus_x: Field8,
    two_dxy: Field8,
}

/// One point in that form: 3 × 5 limbs and one to fill two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Niels([u64; 16]);

impl Niels {
    pub const IDENTITY: Self = Self([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// One point in extended coordinates X, Y, Z, T.
pub type Extended = [Limbs; 4];

pub const IDENTITY: Extended = [field::ZERO, field::ONE, field::ONE, field::ZERO];

/// Limbs of eight points in extended coordinates: X, Y, Z, T by five limbs by eight lanes.
pub type Columns = [[u64; 8]; 20];

lane_functions! {
    /// The transpose of an 8 × 8 matrix of words.
    fn transpose(r: [__m512i; 8]) -> [__m512i; 8] {
        // 2 × 2 blocks first, then the blocks of 128 bits, then those of 256.
        let (a, b) = (_mm512_unpacklo_epi64(r[0], r[1]), _mm512_unpackhi_epi64(r[0], r[1]));
        let (c, d) = (_mm512_unpacklo_epi64(r[2], r[3]), _mm512_unpackhi_epi64(r[2], r[3]));
        let (e, f) = (_mm512_unpacklo_epi64(r[4], r[5]), _mm512_unpackhi_epi64(r[4], r[5]));
        let (g, h) = (_mm512_unpacklo_epi64(r[6], r[7]), _mm512_unpackhi_epi64(r[6], r[7]));
        let (ac0, ac1) = (_mm512_shuffle_i64x2::<0x88>(a, c), _mm512_shuffle_i64x2::<0xdd>(a, c));
        let (eg0, eg1) = (_mm512_shuffle_i64x2::<0x88>(e, g), _mm512_shuffle_i64x2::<0xdd>(e, g));
        let (bd0, bd1) = (_mm512_shuffle_i64x2::<0x88>(b, d), _mm512_shuffle_i64x2::<0xdd>(b, d));
        let (fh0, fh1) = (_mm512_shuffle_i64x2::<0x88>(f, h), _mm512_shuffle_i64x2::<0xdd>(f, h));
        [
            _mm512_shuffle_i64x2::<0x88>(ac0, eg0),
            _mm512_shuffle_i64x2::<0x88>(bd0, fh0),
            _mm512_shuffle_i64x2::<0x88>(ac1, eg1),
            _mm512_shuffle_i64x2::<0x88>(bd1, fh1),
            _mm512_shuffle_i64x2::<0xdd>(ac0, eg0),
            _mm512_shuffle_i64x2::<0xdd>(bd0, fh0),
            _mm512_shuffle_i64x2::<0xdd>(ac1, eg1),
            _mm512_shuffle_i64x2::<0xdd>(bd1, fh1),
        ]
    }
}

impl Niels8 {
    lane_functions! {
        /// One point per lane.
        pub fn gather(points: [&Niels; 8]) -> Self {
            // SAFETY: a Niels has the 128 bytes that are read, aligned to 64.
            let half = |offset: usize| points.map(|point| unsafe { _mm512_load_si512(point.0.as_ptr().add(offset).cast()) });
            let (a, b) = (transpose(half(0)), transpose(half(8)));
            Self {
                y_plus_x: Field8([a[0], a[1], a[2], a[3], a[4]]),
                y_minus_x: Field8([a[5], a[6], a[7], b[0], b[1]]),
                two_dxy: Field8([b[2], b[3], b[4], b[5], b[6]]),
            }
        }

        /// The same point in every lane.
        pub fn splat(point: &Niels) -> Self {
            let coordinate = |start: usize| Field8(core::array::from_fn(|limb| _mm512_set1_epi64(point.0[start + limb] as i64)));
            Self { y_plus_x: coordinate(0), y_minus_x: coordinate(5), two_dxy: coordinate(10) }
        }

        /// `other` in these lanes.
        pub fn select(self, lanes: __mmask8, other: Self) -> Self {
            Self {
                y_plus_x: self.y_plus_x.select(lanes, other.y_plus_x),
                y_minus_x: self.y_minus_x.select(lanes, other.y_minus_x),
                two_dxy: self.two_dxy.select(lanes, other.two_dxy),
            }
        }

        /// The inverse of `gather`.
        pub fn scatter(&self) -> [Niels; 8] {
            let (p, m, t) = (self.y_plus_x.0, self.y_minus_x.0, self.two_dxy.0);
            let a = transpose([p[0], p[1], p[2], p[3], p[4], m[0], m[1], m[2]]);
            let b = transpose([m[3], m[4], t[0], t[1], t[2], t[3], t[4], _mm512_setzero_si512()]);
            let mut points = [Niels::IDENTITY; 8];
            for ((point, a), b) in points.iter_mut().zip(a).zip(b) {
                // SAFETY: a Niels has the 128 bytes that are written, aligned to 64.
                unsafe {
                    _mm512_store_si512(point.0.as_mut_ptr().cast(), a);
                    _mm512_store_si512(point.0.as_mut_ptr().add(8).cast(), b);
                }
            }
            points
        }

        /// Negated in these lanes, but for the sign of `two_dxy`, which the additions see to.
        fn swap(self, lanes: __mmask8) -> Self {
            Self {
                y_plus_x: self.y_plus_x.select(lanes, self.y_minus_x),
                y_minus_x: self.y_minus_x.select(lanes, self.y_plus_x),
                ..self
            }
        }

        /// The points, negated in the lanes of `negative`.
        pub fn to_extended(self, negative: __mmask8) -> Point8 {
            // (2x : 2y : 2 : 2xy), all doubled, so that T = (2x)·(2y) needs no division.
            let point = self.swap(negative);
            let x = point.y_plus_x.sub(point.y_minus_x);
            let y = point.y_plus_x.add(point.y_minus_x);
            Point8 { x: x.double(), y: y.double(), z: Field8::splat(&[4, 0, 0, 0, 0]), t: x.mul(y) }
        }

        /// Decodes ristretto255 points from s, which is even and below p; the lanes that hold a point. The others may
        /// hold anything.
        pub fn decode(s: Field8) -> (Self, __mmask8) {
            let one = Field8::splat(&field::ONE);
            let ss = s.square();
            let (u1, u2) = (one.sub(ss), one.add(ss));
            let u2_squared = u2.square();
            let v = Field8::splat(&field::D).mul(u1.square()).add(u2_squared).negate();
            let (inverse, square) = v.mul(u2_squared).inverse_sqrt();
            let den_x = inverse.mul(u2);
            let den_y = inverse.mul(den_x).mul(v);
            let x = s.double().mul(den_x).abs();
            let y = u1.mul(den_y);
            let t = x.mul(y);
            let good = square & !t.lanes_negative() & !y.canonical().lanes_equal(&field::ZERO);
            (Self { y_plus_x: y.add(x), y_minus_x: y.sub(x), two_dxy: t.mul(Field8::splat(&field::TWO_D)) }, good)
        }
    }
}

impl Point8 {
    lane_functions! {
        /// The same point in every lane.
        pub fn splat(point: &Extended) -> Self {
            let [x, y, z, t] = point;
            Self { x: Field8::splat(x), y: Field8::splat(y), z: Field8::splat(z), t: Field8::splat(t) }
        }

        pub fn load(columns: &Columns) -> Self {
            let [x, y, z, t] = [0, 5, 10, 15].map(|start| Field8::load(&columns[start..start + 5]));
            Self { x, y, z, t }
        }

        pub fn store(&self, columns: &mut Columns) {
            for (place, coordinate) in columns.chunks_exact_mut(5).zip([self.x, self.y, self.z, self.t]) {
                coordinate.store(place);
            }
        }

        /// The point of one lane.
        pub fn lane(&self, lane: usize) -> Extended {
            [self.x, self.y, self.z, self.t].map(|coordinate| coordinate.rows()[lane])
        }

        /// One point per lane.
        pub fn from_rows(points: &[Extended; 8]) -> Self {
            let [x, y, z, t] = [0, 1, 2, 3].map(|c| Field8::from_rows(&points.map(|point| point[c])));
            Self { x, y, z, t }
        }

        /// Adds the points, or subtracts them in the lanes of `negative` (Hisil et al. 2008, mixed, a = −1).
        pub fn add_niels(self, other: Niels8, negative: __mmask8) -> Self {
            let other = other.swap(negative);
            let a = self.y.sub(self.x).mul(other.y_minus_x);
            let b = self.y.add(self.x).mul(other.y_plus_x);
            let c = self.t.mul(other.two_dxy);
            let d = self.z.double();
            let (minus, plus) = (d.sub(c), d.add(c));
            Self::from_efgh(b.sub(a), minus.select(negative, plus), plus.select(negative, minus), b.add(a))
        }

        pub fn add(self, other: Self) -> Self {
            let a = self.y.sub(self.x).mul(other.y.sub(other.x));
            let b = self.y.add(self.x).mul(other.y.add(other.x));
            let c = self.t.mul(other.t).mul(Field8::splat(&field::TWO_D));
            let d = self.z.mul(other.z).double();
            Self::from_efgh(b.sub(a), d.sub(c), d.add(c), b.add(a))
        }

        pub fn double(self) -> Self {
            let (a, b, c) = (self.x.square(), self.y.square(), self.z.square().double());
            let h = a.add(b);
            let g = a.sub(b);
            Self::from_efgh(h.sub(self.x.add(self.y).square()), c.add(g), g, h)
        }

        /// The completed point x = e/g, y = h/f.
        fn from_efgh(e: Field8, f: Field8, g: Field8, h: Field8) -> Self {
            Self { x: e.mul(f), y: g.mul(h), z: f.mul(g), t: e.mul(h) }
        }

        pub fn negate(self) -> Self {
            Self { x: self.x.negate(), t: self.t.negate(), ..self }
        }

        /// The lanes that hold the identity of ristretto255, which is four points of the curve: those with x·y = 0.
        pub fn lanes_identity(&self) -> __mmask8 {
            self.t.canonical().lanes_equal(&field::ZERO)
        }

        /// s of each point, in canonical form.
        pub fn encode(self) -> Field8 {
            let u1 = self.z.add(self.y).mul(self.z.sub(self.y));
            let u2 = self.x.mul(self.y);
            let (inverse, _) = u1.mul(u2.square()).inverse_sqrt();
            let (den1, den2) = (inverse.mul(u1), inverse.mul(u2));
            let z_inverse = den1.mul(den2).mul(self.t);
            let sqrt_m1 = Field8::splat(&field::SQRT_M1);
            let rotate = self.t.mul(z_inverse).lanes_negative();
            let x = self.x.select(rotate, self.y.mul(sqrt_m1));
            let y = self.y.select(rotate, self.x.mul(sqrt_m1));
            let den = den2.select(rotate, den1.mul(Field8::splat(&field::INVSQRT_A_MINUS_D)));
            let y = y.select(x.mul(z_inverse).lanes_negative(), y.negate());
            den.mul(self.z.sub(y)).abs().canonical()
        }
    }
}
