"""What a verifier is given: claims. A source reads them from somewhere and vouches for nothing.

`NodeSource` (verifier/node.py) reads a node, `ArchiveSource` (verifier/stored.py) an archive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protocol.election import LogRecord
from protocol.errors import BallotboardError
from protocol.records import LogHead


class WrongInput(BallotboardError):
    """What was given to the verifier, or what it works with, cannot be used: it could not run, which says nothing about the election."""


Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, of how many)."""


def silent(what: str, done: int, total: int) -> None:
    """A progress that says nothing."""


@dataclass(frozen=True)
class Claims:
    """Everything that a source says about one board. Nothing in it is checked.

    `creation` is the input of the transaction that created the contract, `runtime_code` the code at its address (both empty
    if the source has none), `roots` the (log size, root) of every event in order, `head` what the contract says itself,
    `attachments` files by the SHA-256 under which they were found, `blocks` (number, hash) of each record's block,
    `evidence` the validators' evidence of the head (chain.evidence; empty if there is none). A source that contradicts itself claims no records,
    and `contradiction` says how.
    """

    chain_id: int
    contract: bytes
    creation: bytes
    runtime_code: bytes
    records: Sequence[LogRecord]
    roots: Sequence[tuple[int, bytes]]
    head: LogHead
    attachments: Mapping[bytes, bytes] = field(default_factory=dict)
    blocks: Sequence[tuple[int, bytes]] = ()
    evidence: bytes = b""
    contradiction: str = ""


class Source(Protocol):
    """Where claims come from."""

    def read(self, progress: Progress = silent) -> Claims:
        """Everything about the board. Raises BallotboardError when it cannot be read: the verifier could not run."""
        ...
