"""What the board should do, written the long way round: the whole log is kept and every root is the definition of RFC 9162, section 2.1.1.

It shares no code with the contract or with protocol/; the property tests, and every call of `world.World`, compare the two.
A call that reverts raises `Revert` and leaves the model as it was.
"""

import copy
import hashlib
from dataclasses import dataclass, field

from eth_keys import keys
from eth_keys.exceptions import BadSignature, ValidationError
from eth_utils import keccak, to_checksum_address

MANIFEST, CEREMONY, ROLL, OPEN, BALLOT, CHECK_IN, RESULT_HASH, STATION_RESULT, CLOSE = range(9)
SETTLEMENT, PARTIAL, RESULT, REPORT, COMPLAINT, EXTENSION, ROLL_CHANGE, DECISION = range(9, 17)
AUTHORITY, REGISTRAR, COSIGNER, TRUSTEE, RELAYER, VERIFIER, DATA_HOLDER = range(1, 8)
SETUP, OPENED, CLOSED, SETTLED, FINAL = range(5)
ANYONE, OFFICERS = 65535, 65534
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1
NOBODY = "0x" + 40 * "0"

# Kinds that roles sign: who signs first, whether a cosigner follows.
SIGNED = {
    CEREMONY: (TRUSTEE, False),
    ROLL: (REGISTRAR, False),
    OPEN: (AUTHORITY, False),
    PARTIAL: (TRUSTEE, False),
    RESULT: (AUTHORITY, False),
    REPORT: (VERIFIER, False),
    COMPLAINT: (None, False),
    EXTENSION: (AUTHORITY, False),
    ROLL_CHANGE: (REGISTRAR, True),
    DECISION: (AUTHORITY, True),
}


class Revert(Exception):
    """`args` is the error's name, then its arguments, as the interface declares them."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tree_root(leaves: list[bytes]) -> bytes:
    """Section 2.1.1, over leaf inputs."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + tree_root(leaves[:k]) + tree_root(leaves[k:]))


