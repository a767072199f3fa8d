"""What goes wrong between us and a chain. What the board itself refuses is `chain.contract.Refused`."""

from __future__ import annotations

from protocol.errors import BallotboardError


class ChainError(BallotboardError):
    """A node contradicts itself, cannot do what is asked, or was given what no node takes."""


class NodeUnreachable(ChainError):
    """No answer, or none that is JSON-RPC. Trying again later may help; what was sent may have arrived."""


class Undelivered(ChainError):
    """No relayer answers, or none has brought a record into a block in time. Nobody has refused it, and the same record may be sent again."""


class NodeContradiction(ChainError):
    """What a node shows does not fit together: its copy of the chain was changed, or it lies. An honest node that lags or is busy never does this."""


class RpcError(ChainError):
    """A node's own error answer: JSON-RPC `code`, `reason`, and the bytes that a revert returned (else empty)."""

    def __init__(self, method: str, code: int, reason: str, data: bytes = b"") -> None:
        self.code, self.reason, self.data = code, reason, data
        super().__init__(f"the node refuses {method}: {' '.join(reason.split())} (code {code})")


class BadSignature(ChainError):
    """Not a signature that the board would accept: its length, the range of s or v, or it is nobody's."""


class BadEvidence(ChainError):
    """What is shown does not prove what it is said to prove (chain.evidence)."""
