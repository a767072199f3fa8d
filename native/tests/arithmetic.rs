//! The lanes against dalek, on encodings and scalars of every kind.

mod common;

use ballotboard_native::arithmetic::{Arithmetic, FixedBase, Plain};
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use proptest::prelude::*;

/// Encodings that a decoder may get wrong: RFC 9496, section A.2, and neighbours.
fn awkward() -> Vec<[u8; 32]> {
    let mut encodings = vec![[0; 32], [0xff; 32], common::bytes("no point")];
    let point = common::scalar("point");
    let valid = RistrettoPoint::mul_base(&point).compress().to_bytes();
    for bit in 0..256 {
        let mut encoding = valid;
        encoding[bit / 8] ^= 1 << (bit % 8);
        encodings.push(encoding);
    }
    // 0 … 31, and p − 20 … p + 20: small, negative, −1, zero and small numbers that are not reduced
    for small in 0..32 {
        let mut encoding = [0; 32];
        encoding[0] = small;
        encodings.push(encoding);
    }
    for low in 0xd9..=0xff {
        for top in [0x7f, 0xff] {
            let mut encoding = [0xff; 32];
            (encoding[0], encoding[31]) = (low, top);
            encodings.push(encoding);
        }
    }
    encodings
}

fn check_decoding(encodings: &[[u8; 32]]) {
    let (_, expected) = Plain.decode(encodings);
    with_each_arithmetic!(|arithmetic| {
        let (points, canonical) = arithmetic.decode(encodings);
        assert_eq!(canonical, expected);
        for (i, encoding) in encodings.iter().enumerate().filter(|(i, _)| canonical[*i]) {
            let sum = arithmetic.combine(&points, &[], &[(i as u32, 1)]);
            assert_eq!(arithmetic.encode(&[sum])[0], *encoding);
            assert_eq!(arithmetic.is_identity(&sum), *encoding == [0; 32]);
        }
    });
}

#[test]
fn awkward_encodings_are_judged_alike() {
    check_decoding(&awkward());
}

#[test]
fn a_number_of_points_that_does_not_fill_the_lanes_is_decoded() {
    let encodings = awkward();
    for count in 0..20 {
        check_decoding(&encodings[..count]);
    }
}

fn points(count: usize) -> Vec<[u8; 32]> {
    (0..count).map(|i| RistrettoPoint::mul_base(&common::scalar(&format!("point {i}"))).compress().to_bytes()).collect()
}

fn check_combination(encodings: &[[u8; 32]], long: &[(u32, Scalar)], short: &[(u32, u128)]) {
    let (decoded, _) = Plain.decode(encodings);
    let expected: RistrettoPoint = long.iter().map(|(i, scalar)| decoded[*i as usize] * scalar).sum::<RistrettoPoint>()
        + short.iter().map(|(i, scalar)| decoded[*i as usize] * Scalar::from(*scalar)).sum::<RistrettoPoint>();
    let expected = expected.compress().to_bytes();
    with_each_arithmetic!(|arithmetic| {
        let (points, _) = arithmetic.decode(encodings);
        let sum = arithmetic.combine(&points, long, short);
        assert_eq!(arithmetic.encode(&[sum])[0], expected);
        assert_eq!(arithmetic.is_identity(&sum), expected == [0; 32]);
        let twice = arithmetic.add(&sum, &sum);
        assert_eq!(arithmetic.encode(&[arithmetic.subtract(&twice, &sum)])[0], expected);
        assert!(arithmetic.is_identity(&arithmetic.subtract(&sum, &sum)));
    });
}

#[test]
fn combinations_with_the_smallest_and_largest_scalars_agree() {
    let encodings = points(3);
    let extreme = [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, -Scalar::from(2u64), Scalar::from(1u128 << 127)];
    for scalar in extreme {
        check_combination(&encodings, &[(0, scalar), (1, -scalar), (2, scalar)], &[]);
    }
    for scalar in [0, 1, u128::MAX, u128::MAX - 1, 1 << 127, u128::MAX / 3] {
        check_combination(&encodings, &[], &[(0, scalar), (1, scalar), (0, scalar)]);
    }
    check_combination(&encodings, &[], &[]);
}

