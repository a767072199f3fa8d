"""Hash mode: a relayer as a data holder. It keeps the bodies of all ballots on the chain, its own and the others', and says which it has.

A ballot's body is in the outbox before its hash is sent, so the relayer that took it has it. The other relayers fetch it from there when they see
the hash on the chain: a body that only one machine has is lost with it, and with it the vote. What they fetch they believe by its hash alone.

After the close each holder signs the list of those that it keeps (`attest`). The settlement needs several signatures of one list, so each
first fetches what it lacks: holders that reach each other have the same.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from eth_account.signers.local import LocalAccount
from web3 import Web3

from chain.board import Board
from chain.contract import Phase
from chain.holding import AT_ONCE, Attestation, Holders, Progress, held_bitmap
from chain.log import ElectionLog
from chain.rpc import checksummed
from chain.sign import sign_record
from protocol.attachments import Bitmap
from protocol.errors import BallotboardError
from protocol.manifest import Manifest, RoleKind
from protocol.records import Kind, Settlement, ballot_hash
from relayer.follower import Follower
from relayer.outbox import Outbox

PAUSE = 2.0
"""Seconds between looks for bodies that are not here: two blocks, since a body is to be elsewhere before its machine can be lost."""

log = structlog.get_logger()


class Replicator:
    """Fetches from `peers` what the log that `follower` reads has and `outbox` has not. `lacking` are the hashes of those bodies."""

    def __init__(self, outbox: Outbox, follower: Follower, peers: Sequence[str]) -> None:
        self.lacking: list[bytes] = []
        self._outbox, self._follower, self._holders = outbox, follower, Holders(peers)
        self._seen = 0

    def run(self, stopped: threading.Event) -> None:
        """Until `stopped` is set."""
        while not stopped.wait(PAUSE):
            try:
                self.step()
            except Exception:  # a full disk, a database that restarts: the next look may do better
                log.exception("bodies could not be fetched")

    def step(self) -> None:
        """One look at the log, and one question to each peer."""
        size = self._follower.view.head.size
        new = self._follower.ballot_hashes(self._seen, size)
        self.lacking = [*self.lacking, *self._outbox.lacking(new)]
        self._seen = size
        if self.lacking:
            before = len(self.lacking)
            self.lacking = replicate(self._outbox, self.lacking, self._holders)
            if came := before - len(self.lacking):
                log.info("bodies fetched", count=came, lacking=len(self.lacking))


def replicate(
    outbox: Outbox, hashes: Sequence[bytes], holders: Holders, progress: Progress = lambda done, of: None
) -> list[bytes]:
    """Stores the bodies of these ballots that a holder has; gives the hashes of those that none has."""
    left: list[bytes] = []
    for start in range(0, len(hashes), AT_ONCE):
        wanted = list(dict.fromkeys(hashes[start : start + AT_ONCE]))
        outbox.keep(found := holders.fetch(wanted))
        left += [digest for digest in wanted if digest not in found]
        progress(start + len(wanted), len(hashes))
    return left


# ---------------------------------------------------------------- what is signed for the settlement


@dataclass(frozen=True)
class Attested:
    """An attestation with its bitmap's file. `missing` are the positions of ballots whose bodies are not held, of `ballots` in the log."""

    attestation: Attestation
    bitmap: Bitmap
    ballots: int
    missing: list[int]


def ready_to_attest(web3: Web3, contract: bytes, manifest: Manifest, account: LocalAccount) -> int:
    """The role of the data holder with this account, if there is something for it to sign now. Raises BallotboardError saying why not."""
    if manifest.body_mode != "hash":
        raise BallotboardError("this election has its ballots on the chain: there is nothing to attest to")
    role = manifest.role_index(bytes.fromhex(account.address[2:]))
    if role is None or manifest.roles[role].kind != RoleKind.DATA_HOLDER:
        raise BallotboardError(
            f"{account.address} is no data holder of this election's manifest: name the data holder's key file"
        )
    phase = Board(web3, contract).phase()
    if phase < Phase.CLOSED:
        raise BallotboardError(
            "the poll is not closed on the record yet, and the log still grows: attest after `ballotboard election close`"
        )
    if phase > Phase.CLOSED:
        raise BallotboardError("the settlement is on the record already: it cannot be signed any more")
    return role


def attest(web3: Web3, election: ElectionLog, account: LocalAccount, role: int, outbox: Outbox) -> Attested:
    """Sign for the ballots of this log whose bodies are in `outbox`. Each is read and hashed again: what a disk has lost is not held."""
    ballots = [record for record in election.records if record.kind == Kind.BALLOT]
    hashes = list(dict.fromkeys(record.entry.body_hash for record in ballots))
    held: set[bytes] = set()
    for start in range(0, len(hashes), AT_ONCE):
        bodies = outbox.bodies(hashes[start : start + AT_ONCE])
        held.update(digest for digest, body in bodies.items() if hashlib.sha256(body).digest() == digest)
    bitmap = held_bitmap(election.records, held.__contains__)
    settlement = Settlement(election.head, bitmap.sha256)
    number = Board(web3, election.contract).numbers(checksummed(bytes.fromhex(account.address[2:])))
    chain_id = election.manifest.chain_id
    signature = sign_record(
        account, chain_id, election.contract, Kind.SETTLEMENT, ballot_hash(settlement.body()), number
    )
    attestation = Attestation(chain_id, election.contract, settlement, role, number, signature)
    missing = [record.position for record in ballots if record.entry.body_hash not in held]
    return Attested(attestation, bitmap, len(ballots), missing)
