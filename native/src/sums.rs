//! Homomorphic sums of ciphertexts (docs/protocol.md, section 8).

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::MultiscalarMul;
use zeroize::Zeroizing;

use crate::arithmetic::Arithmetic;
use crate::election::Election;
use crate::error::{Result, fail};
use crate::layout::HEADER;
use crate::packed::{Cursor, Roll};
use crate::parallel;

/// Group number of a ballot that takes no part in a sum.
pub const NOT_COUNTED: u32 = u32::MAX;

/// Groups times points per ballot: 1.6 GB of sums, far above any partition of a country into groups.
const MAX_CELLS: usize = 10_000_000;
/// Points decoded at a time.
const BLOCK: usize = 8_192;
/// Rows encoded together, which shares an inversion.
const ROWS: usize = 64;

/// A partition of ballots.
pub struct Groups<'a> {
    /// The group of each ballot, as u32, or `NOT_COUNTED`
    pub of_ballot: &'a [[u8; 4]],
    pub count: usize,
}

/// Σ A_i || Σ B_i for each group and each ciphertext i of the contest, over ballots that were verified.
pub fn sums<A: Arithmetic>(
    arithmetic: A,
    election: &Election,
    bodies: &[&[u8]],
    roll: Roll,
    contest: &str,
    groups: &Groups,
    threads: usize,
) -> Result<Vec<u8>> {
    if groups.of_ballot.len() != bodies.len() {
        fail!("groups: {} numbers for {} ballots", groups.of_ballot.len(), bodies.len());
    }
    let Some(columns) = election.contest(contest).map(|contest| 2 * contest.ciphertexts()) else {
        fail!("there is no contest {contest:?}");
    };
    let Some(cells) = groups.count.checked_mul(columns).filter(|cells| *cells <= MAX_CELLS) else {
        fail!("group_count: {} is too large", groups.count);
    };
    let share = bodies.len().div_ceil(parallel::count(threads)).max(1);
    let parts = parallel::map(threads, bodies.len().div_ceil(share), |part| {
        let mut total = Total::new(arithmetic, cells, "ballot");
        let ballots = bodies.iter().zip(groups.of_ballot).enumerate().skip(part * share).take(share);
        for (number, (body, group)) in ballots {
            let group = u32::from_be_bytes(*group);
            if group == NOT_COUNTED {
                continue;
            }
            if group as usize >= groups.count {
                fail!("ballot {number}: group {group} of {}", groups.count);
            }
            let Some(ciphertexts) = ciphertexts(election, body, roll, contest) else {
                fail!("ballot {number}: not of a style with contest {contest:?}");
            };
            for (column, point) in ciphertexts.iter().enumerate() {
                total.push(point, (group as usize * columns + column) as u32, number)?;
            }
        }
        total.finish()
    });
    combine(arithmetic, cells, parts)
}

/// The sum of each column over rows of `columns` points; the identity is allowed.
pub fn add_columns<A: Arithmetic>(arithmetic: A, columns: usize, rows: &[[u8; 32]], threads: usize) -> Result<Vec<u8>> {
    if columns == 0 || !rows.len().is_multiple_of(columns) {
        fail!("rows: {} points are no rows of {columns}", rows.len());
    }
    let share = (rows.len() / columns).div_ceil(parallel::count(threads)).max(1) * columns;
    let parts = parallel::map(threads, rows.len().div_ceil(share), |part| {
        let mut total = Total::new(arithmetic, columns, "row");
        for (number, point) in rows.iter().enumerate().skip(part * share).take(share) {
            total.push(point, (number % columns) as u32, number / columns)?;
        }
        total.finish()
    });
    combine(arithmetic, columns, parts)
}