#[test]
fn a_sum_that_cancels_is_the_identity() {
    let encodings = points(2);
    let x = common::scalar("x");
    check_combination(&encodings, &[(0, x), (1, x), (0, -x), (1, -x)], &[]);
    check_combination(&encodings, &[(0, -Scalar::from(u128::MAX))], &[(0, u128::MAX)]);
}

#[test]
fn large_combinations_agree() {
    // Enough for wide windows; every point twice.
    let encodings = points(64);
    let long: Vec<_> = (0..3000).map(|i| (i % 64, common::scalar(&format!("long {i}")))).collect();
    let short: Vec<_> =
        (0..3000).map(|i| (i % 64, u128::from_le_bytes(common::bytes(&format!("short {i}"))))).collect();
    check_combination(&encodings, &long, &short);
}

#[test]
fn sums_by_cell_agree_whatever_the_number_of_cells() {
    let encodings = [points(100), vec![[0; 32]; 3]].concat();
    for cells in [1, 2, 5, 40, 200] {
        let cell_of: Vec<u32> = (0..encodings.len() as u32).map(|i| i * i % cells).collect();
        let (decoded, _) = Plain.decode(&encodings);
        let mut expected = vec![Plain.identity(); cells as usize];
        decoded.iter().zip(&cell_of).for_each(|(point, cell)| expected[*cell as usize] += point);
        with_each_arithmetic!(|arithmetic| {
            let (points, _) = arithmetic.decode(&encodings);
            let mut sums = vec![arithmetic.identity(); cells as usize];
            arithmetic.accumulate(&points, &cell_of, &mut sums);
            assert_eq!(arithmetic.encode(&sums), Plain.encode(&expected));
        });
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged_alike(encodings: Vec<[u8; 32]>) {
        check_decoding(&encodings);
    }

    #[test]
    fn any_combination_agrees(
        long in prop::collection::vec((0u32..8, any::<[u8; 32]>()), 0..40),
        short in prop::collection::vec((0u32..8, any::<u128>()), 0..40),
    ) {
        let long: Vec<_> = long.into_iter().map(|(i, bytes)| (i, Scalar::from_bytes_mod_order(bytes))).collect();
        check_combination(&points(8), &long, &short);
    }
}

/// Scalars whose digits are extreme: all largest, all smallest, a carry through all of them.
fn awkward_scalars() -> Vec<Scalar> {
    let repeated = |byte: u8| Scalar::from_bytes_mod_order([byte; 32]);
    let small = (0..20u64).flat_map(|n| [Scalar::from(n), -Scalar::from(n)]);
    small.chain([0x77, 0x78, 0x87, 0x88, 0x08, 0x80, 0xff].map(repeated)).collect()
}

fn check_fixed_base(x: &[Scalar], y: &[Scalar]) {
    let key = RistrettoPoint::mul_base(&common::scalar("key"));
    let expected: Vec<_> =
        x.iter().zip(y).map(|(x, y)| (key * x + RistrettoPoint::mul_base(y)).compress().to_bytes()).collect();
    with_each_arithmetic!(|arithmetic| {
        assert_eq!(arithmetic.multiply(&[(&arithmetic.table(&key), x), (arithmetic.generator(), y)]), expected);
    });
}

#[test]
fn awkward_multiples_of_fixed_points_agree_also_where_they_cancel() {
    let (mut x, mut y) = (vec![], vec![]);
    for a in awkward_scalars() {
        x.extend(vec![a; awkward_scalars().len()]);
        y.extend(awkward_scalars());
    }
    x.push(common::scalar("x"));
    y.push(-common::scalar("x") * common::scalar("key"));
    check_fixed_base(&x, &y);
}

#[test]
fn a_number_of_scalars_that_does_not_fill_the_lanes_is_multiplied() {
    let scalars = awkward_scalars();
    (0..20).for_each(|count| check_fixed_base(&scalars[..count], &scalars[20..20 + count]));
}

proptest! {
    #[test]
    fn any_multiples_of_fixed_points_agree(bytes in prop::collection::vec(any::<([u8; 32], [u8; 32])>(), 0..20)) {
        let (x, y): (Vec<_>, Vec<_>) = bytes.into_iter().map(|(x, y)| (Scalar::from_bytes_mod_order(x), Scalar::from_bytes_mod_order(y))).unzip();
        check_fixed_base(&x, &y);
    }
}
