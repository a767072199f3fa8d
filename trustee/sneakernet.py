"""A trustee's machine without a network: the record comes in as an archive, and what the trustee says goes out as a file of signed records.

    ballotboard archive make election.archive        on any machine with a network
    ballotboard trustee reveal --offline election.archive --answer answer.json         on the trustee's own
    ballotboard trustee post answer.json             anybody, anywhere: the signatures count, not the sender

The carrier is trusted with nothing. The archive passes the same checks as a node's answers, with the validators' signatures if the chain has
validators, and must extend whatever this keystore has seen; an answer cannot be changed, and can be posted twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from chain.sign import sign_record
from chain.writer import Writer
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import BallotboardError
from protocol.records import Kind, ballot_hash
from verifier.claims import Claims, Progress, silent
from verifier.log import Log
from verifier.stored import ArchiveSource

FORMAT = "ballotboard/signed-records/v1"
SIGNATURE_BYTES = 65


@dataclass
class Carried:
    """A board that is an archive to read and an answer to write."""

    archive: Path
    answer: Path
    _records: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def claims(self) -> Claims:
        return ArchiveSource(self.archive).read()

    def read(self, progress: Progress = silent) -> Claims:
        return self.claims

    @property
    def address(self) -> bytes:
        return self.claims.contract

    def now(self) -> int:
        """The time of the last record, which the log itself fixes, or this machine's, whichever is later: the carrier has no say in either."""
        others = Log.of(self.claims.records).others
        return max(int(time.time()), *(record.entry.time for record in others))

    def append(self, kind: Kind, body: bytes, account: LocalAccount, roles: list[int]) -> None:
        """Sign a record into the answer. `roles` are those that the account has: their records count its numbers."""
        if not self._records and self.answer.exists():
            raise BallotboardError(
                f"{self.answer} exists, and may not be posted yet: post it, or name another with --answer"
            )
        number = sum(record.entry.role in roles for record in Log.of(self.claims.records).others) + len(self._records)
        signature = sign_record(account, self.claims.chain_id, self.address, kind, ballot_hash(body), number)
        self._records.append(
            {
                "body": body.hex(), "kind": int(kind), "number": number, "signature": signature.hex(),
                "signer": account.address[2:].lower(),
            }
        )  # fmt: skip
        value = {
            "chain": self.claims.chain_id,
            "contract": self.address.hex(),
            "format": FORMAT,
            "records": self._records,
        }
        try:
            self.answer.write_bytes(canonical_json(value))
        except OSError as error:
            raise BallotboardError(f"cannot write {self.answer}: {error.strerror}") from error


def post(writer: Writer, data: bytes, name: str = "the answer") -> list[int | None]:
    """Append an answer's records in order, by an account that pays or a relayer (chain.carrier); gives the position of each, None for what is on the
    record already. Raises ChainError where the board refuses."""
    value = members(parse_json(data, name), name, chain=int, contract=str, format=str, records=list)
    if value["format"] != FORMAT:
        raise BallotboardError(f"{name} is no {FORMAT}: `ballotboard trustee … --offline` makes it")
    if (value["chain"], value["contract"]) != (writer.chain_id, writer.board.address.hex()):
        raise BallotboardError(
            f"{name} is for the board 0x{value['contract']} on chain {value['chain']}, not for this one"
        )
    positions: list[int | None] = []
    for record in value["records"]:
        members(record, name, body=str, kind=int, number=int, signature=str, signer=str)
        body, signer = bytes.fromhex(record["body"]), "0x" + unhex(record["signer"], 20, f"{name}.signer").hex()
        if writer.board.numbers(bytes.fromhex(signer[2:])) > record["number"]:
            positions.append(None)
            continue
        signature = unhex(record["signature"], SIGNATURE_BYTES, f"{name}.signature")
        positions.append(writer.append_signed(record["kind"], body, signature).positions[0])
    return positions
