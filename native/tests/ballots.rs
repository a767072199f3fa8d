//! What is valid, and why the rest is not; the same from both arithmetics, alone and in a batch.

mod common;

use ballotboard_native::layout::HEADER;
use ballotboard_native::packed::Roll;
use ballotboard_native::verify::{Reason, verify};
use common::{World, world};
use curve25519_dalek::scalar::Scalar;

/// The reason of one body by itself, which every arithmetic gives.
fn reason(world: &World, body: &[u8]) -> Reason {
    reason_with_roll(world, body, world.roll())
}

fn reason_with_roll(world: &World, body: &[u8], roll: Roll) -> Reason {
    let mut reasons = vec![];
    with_each_arithmetic!(|arithmetic| { reasons.extend(verify(arithmetic, &world.election, &[body], roll, 1)) });
    reasons.dedup();
    assert_eq!(reasons.len(), 1, "the arithmetics disagree");
    reasons[0]
}

#[test]
fn ballots_that_were_made_are_valid_with_any_number_of_threads() {
    let world = world();
    for threads in [0, 1, 2, 3, 64] {
        with_each_arithmetic!(|arithmetic| {
            let reasons = verify(arithmetic, &world.election, &world.bodies(), world.roll(), threads);
            assert_eq!(reasons, vec![Reason::Valid; world.ballots.len()]);
        });
    }
}

#[test]
fn no_ballots_have_no_reasons() {
    let world = world();
    with_each_arithmetic!(|arithmetic| {
        assert!(verify(arithmetic, &world.election, &[], world.roll(), 2).is_empty());
    });
}

#[test]
fn every_flipped_bit_makes_a_ballot_invalid() {
    let world = world();
    for style in 0..common::STYLES {
        let ballot = &world.ballots[style];
        // Every byte once, with a bit that walks; all at once, so that a batch names many.
        let wrong: Vec<Vec<u8>> = (0..ballot.len())
            .map(|i| {
                let mut body = ballot.clone();
                body[i] ^= 1 << (i % 8);
                body
            })
            .collect();
        let bodies: Vec<&[u8]> = wrong.iter().map(Vec::as_slice).collect();
        let mut answers = vec![];
        with_each_arithmetic!(|arithmetic| {
            answers.push(verify(arithmetic, &world.election, &bodies, world.roll(), 2));
        });
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
        assert!(answers[0].iter().all(|reason| *reason != Reason::Valid));
        assert_eq!(answers[0][0], Reason::MalformedHeader);
        // `seen` is covered by proofs of the header's seed only through the signature.
        assert!(answers[0][5..HEADER].iter().all(|reason| *reason == Reason::BadSignature));
    }
}

#[test]
fn the_wrong_ballots_of_a_batch_are_named_and_no_others() {
    let world = world();
    let many: Vec<&[u8]> = world.bodies().into_iter().cycle().take(300).collect();
    for wrong in
        [vec![0], vec![299], vec![0, 299], vec![7, 8, 9, 150], (0..300).step_by(2).collect(), (0..300).collect()]
    {
        let mut ballots: Vec<Vec<u8>> = many.iter().map(|body| body.to_vec()).collect();
        for &i in &wrong {
            // The last byte of s would leave the range of scalars; this one does not.
            let place = ballots[i].len() - 20;
            ballots[i][place] ^= 1;
        }
        let bodies: Vec<&[u8]> = ballots.iter().map(Vec::as_slice).collect();
        with_each_arithmetic!(|arithmetic| {
            let reasons = verify(arithmetic, &world.election, &bodies, world.roll(), 1);
            let named: Vec<usize> = (0..300).filter(|i| reasons[*i] == Reason::BadSignature).collect();
            assert_eq!(named, wrong);
            assert_eq!(reasons.iter().filter(|reason| **reason == Reason::Valid).count(), 300 - wrong.len());
        });
    }
}

