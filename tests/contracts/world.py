"""A board on anvil and its model, side by side: every call goes to both, and outcome, events and state must agree.

`World.call` raises `Revert` where both revert alike. What a test asserts beyond that is written in the test.
"""

import hashlib
from contextlib import contextmanager
from functools import cache

from eth_abi import decode, encode
from eth_account import Account
from eth_keys import keys
from eth_utils import function_signature_to_4byte_selector, keccak, to_checksum_address

import contracts
from tests.contracts import model as m
from tests.contracts.model import Model, Revert, Setup, Windows, sha256

GAS = 16_000_000  # under EIP-7825's cap
ARTIFACT = contracts.artifact()


def _type(parameter: dict) -> str:
    if not parameter["type"].startswith("tuple"):
        return parameter["type"]
    return "(" + ",".join(map(_type, parameter["components"])) + ")" + parameter["type"].removeprefix("tuple")


def _types(entry: dict) -> list[str]:
    return [_type(p) for p in entry.get("inputs", [])]


def _signature(entry: dict) -> str:
    return f"{entry['name']}({','.join(_types(entry))})"


FUNCTIONS = {e["name"]: e for e in ARTIFACT.abi if e["type"] == "function"}
ERRORS = {function_signature_to_4byte_selector(_signature(e)): e for e in ARTIFACT.abi if e["type"] == "error"}
EVENTS = {keccak(text=_signature(e)): e for e in ARTIFACT.abi if e["type"] == "event"}


def encode_call(function: str, *args) -> bytes:
    entry = FUNCTIONS[function]
    return function_signature_to_4byte_selector(_signature(entry)) + encode(_types(entry), args)


def decode_error(data: bytes) -> Revert:
    entry = ERRORS[data[:4]]
    args = decode(_types(entry), data[4:])
    return Revert(
        entry["name"],
        *(to_checksum_address(a) if t == "address" else a for t, a in zip(_types(entry), args, strict=True)),
    )


def decode_log(log) -> tuple[str, dict]:
    entry = EVENTS[bytes(log["topics"][0])]
    indexed = [p for p in entry["inputs"] if p["indexed"]]
    plain = [p for p in entry["inputs"] if not p["indexed"]]
    fields = {p["name"]: decode([p["type"]], bytes(t))[0] for p, t in zip(indexed, log["topics"][1:], strict=True)}
    fields |= dict(zip([p["name"] for p in plain], decode([p["type"] for p in plain], bytes(log["data"])), strict=True))
    return entry["name"], fields


@cache
def account(name: str):
    """A key pair that is the same in every run."""
    return Account.from_key(hashlib.sha256(name.encode()).digest())


def officer(station: int, number: int):
    """Officers 0, 1 and 2 of a station are in its row."""
    return account(f"officer {station} {number}")


def station_row(station: int, unit: int = 7, officers: int = 3, name: str = "School") -> bytes:
    addresses = b"".join(bytes.fromhex(officer(station, i).address[2:]) for i in range(officers))
    return station.to_bytes(4, "big") + unit.to_bytes(4, "big") + bytes([officers]) + addresses + name.encode()


def windows_from(start: int) -> Windows:
    return Windows(
        open_not_before=start + 1_000,
        close=start + 2_000,
        close_not_after=start + 3_000,
        append_grace=100,
        count_not_before=start + 1_900,
        reveal_not_before=start + 3_500,
        settle_not_before=start + 4_000,
        decrypt_not_before=start + 5_000,
    )


