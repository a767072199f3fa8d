"""Ballots' bodies in hash mode: had from the data holders by hash, and what the holders sign for the settlement (docs/protocol.md, sections 2 and 3).

A holder answers `GET /v1/bodies/{hash}` with one body and `POST /v1/bodies`, given 32-byte hashes end to end, with `u16 length || body` for
each in order, length 0 for what it does not have. Whoever asks checks every hash, so a holder can be late or silent, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from chain.errors import BadSignature, ChainError
from chain.rpc import Address, address_bytes
from chain.sign import SIGNATURE, recover_record
from protocol.attachments import Bitmap
from protocol.election import LogRecord
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import Malformed
from protocol.manifest import Manifest, RoleKind
from protocol.records import MAX_BODY, Kind, LogHead, Settlement, ballot_hash, unpack_bodies

PATH = "/v1/bodies"

AT_ONCE = 1_000
"""Hashes in one request: the answer is under a megabyte with ballots of a yes/no question. A holder may answer the first of them only."""

MAX_ANSWER = AT_ONCE * (2 + MAX_BODY)
"""Bytes of the longest honest answer."""

TIMEOUT = 30.0
"""Seconds for one answer."""

ATTESTATION_FORMAT = "ballotboard/attestation/v1"

Progress = Callable[[int, int], None]


# ---------------------------------------------------------------- bodies by hash


class Holders:
    """The data holders at these URLs, asked one after the other."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = [url.rstrip("/") for url in urls]
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy meant for the web has no business between an observer and a holder

    def fetch(self, hashes: Iterable[bytes], progress: Progress | None = None) -> dict[bytes, bytes]:
        """The bodies that any of the holders has, by SHA-256. What none has is not in the answer."""
        wanted, found = list(dict.fromkeys(hashes)), dict[bytes, bytes]()
        for url in self.urls:
            missing = [digest for digest in wanted if digest not in found]
            start = 0
            while start < len(missing):
                asked = missing[start : start + AT_ONCE]
                bodies = self._ask(url, asked)
                if not bodies:
                    break
                found.update(
                    (digest, body)
                    for digest, body in zip(asked, bodies, strict=False)
                    if body and hashlib.sha256(body).digest() == digest
                )
                start += len(bodies)
                if progress:
                    progress(len(found), len(wanted))
        return found

    def _ask(self, url: str, hashes: Sequence[bytes]) -> list[bytes]:
        """The answers for the first of these hashes, empty when the holder gives none."""
        try:
            with self._session.post(url + PATH, data=b"".join(hashes), timeout=TIMEOUT, stream=True) as answer:
                data = answer.raw.read(MAX_ANSWER + 1, decode_content=True) if answer.status_code == 200 else b""
            return unpack_bodies(data)[: len(hashes)] if len(data) <= MAX_ANSWER else []
        except (requests.RequestException, HTTPError, Malformed):
            return []


def with_bodies(records: Sequence[LogRecord], holders: Holders, progress: Progress | None = None) -> list[LogRecord]:
    """The records with the bodies of ballots that are not on the chain, as far as a holder has them."""
    missing = [record.entry.body_hash for record in records if record.kind == Kind.BALLOT and record.body is None]
    found = holders.fetch(missing, progress) if missing else {}
    return [
        replace(record, body=found.get(record.entry.body_hash)) if record.body is None else record for record in records
    ]


# ---------------------------------------------------------------- what a holder signs


@dataclass(frozen=True, slots=True)
class Attestation:
    """A data holder's signature (65 bytes) of a settlement: "I keep these bodies of the log with this head". `role` is its place in the manifest."""

    chain_id: int
    contract: bytes
    settlement: Settlement
    role: int
    number: int
    signature: bytes

    def body(self) -> bytes:
        """The canonical file."""
        head = self.settlement.head
        return canonical_json(
            {
                "bitmap": self.settlement.bitmap.hex(), "chain": self.chain_id, "contract": self.contract.hex(), "format": ATTESTATION_FORMAT,
                "number": self.number, "role": self.role, "root": head.root.hex(), "signature": self.signature.hex(), "size": head.size,
            }
        )  # fmt: skip

    @staticmethod
    def parse(data: bytes) -> Attestation:
        value = members(
            parse_json(data, "attestation"), "attestation", bitmap=str, chain=int, contract=str, format=str, number=int,
            role=int, root=str, signature=str, size=int,
        )  # fmt: skip
        if value["format"] != ATTESTATION_FORMAT:
            raise Malformed("attestation.format", f"is not {ATTESTATION_FORMAT}")
        head = LogHead(value["size"], unhex(value["root"], 32, "attestation.root"))
        return Attestation(
            value["chain"], unhex(value["contract"], 20, "attestation.contract"),
            Settlement(head, unhex(value["bitmap"], 32, "attestation.bitmap")), value["role"], value["number"],
            unhex(value["signature"], SIGNATURE, "attestation.signature"),
        )  # fmt: skip

    def check(self, manifest: Manifest) -> None:
        """Raises BadSignature unless the data holder that it names has signed it."""
        roles = manifest.roles
        if not 0 <= self.role < len(roles) or roles[self.role].kind != RoleKind.DATA_HOLDER:
            raise BadSignature(f"role {self.role} is no data holder")
        body_hash = ballot_hash(self.settlement.body())
        signer = recover_record(self.chain_id, self.contract, Kind.SETTLEMENT, body_hash, self.number, self.signature)
        if signer != roles[self.role].address:
            raise BadSignature(f"the attestation of {roles[self.role].name} was signed by somebody else")


def bitmap_path(attestation: Path) -> Path:
    """Where the bitmap's file lies beside an attestation."""
    return attestation.with_suffix(".bitmap")


def held_bitmap(records: Sequence[LogRecord], held: Callable[[bytes], bool]) -> Bitmap:
    """The bitmap of a log whose holder has the bodies for whose hash `held` is true."""
    return Bitmap.of(len(records), (r.position for r in records if r.kind == Kind.BALLOT and held(r.entry.body_hash)))


def combine(
    manifest: Manifest, chain_id: int, contract: Address, head: LogHead, attestations: Iterable[Attestation]
) -> tuple[bytes, bytes]:
    """(bitmap SHA-256, signatures in the order of roles) for `Writer.settle` at this head of the log, where enough holders signed the same bitmap.

    Raises BadSignature naming one that is wrong, ChainError saying how many agree and what the others should do.
    """
    by_bitmap: dict[bytes, dict[int, bytes]] = {}
    for attestation in attestations:
        attestation.check(manifest)
        name = manifest.roles[attestation.role].name
        if (attestation.chain_id, attestation.contract) != (chain_id, address_bytes(contract)):
            raise ChainError(f"the attestation of {name} is of another board")
        if attestation.settlement.head != head:
            raise ChainError(
                f"the attestation of {name} is of the log with {attestation.settlement.head.size:,} records, which has {head.size:,} now:"
                " let every data holder run `ballotboard relayer attest` again"
            )
        by_bitmap.setdefault(attestation.settlement.bitmap, {})[attestation.role] = attestation.signature
    bitmap, signed = max(by_bitmap.items(), key=lambda item: (len(item[1]), item[0]), default=(b"", {}))
    if len(signed) < manifest.data_holder_threshold:
        raise ChainError(
            f"{len(signed)} data holders attest to the same ballots, {manifest.data_holder_threshold} must: let the others fetch what they lack"
            " and run `ballotboard relayer attest` again"
        )
    return bitmap, b"".join(signature for _, signature in sorted(signed.items()))