def tree_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """The inclusion proof of section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if index < k:
        return [*tree_path(index, leaves[:k]), tree_root(leaves[k:])]
    return [*tree_path(index - k, leaves[k:]), tree_root(leaves[:k])]


def digest(chain_id: int, board: str, kind: int, body: bytes, number: int) -> bytes:
    """EIP-712 of `Record(uint8 kind,bytes32 bodyHash,uint64 number)`, spelled out."""
    word = lambda n: n.to_bytes(32, "big")  # noqa: E731
    domain = keccak(
        keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        + keccak(b"Ballotboard")
        + keccak(b"1")
        + word(chain_id)
        + bytes(12)
        + bytes.fromhex(board[2:])
    )
    record = keccak(
        keccak(b"Record(uint8 kind,bytes32 bodyHash,uint64 number)") + word(kind) + sha256(body) + word(number)
    )
    return keccak(b"\x19\x01" + domain + record)


@dataclass
class Windows:
    open_not_before: int
    close: int
    close_not_after: int
    append_grace: int
    count_not_before: int
    reveal_not_before: int
    settle_not_before: int
    decrypt_not_before: int


@dataclass
class Setup:
    windows: Windows
    station_rows: list[bytes] = field(default_factory=list)
    hash_mode: bool = False
    verifiers: int = 0
    data_holders: int = 0


@dataclass
class Verdict:
    good: bool
    state: bytes
    early: bool


class Model:
    """One board. `roles` are (kind, address) pairs; `events` collects (name, arguments) of the last call."""

    def __init__(
        self, chain_id: int, address: str, manifest: bytes, roles: list[tuple[int, str]], setup: Setup, now: int
    ):
        self.chain_id, self.address, self.roles, self.setup, self.now = chain_id, address, roles, setup, now
        self.index = {account: i for i, (_, account) in enumerate(roles)}
        self.phase, self.close_time = SETUP, setup.windows.close
        self.numbers = dict.fromkeys(self.index, 0)
        self.sequences = dict.fromkeys(self.index, 0)
        self.roll_recorded = self.decryption_begun = False
        self.batches: dict[int, list[bytes]] = {}  # station: bodies
        self.revisions: dict[int, list[bytes]] = {}  # station: document hashes
        self.documents: dict[bytes, tuple[int, int, int]] = {}  # hash: position, station, revision
        self.revealed: set[bytes] = set()
        self.commitments: dict[bytes, str] = {}
        self.open_commitment: dict[str, tuple[bytes, bool]] = {}  # verifier: hash, early
        self.committed: set[str] = set()
        self.verdicts: dict[str, Verdict] = {}
        self.any_verdict = False
        self.entries: list[bytes] = []
        self.events: list[tuple[str, dict]] = []
        self._record(MANIFEST, ANYONE, 0, manifest, b"")

    def call(self, function: str, now: int, sender: str, *args) -> list[tuple[str, dict]]:
        """The events of one transaction at block time `now`."""
        before = copy.deepcopy({k: v for k, v in vars(self).items() if k not in ("roles", "setup", "index")})
        self.events, self.now, self.sender = [], now, sender
        try:
            getattr(self, function)(*args)
        except Revert:
            vars(self).update(before)
            raise
        return self.events

    @property
    def head(self) -> tuple[int, bytes]:
        return len(self.entries), tree_root(self.entries)

    @property
    def certified(self) -> bool:
        good = [v.state for v in self.verdicts.values() if v.good and v.early]
        agreed = {s for s in good if good.count(s) >= self.setup.verifiers > 0}
        return len(agreed) == 1 and all(v.good for v in self.verdicts.values())

    def station(self, station: int) -> tuple[int, int, bool]:
        revisions = self.revisions.get(station, [])
        return len(self.batches.get(station, [])), len(revisions), bool(revisions) and revisions[-1] in self.revealed

    # ---- transactions ----

    def appendBallots(self, sequence: int, packed: bytes):
        self._require(not self.setup.hash_mode, "BadBody")
        role = self._relay(sequence)
        hashes = []
        while packed:
            length = int.from_bytes(packed[:2], "big")
            body, packed, rest = packed[2 : 2 + length], packed[2 + length :], len(packed) - 2
            self._require(0 < length <= rest, "BadBody")
            hashes.append(sha256(body))
        self._ballots(role, sequence, hashes)

    def appendBallotHashes(self, sequence: int, hashes: bytes):
        self._require(self.setup.hash_mode, "BadBody")
        role = self._relay(sequence)
        self._require(len(hashes) % 32 == 0, "BadBody")
        self._ballots(role, sequence, [hashes[i : i + 32] for i in range(0, len(hashes), 32)])

    def append(self, kind: int, body: bytes, signatures: bytes):
        w = self.setup.windows
        self._require(0 < len(body) <= 65535, "BadBody")
        first, two = SIGNED.get(kind, (NOBODY, False))
        self._require(len(signatures) == (130 if two else 65), "BadSignature")
        self._require(first != NOBODY, "WrongRole", NOBODY, kind)
        signer, number = self._signer(kind, first, body, signatures[:65])
        if two:
            self._signer(kind, COSIGNER, body, signatures[65:])
        if kind in (CEREMONY, ROLL, OPEN):
            self._in(SETUP)
        if kind == ROLL:
            self._require(not self.roll_recorded, "AlreadyDone")
            self.roll_recorded = True
        if kind == OPEN:
            self._require(self.roll_recorded, "NotInPhase", self.phase)
            self._not_before(w.open_not_before)
            self._before(self.close_time)
            self._require(body == self._head_body(), "BadBody")
            self.phase = OPENED
        if kind in (EXTENSION, ROLL_CHANGE):
            self._in(OPENED)
            self._before(self.close_time)
        if kind == EXTENSION:
            later = int.from_bytes(body[:5], "big")
            self._require(len(body) >= 5 and self.close_time < later <= w.close_not_after, "BadBody")
            self.close_time = later
        if kind == DECISION:
            self._in(OPENED, CLOSED)
        if kind in (PARTIAL, RESULT):
            self._in(SETTLED)
        if kind == PARTIAL:
            self._not_before(w.decrypt_not_before)
            self.decryption_begun = True
        if kind == RESULT:
            self._require(self.decryption_begun, "NotInPhase", self.phase)
            self.phase = FINAL
        if kind == REPORT:
            self._in(FINAL)
            self._report(signer, body)
        self._record(kind, self.index[signer], number, body, signatures)

    def appendStations(self, items: bytes):
        self._require(items, "BadBody")
        while items:
            kind, items = items[0], items[1:]
            row, items = self._sized(items)
            n, items = self._take(items, 1)
            proof, items = self._take(items, 32 * n[0])
            body, items = self._sized(items)
            signatures, items = self._take(items, 130)
            self._station(kind, row, [proof[i : i + 32] for i in range(0, len(proof), 32)], body, signatures)

    def reveal(self, documents: bytes):
        self._require(documents, "BadBody")
        while documents:
            document, documents = self._sized(documents)
            hash_ = sha256(document)
            self._require(hash_ in self.documents, "UnknownHash", hash_)
            if hash_ in self.revealed:
                continue
            self._not_before(self.setup.windows.reveal_not_before)
            self._require(self.phase != FINAL, "NotInPhase", self.phase)
            self.revealed.add(hash_)
            self._record(STATION_RESULT, ANYONE, 0, document, b"")

    def close(self):
        self._in(OPENED)
        self._not_before(self.close_time + self.setup.windows.append_grace)
        self.phase = CLOSED
        self._record(CLOSE, ANYONE, 0, self._head_body(), b"")

    def settle(self, bitmap: bytes, signatures: bytes):
        self._in(CLOSED)
        self._not_before(self.setup.windows.settle_not_before)
        self._require(self.setup.hash_mode or bitmap == bytes(32), "BadBody")
        body = self._head_body() + (bitmap if self.setup.hash_mode else b"")
        signed, rest, last = 0, signatures, -1
        while rest:
            signature, rest = rest[:65], rest[65:]
            self._require(self.setup.hash_mode and len(signature) == 65, "BadSignature")
            signer, _ = self._match(SETTLEMENT, DATA_HOLDER, body, signature)
            self._require(signer is not None and self.index[signer] > last, "BadSignature")
            last, signed = self.index[signer], signed + 1
            self.numbers[signer] += 1
        self._require(not self.setup.hash_mode or signed >= self.setup.data_holders, "BadSignature")
        self.phase = SETTLED
        self._record(SETTLEMENT, ANYONE, 0, body, signatures)

    def attach(self, file: bytes, part: int, parts: int, data: bytes):
        self._require(self.sender in self.index, "WrongRole", self.sender, 0)
        self._require(part < parts and data, "BadBody")
        role = self.index[self.sender]
        self.events.append(("Attachment", {"file": file, "role": role, "part": part, "parts": parts, "data": data}))

    # ---- rules ----

    @staticmethod
    def _require(condition, *error):
        if not condition:
            raise Revert(*error)

    def _in(self, *phases: int):
        self._require(self.phase in phases, "NotInPhase", self.phase)

    def _not_before(self, time: int):
        self._require(self.now >= time, "TooEarly", time)

    def _before(self, time: int):
        self._require(self.now < time, "TooLate", time)

    def _take(self, data: bytes, length: int) -> tuple[bytes, bytes]:
        self._require(len(data) >= length, "BadBody")
        return data[:length], data[length:]

    def _sized(self, data: bytes) -> tuple[bytes, bytes]:
        length, data = self._take(data, 2)
        part, data = self._take(data, int.from_bytes(length, "big"))
        self._require(part, "BadBody")
        return part, data

    def _head_body(self) -> bytes:
        size, root = self.head
        return size.to_bytes(8, "big") + root

    def _relay(self, sequence: int) -> int:
        is_relayer = self.sender in self.index and self.roles[self.index[self.sender]][0] == RELAYER
        self._require(is_relayer, "WrongRole", self.sender, BALLOT)
        expected = self.sequences[self.sender]
        self._require(sequence == expected, "WrongSequence", expected)
        self._in(OPENED)
        self._before(self.close_time + self.setup.windows.append_grace)
        self.sequences[self.sender] += 1
        return self.index[self.sender]

    def _ballots(self, role: int, sequence: int, hashes: list[bytes]):
        self._require(hashes, "BadBody")
        first = len(self.entries)
        for hash_ in hashes:
            self._enter(BALLOT, role, hash_)
        root = self.head[1]
        self.events.append(
            ("Ballots", {"first": first, "role": role, "sequence": sequence, "count": len(hashes), "root": root})
        )

    def _station(self, kind: int, row: bytes, proof: list[bytes], body: bytes, signatures: bytes):
        w = self.setup.windows
        if kind == CHECK_IN:
            entries, rest = divmod(len(body) - 8, 9)
            self._require(1 <= entries <= 1000 and rest == 0, "BadBody")
        else:
            self._require(kind == RESULT_HASH and len(body) == 40, "BadBody")
        station, number = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        if kind == CHECK_IN:
            batches = self.batches.setdefault(station, [])
            if number < len(batches) and batches[number] == body:
                return
            self._require(number == len(batches), "WrongNumber", len(batches))
            self._in(OPENED, CLOSED)
            self._before(w.settle_not_before)
            batches.append(body)
        else:
            document = body[8:]
            revisions = self.revisions.setdefault(station, [])
            if self.documents.get(document, ())[1:] == (station, number):
                return
            self._require(number == len(revisions) + 1, "WrongNumber", len(revisions) + 1)
            self._require(document not in self.documents, "AlreadyDone")
            self._not_before(w.count_not_before)
            self._require(self.phase != FINAL, "NotInPhase", self.phase)
            hidden = revisions and revisions[-1] not in self.revealed
            self._require(not (self.now >= w.reveal_not_before and hidden), "UnrevealedRevision", station)
            revisions.append(document)
            self.documents[document] = (len(self.entries), station, number)
        rows = self.setup.station_rows
        included = station < len(rows) and row == rows[station] and proof == tree_path(station, rows)
        self._require(included and row[:4] == body[:4] and len(row) >= 9 + 20 * row[8], "BadInclusion")
        officers = {to_checksum_address(row[9 + 20 * i : 29 + 20 * i]) for i in range(row[8])}
        signers = [self._recover(kind, body, number, s) for s in (signatures[:65], signatures[65:])]
        self._require(signers[0] != signers[1], "BadSignature")
        for signer in signers:
            self._require(signer in officers, "WrongRole", signer, kind)
        self._record(kind, OFFICERS, number, body, signatures)

    def _report(self, verifier: str, body: bytes):
        if len(body) == 33 and body[0] == 0:
            commitment = body[1:]
            self._require(commitment not in self.commitments, "AlreadyDone")
            self.commitments[commitment] = verifier
            self.open_commitment[verifier] = (commitment, not self.any_verdict)
            self.committed.add(verifier)
        elif len(body) == 98 and body[0] == 1 and body[1] in (0, 1):
            commitment, early = self.open_commitment.get(verifier, (None, False))
            self._require(commitment == sha256(body), "UnknownHash", sha256(body))
            self._require(len(self.committed) >= self.setup.verifiers, "NotInPhase", self.phase)
            del self.open_commitment[verifier]
            self.verdicts[verifier] = Verdict(body[1] == 1, body[2:34], early)
            self.any_verdict = True
        else:
            raise Revert("BadBody")

    def _recover(self, kind: int, body: bytes, number: int, signature: bytes) -> str:
        r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
        self._require(s <= ORDER // 2 and v in (27, 28), "BadSignature")
        message = digest(self.chain_id, self.address, kind, body, number)
        try:
            public = keys.Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(message)
        except (BadSignature, ValidationError) as e:
            raise Revert("BadSignature") from e
        return public.to_checksum_address()

    def _match(self, kind: int, wanted: int | None, body: bytes, signature: bytes) -> tuple[str | None, int]:
        for role, account in self.roles:
            number = self.numbers[account]
            if wanted in (None, role) and self._recover(kind, body, number, signature) == account:
                return account, number
        return None, 0

    def _signer(self, kind: int, wanted: int | None, body: bytes, signature: bytes) -> tuple[str, int]:
        signer, number = self._match(kind, wanted, body, signature)
        if signer is None:
            raise Revert("WrongRole", self._recover(kind, body, 0, signature), kind)
        self.numbers[signer] += 1
        return signer, number

    def _enter(self, kind: int, role: int, body_hash: bytes):
        self.entries.append(bytes([kind]) + self.now.to_bytes(5, "big") + role.to_bytes(2, "big") + body_hash)

    def _record(self, kind: int, role: int, number: int, body: bytes, signatures: bytes):
        index = len(self.entries)
        self._enter(kind, role, sha256(body))
        fields = {"index": index, "kind": kind, "role": role, "number": number, "root": self.head[1]}
        self.events.append(("Record", fields | {"body": body, "signatures": signatures}))
