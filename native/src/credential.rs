//! Multiples of known points by many secret scalars: the keys of printed codes (docs/protocol.md, section 4), encryptions.
//! In constant time, secrets are overwritten.

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::scalar::Scalar;
use hkdf::Hkdf;
use sha2::Sha512;
use zeroize::Zeroizing;

use crate::arithmetic::FixedBase;
use crate::error::{Result, fail};
use crate::parallel;

const INFO: &[u8] = b"ballotboard/v1/credential";

/// Keys made together: enough to fill the lanes and to share an inversion, few enough for the cache.
const BATCH: usize = 256;

/// sk = HKDF-SHA512(code, salt = nonce || u64(serial)) mod ℓ.
pub fn secret_key(code: &[u8; 16], nonce: &[u8; 32], serial: u64) -> Result<Zeroizing<Scalar>> {
    let mut salt = [0; 40];
    salt[..32].copy_from_slice(nonce);
    salt[32..].copy_from_slice(&serial.to_be_bytes());
    let mut wide = Zeroizing::new([0; 64]);
    Hkdf::<Sha512>::new(Some(&salt), code).expand(INFO, wide.as_mut()).expect("64 bytes can be expanded");
    let secret = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide));
    if *secret == Scalar::ZERO {
        fail!("serial {serial}: the code gives no key, draw another");
    }
    Ok(secret)
}

/// The public keys of consecutive cards.
pub fn public_keys<A: FixedBase>(
    arithmetic: A,
    codes: &[[u8; 16]],
    nonce: &[u8; 32],
    first_serial: u64,
    threads: usize,
) -> Result<Vec<u8>> {
    if first_serial.checked_add(codes.len() as u64).is_none() {
        fail!("first_serial: {first_serial} leaves no serials for {} cards", codes.len());
    }
    let batches: Vec<_> = codes.chunks(BATCH).collect();
    let parts = parallel::map(threads, batches.len(), |batch| {
        let serials = first_serial + (batch * BATCH) as u64..;
        let mut secrets = Zeroizing::new(Vec::with_capacity(BATCH));
        for (code, serial) in batches[batch].iter().zip(serials) {
            secrets.push(*secret_key(code, nonce, serial)?);
        }
        Ok(arithmetic.multiply(&[(arithmetic.generator(), &secrets)]).into_flattened())
    });
    Ok(parts.into_iter().collect::<Result<Vec<Vec<u8>>>>()?.concat())
}

/// Σ point_j·scalar_j over each row of as many scalars as there are points, few and known in advance, all valid.
pub fn fixed_rows<A: FixedBase>(
    arithmetic: A,
    points: &[[u8; 32]],
    scalars: &[[u8; 32]],
    threads: usize,
) -> Result<Vec<u8>> {
    if points.is_empty() || !scalars.len().is_multiple_of(points.len()) {
        fail!("scalars: {} are no rows for {} points", scalars.len(), points.len());
    }
    let mut tables = Vec::with_capacity(points.len());
    for (number, point) in points.iter().enumerate() {
        match CompressedRistretto(*point).decompress() {
            Some(point) => tables.push(arithmetic.table(&point)),
            None => fail!("points[{number}]: not the canonical encoding of a ristretto255 point"),
        }
    }
    let batches: Vec<_> = scalars.chunks(points.len() * BATCH).collect();
    let parts = parallel::map(threads, batches.len(), |batch| {
        let mut columns = Zeroizing::new(vec![Vec::with_capacity(BATCH); points.len()]);
        for (i, scalar) in batches[batch].iter().enumerate() {
            match Option::<Scalar>::from(Scalar::from_canonical_bytes(*scalar)) {
                Some(scalar) => columns[i % points.len()].push(scalar),
                None => fail!("scalars[{}]: not below the group order", batch * points.len() * BATCH + i),
            }
        }
        let terms: Vec<_> = tables.iter().zip(columns.iter()).map(|(table, column)| (table, &column[..])).collect();
        Ok(arithmetic.multiply(&terms).into_flattened())
    });
    Ok(parts.into_iter().collect::<Result<Vec<Vec<u8>>>>()?.concat())
}