class World:
    """`stranger`, `relayers` and `clerk`, a second cosigner, are accounts of the node and can send; the others are keys that sign."""

    STATIONS = 5

    def __init__(
        self,
        web3,
        senders: list[str],
        *,
        manifest: bytes = b'{"name":"test"}',
        rows: list[bytes] | None = None,
        relayers: list[str] | None = None,
        **setup,
    ):
        self.web3, self.chain_id = web3, web3.eth.chain_id
        self.stranger, self.relayers, self.clerk = senders[0], relayers or senders[1:3], senders[3]
        self.now = web3.eth.get_block("latest")["timestamp"] + 10
        self.authority, self.registrar, self.cosigner = account("authority"), account("registrar"), account("cosigner")
        self.trustees = [account(f"trustee {i}") for i in range(3)]
        self.verifiers = [account(f"verifier {i}") for i in range(4)]
        self.data_holders = [account(f"data holder {i}") for i in range(3)]
        self.roles = [
            (m.AUTHORITY, self.authority.address),
            (m.REGISTRAR, self.registrar.address),
            (m.COSIGNER, self.cosigner.address),
            *((m.TRUSTEE, t.address) for t in self.trustees),
            *((m.RELAYER, r) for r in self.relayers),
            *((m.VERIFIER, v.address) for v in self.verifiers),
            *((m.DATA_HOLDER, d.address) for d in self.data_holders),
            (m.COSIGNER, self.clerk),
        ]
        self.rows = [station_row(i) for i in range(self.STATIONS)] if rows is None else rows
        setup = {"windows": windows_from(self.now), "verifiers": 2, "data_holders": 2} | setup
        self.setup = Setup(station_rows=self.rows, **setup)
        self.windows = self.setup.windows
        self.address, receipt = deploy(web3, self.stranger, manifest, self.roles, self.setup, self.now)
        self.model = Model(self.chain_id, self.address, manifest, self.roles, self.setup, self.now)
        self._compare([decode_log(log) for log in receipt["logs"]], self.model.events)

    # ---- calls ----

    def call(self, function: str, *args, sender: str | None = None, at: int | None = None) -> list[tuple[str, dict]]:
        """Send to both, at block time `at` (a second after the last one if None). Returns the events or raises Revert."""
        sender = sender or self.stranger
        self.now = self.now + 1 if at is None else at
        try:
            expected = self.model.call(function, self.now, sender, *args)
        except Revert as revert:
            expected = revert
        try:
            receipt = send(self.web3, self.now, {"from": sender, "to": self.address}, encode_call(function, *args))
            actual = [decode_log(log) for log in receipt["logs"]]
        except Revert as revert:
            actual = revert
        self._compare(actual, expected)
        if isinstance(actual, Revert):
            raise actual
        return actual

    def view(self, function: str, *args):
        """One value, or a tuple of them."""
        return self._read((function, *args))[0]

    def _read(self, *calls: tuple) -> list:
        """Views, and storage slots where a call is ("slot", number), in one request."""
        requests = [
            ("eth_getStorageAt", [self.address, hex(args[0]), "latest"])
            if function == "slot"
            else ("eth_call", [{"to": self.address, "data": "0x" + encode_call(function, *args).hex()}, "latest"])
            for function, *args in calls
        ]
        values = []
        for (function, *_), answer in zip(calls, self.web3.provider.make_batch_request(requests), strict=True):
            data = bytes.fromhex(answer["result"][2:])
            types = ["bytes32"] if function == "slot" else [_type(p) for p in FUNCTIONS[function]["outputs"]]
            value = decode(types, data)
            values.append(value[0] if len(value) == 1 else value)
        return values

    def _compare(self, board: list | Revert, model: list | Revert):
        assert isinstance(board, Revert) == isinstance(model, Revert), f"board: {board!r}, model: {model!r}"
        assert board.args == model.args if isinstance(board, Revert) else board == model
        model_, (size, root) = self.model, self.model.head
        state = self._read(("head",), ("phase",), ("closeTime",), ("certified",), ("slot", 0), ("slot", 1))
        assert state[:5] == [(size, root), model_.phase, model_.close_time, model_.certified, root]
        assert state[5][-8:] == size.to_bytes(8, "big")

    @contextmanager
    def reverts(self, name: str, *args):
        """The block must revert with this error and, where given, these arguments; and change nothing, which `call` checks."""
        try:
            yield
        except Revert as revert:
            assert revert.args[: 1 + len(args)] == (name, *args)
        else:
            raise AssertionError(f"expected {name}, but it was accepted")

    # ---- records ----

    def sign(
        self,
        key,
        kind: int,
        body: bytes,
        number: int | None = None,
        *,
        chain_id: int | None = None,
        board: str | None = None,
    ):
        """65 bytes over the signer's next number, or `number`."""
        number = self.model.numbers.get(key.address, 0) if number is None else number
        message = m.digest(chain_id or self.chain_id, board or self.address, kind, body, number)
        signature = keys.PrivateKey(bytes(key.key)).sign_msg_hash(message)
        return signature.r.to_bytes(32, "big") + signature.s.to_bytes(32, "big") + bytes([27 + signature.v])

    def append(self, kind: int, body: bytes, *signers, at: int | None = None):
        return self.call("append", kind, body, b"".join(self.sign(s, kind, body) for s in signers), at=at)

    def ballots(self, *bodies: bytes, relayer: int = 0, sequence: int | None = None, at: int | None = None):
        sender = self.relayers[relayer]
        sequence = self.model.sequences[sender] if sequence is None else sequence
        packed = b"".join(len(b).to_bytes(2, "big") + b for b in bodies)
        return self.call("appendBallots", sequence, packed, sender=sender, at=at)

    def ballot_hashes(self, *hashes: bytes, relayer: int = 0, at: int | None = None):
        sender = self.relayers[relayer]
        return self.call("appendBallotHashes", self.model.sequences[sender], b"".join(hashes), sender=sender, at=at)

    def item(
        self, kind: int, body: bytes, signers=None, *, row: bytes | None = None, proof: list[bytes] | None = None
    ) -> bytes:
        """One item of `appendStations`; station and number are read from the body."""
        station, number = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        row = self.rows[station] if row is None else row
        proof = m.tree_path(station, self.rows) if proof is None else proof
        signers = [officer(station, 0), officer(station, 1)] if signers is None else signers
        signatures = b"".join(self.sign(s, kind, body, number) for s in signers)
        return bytes([kind]) + _sized(row) + bytes([len(proof)]) + b"".join(proof) + _sized(body) + signatures

    def stations(self, *items: bytes, at: int | None = None):
        return self.call("appendStations", b"".join(items), at=at)

    def reveal(self, *documents: bytes, at: int | None = None):
        return self.call("reveal", b"".join(map(_sized, documents)), at=at)

    # ---- the way through an election; each step at its earliest time or now ----

    def head_body(self) -> bytes:
        size, root = self.model.head
        return size.to_bytes(8, "big") + root

    def record_roll(self):
        self.append(m.ROLL, b'{"roll":1}', self.registrar)

    def open(self):
        self.record_roll()
        self.append(m.OPEN, self.head_body(), self.authority, at=max(self.now + 1, self.windows.open_not_before))

    def close(self):
        if self.model.phase < m.OPENED:
            self.open()
        self.call("close", at=max(self.now + 1, self.model.close_time + self.windows.append_grace))

    def attestation(self, bitmap: bytes, holders: list[int]) -> bytes:
        body = self.head_body() + bitmap
        return b"".join(self.sign(self.data_holders[i], m.SETTLEMENT, body) for i in holders)

    def settle(self):
        if self.model.phase < m.CLOSED:
            self.close()
        bitmap, signatures = bytes(32), b""
        if self.setup.hash_mode:
            bitmap = sha256(b"bitmap")
            signatures = self.attestation(bitmap, [0, 1])
        self.call("settle", bitmap, signatures, at=max(self.now + 1, self.windows.settle_not_before))

    def finish(self):
        if self.model.phase < m.SETTLED:
            self.settle()
        self.append(m.PARTIAL, b"{}", self.trustees[0], at=max(self.now + 1, self.windows.decrypt_not_before))
        self.append(m.RESULT, b"{}", self.authority)


