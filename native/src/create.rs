//! Making ballots (docs/protocol.md, section 5).
//!
//! Seed, choices and credential are secret. Nothing here branches on them or uses them as an index: every branch of
//! a disjunction is computed as if it were simulated, and the true one is selected under a mask. Multiplications are
//! [`FixedBase`], in constant time. What was secret is overwritten when it goes out of scope.
//!
//! Some ballots are made together, step by step: all ciphertexts, all commitments, all signatures, so that each step multiplies
//! many scalars at a time.

use curve25519_dalek::scalar::Scalar;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::arithmetic::{FixedBase, IDENTITY};
use crate::election::{Election, Voter, branch_challenge, challenge_hash};
use crate::error::{Error, Result, fail};
use crate::layout::{Contest, Disjunction, HEADER, Rule, Style, VERSION};
use crate::packed::Cursor;
use crate::parallel;
use crate::transcript::Transcript;

/// Ballots made together: enough to fill the lanes, few enough for the cache.
const BLOCK: usize = 32;

/// What a ballot is made from, apart from the credential.
pub struct Request<'a> {
    pub voter: Voter<'a>,
    /// The size of the log that the client saw
    pub seen: u64,
    /// Fresh for every ballot
    pub seed: &'a [u8; 32],
    /// One byte 0 or 1 per option, contest after contest
    pub choices: &'a [u8],
}

/// The tables of G and K.
struct Bases<A: FixedBase> {
    arithmetic: A,
    g: &'static A::Table,
    k: A::Table,
}

impl<A: FixedBase> Bases<A> {
    fn new(arithmetic: A, election: &Election) -> Self {
        Self { arithmetic, g: arithmetic.generator(), k: arithmetic.table(&election.key_point) }
    }
}

/// The unsigned ballot, which seed and choices determine.
pub fn unsigned<A: FixedBase>(arithmetic: A, election: &Election, request: &Request) -> Result<Vec<u8>> {
    check_choices(election.style(request.voter.style as usize)?, request.choices)?;
    Ok(unsigned_block(&Bases::new(arithmetic, election), election, &[request])?.remove(0))
}

