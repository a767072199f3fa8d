//! The border to Python: bytes in, bytes out, the interpreter free to run others meanwhile. Documented for its users in
//! `ballotboard_native.pyi`.

use curve25519_dalek::scalar::Scalar;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};
use sha3::Keccak256;
use zeroize::Zeroizing;

use crate::arithmetic::{Arithmetic, FixedBase, Plain};
use crate::create::{self, Request};
use crate::election::Voter;
use crate::equality::Proofs;
use crate::error::{Error, Result, fail};
#[cfg(target_arch = "x86_64")]
use crate::lanes::Lanes;
use crate::layout::Contest;
use crate::packed::{Cursor, Roll, pieces, rows};
use crate::sums::Groups;
use crate::{credential, dlog, election, equality, knowledge, merkle, sums, verify};

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        PyValueError::new_err(error.0)
    }
}

/// Evaluates the expression with the fastest arithmetic of this processor, or with dalek's if `plain`.
macro_rules! with_arithmetic {
    ($plain:expr, |$arithmetic:ident| $body:expr) => {{
        #[cfg(target_arch = "x86_64")]
        let lanes = Lanes::detect().filter(|_| !$plain);
        #[cfg(not(target_arch = "x86_64"))]
        let lanes = None::<Plain>.filter(|_| !$plain);
        match lanes {
            Some($arithmetic) => $body,
            None => {
                let $arithmetic = Plain;
                $body
            }
        }
    }};
}

type Buffer = PyBuffer<u8>;

/// The bytes of a buffer without a copy, so that a mapped file works. As with hashlib, nobody may write to it during
/// the call.
fn bytes(buffer: &Buffer) -> Result<&[u8]> {
    match buffer.as_slice_ptr() {
        // SAFETY: the view keeps the memory alive and in place as long as `buffer`; it is contiguous.
        Some(slice) => Ok(unsafe { slice.as_ref() }),
        None => fail!("a buffer must be contiguous"),
    }
}

fn give<'py>(py: Python<'py>, bytes: impl AsRef<[u8]>) -> Bound<'py, PyBytes> {
    PyBytes::new(py, bytes.as_ref())
}

fn secret_scalar(bytes: &[u8; 32], what: &str) -> Result<Zeroizing<Scalar>> {
    match Option::<Scalar>::from(Scalar::from_canonical_bytes(*bytes)).filter(|scalar| *scalar != Scalar::ZERO) {
        Some(scalar) => Ok(Zeroizing::new(scalar)),
        None => fail!("{what}: zero, or not below the group order"),
    }
}

#[pyclass(frozen)]
struct Election(election::Election);

#[pymethods]
impl Election {
    #[new]
    fn new(
        context: [u8; 64],
        key: [u8; 32],
        styles: Vec<Vec<(String, i64, i64, i64)>>,
        unit_styles: Buffer,
    ) -> PyResult<Self> {
        let styles = styles.into_iter().map(|contests| {
            contests.into_iter().map(|(id, rule, options, limit)| Contest::new(id, rule, options, limit)).collect()
        });
        Ok(Self(election::Election::new(context, key, styles.collect::<Result<_>>()?, bytes(&unit_styles)?)?))
    }

    fn size(&self, style: usize) -> PyResult<usize> {
        Ok(self.0.style(style)?.size)
    }

