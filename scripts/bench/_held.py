"""A whole election for the verifier's benchmark, held on anvil to its result: so many yes/no ballots, all valid, one per voter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chain.anvil import Anvil
from chain.contract import MAX_PACKED
from chain.rpc import block, checksummed
from chain.writer import Writer
from protocol import election, tally
from protocol.election import LogRecord
from protocol.records import Entry, Kind
from relayer import keys
from scripts.bench._election import Poll, open_poll
from scripts.gas import AUTHORITY, TRUSTEE
from verifier.case import Case
from verifier.node import NodeSource

PASSPHRASE = "bench"
MADE_AT_ONCE = 20_000
"""Ballots made in one call, so that a million are never in memory."""


@contextmanager
def held(ballots: int) -> Iterator[NodeSource]:
    """The node and board of a finished election."""
    with tempfile.TemporaryDirectory() as folder, Anvil(block_time=0) as chain:
        poll = open_poll(chain, ballots, Path(folder), PASSPHRASE)
        account, _ = keys.load(Path(folder) / "relayer", PASSPHRASE)
        chain.fund([account.address])
        writer = Writer(chain.web3, poll.contract, account)
        sequence = writer.board.sequences(account.address)
        for first in range(0, ballots, MADE_AT_ONCE):
            bodies = poll.ballots(first, min(MADE_AT_ONCE, ballots - first))
            fit = MAX_PACKED // (2 + len(bodies[0]))
            for start in range(0, len(bodies), fit):
                writer.append_ballots(sequence, bodies[start : start + fit])
                sequence += 1
        end(chain, poll, writer)
        yield NodeSource(chain.url, checksummed(poll.contract))


def end(chain: Anvil, poll: Poll, writer: Writer) -> None:
    """Close, settle, decrypt and announce."""
    windows = poll.manifest.windows
    chain.advance_to(windows.close + windows.append_grace)
    writer.close()
    chain.advance_to(windows.settle_not_before)
    writer.settle()
    case = Case(NodeSource(chain.url, checksummed(poll.contract)).read())
    settled = case.settled
    groups = [group for groups in settled.groups for group in groups]
    context, root = case.open.context, settled.settlement.head.root
    role = poll.manifest.trustees[0]
    parts = tally.partial_decryption(context, root, groups, 1, poll.share)
    shares = [LogRecord(0, Entry(Kind.PARTIAL_DECRYPTION, 0, role, bytes(32)), body) for body in parts]
    chain.advance_to(int(block(chain.web3, "latest")["timestamp"], 16) + 1)
    for body in parts:
        writer.append(Kind.PARTIAL_DECRYPTION, body, [TRUSTEE])
    result = election.result_body(settled, election.decrypt(settled, shares), case.records)
    writer.append(Kind.RESULT, result, [AUTHORITY])
