"""Claims from a node. The node is believed in nothing: what it says twice is compared (chain.reader), the rest is for the checks.

What is read is written to an archive first, a temporary one where only a verdict is wanted, so that reading from a node and from an
archive are one thing, and give one report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from chain.errors import NodeContradiction
from chain.holding import Holders, with_bodies
from chain.network.collect import head_evidence
from chain.reader import Reader
from chain.rpc import address_bytes, call, connect, readable_head
from protocol.merkle import EMPTY_ROOT
from protocol.records import LogHead
from verifier.claims import Claims, Progress, silent
from verifier.log import MEMORY
from verifier.stored import ArchiveSource, Recorder


class NodeSource:
    """The board at `contract` (0x and 40 hex digits) on the node at `rpc`; evidence of its head from a file's bytes, or from the validator at
    `comet`; bodies that are not on the chain from the data holders at these URLs."""

    def __init__(
        self, rpc: str, contract: str, comet: str = "", evidence: bytes = b"", memory: int = MEMORY, holders: Sequence[str] = ()
    ) -> None:  # fmt: skip
        self.rpc, self.contract, self.comet, self.evidence, self.memory = rpc, contract, comet, evidence, memory
        self.holders = holders
        self.record_digest = b""

    def read(self, progress: Progress = silent) -> Claims:
        """Everything up to the head that cannot change, or how the node contradicts itself: its copy was changed, or it lies. Raises NodeUnreachable."""
        try:
            with tempfile.NamedTemporaryFile(prefix="ballotboard-", suffix=".archive") as file:
                self.write(file, progress)
                source = ArchiveSource(Path(file.name), self.memory)  # which keeps the file open when its name is gone
                claims = source.read()
                self.record_digest = source.record_digest
                return claims
        except NodeContradiction as error:
            nothing = LogHead(0, EMPTY_ROOT)
            return Claims(0, address_bytes(self.contract), b"", b"", [], [], nothing, contradiction=str(error))

    def write(self, file: IO[bytes], progress: Progress = silent) -> bytes:
        """The archive of the board as it is now; gives its record digest. Raises NodeContradiction, NodeUnreachable.

        The evidence is of the block of the last record, so that it does not depend on when it was asked for.
        """
        reader = Reader(connect(self.rpc), self.contract)
        creation, last = reader.creation(), readable_head(reader.web3)
        head = reader.board.head(at=last)
        chain_id = int(call(reader.web3, "eth_chainId"), 16)
        recorder = Recorder(file, chain_id, reader.address, creation.input, reader.runtime_code())
        holders = Holders(self.holders) if self.holders else None
        for batch in reader.batches(creation.block_number, last, position=0):
            if holders and any(record.body is None for record in batch.records):
                batch = replace(batch, records=with_bodies(batch.records, holders))
            recorder.batch(batch)
            progress("records read", recorder.size, head.size)
        if recorder.size < head.size:
            raise NodeContradiction(f"the node gives {recorder.size} of {head.size} records; use another node")
        evidence = self.evidence
        if self.comet and not evidence:
            evidence = head_evidence(reader.web3, self.comet, reader.address, recorder.block).body()
        files = reader.attachments(sorted(recorder.named)) if recorder.named else {}
        return recorder.finish(head, files, evidence)
