"""The inner loops of docs/protocol.md in Rust. `protocol.engine` is how the rest of Ballotboard calls them.

Many things cross as one buffer: *packed* means `length || bytes || length || bytes …`, rows of a fixed width are end
to end. Any object with the buffer protocol will do (bytes, memoryview, mmap), if nobody writes to it during the call.
The interpreter runs on meanwhile. `threads` is 0 for all cores. `plain` leaves AVX-512 unused, for tests. Every
function raises ValueError, with the place, for arguments that are not of the form described.
"""

from typing_extensions import Buffer

VERSION: str

def backend() -> str:
    """The group arithmetic in use: "AVX-512 IFMA" or "curve25519-dalek"."""

class Election:
    """The ballots of one election (section 5)."""

    def __init__(
        self, context: bytes, key: bytes, styles: list[list[tuple[str, int, int, int]]], unit_styles: Buffer
    ) -> None:
        """`context` (64 bytes), joint key K (32), per style its contests (id, rule, k, limit), and the style of each unit
        number as i16, −1 where nobody votes."""

    def size(self, style: int) -> int:
        """Bytes of a ballot of the style."""

    def verify(self, bodies: Buffer, roll: Buffer, threads: int = 1, plain: bool = False) -> bytes:
        """One reason number per ballot, 0 valid, 1 to 7 of section 5. `bodies` are packed with u16; `roll` has rows of 36
        bytes, with roll changes appended."""

    def create(self, requests: Buffer, threads: int = 1, plain: bool = False) -> bytes:
        """Signed ballots, packed with u16. A request is `u32(roll index) || u64(seen) || u32(unit) || u16(style) ||
        sk (32) || seed (32) || choices`, one byte 0 or 1 per option; requests follow one another without lengths. Unit and style
        are taken as given."""

    def unsigned(
        self, roll_index: int, seen: int, unit: int, style: int, public_key: bytes, seed: bytes, choices: Buffer
    ) -> bytes:
        """The unsigned ballot: what an audit derives again."""

    def sums(
        self,
        bodies: Buffer,
        roll: Buffer,
        contest: str,
        groups: Buffer,
        group_count: int,
        threads: int = 1,
        plain: bool = False,
    ) -> bytes:
        """Σ A_i || Σ B_i per group and ciphertext of the contest, 32 zero bytes for the identity. `groups` is a u32 per
        ballot, 2^32 − 1 where it does not count. The bodies were verified."""

def add_ciphertexts(columns: int, rows: Buffer, threads: int = 1, plain: bool = False) -> bytes:
    """The sum of each column, over rows of `columns` points; the identity is allowed."""

def mul_points(scalars: Buffer, points: Buffer, threads: int = 1) -> bytes:
    """Σ scalar_j·point_j for each row of as many points as there are scalars; in constant time."""

def fixed_rows(points: Buffer, scalars: Buffer, threads: int = 1, plain: bool = False) -> bytes:
    """Σ scalar_j·point_j for each row of as many scalars as there are points, which are few; in constant time."""

def knowledge_verify_many(
    name: str, statements: Buffer, publics: Buffer, proofs: Buffer, threads: int = 1, plain: bool = False
) -> bytes:
    """1 for each X and proof (64 bytes) that shows knowledge of log_G(X) (section 1), else 0. Statements are packed with u16."""

def dleq_prove_many(name: str, statements: Buffer, secret: bytes, points: Buffer, threads: int = 1) -> bytes:
    """`D || T1 || T2 || z`, 128 bytes, for each point A ≠ identity: D = secret·A with a proof of equality (section 1).
    Statements are packed with u16."""

def dleq_verify_many(
    name: str,
    statements: Buffer,
    public: bytes,
    points: Buffer,
    images: Buffer,
    proofs: Buffer,
    threads: int = 1,
    plain: bool = False,
) -> bytes:
    """1 for each A, D, proof (96 bytes) that shows log_G(public) = log_A(D), else 0."""

def discrete_logs(points: Buffer, maximum: int, threads: int = 1) -> list[int | None]:
    """The m of each m·G with 0 ≤ m ≤ maximum, None where there is none. Time and memory grow with the root of `maximum`."""

def entries(heads: Buffer, bodies: Buffer) -> bytes:
    """Log entries of 40 bytes (section 2): heads `kind || u40(time) || u16(role)` of 8 bytes, bodies packed with u16."""

def leaf_hashes(entries: Buffer) -> bytes:
    """RFC 9162 leaf hashes of entries of 40 bytes."""

def leaf_hash_rows(rows: Buffer, width: int) -> bytes:
    """RFC 9162 leaf hashes of rows of `width` bytes."""

def merkle_root(leaves: Buffer) -> bytes:
    """The root over leaf hashes of 32 bytes."""

def inclusion_proof(leaves: Buffer, index: int) -> bytes:
    """The sibling hashes, 32 bytes each, from leaf hash `index` up."""

def sha256_many(packed: Buffer) -> bytes:
    """SHA-256 of each piece, packed with u16."""

def keccak256_many(packed: Buffer) -> bytes:
    """Keccak-256 (Ethereum's) of each piece, packed with u32."""

def credentials(codes: Buffer, nonce: bytes, first_serial: int, threads: int = 0, plain: bool = False) -> bytes:
    """Public keys of consecutive cards (section 4) from codes of 16 bytes."""

def credential_secret(code: bytes, nonce: bytes, serial: int) -> bytes:
    """The secret key of a card, 32 bytes little-endian."""
