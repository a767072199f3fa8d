//! Any bytes at all into everything that reads bytes: no panic, no hang, and one answer from both arithmetics. Each
//! `target_*` takes bytes and asserts; proptest feeds it, with PROPTEST_CASES inputs for each test (`make soak` gives many).

mod common;

use std::sync::LazyLock;

use ballotboard_native::arithmetic::Plain;
use ballotboard_native::credential::fixed_rows;
use ballotboard_native::equality::{self, PROOF, Proofs};
use ballotboard_native::knowledge;
use ballotboard_native::packed::{Roll, pieces, rows};
use ballotboard_native::sums::{Groups, add_columns, sums};
use ballotboard_native::verify::{Reason, verify};
use ballotboard_native::{dlog, merkle};
use common::World;
use proptest::prelude::*;

static WORLD: LazyLock<World> = LazyLock::new(common::world);

/// `data` as a body under the honest roll.
fn target_body(data: &[u8]) {
    let known = WORLD.ballots.iter().any(|ballot| ballot == data);
    let mut bodies = WORLD.bodies();
    bodies.insert(7, data);
    with_each_arithmetic!(|arithmetic| {
        let mut reasons = verify(arithmetic, &WORLD.election, &bodies, WORLD.roll(), 1);
        assert_eq!(reasons, verify(Plain, &WORLD.election, &bodies, WORLD.roll(), 2));
        assert_eq!(reasons.remove(7) == Reason::Valid, known);
        assert!(reasons.iter().all(|reason| *reason == Reason::Valid), "a neighbour changed");
    });
}

/// `data` as packed bodies, and as a roll.
fn target_packed(data: &[u8]) {
    if let Ok(bodies) = pieces::<2>(data) {
        assert_eq!(bodies.iter().map(|body| body.len() + 2).sum::<usize>(), data.len());
        let groups = vec![[0; 4]; bodies.len()];
        let groups = Groups { of_ballot: &groups, count: 1 };
        with_each_arithmetic!(|arithmetic| {
            let reasons = verify(arithmetic, &WORLD.election, &bodies, WORLD.roll(), 2);
            assert_eq!(reasons.len(), bodies.len());
            let _ = sums(arithmetic, &WORLD.election, &bodies, WORLD.roll(), "mayor", &groups, 2);
        });
    }
    let _ = pieces::<4>(data);
    if let Ok(roll) = Roll::new(data) {
        with_each_arithmetic!(|arithmetic| {
            let reasons = verify(arithmetic, &WORLD.election, &WORLD.bodies(), roll, 1);
            assert!(reasons.iter().all(|reason| *reason != Reason::Valid));
        });
    }
}

/// `data` as points and as proofs.
fn target_points(data: &[u8]) {
    let points = &rows::<32>(&data[..data.len() / 32 * 32], "points").unwrap();
    let plain = add_columns(Plain, 2, points, 1);
    with_each_arithmetic!(|arithmetic| { assert_eq!(plain, add_columns(arithmetic, 2, points, 2)) });
    let _ = dlog::discrete_logs(points, 1000, 1);
    assert!(points.is_empty() || merkle::inclusion_proof(points, points.len() - 1).is_ok());

    let proofs = rows::<PROOF>(&data[..data.len() / PROOF * PROOF], "proofs").unwrap();
    let statements = vec![&b"statement"[..]; proofs.len()];
    let (points, images) = (&points[..proofs.len()], &points[points.len() - proofs.len()..]);
    let public = &WORLD.election.key;
    let claims = Proofs { name: "partial", public, statements: &statements, points, images, proofs };
    with_each_arithmetic!(|arithmetic| {
        assert!(equality::verify(arithmetic, &claims, 1).unwrap().iter().all(|valid| !valid));
    });
    target_knowledge(data);
}

/// `data` as proofs of knowledge with their public keys, as points and as scalars.
fn target_knowledge(data: &[u8]) {
    let rows_of_three = rows::<{ 32 + knowledge::PROOF }>(&data[..data.len() / 96 * 96], "claims").unwrap();
    let (publics, proofs): (Vec<[u8; 32]>, Vec<[u8; knowledge::PROOF]>) =
        rows_of_three.iter().map(|row| (*row.first_chunk().unwrap(), *row.last_chunk().unwrap())).unzip();
    let statements = vec![&b"statement"[..]; proofs.len()];
    let points = &rows::<32>(&data[..data.len() / 32 * 32], "points").unwrap()[..(data.len() / 32).min(2)];
    let scalars = rows::<32>(&data[..data.len() / 64 * 64], "scalars").unwrap();
    let plain = fixed_rows(Plain, points, scalars, 1);
    with_each_arithmetic!(|arithmetic| {
        let valid = knowledge::verify(arithmetic, "unit-sum", &statements, &publics, &proofs, 2).unwrap();
        assert!(valid.len() == proofs.len() && valid.iter().all(|valid| !valid));
        assert_eq!(plain, fixed_rows(arithmetic, points, scalars, 2));
    });
}

/// A ballot with some of its bytes replaced, by pieces of 32 bytes of another or at random.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0u8..4);
    (0..WORLD.ballots.len(), 0..WORLD.ballots.len(), prop::collection::vec(edit, 0..4)).prop_map(
        |(ballot, other, edits)| {
            let (mut body, other) = (WORLD.ballots[ballot].clone(), &WORLD.ballots[other]);
            for (place, source, value, kind) in edits {
                match kind {
                    0 if !body.is_empty() => *place.get_mut(&mut body) = value,
                    1 if !body.is_empty() => *place.get_mut(&mut body) ^= 1 << (value % 8),
                    2 => body.truncate(place.index(body.len() + 1)),
                    _ => {
                        let (to, from) = (13 + 32 * place.index(64), 13 + 32 * source.index(64));
                        if let (Some(to), Some(from)) = (body.get_mut(to..to + 32), other.get(from..from + 32)) {
                            to.copy_from_slice(from);
                        }
                    }
                }
            }
            body
        },
    )
}

/// A few seconds, if the environment does not ask for more.
const CASES: u32 = 128;

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(CASES)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_bytes_as_a_body(data in prop::collection::vec(any::<u8>(), 0..400)) {
        target_body(&data);
    }

    #[test]
    fn any_bytes_after_a_good_header(data in prop::collection::vec(any::<u8>(), 336)) {
        target_body(&[&WORLD.ballots[0][..13], &data].concat());
    }

    #[test]
    fn mutated_ballots(body in mutated()) {
        target_body(&body);
    }

    #[test]
    fn any_bytes_as_packed_buffers(data in prop::collection::vec(any::<u8>(), 0..400)) {
        target_packed(&data);
    }

    #[test]
    fn packed_mutated_ballots(bodies in prop::collection::vec(mutated(), 0..4), cut in 0usize..4) {
        let mut packed: Vec<u8> =
            bodies.iter().flat_map(|body| [&(body.len() as u16).to_be_bytes()[..], body].concat()).collect();
        packed.truncate(packed.len().saturating_sub(cut));
        target_packed(&packed);
    }

    #[test]
    fn any_bytes_as_points_and_proofs(data in prop::collection::vec(any::<u8>(), 0..400)) {
        target_points(&data);
    }

    #[test]
    fn valid_points_as_points_and_proofs(data in prop::collection::vec(0usize..8, 0..12)) {
        let point = |i: &usize| WORLD.ballots[0][13 + 32 * (i % 6)..][..32].to_vec();
        target_points(&data.iter().flat_map(point).collect::<Vec<_>>());
    }
}
