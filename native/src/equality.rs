//! Proofs that X = x·G and D = x·A have one logarithm (docs/protocol.md, section 1), many at a time: a trustee's
//! partial decryptions and their check.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroizing;

use crate::arithmetic::{Arithmetic, IDENTITY, is_point};
use crate::batch::{Batch, Verdict};
use crate::error::{Result, fail};
use crate::parallel;
use crate::transcript::Transcript;

/// `T1 || T2 || z`
pub const PROOF: usize = 96;

/// Proofs per multi-scalar multiplication, about as many points as `verify` takes.
const BATCH: usize = 8_192;

const G: usize = 0;
const X: usize = 1;

/// `D || T1 || T2 || z` for each A of `points`, none the identity, with the statement of the same place.
pub fn prove(
    name: &str,
    statements: &[&[u8]],
    secret: &Scalar,
    points: &[[u8; 32]],
    threads: usize,
) -> Result<Vec<u8>> {
    same_count(statements.len(), points.len(), "points")?;
    let public = RistrettoPoint::mul_base(secret).compress().to_bytes();
    let parts = parallel::map(threads, points.len(), |i| {
        let Some(point) = CompressedRistretto(points[i]).decompress().filter(|_| points[i] != IDENTITY) else {
            fail!("points[{i}]: the identity, or not the canonical encoding of a ristretto255 point");
        };
        Ok(prove_one(name, statements[i], secret, &public, &point, &points[i]))
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn prove_one(
    name: &str,
    statement: &[u8],
    secret: &Scalar,
    public: &[u8; 32],
    point: &RistrettoPoint,
    a: &[u8; 32],
) -> [u8; 32 + PROOF] {
    // Hedged: a broken generator alone does not repeat a nonce.
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut()).expect("the operating system gives random bytes");
    let nonce =
        Transcript::new("dleq-nonce").part(secret.as_bytes()).part(random.as_ref()).part(statement).part(a).scalar();
    let nonce = Zeroizing::new(nonce);
    let image = (point * secret).compress().to_bytes();
    let t1 = RistrettoPoint::mul_base(&nonce).compress().to_bytes();
    let t2 = (point * *nonce).compress().to_bytes();
    let z = *nonce + Scalar::from(challenge(name, statement, a, public, &image, &t1, &t2)) * secret;
    let mut out = [0; 32 + PROOF];
    for (place, part) in out.as_chunks_mut::<32>().0.iter_mut().zip([image, t1, t2, z.to_bytes()]) {
        *place = part;
    }
    out
}

/// Proofs of one prover X: A, D and proof in the place of their statement.
pub struct Proofs<'a> {
    pub name: &'a str,
    pub public: &'a [u8; 32],
    pub statements: &'a [&'a [u8]],
    pub points: &'a [[u8; 32]],
    pub images: &'a [[u8; 32]],
    pub proofs: &'a [[u8; PROOF]],
}

/// For each proof whether log_G(X) = log_A(D) is proven. Malformed bytes, and the identity anywhere, are false.
pub fn verify<A: Arithmetic>(arithmetic: A, claims: &Proofs, threads: usize) -> Result<Vec<bool>> {
    let Proofs { public, statements, points, images, proofs, .. } = *claims;
    same_count(statements.len(), points.len(), "points")?;
    same_count(statements.len(), images.len(), "images")?;
    same_count(statements.len(), proofs.len(), "proofs")?;
    if !is_point(public) {
        return Ok(vec![false; points.len()]);
    }
    let share = points.len().div_ceil(parallel::count(threads)).clamp(1, BATCH);
    let verdicts = parallel::map(threads, points.len().div_ceil(share), |part| {
        let mut batch = Batch::new([RISTRETTO_BASEPOINT_COMPRESSED.to_bytes(), *public]);
        let range = part * share..points.len().min((part + 1) * share);
        let canonical: Vec<bool> = range.map(|i| collect(claims, i, &mut batch).is_some()).collect();
        let verdicts = batch.check(arithmetic);
        canonical
            .into_iter()
            .zip(verdicts)
            .map(|(canonical, verdict)| canonical && verdict == Verdict::Holds)
            .collect::<Vec<_>>()
    });
    Ok(verdicts.concat())
}

/// Adds claim number i, without equations if z is not below the group order: a·(T1 + c·X − z·G) + b·(T2 + c·D − z·A) = 0.
fn collect(claims: &Proofs, i: usize, batch: &mut Batch) -> Option<()> {
    let (point, image) = (&claims.points[i], &claims.images[i]);
    let mut terms = batch.claim();
    let [t1, t2, z] = claims.proofs[i].as_chunks::<32>().0 else { return None };
    let z: Scalar = Option::from(Scalar::from_canonical_bytes(*z))?;
    let c = Scalar::from(challenge(claims.name, claims.statements[i], point, claims.public, image, t1, t2));
    let (a, b) = (terms.weight(), terms.weight());
    terms.short(t1, a);
    terms.short(t2, b);
    let (a, b) = (Scalar::from(a), Scalar::from(b));
    terms.long(image, b * c);
    terms.long(point, -(b * z));
    terms.fixed(G, -(a * z));
    terms.fixed(X, a * c);
    Some(())
}

fn challenge(
    name: &str,
    statement: &[u8],
    a: &[u8; 32],
    x: &[u8; 32],
    d: &[u8; 32],
    t1: &[u8; 32],
    t2: &[u8; 32],
) -> u128 {
    let transcript = Transcript::new(&format!("dleq/{name}")).part(statement);
    [a, x, d, t1, t2].into_iter().fold(transcript, |transcript, point| transcript.part(point)).challenge()
}

fn same_count(statements: usize, count: usize, what: &str) -> Result<()> {
    if count != statements {
        fail!("{what}: {count} for {statements} statements");
    }
    Ok(())
}