    #[pyo3(signature = (bodies, roll, threads = 1, plain = false))]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        bodies: Buffer,
        roll: Buffer,
        threads: usize,
        plain: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (bodies, roll) = (bytes(&bodies)?, bytes(&roll)?);
        let reasons = py.detach(|| {
            let (bodies, roll) = (pieces::<2>(bodies)?, Roll::new(roll)?);
            let reasons = with_arithmetic!(plain, |a| verify::verify(a, &self.0, &bodies, roll, threads));
            Ok::<_, Error>(reasons.into_iter().map(|reason| reason as u8).collect::<Vec<_>>())
        })?;
        Ok(give(py, reasons))
    }

    #[pyo3(signature = (requests, threads = 1, plain = false))]
    fn create<'py>(
        &self,
        py: Python<'py>,
        requests: Buffer,
        threads: usize,
        plain: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let requests = bytes(&requests)?;
        let ballots = py.detach(|| {
            let requests = self.split_requests(requests)?;
            with_arithmetic!(plain, |a| self.create_all(a, &requests, threads))
        })?;
        let mut packed = Vec::with_capacity(ballots.iter().map(|ballot| 2 + ballot.len()).sum());
        for ballot in ballots {
            packed.extend_from_slice(&(ballot.len() as u16).to_be_bytes());
            packed.extend_from_slice(&ballot);
        }
        Ok(give(py, packed))
    }

    #[expect(clippy::too_many_arguments)]
    fn unsigned<'py>(
        &self,
        py: Python<'py>,
        roll_index: u32,
        seen: u64,
        unit: u32,
        style: u16,
        public_key: [u8; 32],
        seed: [u8; 32],
        choices: Buffer,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let seed = Zeroizing::new(seed);
        let voter = Voter { roll_index, unit, style, public_key: &public_key };
        let request = Request { voter, seen, seed: &seed, choices: bytes(&choices)? };
        Ok(give(py, with_arithmetic!(false, |a| create::unsigned(a, &self.0, &request))?))
    }

    #[pyo3(signature = (bodies, roll, contest, groups, group_count, threads = 1, plain = false))]
    #[expect(clippy::too_many_arguments)]
    fn sums<'py>(
        &self,
        py: Python<'py>,
        bodies: Buffer,
        roll: Buffer,
        contest: &str,
        groups: Buffer,
        group_count: usize,
        threads: usize,
        plain: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (bodies, roll, groups) = (bytes(&bodies)?, bytes(&roll)?, bytes(&groups)?);
        let sums = py.detach(|| {
            let (bodies, roll) = (pieces::<2>(bodies)?, Roll::new(roll)?);
            let groups = Groups { of_ballot: rows(groups, "groups")?, count: group_count };
            with_arithmetic!(plain, |a| sums::sums(a, &self.0, &bodies, roll, contest, &groups, threads))
        })?;
        Ok(give(py, sums))
    }
}

/// Bytes of a request before its choices.
const REQUEST: usize = 4 + 8 + 4 + 2 + 32 + 32;

impl Election {
    /// Cuts requests apart; the length of each follows from its style.
    fn split_requests<'a>(&self, packed: &'a [u8]) -> Result<Vec<&'a [u8]>> {
        let (mut requests, mut rest) = (vec![], packed);
        while !rest.is_empty() {
            let number = requests.len();
            let Some(style) = rest.get(16..18) else { fail!("requests[{number}]: cut short") };
            let style = self.0.style(u16::from_be_bytes([style[0], style[1]]) as usize);
            let style = style.map_err(|error| Error(format!("requests[{number}]: {error}")))?;
            let length = REQUEST + style.contests.iter().map(|contest| contest.options).sum::<usize>();
            let Some((request, tail)) = rest.split_at_checked(length) else {
                fail!("requests[{number}]: needs {length} bytes, {} left", rest.len());
            };
            requests.push(request);
            rest = tail;
        }
        Ok(requests)
    }

    fn create_all<A: FixedBase>(&self, arithmetic: A, packed: &[&[u8]], threads: usize) -> Result<Vec<Vec<u8>>> {
        let mut secrets = Zeroizing::new(Vec::with_capacity(packed.len()));
        for (number, request) in packed.iter().enumerate() {
            let secret = request[18..].first_chunk().expect("a request has its length");
            secrets.push(*secret_scalar(secret, &format!("requests[{number}]: secret key"))?);
        }
        let keys = arithmetic.multiply(&[(arithmetic.generator(), &secrets)]);
        let requests: Vec<_> = packed.iter().zip(&keys).map(|(packed, key)| read_request(packed, key)).collect();
        create::signed(arithmetic, &self.0, &requests, &secrets, threads)
    }
}

/// A request of checked length; the secret key in it is passed over.
fn read_request<'a>(packed: &'a [u8], public_key: &'a [u8; 32]) -> Request<'a> {
    let mut cursor = Cursor(packed);
    let roll_index = u32::from_be_bytes(*cursor.array());
    let seen = u64::from_be_bytes(*cursor.array());
    let unit = u32::from_be_bytes(*cursor.array());
    let style = u16::from_be_bytes(*cursor.array());
    let _: &[u8; 32] = cursor.array();
    let voter = Voter { roll_index, unit, style, public_key };
    Request { voter, seen, seed: cursor.array(), choices: cursor.0 }
}

#[pyfunction]
fn backend() -> &'static str {
    with_arithmetic!(false, |arithmetic| arithmetic.name())
}

#[pyfunction]
#[pyo3(signature = (columns, rows, threads = 1, plain = false))]
fn add_ciphertexts<'py>(
    py: Python<'py>,
    columns: usize,
    rows: Buffer,
    threads: usize,
    plain: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let points = self::rows::<32>(bytes(&rows)?, "rows")?;
    Ok(give(py, py.detach(|| with_arithmetic!(plain, |a| sums::add_columns(a, columns, points, threads)))?))
}

