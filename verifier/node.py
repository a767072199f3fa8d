"""Claims from a node. The node is believed in nothing: what it says twice is compared (chain.reader), the rest is for the checks."""

from __future__ import annotations

from chain.errors import NodeContradiction
from chain.network.collect import head_evidence
from chain.reader import Reader
from chain.rpc import address_bytes, call, connect, readable_head
from protocol.merkle import EMPTY_ROOT
from protocol.records import LogHead
from verifier.claims import Claims, Progress, silent


class NodeSource:
    """The board at `contract` (0x and 40 hex digits) on the node at `rpc`; evidence of its head from a file's bytes, or from the validator at `comet`."""

    def __init__(self, rpc: str, contract: str, comet: str = "", evidence: bytes = b"") -> None:
        self.rpc, self.contract, self.comet, self.evidence = rpc, contract, comet, evidence

    def read(self, progress: Progress = silent) -> Claims:
        """Everything up to the head that cannot change, or how the node contradicts itself: its copy was changed, or it lies. Raises NodeUnreachable."""
        try:
            return self._read(progress)
        except NodeContradiction as error:
            nothing = LogHead(0, EMPTY_ROOT)
            return Claims(0, address_bytes(self.contract), b"", b"", [], [], nothing, contradiction=str(error))

    def _read(self, progress: Progress) -> Claims:
        reader = Reader(connect(self.rpc), self.contract)
        creation, last = reader.creation(), readable_head(reader.web3)
        head = reader.board.head(at=last)
        records, roots, blocks = [], [], []
        for batch in reader.batches(creation.block_number, last, position=0):
            records += batch.records
            roots.append((batch.size, batch.root))
            blocks += [(batch.block_number, batch.block_hash)] * len(batch.records)
            progress("records read", len(records), head.size)
        if len(records) < head.size:
            raise NodeContradiction(f"the node gives {len(records)} of {head.size} records; use another node")
        evidence = self.evidence
        if self.comet and not evidence:
            evidence = head_evidence(reader.web3, self.comet, reader.address, last).body()
        return Claims(
            chain_id=int(call(reader.web3, "eth_chainId"), 16), contract=reader.address, creation=creation.input,
            runtime_code=reader.runtime_code(), records=records, roots=roots, head=head,
            attachments=reader.attachments(), blocks=blocks, evidence=evidence,
        )  # fmt: skip
