//! The verdict on each ballot: parse, collect its equations into a batch, name those that fail
//! (docs/protocol.md, section 5).

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED;
use curve25519_dalek::scalar::Scalar;

use crate::arithmetic::{Arithmetic, is_point};
use crate::batch::{Batch, Terms, Verdict};
use crate::election::{Election, Voter, branch_challenge, challenge_hash};
use crate::layout::{Contest, HEADER, SIGNATURE, Style, VERSION};
use crate::packed::{Cursor, Roll};
use crate::parallel;
use crate::transcript::low128;

/// Why a ballot is not valid; the first that applies. `seen-too-high`, 8, needs a position and is not tested here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    Valid = 0,
    MalformedHeader = 1,
    UnknownCredential = 2,
    MalformedLength = 3,
    MalformedScalar = 4,
    MalformedPoint = 5,
    BadProof = 6,
    BadSignature = 7,
}

/// Points per multi-scalar multiplication: more gains little, and less than this stays in the processor's cache.
const BATCH_POINTS: usize = 32_768;
/// Bytes of body per point, roughly, for all rules.
const BODY_PER_POINT: usize = 44;

const G: usize = 0;
const K: usize = 1;

/// The reason of each body.
pub fn verify<A: Arithmetic>(
    arithmetic: A,
    election: &Election,
    bodies: &[&[u8]],
    roll: Roll,
    threads: usize,
) -> Vec<Reason> {
    let batches = split(bodies, parallel::count(threads));
    parallel::map(threads, batches.len(), |i| verify_batch(arithmetic, election, batches[i], roll)).concat()
}

/// Cuts the bodies into batches of at most `BATCH_POINTS` points, of equal weight, a multiple of the threads.
fn split<'a, 'b>(bodies: &'a [&'b [u8]], threads: usize) -> Vec<&'a [&'b [u8]]> {
    let total: usize = bodies.iter().map(|body| body.len()).sum();
    let batches = total.div_ceil(BATCH_POINTS * BODY_PER_POINT).next_multiple_of(threads);
    let share = total.div_ceil(batches.max(1)).max(1);
    let mut weight = 0;
    bodies
        .chunk_by(|body, _| {
            let before = weight / share;
            weight += body.len();
            before == weight / share
        })
        .collect()
}

fn verify_batch<A: Arithmetic>(arithmetic: A, election: &Election, bodies: &[&[u8]], roll: Roll) -> Vec<Reason> {
    let mut batch = Batch::new([RISTRETTO_BASEPOINT_COMPRESSED.to_bytes(), election.key]);
    let parsed: Vec<_> = bodies.iter().map(|body| collect(election, body, roll, &mut batch)).collect();
    let verdicts = batch.check(arithmetic);
    let mut verdicts = verdicts.as_chunks::<CLAIMS>().0.iter();
    parsed
        .into_iter()
        .map(|result| match result {
            Ok(voter) => judge(&voter, verdicts.next().expect("every parsed ballot has its claims")),
            Err(reason) => reason,
        })
        .collect()
}

/// Claims of a parsed ballot: its contests, its signature.
const CLAIMS: usize = 2;

fn judge(voter: &Voter, [contests, signature]: &[Verdict; CLAIMS]) -> Reason {
    match (contests, signature) {
        (Verdict::WrongPoint, _) | (_, Verdict::WrongPoint) => refuse(voter, Reason::MalformedPoint),
        (Verdict::Fails, _) => Reason::BadProof,
        (_, Verdict::Fails) => Reason::BadSignature,
        (Verdict::Holds, Verdict::Holds) => Reason::Valid,
    }
}

/// A wrong key in the roll comes before what is wrong in the body; it is looked at only where something is.
fn refuse(voter: &Voter, reason: Reason) -> Reason {
    if is_point(voter.public_key) { reason } else { Reason::UnknownCredential }
}