#[pyfunction]
#[pyo3(signature = (scalars, points, threads = 1))]
fn mul_points<'py>(py: Python<'py>, scalars: Buffer, points: Buffer, threads: usize) -> PyResult<Bound<'py, PyBytes>> {
    let (scalars, points) = (rows::<32>(bytes(&scalars)?, "scalars")?, rows::<32>(bytes(&points)?, "points")?);
    Ok(give(py, py.detach(|| sums::weighted_rows(scalars, points, threads))?))
}

#[pyfunction]
#[pyo3(signature = (points, scalars, threads = 1, plain = false))]
fn fixed_rows<'py>(
    py: Python<'py>,
    points: Buffer,
    scalars: Buffer,
    threads: usize,
    plain: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let (points, scalars) = (rows::<32>(bytes(&points)?, "points")?, rows::<32>(bytes(&scalars)?, "scalars")?);
    Ok(give(py, py.detach(|| with_arithmetic!(plain, |a| credential::fixed_rows(a, points, scalars, threads)))?))
}

#[pyfunction]
#[pyo3(signature = (name, statements, secret, points, threads = 1))]
fn dleq_prove_many<'py>(
    py: Python<'py>,
    name: &str,
    statements: Buffer,
    secret: [u8; 32],
    points: Buffer,
    threads: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let secret = secret_scalar(&Zeroizing::new(secret), "secret")?;
    let (statements, points) = (pieces::<2>(bytes(&statements)?)?, rows::<32>(bytes(&points)?, "points")?);
    Ok(give(py, py.detach(|| equality::prove(name, &statements, &secret, points, threads))?))
}

#[pyfunction]
#[pyo3(signature = (name, statements, public, points, images, proofs, threads = 1, plain = false))]
#[expect(clippy::too_many_arguments)]
fn dleq_verify_many<'py>(
    py: Python<'py>,
    name: &str,
    statements: Buffer,
    public: [u8; 32],
    points: Buffer,
    images: Buffer,
    proofs: Buffer,
    threads: usize,
    plain: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let proofs = Proofs {
        name,
        public: &public,
        statements: &pieces::<2>(bytes(&statements)?)?,
        points: rows(bytes(&points)?, "points")?,
        images: rows(bytes(&images)?, "images")?,
        proofs: rows(bytes(&proofs)?, "proofs")?,
    };
    let valid = py.detach(|| with_arithmetic!(plain, |a| equality::verify(a, &proofs, threads)))?;
    Ok(give(py, valid.into_iter().map(u8::from).collect::<Vec<_>>()))
}

#[pyfunction]
#[pyo3(signature = (name, statements, publics, proofs, threads = 1, plain = false))]
fn knowledge_verify_many<'py>(
    py: Python<'py>,
    name: &str,
    statements: Buffer,
    publics: Buffer,
    proofs: Buffer,
    threads: usize,
    plain: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let statements = pieces::<2>(bytes(&statements)?)?;
    let (publics, proofs) = (rows(bytes(&publics)?, "publics")?, rows(bytes(&proofs)?, "proofs")?);
    let valid =
        py.detach(|| with_arithmetic!(plain, |a| knowledge::verify(a, name, &statements, publics, proofs, threads)))?;
    Ok(give(py, valid.into_iter().map(u8::from).collect::<Vec<_>>()))
}

#[pyfunction]
#[pyo3(signature = (points, maximum, threads = 1))]
fn discrete_logs(py: Python<'_>, points: Buffer, maximum: u64, threads: usize) -> PyResult<Vec<Option<u64>>> {
    let points = rows::<32>(bytes(&points)?, "points")?;
    Ok(py.detach(|| dlog::discrete_logs(points, maximum, threads))?)
}

#[pyfunction]
fn leaf_hashes<'py>(py: Python<'py>, entries: Buffer) -> PyResult<Bound<'py, PyBytes>> {
    leaf_hash_rows(py, entries, 40)
}

#[pyfunction]
fn leaf_hash_rows<'py>(py: Python<'py>, rows: Buffer, width: usize) -> PyResult<Bound<'py, PyBytes>> {
    let rows = bytes(&rows)?;
    if width == 0 || !rows.len().is_multiple_of(width) {
        return Err(PyValueError::new_err(format!("rows: {} bytes are no rows of {width}", rows.len())));
    }
    Ok(give(py, py.detach(|| rows.chunks(width).flat_map(merkle::leaf_hash).collect::<Vec<_>>())))
}