def deploy(web3, sender: str, manifest: bytes, roles, setup: Setup, at: int):
    """Address and receipt, or Revert."""
    w = setup.windows
    arguments = encode(
        _types(next(e for e in ARTIFACT.abi if e["type"] == "constructor")),
        [
            manifest,
            roles,
            (
                tuple(vars(w).values()),
                m.tree_root(setup.station_rows),
                len(setup.station_rows),
                setup.hash_mode,
                setup.verifiers,
                setup.data_holders,
            ),
        ],
    )
    receipt = send(web3, at, {"from": sender}, ARTIFACT.creation_code + arguments)
    return receipt["contractAddress"], receipt


def send(web3, at: int, transaction: dict, data: bytes):
    """The receipt of a transaction in a block of its own at this time, or Revert with the board's error."""
    transaction |= {"data": "0x" + data.hex(), "gas": hex(GAS), "gasPrice": "0x0"}
    web3.provider.make_request("evm_setNextBlockTimestamp", [at])
    answer = web3.provider.make_request("eth_sendTransaction", [transaction])
    receipt = web3.eth.wait_for_transaction_receipt(answer["result"], poll_latency=0.001)
    if receipt["status"] == 0:  # the node's state, and the time of its last block, are still what the transaction saw
        error = web3.provider.make_request("eth_call", [transaction, "latest"])["error"]
        raise decode_error(bytes.fromhex(error["data"][2:]))
    return receipt


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def check_in(station: int, batch: int, *rows: int, time: int = 1_800_000_000) -> bytes:
    """A check-in body of these roll indices."""
    entries = b"".join(r.to_bytes(4, "big") + time.to_bytes(5, "big") for r in rows or (0,))
    return station.to_bytes(4, "big") + batch.to_bytes(4, "big") + entries


def result_hash(station: int, revision: int, document: bytes) -> bytes:
    return station.to_bytes(4, "big") + revision.to_bytes(4, "big") + sha256(document)
