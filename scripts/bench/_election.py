"""An open poll for benchmarks: one yes/no question, a roll of as many voters as asked for, one relayer, made with chain/ and protocol/ alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chain.anvil import Anvil
from chain.console import Connection
from chain.contract import artifact
from chain.deploy import constructor_arguments, deploy
from chain.log import read_log
from chain.rpc import block, checksummed
from chain.sealed import LIGHT
from chain.writer import Writer
from protocol import ceremony
from protocol.attachments import Roll, Unit, describe, pack, roll_row, unit_counts_hash
from protocol.election import OpenElection
from protocol.engine import CreateRequest
from protocol.group import base, reduce
from protocol.manifest import Manifest
from protocol.records import Kind, RollRecord
from relayer import keys
from scripts.gas import AUTHORITY, REGISTRAR, TRUSTEE, key

COSIGNER = key("cosigner")
DAY = 86_400


@dataclass(frozen=True)
class Poll:
    """The board (20 bytes), the opened election, each voter's secret by row of the roll, and the only trustee's share of the key."""

    contract: bytes
    manifest: Manifest
    election: OpenElection
    secrets: Sequence[int]
    share: int

    def ballots(self, first: int, count: int) -> list[bytes]:
        """A ballot of each of the voters `first` … `first + count − 1`, alternately yes and no."""
        return self.election.engine.create(
            CreateRequest(i, 1, 0, 0, self.secrets[i], _digest("seed", i), [[i % 2, 1 - i % 2]])
            for i in range(first, first + count)
        )


def open_poll(chain: Anvil, voters: int, folder: Path, passphrase: str) -> Poll:
    """Opens it, with the relayer's keys in `folder`/relayer and the connection file `folder`/board.json."""
    address, promise_key = keys.create(folder / "relayer", passphrase, LIGHT)
    roles = [
        ("authority", AUTHORITY.address, ""), ("registrar", REGISTRAR.address, ""), ("cosigner", COSIGNER.address, ""),
        ("trustee", TRUSTEE.address, ""), ("relayer", address, promise_key.hex()),
    ]  # fmt: skip
    chain.fund(account for _, account, _ in roles)
    now = int(block(chain.web3, "pending")["timestamp"], 16)
    units = [Unit("city", "Benchfield", -1, 0).row()]
    manifest = Manifest.build(
        {
            "format": "ballotboard/manifest/v1", "name": "Benchmark", "practice": True, "language": "en",
            "chain": {"id": chain.chain_id, "engine": "anvil", "code_hash": artifact().code_hash.hex(), "validators": []},
            "contests": [{"id": "q", "title": "Shall it be?", "rule": "one-of-k", "limit": 0, "options": ["yes", "blank"]}],
            "styles": [[0]], "units": describe(units).value(), "stations": describe([]).value(),
            "roles": [{"kind": kind, "name": kind, "address": account[2:].lower(), "key": sign} for kind, account, sign in roles],
            "thresholds": {"trustees": 1, "verifiers": 0, "data_holders": 0},
            "windows": {
                "open_not_before": now - 60, "close": now + DAY, "close_not_after": now + DAY, "append_grace": 600,
                "count_not_before": now, "reveal_not_before": now + DAY, "settle_not_before": now + 2 * DAY,
                "decrypt_not_before": now + 2 * DAY,
            },
            "rules": {
                "revote": "last", "channel": "paper-precedence", "minimum_ballots": 1, "decrypt_level": 0, "body_mode": "calldata",
            },
        }
    )  # fmt: skip
    board = deploy(chain.web3, AUTHORITY, manifest.body, *constructor_arguments(manifest))
    writer = Writer(chain.web3, board.address, AUTHORITY)
    people = sorted((base(secret), secret) for secret in (reduce(_digest("voter", i) * 2) for i in range(voters)))
    roll = Roll(b"".join(roll_row(public, 0) for public, _ in people), [0])
    for file in (pack(units), roll.data):
        writer.attach(file)
    found = roll.describe()
    record = RollRecord(len(roll), bytes(32), found.root, found.sha256, unit_counts_hash(roll.unit_counts()))
    writer.append(Kind.ROLL, record.body(), [REGISTRAR])
    setting, secret = ceremony.Setting(manifest.election_id, 0, 1, 1), ceremony.TrusteeSecret.draw(1, 1)
    first = [ceremony.round1(setting, secret)]
    second = [ceremony.round2(setting, secret, first)]
    for body in (first[0], second[0], ceremony.round3(setting, secret, first, second)):
        writer.append(Kind.CEREMONY, body, [TRUSTEE])
    writer.append(Kind.OPEN, writer.board.head().body(), [AUTHORITY])
    Connection(chain.url, checksummed(board.address), manifest.election_id.hex(), []).save(folder / "board.json")
    election = read_log(chain.web3, board.address).open()
    share = ceremony.share_secret(setting, secret, first, second)
    return Poll(board.address, manifest, election, [secret for _, secret in people], share)


def _digest(purpose: str, number: int) -> bytes:
    return hashlib.sha256(f"{purpose} {number}".encode()).digest()