/// The ballots of the credentials `secrets`, whose public keys are those of the voters in the requests.
pub fn signed<A: FixedBase>(
    arithmetic: A,
    election: &Election,
    requests: &[Request],
    secrets: &[Scalar],
    threads: usize,
) -> Result<Vec<Vec<u8>>> {
    for (number, request) in requests.iter().enumerate() {
        let checked =
            election.style(request.voter.style as usize).and_then(|style| check_choices(style, request.choices));
        checked.map_err(|error| Error(format!("requests[{number}]: {error}")))?;
    }
    let bases = Bases::new(arithmetic, election);
    let blocks: Vec<_> = requests.chunks(BLOCK).zip(secrets.chunks(BLOCK)).collect();
    let parts = parallel::map(threads, blocks.len(), |i| signed_block(&bases, election, blocks[i].0, blocks[i].1));
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn signed_block<A: FixedBase>(
    bases: &Bases<A>,
    election: &Election,
    requests: &[Request],
    secrets: &[Scalar],
) -> Result<Vec<Vec<u8>>> {
    let mut bodies = unsigned_block(bases, election, &requests.iter().collect::<Vec<_>>())?;
    let nonce = |((request, secret), body): ((&Request, &Scalar), &Vec<u8>)| {
        Transcript::new("ballot-nonce").part(secret.as_bytes()).part(request.seed).part(body).scalar()
    };
    let nonces: Zeroizing<Vec<Scalar>> = Zeroizing::new(requests.iter().zip(secrets).zip(&bodies).map(nonce).collect());
    let commitments = bases.arithmetic.multiply(&[(bases.g, &nonces)]);
    let signers = requests.iter().zip(secrets).zip(nonces.iter()).zip(commitments);
    for ((((request, secret), nonce), commitment), body) in signers.zip(&mut bodies) {
        if commitment == IDENTITY {
            return Err(unlucky());
        }
        let challenge = election.signature_challenge(&request.voter, &commitment, body);
        let response = nonce + Scalar::from(challenge) * secret;
        body.extend_from_slice(&commitment);
        body.extend_from_slice(response.as_bytes());
    }
    Ok(bodies)
}

/// The unsigned ballots of requests whose choices were checked.
fn unsigned_block<A: FixedBase>(bases: &Bases<A>, election: &Election, requests: &[&Request]) -> Result<Vec<Vec<u8>>> {
    let contests = || requests.iter().flat_map(|request| &election.styles[request.voter.style as usize].contests);
    let mut bodies = Vec::with_capacity(requests.len());
    let mut drafts = Vec::with_capacity(contests().count());
    let mut points = Points::new(bases, contests().map(Contest::ciphertexts).sum());
    for (ballot, request) in requests.iter().enumerate() {
        let (voter, style) = (&request.voter, &election.styles[request.voter.style as usize]);
        let mut body = Vec::with_capacity(style.size);
        body.push(VERSION);
        body.extend_from_slice(&voter.roll_index.to_be_bytes());
        body.extend_from_slice(&request.seen.to_be_bytes());
        let root = Transcript::new("ballot-seed")
            .part(request.seed)
            .part(&election.context)
            .part(voter.public_key)
            .part(&body[..HEADER])
            .part(request.choices)
            .digest();
        let root = Zeroizing::new(root);
        let mut choices = Cursor(request.choices);
        for (place, contest) in style.contests.iter().enumerate() {
            let randomness = Randomness { root: root.clone(), contest: place as u16 };
            let statement = election.statement(voter, contest);
            drafts.push(Draft::new(ballot, contest, statement, randomness, choices.take(contest.options), &mut points));
        }
        bodies.push(body);
    }
    let encodings = points.encode()?;

    let mut ciphertexts = Cursor(&encodings);
    let mut points = Points::new(bases, contests().map(Contest::branches).sum());
    let open: Vec<Open> = drafts
        .iter()
        .map(|draft| draft.commit(ciphertexts.take(64 * draft.contest.ciphertexts()), &mut points))
        .collect();
    let encodings = points.encode()?;

    let mut commitments = Cursor(&encodings);
    for (draft, open) in drafts.iter().zip(open) {
        draft.finish(&open, commitments.take(64 * draft.contest.branches()), &mut bodies[draft.ballot]);
    }
    Ok(bodies)
}

/// That there is one allowed vector of choices per contest; says no more than which contest has none.
fn check_choices(style: &Style, choices: &[u8]) -> Result<()> {
    let expected: usize = style.contests.iter().map(|contest| contest.options).sum();
    if choices.len() != expected {
        fail!("choices: {} values where the style has {expected} options", choices.len());
    }
    let mut choices = Cursor(choices);
    for contest in &style.contests {
        let choice = choices.take(contest.options);
        let bits = choice.iter().fold(0, |bits, value| bits | value) <= 1;
        let chosen: usize = choice.iter().map(|value| *value as usize).sum();
        let allowed = match contest.rule {
            Rule::OneOfK => chosen == 1,
            Rule::Approval => true,
            Rule::UpToL => chosen <= contest.limit,
        };
        if !(bits & allowed) {
            fail!("choices of contest {:?}: not a vector of 0 and 1 that its rule allows", contest.id);
        }
    }
    Ok(())
}

/// `h(purpose, c, d, j)`
struct Randomness {
    root: Zeroizing<[u8; 64]>,
    contest: u16,
}

impl Randomness {
    fn draw(&self, purpose: u8, d: usize, j: usize) -> Transcript {
        Transcript::new("ballot-random")
            .part(self.root.as_ref())
            .part(&[purpose])
            .part(&self.contest.to_be_bytes())
            .part(&(d as u16).to_be_bytes())
            .part(&(j as u16).to_be_bytes())
    }

    fn ciphertext(&self, i: usize) -> Scalar {
        self.draw(0, 0, i).scalar()
    }

    fn nonce(&self, d: usize) -> Scalar {
        self.draw(1, d, 0).scalar()
    }

    fn simulated_challenge(&self, d: usize, j: usize) -> u128 {
        self.draw(2, d, j).challenge()
    }

    fn simulated_response(&self, d: usize, j: usize) -> Scalar {
        self.draw(3, d, j).scalar()
    }
}

/// A contest whose ciphertexts are made.
struct Draft<'a> {
    /// Its number in the block
    ballot: usize,
    contest: &'a Contest,
    statement: Vec<u8>,
    randomness: Randomness,
    /// Of each ciphertext the randomness and the plaintext
    r: Zeroizing<Vec<Scalar>>,
    v: Zeroizing<Vec<Scalar>>,
}

/// A contest whose commitments are made, and its challenges not.
struct Open<'a> {
    ciphertexts: &'a [u8],
    rho: Vec<u128>,
    disjunctions: Vec<OpenDisjunction>,
}

/// The challenges and responses are simulated ones, also in the true branch.
struct OpenDisjunction {
    /// Σ w_i·r_i
    secret: Zeroizing<Scalar>,
    nonce: Zeroizing<Scalar>,
    /// 1 for the true branch
    is_true: Zeroizing<Vec<u8>>,
    challenges: Zeroizing<Vec<u128>>,
    responses: Zeroizing<Vec<Scalar>>,
}

impl<'a> Draft<'a> {
    /// Draws the randomness and pushes A and B of every ciphertext.
    fn new<A: FixedBase>(
        ballot: usize,
        contest: &'a Contest,
        statement: Vec<u8>,
        randomness: Randomness,
        choice: &[u8],
        points: &mut Points<A>,
    ) -> Self {
        let n = contest.ciphertexts();
        let r = Zeroizing::new((0..n).map(|i| randomness.ciphertext(i)).collect::<Vec<_>>());
        let v = Zeroizing::new(choice[..n].iter().map(|value| Scalar::from(*value)).collect::<Vec<_>>());
        r.iter().zip(v.iter()).for_each(|(r, v)| points.push(r, v));
        Self { ballot, contest, statement, randomness, r, v }
    }