#[test]
fn errors_that_cancel_in_a_plain_sum_are_found_since_every_equation_has_its_own_weight() {
    let world = world();
    let mut ballots = [world.ballots[0].clone(), world.ballots[5].clone()];
    for (body, error) in ballots.iter_mut().zip([Scalar::ONE, -Scalar::ONE]) {
        let s = body.last_chunk_mut::<32>().unwrap();
        *s = (Scalar::from_canonical_bytes(*s).unwrap() + error).to_bytes();
    }
    let bodies: Vec<&[u8]> = ballots.iter().map(Vec::as_slice).collect();
    with_each_arithmetic!(|arithmetic| {
        assert_eq!(verify(arithmetic, &world.election, &bodies, world.roll(), 1), [Reason::BadSignature; 2]);
    });
}

#[test]
fn the_first_reason_that_applies_is_given() {
    let world = world();
    let ballot = &world.ballots[0];
    let end = ballot.len();
    let mut body = ballot.clone();
    // From the last reason to the first, each fault on top of the others.
    body[end - 20] ^= 1;
    assert_eq!(reason(&world, &body), Reason::BadSignature);
    body[HEADER + 64 + 4 * 32 + 3] ^= 1; // the challenge that is sent
    assert_eq!(reason(&world, &body), Reason::BadProof);
    body[end - 64..end - 32].fill(0); // R is the identity
    assert_eq!(reason(&world, &body), Reason::MalformedPoint);
    body[end - 1] = 0xff; // s is above the order
    assert_eq!(reason(&world, &body), Reason::MalformedScalar);
    body.push(0);
    assert_eq!(reason(&world, &body), Reason::MalformedLength);
    body[1] = 0xff; // a roll index far away
    assert_eq!(reason(&world, &body), Reason::UnknownCredential);
    body[0] = 2;
    assert_eq!(reason(&world, &body), Reason::MalformedHeader);
}

#[test]
fn a_short_body_has_a_malformed_header_and_a_cut_one_a_malformed_length() {
    let world = world();
    let ballot = &world.ballots[0];
    for length in 0..ballot.len() {
        let expected = if length < HEADER { Reason::MalformedHeader } else { Reason::MalformedLength };
        assert_eq!(reason(&world, &ballot[..length]), expected);
    }
}

#[test]
fn a_row_that_is_no_point_or_votes_nowhere_is_an_unknown_credential_whatever_the_body() {
    let world = world();
    let identity = [0; 32];
    let mut not_canonical: [u8; 32] = world.roll[..32].try_into().unwrap();
    not_canonical[31] |= 0x80;
    let rows: [(&str, std::ops::Range<usize>, &[u8]); 4] = [
        ("identity", 0..32, &identity),
        ("not canonical", 0..32, &not_canonical),
        ("unit without a style", 35..36, &[common::STYLES as u8]),
        ("no such unit", 32..33, &[1]),
    ];
    let mut malformed = world.ballots[0].clone();
    *malformed.last_mut().unwrap() = 0xff;
    for (name, place, wrong) in rows {
        let mut roll = world.roll.clone();
        roll[place].copy_from_slice(wrong);
        let roll = Roll::new(&roll).unwrap();
        for body in [&world.ballots[0][..], &malformed, &world.ballots[0][..40]] {
            assert_eq!(reason_with_roll(&world, body, roll), Reason::UnknownCredential, "{name}");
        }
    }
}

#[test]
fn a_ballot_under_the_row_of_another_voter_of_the_style_is_a_bad_proof() {
    let world = world();
    let mut body = world.ballots[0].clone();
    body[4] = common::STYLES as u8;
    assert_eq!(reason(&world, &body), Reason::BadProof);
}

#[test]
fn a_ballot_of_another_context_is_a_bad_proof() {
    let (world, mut other) = (world(), world());
    other.election.context[0] ^= 1;
    assert_eq!(reason(&other, &world.ballots[0]), Reason::BadProof);
}
