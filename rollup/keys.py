"""Who signs a unit's sum: a key file for one unit or for many, and signatures that come out the same every time.

The file (chain.sealed) holds a seed of 32 bytes; unit u signs with sk = Hs("unit-key", seed, u32(u)), so that a state can keep the keys of its
thousand counties in one file, and a precinct has a file of its own. A signature is a proof of knowledge of sk (docs/protocol.md, section 1) named
`unit-sum`, over the SHA-256 of the report. Its nonce is hashed from key and statement, as in RFC 8032: signing again gives the same bytes.

Not Ed25519, because these are verified in batches: 3 µs each in native/ against 42 µs in libsodium, and a batch of ristretto255 equations has
one answer, where Ed25519's verifiers differ in theirs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nacl.exceptions import CryptoError

from chain.sealed import STRONG, Cost, WrongPassphrase, new_header, open_box, take_header
from protocol import engine
from protocol.encoding import u32
from protocol.errors import BallotboardError
from protocol.group import BASE, H, base, low128, reduce, scalar_bytes

FORMAT = "ballotboard/rollup-key/v1"
NAME = "unit-sum"
"""Domain of the signatures."""

SEED_BYTES = 32


class Keys:
    """The signing keys of as many units as there are, from one seed."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed

    def secret(self, unit: int) -> int:
        # zero has probability 2^-252 and would only show in public: the key file is then refused by the plan
        return reduce(H("unit-key", self.seed, u32(unit)))

    def public(self, units: Sequence[int]) -> bytes:
        """The public keys of these units, 32 bytes each."""
        return engine.fixed_rows(BASE, b"".join(scalar_bytes(self.secret(unit)) for unit in units))

    def checkpoint_key(self, plan: bytes, unit: int) -> bytes:
        """What seals the checkpoints of a unit: 32 bytes."""
        return H("unit-checkpoint", self.seed, plan, u32(unit))[:32]

    def sign(self, unit: int, statement: bytes) -> bytes:
        """`R || s` over a statement of 32 bytes."""
        x = self.secret(unit)
        w = _nonce(x, statement)
        commitment = base(w)
        return commitment + scalar_bytes(w + _challenge(statement, base(x), commitment) * x)

    def sign_many(self, units: Sequence[int], statements: Sequence[bytes]) -> bytes:
        """The signature of each unit over its statement, 64 bytes each."""
        secrets = [self.secret(unit) for unit in units]
        nonces = [_nonce(x, statement) for x, statement in zip(secrets, statements, strict=True)]
        multiples = engine.fixed_rows(BASE, b"".join(map(scalar_bytes, [*secrets, *nonces])))
        out = bytearray()
        for i, (x, w, statement) in enumerate(zip(secrets, nonces, statements, strict=True)):
            public = multiples[32 * i : 32 * i + 32]
            commitment = multiples[32 * (len(secrets) + i) : 32 * (len(secrets) + i) + 32]
            out += commitment + scalar_bytes(w + _challenge(statement, public, commitment) * x)
        return bytes(out)


def create(path: Path, passphrase: str, cost: Cost = STRONG) -> Keys:
    """A new key file. Refuses to overwrite one."""
    keys = Keys(os.urandom(SEED_BYTES))
    header = new_header(FORMAT, cost)
    data = header + open_box(header, passphrase, str(path)).encrypt(keys.seed)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BallotboardError(f"{path} exists and is not overwritten") from None
    except OSError as error:
        raise BallotboardError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return keys


def load(path: Path, passphrase: str) -> Keys:
    """Raises BallotboardError where the file is missing, WrongPassphrase where it does not open."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BallotboardError(
            f"cannot read the key file {path}: {error.strerror} (`ballotboard rollup key` makes one)"
        ) from error
    header = take_header(data, FORMAT, str(path))
    try:
        return Keys(open_box(header, passphrase, str(path)).decrypt(data[len(header) :]))
    except CryptoError as error:
        raise WrongPassphrase(f"{path} does not open with this passphrase") from error


def verify(statements: Sequence[bytes], publics: bytes, signatures: bytes, threads: int = 0) -> bytes:
    """1 for each right signature, else 0."""
    return engine.verify_knowledge(NAME, statements, publics, signatures, threads)


def _nonce(secret: int, statement: bytes) -> int:
    return reduce(H("unit-sum-nonce", scalar_bytes(secret), statement))


def _challenge(statement: bytes, public: bytes, commitment: bytes) -> int:
    return low128(H("pok/" + NAME, statement, public, commitment))
