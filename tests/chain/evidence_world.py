"""Evidence made from nothing: keys, signatures, trees and headers of our own, so that each test can change one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import rlp
from eth_hash.auto import keccak
from nacl.signing import SigningKey

from chain import comet, trie
from chain.comet import BlockId, Commit, Header, Signature, Time
from chain.contract import artifact, topic
from chain.evidence import HEADER_FIELDS, Evidence, Proven, SetChange, Subject, storage_slots, verify_for
from protocol import merkle
from protocol.manifest import Validator
from protocol.records import Entry, LogHead

CHAIN_ID = 77_001
BOARD = b"\xb0" * 20
NEIGHBOUR = b"\xb1" * 20
CODE_HASH = artifact().code_hash
ENTRIES = [Entry(4, 1_800_000_000 + number, 3, bytes([number]) * 32) for number in range(11)]
LEAVES = [entry.leaf() for entry in ENTRIES]
FIRST, COUNT = 6, 3
"""Positions 6, 7 and 8 are what the event of ballots in our block adds; 9 is a record's."""


def key(number: int) -> SigningKey:
    return SigningKey(keccak(b"validator %d" % number))


def rlp_integer(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@dataclass
class World:
    """A block and who signs for it. `signers` are places in CometBFT's order; default all. `first` is the number of the first key."""

    powers: Sequence[int] = (1, 1, 1, 1)
    signers: Sequence[int] | None = None
    height: int = 1000
    chain_id: int = CHAIN_ID
    size: int = len(ENTRIES)
    first: int = 0
    header_changes: dict[str, Any] = field(default_factory=dict)
    execution_changes: dict[str, bytes] = field(default_factory=dict)

    @cached_property
    def keys(self) -> list[SigningKey]:
        return sorted(
            (key(self.first + i) for i in range(len(self.powers))), key=lambda k: self._place(bytes(k.verify_key))
        )

    @cached_property
    def validators(self) -> list[Validator]:
        return [Validator(bytes(key(self.first + i).verify_key), power) for i, power in enumerate(self.powers)]

    def _place(self, public: bytes) -> int:
        return [v.key for v in comet.ordered(self.validators)].index(public)

    @cached_property
    def storage(self) -> trie.Tree:
        root, size = storage_slots()
        slots = {
            root: merkle.root(LEAVES[: self.size]),
            size: word(self.size | 7 << 64),
        }  # the close time is in the same slot
        slots |= {word(number): word(number) for number in range(2, 40)}
        return trie.Tree({keccak(k): rlp.encode(v.lstrip(b"\0")) for k, v in slots.items()})

    @cached_property
    def state(self) -> trie.Tree:
        account = rlp.encode([b"\1", b"", self.storage.root, CODE_HASH])
        others = {
            keccak(b"%d" % number): rlp.encode([b"", b"\1", trie.EMPTY_ROOT, keccak(b"")]) for number in range(30)
        }
        return trie.Tree(others | {keccak(BOARD): account, keccak(NEIGHBOUR): account})

    @cached_property
    def receipts(self) -> trie.Tree:
        ballots = [
            BOARD,
            [bytes.fromhex(topic("Ballots")[2:]), word(FIRST), word(3)],
            word(0) + word(COUNT) + self._root(FIRST + COUNT),
        ]
        record = [
            BOARD,
            [bytes.fromhex(topic("Record")[2:]), word(9), word(4), word(3)],
            word(0) + self._root(10) + bytes(64),
        ]
        foreign = [NEIGHBOUR, *ballots[1:]]
        attachment = [BOARD, [bytes.fromhex(topic("Attachment")[2:]), word(FIRST), word(3)], bytes(96)]
        logs = {0: [], 1: [foreign, attachment, ballots], 2: [record], 130: [[BOARD, [], b""]]}
        encoded = {n: rlp.encode([b"\1", rlp_integer(n), bytes(256), logs.get(n, [])]) for n in range(131)}
        return trie.Tree({rlp.encode(n): (b"\2" + raw if n % 2 else raw) for n, raw in encoded.items()})

    def _root(self, size: int) -> bytes:
        return merkle.root(LEAVES[:size])

    @cached_property
    def execution(self) -> bytes:
        fields = dict.fromkeys(HEADER_FIELDS, b"") | {
            "stateRoot": self.state.root, "receiptsRoot": self.receipts.root,
            "number": rlp_integer(self.height - 1), "timestamp": rlp_integer(1_800_000_000),
        }  # fmt: skip
        return rlp.encode(list((fields | self.execution_changes).values()))

    @cached_property
    def header(self) -> Header:
        header = Header(
            block_version=11, app_version=1, chain_id=comet.chain_name(self.chain_id), height=self.height, time=Time(1_800_000_001, 5),
            last_block_id=BlockId(b"\1" * 32, 1, b"\2" * 32), last_commit_hash=b"\3" * 32, data_hash=b"\4" * 32,
            validators_hash=comet.validators_hash(self.validators), next_validators_hash=comet.validators_hash(self.validators),
            consensus_hash=b"\5" * 32, app_hash=keccak(self.execution), last_results_hash=b"\6" * 32, evidence_hash=b"\7" * 32,
            proposer_address=b"\x08" * 20,
        )  # fmt: skip
        return replace(header, **self.header_changes)

    def commit(self, header: Header | None = None, round: int = 0) -> Commit:
        header = header or self.header
        unsigned = Commit(round, BlockId(header.hash(), 2, b"\x09" * 32), ())
        chosen = range(len(self.powers)) if self.signers is None else self.signers
        return replace(unsigned, signatures=tuple(self.sign(unsigned, place, header) for place in chosen))

    def sign(self, commit: Commit, place: int, header: Header | None = None, by: SigningKey | None = None) -> Signature:
        header, moment = header or self.header, Time(1_800_000_002, place)
        message = comet.sign_bytes(header.chain_id, header.height, commit, moment)
        return Signature(place, moment, (by or self.keys[place]).sign(message).signature)

    def head(self) -> Evidence:
        proofs = [self.state.proof(keccak(BOARD)), *(self.storage.proof(keccak(slot)) for slot in storage_slots())]
        return Evidence(self.header, self.commit(), self.execution, joined(*proofs), None)

    def record(self, position: int = 7) -> Evidence:
        transaction, log, size = (1, 2, FIRST + COUNT) if position != 9 else (2, 0, 10)
        inclusion = tuple(merkle.inclusion_proof(LEAVES[:size], position))
        subject = Subject(transaction, log, position, ENTRIES[position].encode(), inclusion)
        proofs = self.state.proof(keccak(BOARD)), self.receipts.proof(rlp.encode(transaction))
        return Evidence(self.header, self.commit(), self.execution, joined(*proofs), subject)

    def change(self, after: World, **header: Any) -> SetChange:
        """The change from this set to another's, at this world's height unless another is given, signed by this world's signers."""
        made = replace(self.header, **({"next_validators_hash": comet.validators_hash(after.validators)} | header))
        return SetChange(made, self.commit(made), tuple(comet.ordered(after.validators)))

    def verify(self, evidence: Evidence | bytes, **other: Any) -> Proven:
        body = evidence if isinstance(evidence, bytes) else evidence.body()
        expected = {"chain_id": CHAIN_ID, "validators": self.validators, "contract": BOARD, "code_hash": CODE_HASH}
        return verify_for(body, **(expected | other))

    @property
    def expected_head(self) -> LogHead:
        return LogHead(self.size, merkle.root(LEAVES[: self.size]))


def joined(*proofs: list[bytes]) -> tuple[bytes, ...]:
    return tuple(sorted({node for proof in proofs for node in proof}))
