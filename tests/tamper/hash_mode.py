"""The dishonest runs in hash mode, where the log has ballots' hashes only and data holders sign for the bodies that they keep.

Each changes one thing in `builder.HashElection`. They are entered into `RECIPES`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from protocol.attachments import Bitmap
from protocol.election import SettledElection, only
from protocol.encoding import canonical_json
from protocol.records import ANYONE, Kind, Settlement
from tests.tamper.builder import (
    AUTHORITY,
    COUNTED_TOTALS,
    HASH_TOTALS,
    HOLDERS,
    OUTSIDE,
    ROLES,
    TRUSTEE_1,
    TRUSTEE_2,
    TRUSTEE_3,
    Draft,
    Election,
    HashElection,
    claims_of,
    head_of,
    hold,
    seeded,
    statement,
)
from tests.tamper.recipes import Tampered, enter, flip
from verifier.claims import Claims

HELD = "row 3"
"""A ballot for which the data holders sign."""


@cache
def honest() -> HashElection:
    """Never changed by a case."""
    with seeded("the honest election in hash mode"):
        return held()


def held(
    until: str = "certify", kind: type[HashElection] = HashElection, **steps: Callable[[Any], None]
) -> HashElection:
    """The election in hash mode, as `builder.hold` holds it."""
    found = hold(kind, until, **steps)
    assert isinstance(found, HashElection)
    return found


def case(title: str, fails: str, says: Sequence[str], make: Callable[[], Any]) -> None:
    """Enter a case; `make` gives an election, or the claims of a node about the honest one."""

    def made() -> Tampered:
        found = make()
        if isinstance(found, Tampered):
            return found
        claims = found.claims() if isinstance(found, Election) else found
        return Tampered(claims, honest().manifest.election_id, online=HASH_TOTALS, accepted=3)

    enter(title, fails, says, made)


def showing(at: int, body: bytes | None) -> Claims:
    """The claims of a node that shows another body, or none, for this position of the honest election."""
    drafts = list(honest().drafts)
    drafts[at] = replace(drafts[at], body=body, body_hash=hashlib.sha256(drafts[at].body or b"").digest())
    return claims_of(drafts, honest().files, honest().claims().creation)


def flipped(name: str) -> bytes:
    """A ballot in whose last response a bit is another."""
    return flip(honest().cast[name], -84)


def at(kind: Kind) -> int:
    """The position of the only record of a kind in the honest election."""
    [position] = [i for i, draft in enumerate(honest().drafts) if draft.kind == kind]
    return position


# ---------------------------------------------------------------- what changes nothing

case("an election in hash mode", "", ("1 ballots are not held and count for nothing",), lambda: honest().claims())
case(
    "a body that nobody signed for and nobody has",
    "",
    ("1 ballots are not held",),
    lambda: showing(honest().position(OUTSIDE), None),
)


def _sent_again() -> Election:
    """The ballot that nobody kept is sent again and then kept: a repeat of an earlier one, whatever became of that."""

    def settle(e: HashElection) -> None:
        lost = e.position(OUTSIDE)
        ballots = [i for i, draft in enumerate(e.drafts) if draft.kind == Kind.BALLOT]
        e.settle_with(Bitmap.of(len(e.drafts), (i for i in ballots if i != lost)))

    def vote(e: HashElection) -> None:
        HashElection.vote(e)
        e.append_ballots(2190, [e.cast[OUTSIDE]])

    return held(vote=vote, settle=settle)


case("a ballot that is kept when it is sent again", "", ("1 ballots are not held",), _sent_again)


def _newer_lost() -> Tampered:
    e = held(settle=lambda e: e.settle_with(e.bitmap("row 0")))
    totals = COUNTED_TOTALS | {"question": [2, 2], "mayor": [1, 0, 0, 1]}
    return Tampered(e.claims(), e.manifest.election_id, online=totals)


case("a newer ballot that nobody kept leaves the older one standing", "", ("1 ballots are not held",), _newer_lost)

# ---------------------------------------------------------------- bodies

case("a body for which data holders signed is withheld", "C02", ("for which data-holder 1, data-holder 3 signed",), lambda: showing(honest().position(HELD), None))  # fmt: skip
case("a complaint whose body is withheld in hash mode", "C02", ("is not to be had",), lambda: showing(at(Kind.COMPLAINT), None))  # fmt: skip
case("a body that has not its hash", "I02 E02", ("the body is not the one", "bad-proof, yet"), lambda: showing(honest().position(HELD), flipped(HELD)))  # fmt: skip
case("a body outside the bitmap that has not its hash", "I02", ("the body is not the one",), lambda: showing(honest().position(OUTSIDE), flipped(OUTSIDE)))  # fmt: skip

# ---------------------------------------------------------------- the bitmap


def _filed(change: Callable[[bytes], bytes | None]) -> Claims:
    """A node that has another file under the name of the bitmap, or none."""
    name = Settlement.parse(honest().drafts[at(Kind.SETTLEMENT)].body or b"", True).bitmap
    files = dict(honest().files)
    data = change(files.pop(name))
    return claims_of(honest().drafts, files if data is None else files | {name: data}, honest().claims().creation)


def _all_held(data: bytes) -> bytes:
    """The bitmap with the ballot that is outside it."""
    lost = honest().position(OUTSIDE)
    return data[: lost >> 3] + bytes([data[lost >> 3] | 1 << (lost & 7)]) + data[(lost >> 3) + 1 :]


class GoneOn(HashElection):
    """Whatever the settlement is, everybody goes on as if its bitmap were right."""

    def settled(self) -> SettledElection:
        record = only(self.records(), Kind.SETTLEMENT)
        return replace(HashElection.settled(_as_if(self, OUTSIDE)), settlement_record=record)


def _signed(change: Callable[[bytes], bytes]) -> Callable[[], Election]:
    """The data holders sign another bitmap."""

    def settle(e: HashElection) -> None:
        right = e.bitmap(OUTSIDE)
        e.settle_with(Bitmap(right.size, change(right.data)))

    return lambda: held(kind=GoneOn, settle=settle)


case("a bitmap that nobody publishes", "C02 C03", ("the file of the bitmap", "is missing"), lambda: _filed(lambda data: None))  # fmt: skip
case("another file under the name of the bitmap", "C02 C03", ("the file of the bitmap", "does not hash"), lambda: _filed(lambda data: flip(data, 1)))  # fmt: skip
case("a file under the name of the bitmap in which every ballot is held", "C03", ("the file of the bitmap", "does not hash"), lambda: _filed(_all_held))  # fmt: skip
case("a bitmap that speaks of what is no ballot", "C02", ("no ballots",), _signed(lambda data: b"\x01" + data[1:]))
case("a bitmap that is too long", "C02", ("not that of a log",), _signed(lambda data: data + b"\0"))
case("a bitmap that is too short", "C02", ("not that of a log",), _signed(lambda data: data[:-1]))
case("a bitmap that speaks of what comes after the log", "C02", ("not that of a log",), _signed(lambda data: data[:-1] + bytes([data[-1] | 0x80])))  # fmt: skip

# ---------------------------------------------------------------- the settlement's signatures


def _signed_by(*signers: str, number: int = 0) -> Callable[[], Election]:
    return lambda: held(settle=lambda e: e.settle_with(e.bitmap(OUTSIDE), signers, number))


def _signed_another(e: HashElection) -> None:
    other = Settlement(head_of(e.drafts), e.bitmap().sha256).body()
    e.settle_with(e.bitmap(OUTSIDE), signed=other)


def _without_bitmap(e: HashElection) -> None:
    """The settlement as it is where ballots are on the chain."""
    body = Settlement(head_of(e.drafts)).body()
    signatures = b"".join(e.sign(Kind.SETTLEMENT, body, 0, name) for name in HOLDERS)
    e.drafts.append(Draft(Kind.SETTLEMENT, 3200, ANYONE, body, 0, signatures))


def _cut_off(e: HashElection) -> None:
    HashElection.settle(e)
    e.drafts[-1] = replace(e.drafts[-1], signatures=e.drafts[-1].signatures[:-1])


case(
    "a settlement without a bitmap in hash mode",
    "C05 I03",
    ("expected 72 bytes",),
    lambda: held(kind=GoneOn, settle=_without_bitmap),
)
case("a settlement that one data holder signed", "A05", ("by 1 data holders",), _signed_by(HOLDERS[1]))
case("a settlement that one data holder signed twice", "A05", ("by 1 data holders",), _signed_by(HOLDERS[0], HOLDERS[0]))  # fmt: skip
case("a settlement that no data holder signed", "A05", ("by 0 data holders",), _signed_by())
case("a settlement signed in another order than that of the roles", "A05", ("in the order of their roles",), _signed_by(HOLDERS[2], HOLDERS[0]))  # fmt: skip
case("a settlement signed by a stranger", "A05", ("no data holder's",), _signed_by(HOLDERS[0], "somebody"))
case("a settlement that a stranger signed before enough data holders", "A05", ("no data holder's",), _signed_by("somebody", HOLDERS[0], HOLDERS[2]))  # fmt: skip
case("a settlement signed by another role", "A05", ("no data holder's",), _signed_by(HOLDERS[0], "authority"))
case("a settlement signed with another number", "A05", ("no data holder's",), _signed_by(HOLDERS[0], HOLDERS[2], number=1))  # fmt: skip
case("a settlement whose signatures are of another bitmap", "A05", ("no data holder's",), lambda: held(settle=_signed_another))  # fmt: skip
case("a settlement with a signature cut off", "A05", ("no data holder's",), lambda: held(settle=_cut_off))


def _complaining(number: int) -> Election:
    """The first data holder complains before and after it signs the settlement with this number."""

    def complain(e: HashElection, time: int, number: int) -> None:
        body = statement(Kind.COMPLAINT, "slow", 0)
        signature = e.sign(Kind.COMPLAINT, body, number, HOLDERS[0])
        e.drafts.append(Draft(Kind.COMPLAINT, time, len(ROLES), body, number, signature))

    def settle(e: HashElection) -> None:
        complain(e, 3190, 0)
        e.settle_with(e.bitmap(OUTSIDE), HOLDERS[:1], number)
        second = e.sign(Kind.SETTLEMENT, e.drafts[-1].body or b"", 0, HOLDERS[1])
        e.drafts[-1] = replace(e.drafts[-1], signatures=e.drafts[-1].signatures + second)
        complain(e, 3210, 2)

    return held(settle=settle)


case("a data holder that complains before and after it signs", "", ("1 ballots are not held",), lambda: _complaining(1))
case("a data holder that signs as if it had not complained", "A05", ("no data holder's",), lambda: _complaining(0))

# ---------------------------------------------------------------- the count


def _as_if(e: HashElection, *outside: str) -> HashElection:
    """The same election had these ballots alone not been held."""
    other = e.copy()
    assert isinstance(other, HashElection)
    place = next(i for i, draft in enumerate(e.drafts) if draft.kind == Kind.SETTLEMENT)
    drafts, other.drafts = other.drafts, other.drafts[:place]
    other.settle_with(other.bitmap(*outside))
    other.drafts += drafts[place + 1 :]
    return other


def _announced_as_if(*outside: str) -> Callable[[], Election]:
    """The result has the counted set that would be if these ballots alone were not held."""

    def announce(e: HashElection) -> None:
        value = e.result_value() | {"counted_set": _as_if(e, *outside).result_value()["counted_set"]}
        e.append(Kind.RESULT, 3400, canonical_json(value), AUTHORITY)

    return lambda: held(announce=announce)


def _counted_after_all() -> Election:
    """The trustees too take the ballot that is not held for counted, and all of the result follows from that."""

    def decrypt(e: HashElection) -> None:
        partials = e.partials(_as_if(e).settled())
        for role, body in zip((TRUSTEE_1, TRUSTEE_2, TRUSTEE_3), partials, strict=True):
            e.append(Kind.PARTIAL_DECRYPTION, 3300, body, role)

    def announce(e: HashElection) -> None:
        value = _as_if(e).result_value() | {"settlement": e.result_value()["settlement"]}
        e.append(Kind.RESULT, 3400, canonical_json(value), AUTHORITY)

    return held(decrypt=decrypt, announce=announce)


def _bitmap_exchanged() -> Claims:
    """A node that holds no key puts another bitmap into the settlement."""
    e, place = _as_if(honest()), at(Kind.SETTLEMENT)
    signatures = honest().drafts[place].signatures
    return claims_of(
        [replace(d, signatures=signatures) if i == place else d for i, d in enumerate(e.drafts)],
        e.files,
        e.claims().creation,
    )


case("a node that exchanges the bitmap", "A05 E03 K04 K05", ("no data holder's",), _bitmap_exchanged)
case("a result that counts a ballot which is not held", "K04", ("counted set",), _announced_as_if())
case("a result that leaves out a ballot which is held", "K04", ("counted set",), _announced_as_if(OUTSIDE, HELD))
case("a ballot that is not held and counted all the same", "E03 K04 K05", ("trustee 1: the proof",), _counted_after_all)