/// Σ scalar_j·point_j over each row of as many points as there are scalars, in constant time.
pub fn weighted_rows(scalars: &[[u8; 32]], points: &[[u8; 32]], threads: usize) -> Result<Vec<u8>> {
    if scalars.is_empty() || !points.len().is_multiple_of(scalars.len()) {
        fail!("points: {} are no rows of {}", points.len(), scalars.len());
    }
    let mut halves = Zeroizing::new(Vec::with_capacity(scalars.len()));
    for (number, scalar) in scalars.iter().enumerate() {
        match Option::<Scalar>::from(Scalar::from_canonical_bytes(*scalar)) {
            Some(scalar) => halves.push(scalar.div_by_2()),
            None => fail!("scalars[{number}]: not below the group order"),
        }
    }
    let batches: Vec<_> = points.chunks(scalars.len() * ROWS).collect();
    let parts = parallel::map(threads, batches.len(), |batch| {
        let rows = batches[batch].chunks(scalars.len()).enumerate();
        let sums = rows.map(|(row, points)| {
            let decoded =
                points.iter().map(|point| CompressedRistretto(*point).decompress()).collect::<Option<Vec<_>>>();
            let Some(decoded) = decoded else {
                fail!("row {}: not the canonical encoding of a ristretto255 point", batch * ROWS + row);
            };
            Ok(RistrettoPoint::multiscalar_mul(halves.iter(), decoded))
        });
        let sums: Vec<RistrettoPoint> = sums.collect::<Result<_>>()?;
        Ok(RistrettoPoint::double_and_compress_batch(&sums).iter().flat_map(|sum| sum.to_bytes()).collect())
    });
    Ok(parts.into_iter().collect::<Result<Vec<Vec<u8>>>>()?.concat())
}

/// The block of the contest in a body of the right style, up to its commitments.
fn ciphertexts<'a>(election: &Election, body: &'a [u8], roll: Roll, contest: &str) -> Option<&'a [[u8; 32]]> {
    let index = body.get(1..5)?.try_into().ok()?;
    let (_, style) = election.voter(roll, u32::from_be_bytes(index))?;
    if body.len() != style.size {
        return None;
    }
    let mut cursor = Cursor(&body[HEADER..]);
    for candidate in &style.contests {
        let block = cursor.take(candidate.size());
        if candidate.id == contest {
            return Some(block[..64 * candidate.ciphertexts()].as_chunks().0);
        }
    }
    None
}

/// Running sums, one per cell, fed a block of points at a time.
struct Total<A: Arithmetic> {
    arithmetic: A,
    /// What a point is of, and the number of that, for the error
    what: &'static str,
    origins: Vec<usize>,
    sums: Vec<A::Sum>,
    encodings: Vec<[u8; 32]>,
    cells: Vec<u32>,
}

impl<A: Arithmetic> Total<A> {
    fn new(arithmetic: A, cells: usize, what: &'static str) -> Self {
        Self {
            arithmetic,
            what,
            sums: vec![arithmetic.identity(); cells],
            encodings: vec![],
            cells: vec![],
            origins: vec![],
        }
    }

    fn push(&mut self, encoding: &[u8; 32], cell: u32, origin: usize) -> Result<()> {
        self.encodings.push(*encoding);
        self.cells.push(cell);
        self.origins.push(origin);
        if self.encodings.len() == BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let (points, canonical) = self.arithmetic.decode(&self.encodings);
        if let Some(wrong) = canonical.iter().position(|canonical| !canonical) {
            fail!("{} {}: not the canonical encoding of a ristretto255 point", self.what, self.origins[wrong]);
        }
        self.arithmetic.accumulate(&points, &self.cells, &mut self.sums);
        self.encodings.clear();
        self.cells.clear();
        self.origins.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<A::Sum>> {
        self.flush()?;
        Ok(self.sums)
    }
}

/// The sums of the parts, encoded.
fn combine<A: Arithmetic>(arithmetic: A, cells: usize, parts: Vec<Result<Vec<A::Sum>>>) -> Result<Vec<u8>> {
    let mut total = vec![arithmetic.identity(); cells];
    for part in parts {
        for (sum, addend) in total.iter_mut().zip(part?) {
            *sum = arithmetic.add(sum, &addend);
        }
    }
    Ok(arithmetic.encode(&total).into_flattened())
}
