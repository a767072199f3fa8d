"""Random sequences of calls, right and wrong, against the model; and invariants read from the chain alone.

`World.call` compares outcome, error, events, head and phase after every call. A sequence starts in any phase, and leans
towards what is allowed there, or most calls would be refused for the phase alone; test_signed_records.py has every kind in
every phase. Hypothesis chooses seed and length: drawn from it one by one, choices repeat each other too much to get far.
"""

import os
from random import Random

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.contracts import model as m
from tests.contracts.world import Revert, World, account, check_in, decode_log, officer, result_hash, station_row

EXAMPLES = int(os.environ.get("BALLOTBOARD_CONTRACT_EXAMPLES", "40"))
"""Sequences tried: 40 take half a minute; `make soak` asks for more."""

STEPS = 60
"""Calls in the longest sequence; enough to go through all phases several windows each."""

STATES = [m.sha256(b"state 0"), m.sha256(b"state 1")]
ALWAYS = range(5)


def document(station: int, revision: int, salt: int) -> bytes:
    return bytes([station, revision, salt])


class Sequence:
    """One board and a source of chance. `RULES` gives each act its weight and the phases in which it is tried."""

    def __init__(self, web3, senders, seed: int):
        self.web3, self.random = web3, Random(seed)
        pick = self.random.choice
        rows = [station_row(i) for i in range(self.random.randint(1, 5))]
        self.world = w = World(
            web3, senders, hash_mode=pick([False, True]), verifiers=self.random.randint(0, 3), rows=rows
        )
        self.first_block = web3.eth.block_number
        self.keys = [
            w.authority,
            w.registrar,
            w.cosigner,
            *w.trustees,
            *w.verifiers,
            *w.data_holders,
            account("stranger"),
        ]
        start = pick([m.SETUP, m.OPENED, m.OPENED, m.CLOSED, m.SETTLED, m.FINAL])
        while w.model.phase < start:
            self.go_on()
        if start == m.OPENED and pick([True, False]):
            w.now = w.windows.count_not_before

    def step(self):
        rules = [(rule, weight) for rule, weight, phases in self.RULES if self.world.model.phase in phases]
        rule = self.random.choices(*zip(*rules, strict=True))[0]
        size = self.world.view("head")[0]
        try:
            rule(self)
        except Revert as revert:  # of both, as `World.call` has checked
            note(f"{rule.__name__}: {revert.args}")
        assert self.world.view("head")[0] >= size
        note(f"{rule.__name__} at {self.world.now}, size {size}")

    def off(self) -> int:
        """Off by one now and then."""
        return self.random.choice([0] * 9 + [1, -1])

    # ---- the clock ----

    def advance(self):
        """To the next window's edge: the next call comes one second later."""
        w, close = self.world.windows, self.world.model.close_time
        later = [t for t in sorted([*vars(w).values(), close, close + w.append_grace]) if t > self.world.now + 3]
        if later:
            self.world.now = later[0] + self.random.choice([-2, -1, 0])

    def go_on(self):
        """The next step of an election, as it should be."""
        steps = [self.world.open, self.world.close, self.world.settle, self.world.finish]
        if self.world.model.phase > m.SETUP or self.world.now + 2 < self.world.model.close_time:
            steps[self.world.model.phase]()

    # ---- calls ----

    def ballots(self):
        w = self.world
        sender = self.random.choice([*w.relayers * 5, w.stranger, w.clerk])
        sequence = max(0, w.model.sequences.get(sender, 0) + self.off())
        bodies = [
            self.random.randbytes(self.random.randint(1, 80)) for _ in range(self.random.choice([1, 2, 3, 7, 40]))
        ]
        if w.setup.hash_mode:
            packed = b"".join(m.sha256(b) for b in bodies)
        else:
            packed = b"".join(len(b).to_bytes(2, "big") + b for b in bodies)
        packed = packed[: len(packed) - self.random.choice([0] * 9 + [1, 2])]
        w.call("appendBallotHashes" if w.setup.hash_mode else "appendBallots", sequence, packed, sender=sender)

    def record(self):
        w = self.world
        usual = (m.CEREMONY, m.EXTENSION, m.DECISION, m.PARTIAL, m.COMPLAINT)[w.model.phase]
        kind = self.random.choice([usual, self.random.choice([*m.SIGNED, m.BALLOT, m.SETTLEMENT])])
        wanted, two = m.SIGNED.get(kind, (None, False))
        roles = {address: role for role, address in w.roles}
        right = [k for k in self.keys if wanted in (None, roles.get(k.address))]
        signers = [self.random.choice(right if self.random.random() < 0.8 else self.keys)]
        if two:
            signers.append(self.random.choice([w.cosigner] * 9 + self.keys[:1]))
        later = w.model.close_time + self.random.choice([-1, 0, 1, 100])
        body = {m.OPEN: w.head_body(), m.EXTENSION: later.to_bytes(5, "big")}.get(kind, b"{}")
        numbers = [max(0, w.model.numbers.get(s.address, 0) + self.off()) for s in signers]
        signatures = [w.sign(s, kind, body, n) for s, n in zip(signers, numbers, strict=True)]
        w.call("append", kind, body, b"".join(signatures))

    def stations(self):
        w, items, ahead = self.world, b"", {}
        for _ in range(self.random.randint(1, 4)):
            kind = self.random.choice([m.CHECK_IN, m.RESULT_HASH])
            station = self.random.randrange(len(w.rows))
            batches, revision, _ = w.model.station(station)
            done = ahead.setdefault((kind, station), 0)
            ahead[kind, station] += 1
            number = max(0, (batches if kind == m.CHECK_IN else revision + 1) + done + self.off())
            salt = self.random.choice([0] * 9 + [1])
            if kind == m.CHECK_IN:
                body = check_in(station, number, salt)
            else:
                body = result_hash(station, number, document(station, number, salt))
            pair = self.random.choice([(0, 1)] * 30 + [(2, 0), (1, 1), (0, 3)])
            items += w.item(kind, body, [officer(station, i) for i in pair])
        w.call("appendStations", items)

    def reveal(self):
        w = self.world
        known = [document(s, r, salt) for s in range(5) for r in range(1, 9) for salt in (0, 1)]
        known = [d for d in known if m.sha256(d) in w.model.documents]
        chosen = self.random.choices([*known * 5, b"unknown"], k=self.random.randint(1, 3))
        w.call("reveal", b"".join(len(d).to_bytes(2, "big") + d for d in chosen))

    def report(self):
        """Commit or reveal one of few verdicts, so that they meet."""
        w, who = self.world, self.random.randrange(4)
        verdict, state = self.random.choice([1, 1, 1, 1, 0, 2]), self.random.choice([0, 0, 0, 1])
        reveal = bytes([1, verdict]) + STATES[state] + bytes(32) + bytes([who, self.random.randrange(6)]) + bytes(30)
        acts = self.random.choice([[0], [1], [0, 1], [0, 1]])
        for body in [[b"\0" + m.sha256(reveal), reveal][i] for i in acts]:
            w.call("append", m.REPORT, body, w.sign(w.verifiers[who], m.REPORT, body))

    def close(self):
        self.world.call("close")

    def settle(self):
        w = self.world
        holders = self.random.choice([[], [0], [0, 1], [1, 2], [0, 1, 2], [1, 0]]) if w.setup.hash_mode else []
        bitmap = self.random.choice([bytes(32), m.sha256(b"bitmap")])
        w.call("settle", bitmap, w.attestation(bitmap, holders))

    def junk(self):
        w, junk = self.world, self.random.randbytes(self.random.randint(0, 300))
        function = self.random.choice(["appendBallots", "appendBallotHashes", "appendStations", "reveal"])
        args = (w.model.sequences[w.relayers[0]], junk) if function.startswith("appendB") else (junk,)
        w.call(function, *args, sender=w.relayers[0])

    RULES = (
        (advance, 3, ALWAYS),
        (go_on, 1, (m.SETUP, m.OPENED, m.CLOSED, m.SETTLED)),
        (ballots, 6, (m.OPENED,)),
        (ballots, 1, (m.SETUP, m.CLOSED)),
        (record, 6, ALWAYS),
        (stations, 6, (m.OPENED, m.CLOSED, m.SETTLED)),
        (reveal, 3, (m.OPENED, m.CLOSED, m.SETTLED)),
        (report, 20, (m.FINAL,)),
        (close, 1, (m.SETUP, m.OPENED)),
        (settle, 1, (m.OPENED, m.CLOSED)),
        (junk, 1, ALWAYS),
    )

    # ---- what an observer sees in the end ----

    def check_views(self):
        w = self.world
        for account_ in w.model.index:
            assert w.view("numbers", account_) == w.model.numbers[account_]
            assert w.view("sequences", account_) == w.model.sequences[account_]
        for station in range(len(w.rows)):
            assert w.view("station", station) == w.model.station(station)
        for hash_, (position, _, _) in w.model.documents.items():
            assert w.view("document", hash_) == (position + 1, hash_ in w.model.revealed)

    def check_log(self):
        """Rebuilt from events, calldata and block times alone, the log has the board's roots and keeps its promises."""
        w, entries, revisions, closing = self.world, [], {}, self.world.windows.close
        for log in self.web3.eth.get_logs({"address": w.address, "fromBlock": self.first_block}):
            name, fields = decode_log(log)
            time = self.web3.eth.get_block(log["blockNumber"])["timestamp"]
            past = {e[0] for e in entries}
            if name == "Ballots":
                kind, hashes = m.BALLOT, self._ballot_hashes(log)
                assert (fields["first"], fields["count"]) == (len(entries), len(hashes))
                assert m.OPEN in past and m.CLOSE not in past, "a ballot outside the open poll"
                assert time < closing + w.windows.append_grace, "a ballot after the grace"
            else:
                kind, hashes = fields["kind"], [m.sha256(fields["body"])]
                assert fields["index"] == len(entries)
            if kind == m.EXTENSION:
                closing = int.from_bytes(fields["body"][:5], "big")
            if kind == m.RESULT_HASH:
                station, revision = (int.from_bytes(fields["body"][i : i + 4], "big") for i in (0, 4))
                assert revision == revisions.get(station, 0) + 1, "two live revisions of a station"
                revisions[station] = revision
            if kind in (m.ROLL, m.OPEN, m.CLOSE, m.SETTLEMENT, m.RESULT):
                assert kind not in past, "a record that exists once, twice"
            prefix = bytes([kind]) + time.to_bytes(5, "big") + fields["role"].to_bytes(2, "big")
            entries += [prefix + h for h in hashes]
            assert fields["root"] == m.tree_root(entries)
        assert w.view("head") == (len(entries), m.tree_root(entries))

    def _ballot_hashes(self, log) -> list[bytes]:
        data = bytes(self.web3.eth.get_transaction(log["transactionHash"])["input"])
        packed = data[4 + 96 : 4 + 96 + int.from_bytes(data[68:100], "big")]
        if self.world.setup.hash_mode:
            return [packed[i : i + 32] for i in range(0, len(packed), 32)]
        hashes = []
        while packed:
            end = 2 + int.from_bytes(packed[:2], "big")
            hashes.append(m.sha256(packed[2:end]))
            packed = packed[end:]
        return hashes


def test_the_board_does_what_the_model_does_in_any_sequence_of_calls(web3, senders):
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(seed=st.integers(0, 2**32 - 1), steps=st.integers(STEPS // 2, STEPS))
    def run(seed, steps):
        before = web3.provider.make_request("evm_snapshot", [])["result"]
        try:
            sequence = Sequence(web3, senders, seed)
            for _ in range(steps):
                sequence.step()
            sequence.check_views()
            sequence.check_log()
        finally:  # the node keeps a trace of every step of every transaction, over 100 MB a sequence
            web3.provider.make_request("evm_revert", [before])

    run()