#[pyfunction]
fn entries<'py>(py: Python<'py>, heads: Buffer, bodies: Buffer) -> PyResult<Bound<'py, PyBytes>> {
    let (heads, bodies) = (rows::<8>(bytes(&heads)?, "heads")?, pieces::<2>(bytes(&bodies)?)?);
    if heads.len() != bodies.len() {
        return Err(PyValueError::new_err(format!("heads: {} for {} bodies", heads.len(), bodies.len())));
    }
    let entry = |(head, body): (&[u8; 8], &&[u8])| head.iter().copied().chain(Sha256::digest(body)).collect::<Vec<_>>();
    Ok(give(py, py.detach(|| heads.iter().zip(&bodies).flat_map(entry).collect::<Vec<_>>())))
}

#[pyfunction]
fn merkle_root<'py>(py: Python<'py>, leaves: Buffer) -> PyResult<Bound<'py, PyBytes>> {
    let leaves = rows::<32>(bytes(&leaves)?, "leaves")?;
    Ok(give(py, py.detach(|| merkle::root(leaves))))
}

#[pyfunction]
fn inclusion_proof<'py>(py: Python<'py>, leaves: Buffer, index: usize) -> PyResult<Bound<'py, PyBytes>> {
    let leaves = rows::<32>(bytes(&leaves)?, "leaves")?;
    Ok(give(py, py.detach(|| merkle::inclusion_proof(leaves, index))?.as_flattened()))
}

#[pyfunction]
fn sha256_many<'py>(py: Python<'py>, packed: Buffer) -> PyResult<Bound<'py, PyBytes>> {
    let pieces = pieces::<2>(bytes(&packed)?)?;
    Ok(give(py, py.detach(|| pieces.iter().flat_map(Sha256::digest).collect::<Vec<_>>())))
}

#[pyfunction]
fn keccak256_many<'py>(py: Python<'py>, packed: Buffer) -> PyResult<Bound<'py, PyBytes>> {
    let pieces = pieces::<4>(bytes(&packed)?)?;
    Ok(give(py, py.detach(|| pieces.iter().flat_map(Keccak256::digest).collect::<Vec<_>>())))
}

#[pyfunction]
#[pyo3(signature = (codes, nonce, first_serial, threads = 0, plain = false))]
fn credentials<'py>(
    py: Python<'py>,
    codes: Buffer,
    nonce: [u8; 32],
    first_serial: u64,
    threads: usize,
    plain: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let codes = rows::<16>(bytes(&codes)?, "codes")?;
    Ok(give(
        py,
        py.detach(|| with_arithmetic!(plain, |a| credential::public_keys(a, codes, &nonce, first_serial, threads)))?,
    ))
}

#[pyfunction]
fn credential_secret<'py>(
    py: Python<'py>,
    code: [u8; 16],
    nonce: [u8; 32],
    serial: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(give(py, credential::secret_key(&Zeroizing::new(code), &nonce, serial)?.as_bytes()))
}

#[pymodule]
fn ballotboard_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Election>()?;
    module.add_function(wrap_pyfunction!(backend, module)?)?;
    module.add_function(wrap_pyfunction!(add_ciphertexts, module)?)?;
    module.add_function(wrap_pyfunction!(mul_points, module)?)?;
    module.add_function(wrap_pyfunction!(fixed_rows, module)?)?;
    module.add_function(wrap_pyfunction!(knowledge_verify_many, module)?)?;
    module.add_function(wrap_pyfunction!(dleq_prove_many, module)?)?;
    module.add_function(wrap_pyfunction!(dleq_verify_many, module)?)?;
    module.add_function(wrap_pyfunction!(discrete_logs, module)?)?;
    module.add_function(wrap_pyfunction!(leaf_hashes, module)?)?;
    module.add_function(wrap_pyfunction!(leaf_hash_rows, module)?)?;
    module.add_function(wrap_pyfunction!(entries, module)?)?;
    module.add_function(wrap_pyfunction!(merkle_root, module)?)?;
    module.add_function(wrap_pyfunction!(inclusion_proof, module)?)?;
    module.add_function(wrap_pyfunction!(sha256_many, module)?)?;
    module.add_function(wrap_pyfunction!(keccak256_many, module)?)?;
    module.add_function(wrap_pyfunction!(credentials, module)?)?;
    module.add_function(wrap_pyfunction!(credential_secret, module)?)?;
    Ok(())
}
