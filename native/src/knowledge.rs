//! Proofs of knowledge of x with X = x·G (docs/protocol.md, section 1), many at a time: the signatures of a roll-up's sums.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED;
use curve25519_dalek::scalar::Scalar;

use crate::arithmetic::Arithmetic;
use crate::batch::{Batch, FIXED, Verdict};
use crate::error::{Result, fail};
use crate::parallel;
use crate::transcript::Transcript;

/// `R || s`
pub const PROOF: usize = 64;

/// Proofs per multi-scalar multiplication, about as many points as `verify` takes.
const BATCH: usize = 16_384;

const G: usize = 0;

/// For each proof whether log_G(X) is proven. Malformed bytes, and the identity anywhere, are false.
pub fn verify<A: Arithmetic>(
    arithmetic: A,
    name: &str,
    statements: &[&[u8]],
    publics: &[[u8; 32]],
    proofs: &[[u8; PROOF]],
    threads: usize,
) -> Result<Vec<bool>> {
    for (count, what) in [(publics.len(), "publics"), (proofs.len(), "proofs")] {
        if count != statements.len() {
            fail!("{what}: {count} for {} statements", statements.len());
        }
    }
    let share = proofs.len().div_ceil(parallel::count(threads)).clamp(1, BATCH);
    let verdicts = parallel::map(threads, proofs.len().div_ceil(share), |part| {
        let mut batch = Batch::new([RISTRETTO_BASEPOINT_COMPRESSED.to_bytes(); FIXED]);
        let range = part * share..proofs.len().min((part + 1) * share);
        let canonical: Vec<bool> =
            range.map(|i| collect(name, statements[i], &publics[i], &proofs[i], &mut batch).is_some()).collect();
        let verdicts = batch.check(arithmetic);
        canonical
            .into_iter()
            .zip(verdicts)
            .map(|(canonical, verdict)| canonical && verdict == Verdict::Holds)
            .collect::<Vec<_>>()
    });
    Ok(verdicts.concat())
}

/// Adds a claim, without an equation if s is not below the group order: a·(R + c·X − s·G) = 0.
fn collect(name: &str, statement: &[u8], x: &[u8; 32], proof: &[u8; PROOF], batch: &mut Batch) -> Option<()> {
    let mut terms = batch.claim();
    let [r, s] = proof.as_chunks::<32>().0 else { return None };
    let s: Scalar = Option::from(Scalar::from_canonical_bytes(*s))?;
    let c = Transcript::new(&format!("pok/{name}")).part(statement).part(x).part(r).challenge();
    let a = terms.weight();
    terms.short(r, a);
    terms.long(x, Scalar::from(a) * Scalar::from(c));
    terms.fixed(G, -(Scalar::from(a) * s));
    Some(())
}