/// Parses a ballot and adds its claims to the batch, or gives a reason of 1 to 4 and adds none.
fn collect<'r>(election: &Election, body: &[u8], roll: Roll<'r>, batch: &mut Batch) -> Result<Voter<'r>, Reason> {
    let (&[version, index @ .., _, _, _, _, _, _, _, _], _) =
        body.split_first_chunk::<HEADER>().ok_or(Reason::MalformedHeader)?;
    if version != VERSION {
        return Err(Reason::MalformedHeader);
    }
    let (voter, style) = election.voter(roll, u32::from_be_bytes(index)).ok_or(Reason::UnknownCredential)?;
    if body.len() != style.size {
        return Err(refuse(&voter, Reason::MalformedLength));
    }
    let responses = responses(style, body).ok_or_else(|| refuse(&voter, Reason::MalformedScalar))?;
    let (signature_response, mut responses) = responses.split_last().expect("the signature has one");

    let (unsigned, signature) = body.split_at(body.len() - SIGNATURE);
    let mut terms = batch.claim();
    let mut blocks = Cursor(&unsigned[HEADER..]);
    for contest in &style.contests {
        let z;
        (z, responses) = responses.split_at(contest.branches());
        let statement = election.statement(&voter, contest);
        collect_contest(contest, &statement, blocks.take(contest.size()), z, &mut terms);
    }
    drop(terms);

    // R + c·P − s·G = 0
    let commitment = Cursor(signature).array::<32>();
    let challenge = election.signature_challenge(&voter, commitment, unsigned);
    let mut terms = batch.claim();
    let weight = terms.weight();
    terms.short(commitment, weight);
    terms.long(voter.public_key, Scalar::from(weight) * Scalar::from(challenge));
    terms.fixed(G, -(Scalar::from(weight) * signature_response));
    Ok(voter)
}

/// All z in order, then s; none if one is not below the group order. The body has the length of the style.
fn responses(style: &Style, body: &[u8]) -> Option<Vec<Scalar>> {
    let mut cursor = Cursor(&body[HEADER..]);
    let mut scalars = Vec::new();
    let mut read = |bytes: &[u8]| {
        for scalar in bytes.as_chunks::<32>().0 {
            scalars.push(Option::from(Scalar::from_canonical_bytes(*scalar))?);
        }
        Some(())
    };
    for contest in &style.contests {
        cursor.take(32 * contest.points() + 16 * contest.challenges());
        read(cursor.take(32 * contest.branches()))?;
    }
    read(&cursor.0[32..])?;
    Some(scalars)
}

/// Adds the equations of every branch of a contest, for random a and b:
///
/// ```text
/// a·(T1 + c·X − z·G) + b·(T2 + c·(Y − u·G) − z·K) = 0
/// ```
fn collect_contest(contest: &Contest, statement: &[u8], block: &[u8], z: &[Scalar], terms: &mut Terms) {
    let mut cursor = Cursor(block);
    let ciphertexts = cursor.take(64 * contest.ciphertexts());
    let commitments = cursor.take(64 * contest.branches());
    let rho = contest.weights(statement, ciphertexts);
    let hash = challenge_hash(statement, ciphertexts, &rho, commitments);

    let (ciphertexts, mut commitments) = (ciphertexts.as_chunks::<32>().0, commitments.as_chunks::<32>().0.iter());
    let mut factors = vec![Scalar::ZERO; ciphertexts.len()];
    let (mut g, mut k) = (Scalar::ZERO, Scalar::ZERO);
    let mut z = z.iter();
    for (d, disjunction) in contest.disjunctions(&rho).enumerate() {
        let mut rest = branch_challenge(&hash, d);
        let (mut x, mut y) = (Scalar::ZERO, Scalar::ZERO);
        for j in 0..disjunction.branches {
            let challenge = if j + 1 < disjunction.branches { low128(cursor.take(16)) } else { rest };
            rest = rest.wrapping_sub(challenge);
            let (a, b) = (terms.weight(), terms.weight());
            for weight in [a, b] {
                terms.short(commitments.next().expect("two per branch"), weight);
            }
            let (a, b, c) = (Scalar::from(a), Scalar::from(b), Scalar::from(challenge));
            let (z, bc) = (z.next().expect("one per branch"), b * c);
            x += a * c;
            y += bc;
            g -= a * z + bc * Scalar::from(disjunction.value(j));
            k -= b * z;
        }
        for i in disjunction.support(contest.ciphertexts()) {
            factors[2 * i] += disjunction.scale(i, x);
            factors[2 * i + 1] += disjunction.scale(i, y);
        }
    }
    for (encoding, factor) in ciphertexts.iter().zip(factors) {
        terms.long(encoding, factor);
    }
    terms.fixed(G, g);
    terms.fixed(K, k);
}