    /// Pushes T1 and T2 of every branch.
    fn commit<'c, A: FixedBase>(&self, ciphertexts: &'c [u8], points: &mut Points<A>) -> Open<'c> {
        let rho = self.contest.weights(&self.statement, ciphertexts);
        let disjunctions = self.contest.disjunctions(&rho).enumerate();
        let disjunctions =
            disjunctions.map(|(d, disjunction)| self.commit_disjunction(d, &disjunction, points)).collect();
        Open { ciphertexts, rho, disjunctions }
    }

    fn commit_disjunction<A: FixedBase>(
        &self,
        d: usize,
        disjunction: &Disjunction,
        points: &mut Points<A>,
    ) -> OpenDisjunction {
        let plain = Zeroizing::new(disjunction.weigh(&self.v));
        let secret = Zeroizing::new(disjunction.weigh(&self.r));
        let nonce = Zeroizing::new(self.randomness.nonce(d));
        let mut open = OpenDisjunction {
            secret,
            nonce,
            is_true: Zeroizing::new(Vec::with_capacity(disjunction.branches)),
            challenges: Zeroizing::new(Vec::with_capacity(disjunction.branches)),
            responses: Zeroizing::new(Vec::with_capacity(disjunction.branches)),
        };
        for j in 0..disjunction.branches {
            let value = Scalar::from(disjunction.value(j));
            let is_true = plain.ct_eq(&value);
            let (c, z) = (self.randomness.simulated_challenge(d, j), self.randomness.simulated_response(d, j));
            // z·G − c·X = (z − c·secret)·G, and z·K − c·(Y − u·G) = (z − c·secret)·K − c·(plain − u)·G. In the true
            // branch the nonce takes the place of z − c·secret, and the last term is zero.
            let simulated = Zeroizing::new(z - Scalar::from(c) * *open.secret);
            let x = Zeroizing::new(Scalar::conditional_select(&simulated, &open.nonce, is_true));
            let shift = Zeroizing::new(Scalar::from(c) * (value - *plain));
            points.push(&x, &shift);
            open.is_true.push(is_true.unwrap_u8());
            open.challenges.push(c);
            open.responses.push(z);
        }
        open
    }

    /// Appends the block of the contest to `body`.
    fn finish(&self, open: &Open, commitments: &[u8], body: &mut Vec<u8>) {
        let hash = challenge_hash(&self.statement, open.ciphertexts, &open.rho, commitments);
        let disjunctions = open.disjunctions.iter().enumerate();
        let answers: Vec<_> = disjunctions.map(|(d, open)| open.respond(branch_challenge(&hash, d))).collect();
        body.extend_from_slice(open.ciphertexts);
        body.extend_from_slice(commitments);
        for (challenges, _) in &answers {
            let sent = &challenges[..challenges.len() - 1];
            sent.iter().for_each(|c| body.extend_from_slice(&c.to_le_bytes()));
        }
        for (_, responses) in &answers {
            responses.iter().for_each(|z| body.extend_from_slice(z.as_bytes()));
        }
    }
}

impl OpenDisjunction {
    /// All challenges, which add up to `total`, and all responses.
    fn respond(&self, total: u128) -> (Vec<u128>, Vec<Scalar>) {
        let is_true = || self.is_true.iter().map(|bit| Choice::from(*bit));
        let simulated = is_true()
            .zip(self.challenges.iter())
            .fold(0u128, |sum, (is_true, c)| sum.wrapping_add(u128::conditional_select(c, &0, is_true)));
        let challenge = total.wrapping_sub(simulated);
        let response = *self.nonce + Scalar::from(challenge) * *self.secret;
        let challenges = is_true().zip(self.challenges.iter());
        let responses = is_true().zip(self.responses.iter());
        (
            challenges.map(|(is_true, c)| u128::conditional_select(c, &challenge, is_true)).collect(),
            responses.map(|(is_true, z)| Scalar::conditional_select(z, &response, is_true)).collect(),
        )
    }
}

/// Pairs of points to compute together: x·G and x·K + y·G.
struct Points<'a, A: FixedBase> {
    bases: &'a Bases<A>,
    x: Zeroizing<Vec<Scalar>>,
    y: Zeroizing<Vec<Scalar>>,
}

impl<'a, A: FixedBase> Points<'a, A> {
    /// Room for `count` pairs, so that no copy is left behind by growing.
    fn new(bases: &'a Bases<A>, count: usize) -> Self {
        let room = || Zeroizing::new(Vec::with_capacity(count));
        Self { bases, x: room(), y: room() }
    }

    fn push(&mut self, x: &Scalar, y: &Scalar) {
        self.x.push(*x);
        self.y.push(*y);
    }

    fn encode(self) -> Result<Vec<u8>> {
        let Bases { arithmetic, g, k } = self.bases;
        let left = arithmetic.multiply(&[(g, &self.x)]);
        let right = arithmetic.multiply(&[(k, &self.x), (g, &self.y)]);
        if left.iter().chain(&right).any(|encoding| *encoding == IDENTITY) {
            return Err(unlucky());
        }
        Ok(left.iter().zip(&right).flat_map(|(left, right)| [*left, *right]).flatten().collect())
    }
}

fn unlucky() -> Error {
    Error("a seed gives a point that is the identity: draw another".into())
}
