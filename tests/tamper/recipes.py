"""The dishonest runs: who cheats how, and which checks must fail, no more and no fewer.

A recipe with no failing check is an attack that the rules make harmless: the verdict and every total stay as they are in the honest
election. Every recipe changes one thing and then makes everything else right that this cheat could make right: roots and heads
always, and whatever the keys that it holds can sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from nacl.signing import SigningKey

from chain.deploy import constructor_arguments, creation_input
from protocol import ceremony, election, tally
from protocol.attachments import Station, roll_row
from protocol.ballot import HEADER, contest_size, create_unsigned, sign
from protocol.encoding import canonical_json, parse_json
from protocol.group import base, mul
from protocol.manifest import Manifest
from protocol.paper import StationResult
from protocol.receipt import Promise, sign_statement
from protocol.records import CheckIns, Kind, LogHead, Report, RollChange, Settlement
from tests.tamper.builder import (
    AUTHORITY,
    CHAIN_ID,
    CHOICES,
    CONTRACT,
    COUNTED_TOTALS,
    FIRST_VOTE_OF_ROW_0,
    REGISTRAR,
    RELAYER,
    ROLES,
    TRUSTEE_1,
    TRUSTEE_2,
    VERIFIER,
    Draft,
    Election,
    MemorySource,
    address,
    claims_of,
    credential,
    head_of,
    hold,
    in_memory,
    key,
    officers,
    preparing,
    reseal,
    seeded,
    statement,
)
from verifier.claims import Claims
from verifier.run import verify_config


@dataclass(frozen=True)
class Tampered:
    """What the verifier is given. `election_id` is what is printed on the cards, honest unless a recipe says otherwise."""

    claims: Claims
    election_id: bytes
    promises: Sequence[Any] | None = None
    run: str = "tally"
    setup_report: dict[str, Any] | None = None
    online: dict[str, list[int]] = field(default_factory=lambda: COUNTED_TOTALS)
    accepted: int = 4
    """Totals of the counted ballots and their number, where the verdict is good."""


@dataclass(frozen=True)
class Recipe:
    """A sentence that says what is done, the ids of exactly the checks that must fail, words that the failures must contain, and how."""

    title: str
    fails: frozenset[str]
    says: tuple[str, ...]
    make: Callable[[], Tampered]


RECIPES: list[Recipe] = []


@cache
def made(recipe: Recipe) -> Tampered:
    """The case, made once in memory; nobody changes it."""
    return recipe.make()


CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1."""


def recipe(fails: str, *says: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Enter a function into the table; its name is the title."""

    def entered(make: Callable[[], Any]) -> Callable[[], Any]:
        enter(make.__name__.replace("_", " "), fails, says, make)
        return make

    return entered


def enter(title: str, fails: str, says: Sequence[str], make: Callable[[], Any]) -> None:
    """Enter a recipe into the table; `make` gives an Election, Claims, or Tampered. All that is random in it comes from its title."""

    def case() -> Tampered:
        honest()
        with seeded(title):
            found = make()
            if isinstance(found, Election):
                return Tampered(found.claims(), found.manifest.election_id)
            return found if isinstance(found, Tampered) else Tampered(found, honest().manifest.election_id)

    if any(recipe.title == title for recipe in RECIPES):
        raise ValueError(f"two recipes have the title {title}")
    RECIPES.append(Recipe(title, frozenset(fails.split()), tuple(says), case))


@cache
def honest() -> Election:
    """Never changed by a recipe: each makes its own lists. In memory, even where who asks first holds elections on a chain."""
    with seeded("the honest election"), preparing(in_memory):
        return hold()


def after(step: str, more: Callable[[Election], Any], **other: Any) -> Election:
    """An election in which something more happens just after a step."""

    def both(e: Election) -> None:
        getattr(Election, step)(e)
        more(e)

    return hold(**{step: both}, **other)


def claims(drafts: Sequence[Draft], e: Election | None = None) -> Claims:
    """The claims of a node that shows these records of the honest election."""
    e = e or honest()
    return claims_of(drafts, e.files, e.claims().creation)


def changed(at: int, **what: Any) -> list[Draft]:
    """The honest records with one of them changed."""
    drafts = list(honest().drafts)
    drafts[at] = replace(drafts[at], **what)
    return drafts


def first(kind: Kind, number: int = 0) -> int:
    """The position of a record of a kind in the honest election."""
    return [i for i, draft in enumerate(honest().drafts) if draft.kind == kind][number]


def ballot_at(name: str) -> int:
    return next(i for i, draft in enumerate(honest().drafts) if draft.body == honest().cast[name])


def flip(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def announcing(change: Callable[[dict[str, Any]], None], role: int = AUTHORITY) -> Election:
    """The authority signs another result than the right one."""

    def announce(e: Election) -> None:
        value = e.result_value()
        change(value)
        e.append(Kind.RESULT, 3400, canonical_json(value), role)

    return hold(announce=announce)


def reporting(change: Callable[[StationResult], StationResult]) -> Election:
    """The officers of station 0 sign another result document."""

    def report_stations(e: Election) -> None:
        e.documents = [change(e.result_of(0)), e.amended(e.result_of(1))]
        e.append_hash(e.documents[0], 2350)
        e.append_hash(e.result_of(1), 2350)
        e.append_hash(e.documents[1], 2360)

    return hold(report_stations=report_stations)


def casting(*bodies: Callable[[Election], bytes]) -> Election:
    """A relayer appends more ballots after the others."""
    return after("vote", lambda e: e.append_ballots(2190, [body(e) for body in bodies]))


def publishing(change: Callable[[list[bytes]], list[bytes]]) -> Election:
    """The trustees publish other partial decryptions than the right ones."""

    def decrypt(e: Election) -> None:
        for role, body in zip((TRUSTEE_1, TRUSTEE_2, TRUSTEE_2 + 1), change(e.partials(e.settled())), strict=False):
            e.append(Kind.PARTIAL_DECRYPTION, 3300, body, role)

    return hold(decrypt=decrypt)


def wrong_partial(body: bytes) -> bytes:
    """A partial decryption whose first value is another point, with the old proof."""
    value = parse_json(body)
    first_value = value["shares"][0]["values"][0]
    first_value["d"] = mul(2, bytes.fromhex(first_value["d"])).hex()
    return canonical_json(value)


# ---------------------------------------------------------------- attacks that change nothing


@recipe("", "bad-proof")
def a_ballot_with_a_flipped_byte() -> Election:
    # In the middle of the last response: still a scalar, another one.
    return casting(lambda e: flip(e.cast["row 1"], len(e.cast["row 1"]) - 64 - 20))


@recipe("", "bad-signature")
def a_ballot_with_a_flipped_byte_in_its_signature() -> Election:
    return casting(lambda e: flip(e.cast["row 1"], len(e.cast["row 1"]) - 20))


@recipe("", "bad-proof")
def a_ballot_with_two_ciphertexts_swapped() -> Election:
    def swapped(e: Election) -> bytes:
        body = e.cast["row 1"]
        start = HEADER + contest_size(e.opened.styles[0][0])  # of the second contest, which has three ciphertexts
        return body[:start] + body[start + 64 : start + 128] + body[start : start + 64] + body[start + 128 :]

    return casting(swapped)


@recipe("", "bad-proof")
def a_ciphertext_taken_from_another_voter() -> Election:
    return casting(lambda e: e.cast["row 1"][:13] + e.cast["row 0"][13:77] + e.cast["row 1"][77:])


@recipe("", "bad-proof")
def a_ballot_copied_under_another_credential() -> Election:
    return casting(lambda e: e.cast["row 1"][:1] + (2).to_bytes(4, "big") + e.cast["row 1"][5:])


@recipe("", "malformed-length")
def a_ballot_copied_into_another_style() -> Election:
    return casting(lambda e: e.cast["row 1"][:1] + (3).to_bytes(4, "big") + e.cast["row 1"][5:])


@recipe("", "duplicate")
def the_older_ballot_of_a_voter_replayed_after_the_newer() -> Election:
    return casting(lambda e: e.cast["row 0, first"])


@recipe("", "2 superseded")
def a_ballot_made_earlier_and_sent_later_than_the_newer() -> Election:
    return casting(lambda e: e.ballot(0, FIRST_VOTE_OF_ROW_0, 11, "held back"))


@recipe("", "bad-proof")
def a_ballot_forged_in_the_name_of_another_roll_index() -> Election:
    def forged(e: Election) -> bytes:
        mine = e.ballot(2, CHOICES[0], 20)
        return mine[:1] + (1).to_bytes(4, "big") + mine[5:]

    return casting(forged)


@recipe("", "bad-signature")
def a_ballot_forged_with_right_proofs_and_no_key() -> Election:
    """Proofs need only the public key, so anybody can make them in anybody's name; the signature is what they cannot make."""

    def forged(e: Election) -> bytes:
        seed, context = bytes(32), e.opened.engine.election
        unsigned = create_unsigned(context, 1, 20, 1, base(credential(1)), 0, seed, CHOICES[0])
        return sign(context, 1, 0, credential(2), seed, unsigned)

    return casting(forged)


@recipe("", "unknown-credential")
def a_ballot_of_a_row_that_does_not_exist() -> Election:
    return casting(lambda e: e.cast["row 1"][:1] + (7).to_bytes(4, "big") + e.cast["row 1"][5:])


@recipe("", "malformed-header")
def a_ballot_of_one_byte() -> Election:
    return casting(lambda e: b"\x01")


@recipe("", "seen-too-high")
def a_ballot_that_claims_to_have_seen_the_future() -> Election:
    return casting(lambda e: e.ballot(1, CHOICES[1], 10_000, "future"))


@recipe("", "2 revoked")
def a_ballot_of_a_revoked_card() -> Election:
    return casting(lambda e: e.ballot(4, CHOICES[4], 20, "again"))


@recipe("", "is ignored: trustee 3: the proof")
def a_wrong_partial_decryption_by_one_trustee() -> Election:
    return publishing(lambda partials: [*partials[:2], wrong_partial(partials[2])])


@recipe("", "is ignored: is signed by role 4, not by trustee 1")
def a_partial_decryption_signed_by_another_trustee() -> Election:
    return publishing(lambda partials: [partials[0], partials[0], partials[2]])


@recipe("", "void check-in of row 3")
def a_check_in_of_a_voter_of_another_unit() -> Election:
    return after("vote", lambda e: e.check_in(0, 3, 1850, 2190))


@recipe("", "roll change")
def a_roll_change_that_revokes_a_revoked_row() -> Election:
    change = RollChange(base(credential(1) + 1), "again", 4, 2)
    return after("vote", lambda e: e.append(Kind.ROLL_CHANGE, 2190, change.body(), REGISTRAR))


@recipe("", "1 later or misattributed")
def a_trustee_who_speaks_twice_in_the_ceremony() -> Election:
    def again(e: Election) -> None:
        e.append(Kind.CEREMONY, 911, ceremony.round1(e.setting(), ceremony.TrusteeSecret.draw(1, 2)), TRUSTEE_1)

    return after("make_key", again)


@recipe("", "1 bad")
def a_verifier_whose_last_word_is_bad() -> Election:
    def bad(e: Election) -> None:
        report = Report(False, e.state(), bytes(32), bytes(32))
        e.append(Kind.REPORT, 3600, report.commitment(), VERIFIER)
        e.append(Kind.REPORT, 3610, report.body(), VERIFIER)

    return after("certify", bad)


@recipe("", "there are no reports")
def an_election_that_nobody_else_verified() -> Election:
    return hold(until="announce")


@recipe("", "is void: complaint at byte 0: not JSON")
def a_complaint_that_is_no_document() -> Election:
    return after("vote", lambda e: e.append(Kind.COMPLAINT, 2190, b"the machine smiled at me", AUTHORITY))


@recipe("", "is void: roll-change: not canonical")
def a_roll_change_with_spaces() -> Election:
    body = RollChange(base(credential(1) + 1), "lost", 1, 1).body().replace(b":", b": ")
    return after("vote", lambda e: e.append(Kind.ROLL_CHANGE, 2190, body, REGISTRAR))


@recipe("", "is void: partial")
def a_trustee_who_publishes_junk() -> Election:
    return publishing(lambda partials: [*partials[:2], b"{}"])


@recipe("", "is void: extension")
def an_extension_for_a_reason_that_is_no_text() -> Election:
    return after(
        "vote",
        lambda e: e.append(Kind.EXTENSION, 2190, (2250).to_bytes(5, "big") + b"\xff", AUTHORITY),
        close=lambda e: e.append(Kind.CLOSE, 2350, election.log_head(e.records()).body()),
    )


# ---------------------------------------------------------------- completeness


@recipe("C01", "stands where record 12 belongs")
def a_node_that_skips_a_position() -> Claims:
    found = claims(honest().drafts)
    return replace(found, records=[r for r in found.records if r.position != 12])


@recipe("C01")
def a_log_with_two_records_exchanged() -> Claims:
    found = claims(honest().drafts)
    records = list(found.records)
    records[12], records[13] = records[13], records[12]
    return replace(found, records=records)


@recipe("C01 C02 I01", "empty")
def an_empty_log() -> Claims:
    found = claims(honest().drafts)
    return replace(found, records=[], roots=[], head=LogHead(0, hashlib.sha256(b"").digest()))


@recipe("C02", "is not to be had")
def a_ballot_whose_body_is_withheld() -> Claims:
    at = ballot_at("row 1")
    return claims(changed(at, body=None, body_hash=hashlib.sha256(honest().drafts[at].body or b"").digest()))


@recipe("C03", "roll")
def a_roll_that_nobody_publishes() -> Claims:
    found = claims(honest().drafts)
    roll = honest().opened.roll_record.sha256
    return replace(found, attachments={name: data for name, data in found.attachments.items() if name != roll})


@recipe("C03", "units")
def another_file_under_the_name_of_the_units() -> Claims:
    found = claims(honest().drafts)
    name = honest().manifest.units.sha256
    return replace(found, attachments={**found.attachments, name: found.attachments[name] + b"\x00"})


@recipe("C04", "no roll")
def a_setup_without_a_roll() -> Tampered:
    e = hold(until="make_key")
    return Tampered(e.claims(), e.manifest.election_id, run="config")


@recipe("C05", "no result")
def an_election_whose_result_is_not_announced() -> Election:
    return hold(until="decrypt")


@recipe("C05", "no settlement", "no result")
def an_election_that_is_not_settled() -> Election:
    return hold(until="decide")


@recipe("C05", "no result record", "is void: result.format")
def a_result_in_another_format() -> Election:
    return hold(
        announce=lambda e: e.append(Kind.RESULT, 3400, canonical_json(e.result_value() | {"format": "v2"}), AUTHORITY),
        certify=lambda e: None,
    )


@recipe("C06", "station 1: revision 2 is not revealed")
def a_station_whose_result_is_not_revealed() -> Election:
    return hold(reveal=lambda e: e.append(Kind.STATION_RESULT, 2600, e.documents[0].body()))


@recipe("C06", "station 0 (station 0) has recorded no result")
def a_station_that_never_reports() -> Election:
    def report_stations(e: Election) -> None:
        e.documents = [e.result_of(1)]
        e.append_hash(e.documents[0], 2350)

    return hold(report_stations=report_stations)


# ---------------------------------------------------------------- authenticity


@recipe("A01", "the code at the address")
def a_contract_with_another_runtime_code() -> Claims:
    found = claims(honest().drafts)
    return replace(found, runtime_code=flip(found.runtime_code, 100))


@recipe("A01", "the creation transaction")
def a_contract_created_by_other_code() -> Claims:
    found = claims(honest().drafts)
    return replace(found, creation=flip(found.creation, 100))


@recipe("A01", "the manifest names the code")
def a_manifest_that_names_another_code() -> Election:
    class Other(Election):
        def manifest_value(self) -> dict[str, Any]:
            value = super().manifest_value()
            value["chain"]["code_hash"] = bytes(32).hex()
            return value

    return hold(Other)


@recipe("A02", "not 00000000")
def another_election_than_the_one_on_the_card() -> Tampered:
    return Tampered(claims(honest().drafts), bytes(32))


@recipe("A02")
def a_manifest_with_one_byte_changed_and_everything_made_again() -> Tampered:
    class Other(Election):
        def manifest_value(self) -> dict[str, Any]:
            return super().manifest_value() | {"name": "A small electioN"}

    return Tampered(hold(Other).claims(), honest().manifest.election_id)


@recipe("A03", "windows")
def a_board_created_with_other_windows() -> Claims:
    found, manifest = claims(honest().drafts), honest().manifest
    roles, setup = constructor_arguments(manifest)
    setup = setup._replace(windows=replace(setup.windows, close=setup.windows.close + 1))
    return replace(found, creation=creation_input(manifest.body, roles, setup))


@recipe("A03", "roles")
def a_board_with_another_authority() -> Claims:
    found, manifest = claims(honest().drafts), honest().manifest
    roles, setup = constructor_arguments(manifest)
    roles[0] = roles[0]._replace(account=address("somebody"))
    return replace(found, creation=creation_input(manifest.body, roles, setup))


@recipe("A03", "chain_id")
def a_board_on_another_chain() -> Election:
    # Signatures name the chain too, so this cheat has every key.
    class Other(Election):
        def manifest_value(self) -> dict[str, Any]:
            value = super().manifest_value()
            value["chain"]["id"] = 1
            return value

    return hold(Other)


@recipe("A04", "from a authority, expected a relayer")
def ballots_sent_by_the_authority() -> Election:
    return after("vote", lambda e: e.append_ballots(2190, [e.cast["row 3"]], AUTHORITY))


@recipe("A04", "expected 65535")
def a_close_record_that_claims_to_be_a_roles() -> Election:
    def close(e: Election) -> None:
        Election.close(e)
        e.drafts[-1] = replace(e.drafts[-1], role=AUTHORITY)

    return hold(close=close)


@recipe("A04", "from role 8; the manifest has 8")
def ballots_sent_by_nobody() -> Election:
    return after("vote", lambda e: e.append_ballots(2190, [e.cast["row 3"]], len(ROLES)))


@recipe("A05", "not that of authority")
def a_result_signed_by_somebody_else() -> Claims:
    at = first(Kind.RESULT)
    body = honest().drafts[at].body or b""
    return claims(changed(at, signatures=honest().sign(Kind.RESULT, body, 2, "somebody")))


@recipe("A05", "the second signature is no cosigner's")
def a_decision_that_the_authority_cosigned_itself() -> Claims:
    at = first(Kind.DECISION)
    draft = honest().drafts[at]
    return claims(reseal(changed(at, signatures=draft.signatures[:65] * 2)))


@recipe("A05", "expected")
def a_complaint_repeated() -> Election:
    def again(e: Election) -> None:
        complaint = next(d for d in e.drafts if d.kind == Kind.COMPLAINT)
        e.drafts.append(replace(complaint, time=2190))

    return after("vote", again)


@recipe("A05", "not that of verifier")
def a_signature_in_its_second_form() -> Claims:
    """Anybody can turn (r, s) into (r, n − s), which another program might take for a second signature."""
    at = first(Kind.COMPLAINT)
    signature = honest().drafts[at].signatures
    s = CURVE_ORDER - int.from_bytes(signature[32:64], "big")
    return claims(changed(at, signatures=signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])))


@recipe("A05", "carries 0 signatures")
def an_unsigned_complaint() -> Claims:
    return claims([*honest().drafts, Draft(Kind.COMPLAINT, 3600, AUTHORITY, statement(Kind.COMPLAINT, "late", 0), 3)])


@recipe("A06", "two officers of station 0")
def a_station_result_signed_by_one_officer_twice() -> Claims:
    at = first(Kind.STATION_HASH)
    return claims(changed(at, signatures=honest().drafts[at].signatures[:65] * 2))


@recipe("A06", "two officers of station 0")
def a_station_result_with_a_forged_officer_signature() -> Claims:
    at = first(Kind.STATION_HASH)
    draft = honest().drafts[at]
    forged = honest().sign(draft.kind, draft.body or b"", draft.number, "somebody")
    return claims(changed(at, signatures=draft.signatures[:65] + forged))


@recipe("A06", "two officers of station 1")
def a_check_in_signed_by_another_stations_officers() -> Claims:
    at = first(Kind.CHECK_IN, 1)
    draft = honest().drafts[at]
    signatures = b"".join(honest().sign(draft.kind, draft.body or b"", draft.number, name) for name in officers(0)[:2])
    return claims(changed(at, signatures=signatures))


@recipe("A06", "there is no station 7")
def a_check_in_of_a_station_that_does_not_exist() -> Election:
    def check_in(e: Election) -> None:
        e.append_station(Kind.CHECK_IN, 2190, CheckIns(7, 0, ((1, 1850),)).body(), 0, 7)

    return after("vote", check_in)


# ---------------------------------------------------------------- consistency


@recipe("K01", "must come before 2300")
def ballots_appended_after_the_poll() -> Election:
    return hold(
        close=lambda e: (e.append_ballots(2300, [e.ballot(1, CHOICES[1], 11, "late")]), Election.close(e)),
    )


@recipe("K01", "its time 1199 is before")
def time_that_runs_backwards() -> Election:
    return after("vote", lambda e: e.append_ballots(1199, [e.cast["row 3"]]))


@recipe("K01", "may come from 3200 on")
def a_settlement_before_its_time() -> Election:
    def settle(e: Election) -> None:
        Election.settle(e)
        e.drafts[-1] = replace(e.drafts[-1], time=3199)

    return hold(settle=settle)


@recipe("K01", "in phase settled")
def a_check_in_after_the_settlement() -> Election:
    return after("settle", lambda e: e.check_in(0, 1, 1850, 3200))


@recipe("K01", "the manifest allows until 3000")
def an_extension_beyond_what_the_manifest_allows() -> Election:
    def extend(e: Election) -> None:
        e.append(Kind.EXTENSION, 2190, (3001).to_bytes(5, "big") + b"longer", AUTHORITY)

    return after("vote", extend, close=lambda e: e.append(Kind.CLOSE, 3101, election.log_head(e.records()).body()), report_stations=late_stations,
                 reveal=late_reveal, decide=lambda e: None)  # fmt: skip


def late_stations(e: Election) -> None:
    """After the embargo a result is amended only once it is revealed, so there is none to amend."""
    e.documents = [e.result_of(0), e.result_of(1)]
    for document in e.documents:
        e.append_hash(document, 3110)


def late_reveal(e: Election) -> None:
    Election.reveal(e)
    e.drafts[-2:] = [replace(d, time=3120) for d in e.drafts[-2:]]


@recipe("K01", "may come from 2500 on")
def a_station_result_revealed_before_the_embargo_ends() -> Election:
    def reveal(e: Election) -> None:
        Election.reveal(e)
        e.drafts[-2:] = [replace(d, time=2499) for d in e.drafts[-2:]]

    return hold(reveal=reveal)


@recipe("K01", "may come from 1700 on")
def a_station_that_reports_before_the_count_may_begin() -> Election:
    def vote(e: Election) -> None:
        e.append_hash(e.result_of(0), 1150)
        Election.vote(e)

    def report_stations(e: Election) -> None:
        Election.report_stations(e)
        del e.drafts[-3]  # station 0 has reported already

    return hold(vote=vote, report_stations=report_stations)


@recipe("K02", "settlement record names another log")
def a_settlement_of_another_log() -> Election:
    return hold(settle=lambda e: e.append(Kind.SETTLEMENT, 3200, LogHead(len(e.drafts), bytes(32)).body()))


@recipe("K02", "settlement record names another log")
def a_settlement_that_leaves_the_last_ballots_out() -> Election:
    def settle(e: Election) -> None:
        size = next(i for i, d in enumerate(e.drafts) if d.body == e.cast["row 0"])
        e.append(Kind.SETTLEMENT, 3200, election.log_head(e.records()[:size]).body())

    return hold(settle=settle)


@recipe("K02", "open record names another log")
def an_open_record_of_another_setup() -> Election:
    def open_poll(e: Election) -> None:
        e.append(Kind.OPEN, 1100, LogHead(len(e.drafts), bytes(32)).body(), AUTHORITY)
        e.opened = e.open_election()

    return hold(open_poll=open_poll)


@recipe("K03", "is check-in 1 of station 0, expected 0")
def a_check_in_batch_that_is_missing() -> Election:
    def vote(e: Election) -> None:
        e.batches[0] = 1
        Election.vote(e)

    return hold(vote=vote)


@recipe("K03", "was signed for station 0")
def a_document_that_names_another_station() -> Election:
    def report_stations(e: Election) -> None:
        Election.report_stations(e)
        forged = replace(e.documents[0], station=1)
        body = (0).to_bytes(4, "big") + (2).to_bytes(4, "big") + forged.document_hash()
        e.append_station(Kind.STATION_HASH, 2370, body, 2, 0)
        e.documents = [forged, e.documents[1]]

    return hold(report_stations=report_stations)


@recipe("K03", "this document's hash was never recorded")
def a_document_that_nobody_signed() -> Election:
    return after("reveal", lambda e: e.append(Kind.STATION_RESULT, 2650, replace(e.documents[0], revision=2).body()))


@recipe("K03", "was revealed before")
def a_document_revealed_twice() -> Election:
    return after("reveal", lambda e: e.append(Kind.STATION_RESULT, 2650, e.documents[0].body()))


@recipe("K03", "this document's hash is recorded already")
def a_document_recorded_for_two_revisions() -> Election:
    def again(e: Election) -> None:
        body = (0).to_bytes(4, "big") + (2).to_bytes(4, "big") + e.documents[0].document_hash()
        e.append_station(Kind.STATION_HASH, 2370, body, 2, 0)

    return after("report_stations", again)


@recipe("K03", "though the embargo is over")
def a_result_amended_after_the_embargo_before_it_is_revealed() -> Election:
    """The officers know the other stations' results by then, and choose what to show."""

    def reveal(e: Election) -> None:
        e.documents[1] = replace(e.documents[1], revision=3)
        e.append_hash(e.documents[1], 2550)
        Election.reveal(e)

    return hold(reveal=reveal)


@recipe("K03", "expected 2")
def a_revision_that_skips_one() -> Election:
    def report_stations(e: Election) -> None:
        e.documents = [e.result_of(0), replace(e.amended(e.result_of(1)), revision=3)]
        for document, time in ((e.documents[0], 2350), (e.result_of(1), 2350), (e.documents[1], 2360)):
            e.append_hash(document, time)

    return hold(report_stations=report_stations)


@recipe("K04", "counted of the counted set is 5, recomputed 4", "root of the counted set")
def a_result_that_counts_the_online_ballot_of_a_voter_who_took_paper() -> Election:
    """The whole counted set is what it would be had nobody checked in."""
    e = honest()
    size = Settlement.parse(election.only(e.records(), Kind.SETTLEMENT).body or b"", False).head.size
    before = [record for record in e.records()[:size] if record.kind != Kind.CHECK_IN]
    state = election.roll_state(e.opened, before)
    reasons = election.verify_ballots(e.opened, state.roll, election.of_kind(before, Kind.BALLOT))
    _, counted = election.counted_set(e.opened, before, reasons)
    root = counted.root().hex()
    return announcing(lambda value: value["counted_set"].update(counted=5, root=root))


@recipe("K09", "station 1: 2 valid check-ins, 1 papers issued")
def a_voter_checked_in_twice_for_one_paper() -> Election:
    return hold(vote=lambda e: (Election.vote(e), e.check_in(1, 5, 1950)))


@recipe("K04", "root of the counted set")
def a_result_with_another_counted_set_root() -> Election:
    return announcing(lambda value: value["counted_set"].update(root=bytes(32).hex()))


@recipe("K04", "counted of the counted set is 5, recomputed 4")
def a_result_that_counts_one_ballot_too_many() -> Election:
    return announcing(lambda value: value["counted_set"].update(counted=5))


@recipe("K05", "groups of [3] ballots, recomputed [2]")
def a_result_with_a_larger_group() -> Election:
    return announcing(lambda value: value["online"][1]["groups"][0].update(ballots=3))


@recipe("K05", "has 3 contests")
def a_result_without_a_contest() -> Election:
    return announcing(lambda value: value["online"].pop())


@recipe("K05", "question: groups of []")
def a_result_without_groups() -> Election:
    return announcing(lambda value: value["online"][0].pop("groups"))


@recipe("K06", "question: online is")
def a_result_with_two_totals_exchanged() -> Election:
    def exchange(value: dict[str, Any]) -> None:
        online = value["online"][0]
        online["totals"].reverse()
        online["groups"][0]["totals"].reverse()
        value["total"][0] = [a + b for a, b in zip(online["totals"], value["paper"][0]["totals"], strict=True)]

    return announcing(exchange)


@recipe("K07", "council: paper is")
def a_result_with_a_paper_vote_more() -> Election:
    def add(value: dict[str, Any]) -> None:
        value["paper"][3]["totals"][1] += 1
        value["total"][3][1] += 1

    return announcing(add)


@recipe("K07", "paper has more contests")
def a_result_with_a_contest_more() -> Election:
    return announcing(lambda value: value["paper"].append(value["paper"][0]))


@recipe("K08", "is not the recomputed result")
def a_result_that_says_true_for_one() -> Election:
    """Equal to the right one in a language in which true is 1, and not the same bytes."""
    return announcing(lambda value: value["total"].__setitem__(1, [0, True, 1, 1]))


@recipe("K08", "total is")
def a_result_whose_total_is_not_online_and_paper() -> Election:
    return announcing(lambda value: value["total"][1].reverse())


@recipe("K08", "settlement is")
def a_result_for_another_settlement() -> Election:
    return announcing(lambda value: value.update(settlement=bytes(32).hex()))


@recipe("K09", "station 0: 1 valid check-ins, 2 papers issued")
def a_station_that_issued_a_paper_without_a_voter() -> Election:
    return reporting(lambda result: replace(result, issued=2, spoiled=1))


@recipe("K09", "station 0: 2 valid check-ins, 1 papers issued", "station 0")
def a_voter_checked_in_who_voted_online() -> Election:
    return after("vote", lambda e: e.check_in(0, 1, 1850, 2190))


# ---------------------------------------------------------------- integrity


@recipe("I01", "not canonical")
def a_manifest_that_is_not_canonical() -> Claims:
    return claims(reseal(changed(0, body=b" " + honest().manifest.body), Kind.OPEN, Kind.CLOSE, Kind.SETTLEMENT))


@recipe("I01", "begin with a manifest")
def a_log_that_begins_with_another_record() -> Claims:
    return claims(reseal(honest().drafts[1:], Kind.OPEN, Kind.CLOSE, Kind.SETTLEMENT))


@recipe("I02", "the board announced root")
def a_root_that_is_not_the_trees() -> Claims:
    found = claims(honest().drafts)
    return replace(found, roots=[*found.roots[:5], (found.roots[5][0], bytes(32)), *found.roots[6:]])


@recipe("I02", "the board's head")
def a_head_that_is_not_the_logs() -> Claims:
    found = claims(honest().drafts)
    return replace(found, head=replace(found.head, size=found.head.size + 1))


@recipe("I02", "step by step")
def a_board_that_announced_no_last_root() -> Claims:
    found = claims(honest().drafts)
    return replace(found, roots=found.roots[:-1])


@recipe("I02", "the body is not the one")
def a_complaint_reworded_after_it_was_recorded() -> Claims:
    at = first(Kind.COMPLAINT)
    digest = hashlib.sha256(honest().drafts[at].body or b"").digest()
    return claims(changed(at, body=statement(Kind.COMPLAINT, "fast", 0), body_hash=digest))


@recipe("I03", "a record has 1 to 65535")
def a_complaint_that_is_too_long() -> Election:
    return after("vote", lambda e: e.append(Kind.COMPLAINT, 2190, bytes(65_536), AUTHORITY))


@recipe("I03 K01", "a record has 1 to 65535")
def a_ballot_that_is_empty() -> Claims:
    return claims([*honest().drafts, Draft(Kind.BALLOT, 3600, RELAYER, b"")])


@recipe("I03", "there is no kind 17")
def a_record_of_an_unknown_kind() -> Claims:
    return claims([*honest().drafts, Draft(17, 3600, AUTHORITY, b"?")])


@recipe("I03", "needs 4 bytes")
def a_check_in_with_half_an_entry() -> Election:
    def half(e: Election) -> None:
        body = CheckIns(0, 1, ((2, 1800),)).body() + b"\x00"
        e.append_station(Kind.CHECK_IN, 2190, body, 1, 0)

    return after("vote", half)


@recipe("I04", "must be a leaf unit")
def a_station_in_a_unit_where_nobody_votes() -> Election:
    class Other(Election):
        def stations(self) -> list[bytes]:
            return [Station(0, 0, tuple(map(address, officers(0))), "nowhere").row(), super().stations()[1]]

        def open_election(self) -> Any:
            return _despite(self, "parse_stations", lambda rows, units: [_station(row) for row in rows])

    return hold(Other)


@recipe("I04", "at least two distinct officers")
def a_station_with_one_officer_named_twice() -> Election:
    class Other(Election):
        def stations(self) -> list[bytes]:
            return [Station(0, 1, (address(officers(0)[0]),) * 2, "one").row(), super().stations()[1]]

        def open_election(self) -> Any:
            return _despite(self, "parse_stations", lambda rows, units: [_station(row) for row in rows])

    return hold(Other)


def _station(row: bytes) -> Station:
    n = row[8]
    return Station(
        int.from_bytes(row[:4], "big"),
        int.from_bytes(row[4:8], "big"),
        tuple(row[9 + 20 * i : 29 + 20 * i] for i in range(n)),
        "",
    )


def _despite(e: Election, name: str, lax: Callable[..., Any]) -> Any:
    """The cheat's own program lets pass what ours refuses."""
    strict = getattr(election, name)
    setattr(election, name, lax)
    try:
        return Election.open_election(e)
    finally:
        setattr(election, name, strict)


@recipe("I05", "not strictly ascending")
def a_roll_out_of_order() -> Election:
    class Other(Election):
        def roll_rows(self) -> list[bytes]:
            rows = super().roll_rows()
            return [rows[1], rows[0], *rows[2:]]

    return hold(Other)


@recipe("I05", "repeats a key")
def a_credential_that_is_on_the_roll_in_two_units() -> Election:
    class Other(Election):
        def roll_rows(self) -> list[bytes]:
            rows = super().roll_rows()
            return sorted([*rows[:5], roll_row(base(credential(1)), 2)], key=lambda row: row[32:] + row[:32])

    return hold(Other)


@recipe("I05", "counts per unit")
def a_roll_record_with_other_counts_per_unit() -> Election:
    def make_roll(e: Election) -> None:
        Election.make_roll(e)
        body = parse_json(e.drafts[-1].body or b"") | {"units": bytes(32).hex()}
        e.drafts.pop()
        e.numbers[REGISTRAR] = 0
        e.append(Kind.ROLL, 950, canonical_json(body), REGISTRAR)

    class Other(Election):
        def open_election(self) -> Any:
            strict = election.unit_counts_hash
            election.unit_counts_hash = lambda counts: bytes(32)
            try:
                return super().open_election()
            finally:
                election.unit_counts_hash = strict

    return hold(Other, make_roll=make_roll)


@recipe("I06", "station 0: contest mayor: the counts, blank and invalid add up to 2, not 1")
def a_station_whose_counts_do_not_add_up() -> Election:
    def more(result: StationResult) -> StationResult:
        mayor = replace(result.contests[1], counts=(1, 0, 1, 0))
        return replace(result, contests=(result.contests[0], mayor))

    return reporting(more)


@recipe("I06", "practice is true, and in the manifest false")
def a_station_that_excuses_itself_from_its_check_ins() -> Election:
    return reporting(lambda result: replace(result, practice=True))


@recipe("I06", "issued 1 is not counted 1 + spoiled 1")
def a_station_whose_papers_do_not_add_up() -> Election:
    return reporting(lambda result: replace(result, spoiled=1))


# ---------------------------------------------------------------- evidence


@recipe("E01", "trustee 3 confirms another key")
def a_trustee_who_confirms_another_key() -> Election:
    class Other(Election):
        def confirmations(self, bodies: list[bytes]) -> list[bytes]:
            self.honest_confirmations = bodies
            wrong = parse_json(bodies[2]) | {"key": base(5).hex()}
            return [*bodies[:2], canonical_json(wrong)]

        def open_election(self) -> Any:
            return _with_joint(self)

    return hold(Other)


@recipe("E01", "round 3 is missing from trustees [3]")
def a_trustee_who_does_not_confirm() -> Election:
    class Other(Election):
        def confirmations(self, bodies: list[bytes]) -> list[bytes]:
            self.honest_confirmations = bodies
            return bodies[:2]

        def open_election(self) -> Any:
            return _with_joint(self)

    return hold(Other)


def _with_joint(e: Any) -> Any:
    """The poll opens on the key that the ceremony would have given."""
    setting = e.setting()
    bodies = [[r.body for r in e.records() if r.kind == Kind.CEREMONY][3 * i : 3 * i + 3] for i in (0, 1)]
    joint = ceremony.check_ceremony(setting, *bodies, e.honest_confirmations)
    strict = election.read_ceremony
    election.read_ceremony = lambda manifest, records: (0, joint)
    try:
        return Election.open_election(e)
    finally:
        election.read_ceremony = strict


@recipe("E02", "bad-proof, yet the result takes this ballot for valid")
def a_result_that_counts_a_ballot_without_proofs() -> Election:
    def announce(e: Election) -> None:
        value = e.result_value()
        size = next(i for i, d in enumerate(e.drafts) if d.kind == Kind.SETTLEMENT)
        _, blind = election.counted_set(e.opened, e.records()[:size], {})
        value["counted_set"] = {
            "counted": sum(1 for _ in blind.counted()),
            "root": blind.root().hex(),
            "size": len(blind.rows),
        }
        e.append(Kind.RESULT, 3400, canonical_json(value), AUTHORITY)

    return after("vote", lambda e: e.append_ballots(2190, [_copied(e)]), announce=announce)


def _copied(e: Election) -> bytes:
    return e.cast["row 0"][:1] + (1).to_bytes(4, "big") + e.cast["row 0"][5:]


@recipe("E03", "1 of 2 partial decryptions", "trustee 2: the proof", "trustee 3: the proof")
def wrong_partial_decryptions_by_two_trustees() -> Election:
    return publishing(lambda partials: [partials[0], *map(wrong_partial, partials[1:])])


@recipe("E03", "1 of 2 partial decryptions")
def a_trustee_alone() -> Election:
    return publishing(lambda partials: partials[:1])


@recipe("E03", "is for another settlement")
def partial_decryptions_of_another_settlement() -> Election:
    def elsewhere(body: bytes) -> bytes:
        return canonical_json(parse_json(body) | {"settlement": bytes(32).hex()})

    return publishing(lambda partials: [elsewhere(body) for body in partials])


@recipe("E03", "trustee 1: the proof")
def a_share_of_another_key() -> Election:
    """Trustees 1 and 2 decrypt, with proofs that are right, by shares that the ceremony did not give them."""

    def decrypt(e: Election) -> None:
        settled = e.settled()
        groups = [group for groups in settled.groups for group in groups]
        for j, role in ((1, TRUSTEE_1), (2, TRUSTEE_2)):
            body = tally.partial_decryption(
                e.opened.context, settled.settlement.head.root, groups, j, e.shares[j - 1] + 1
            )[0]
            e.append(Kind.PARTIAL_DECRYPTION, 3300, body, role)

    return hold(decrypt=decrypt)


@recipe("E04", "no evidence was given")
def a_validators_network_without_evidence() -> Election:
    class Other(Election):
        def manifest_value(self) -> dict[str, Any]:
            value = super().manifest_value()
            value["chain"] |= {"engine": "cometbft", "validators": [{"key": key("validator").hex(), "power": 1}]}
            return value

    return hold(Other)


@recipe("E05", "certifies the state 0000")
def a_verifier_that_certifies_another_state() -> Election:
    def certify(e: Election) -> None:
        report = Report(True, bytes(32), bytes(32), bytes(32))
        e.append(Kind.REPORT, 3500, report.commitment(), VERIFIER)
        e.append(Kind.REPORT, 3510, report.body(), VERIFIER)

    return hold(certify=certify)


@recipe("E05", "had not committed")
def a_report_that_nobody_committed_to() -> Election:
    return hold(
        certify=lambda e: e.append(Kind.REPORT, 3500, Report(True, e.state(), bytes(32), bytes(32)).body(), VERIFIER)
    )


def promised(ballot: bytes, by: int, head: LogHead | None = None) -> Tampered:
    """The honest election, and a voter who holds a promise. The relayer's key in the manifest is the one that signed it."""
    signing = SigningKey(key("relayer"))

    class Other(Election):
        def manifest_value(self) -> dict[str, Any]:
            value = super().manifest_value()
            value["roles"][RELAYER]["key"] = signing.verify_key.encode().hex()
            return value

    e = hold(Other)
    seen = head or election.log_head(e.records()[:12])
    digest = hashlib.sha256(e.cast["row 1"] if ballot == b"row 1" else ballot).digest()
    promise = sign_statement(Promise(digest, by, CONTRACT, CHAIN_ID, seen, RELAYER), signing)
    return Tampered(e.claims(), e.manifest.election_id, [promise])


@recipe("")
def a_promise_that_was_kept() -> Tampered:
    return promised(b"row 1", 1200)


@recipe("E06", "is not in the log")
def a_promised_ballot_that_never_came() -> Tampered:
    return promised(b"another", 2000)


@recipe("E06", "came at 1200")
def a_promised_ballot_that_came_too_late() -> Tampered:
    return promised(b"row 1", 1199)


@recipe("E06", "does not extend the head")
def a_promise_on_another_log() -> Tampered:
    return promised(b"row 1", 1200, LogHead(12, bytes(32)))


# ---------------------------------------------------------------- a node that lies


@recipe("I02 E02", "the body is not the one", "bad-proof, yet")
def a_node_that_flips_a_byte_of_a_recorded_ballot() -> Claims:
    at = ballot_at("row 1")
    body = honest().drafts[at].body or b""
    return claims(changed(at, body=flip(body, len(body) - 84), body_hash=hashlib.sha256(body).digest()))


@recipe("E02", "bad-proof, yet the result takes this ballot for valid")
def a_node_that_flips_a_byte_of_a_recorded_ballot_and_seals_again() -> Claims:
    at = ballot_at("row 1")
    body = honest().drafts[at].body or b""
    return claims(reseal(changed(at, body=flip(body, len(body) - 84))))


@recipe("E03 K04 K05", "is for another settlement")
def a_node_that_drops_a_ballot_and_seals_again() -> Claims:
    at = ballot_at("row 1")
    return claims(reseal([d for i, d in enumerate(honest().drafts) if i != at]))


@recipe("E03 K04", "is for another settlement")
def a_node_that_drops_a_re_vote_and_seals_again() -> Claims:
    at = ballot_at("row 0")
    drafts = [replace(d, joined=False) for i, d in enumerate(honest().drafts) if i != at]
    return claims(reseal(drafts))


@recipe("K02", "close record names")
def a_node_that_drops_a_ballot_and_seals_roots_only() -> Claims:
    at = ballot_at("row 1")
    return claims([d for i, d in enumerate(honest().drafts) if i != at])


@recipe("E03 K04", "is for another settlement")
def a_node_that_exchanges_two_records_and_seals_again() -> Claims:
    drafts = list(honest().drafts)
    one, other = ballot_at("row 1"), ballot_at("row 3")
    drafts[one], drafts[other] = drafts[other], drafts[one]
    return claims(reseal(drafts))


@recipe("K02", "close record names")
def a_node_that_changes_a_time() -> Claims:
    return claims(changed(ballot_at("row 5"), time=1201))


@recipe("A02 A03 E01 K02", "the board's manifest")
def a_node_that_changes_a_byte_of_the_manifest() -> Claims:
    body = honest().manifest.body.replace(b"A small election", b"A small electioN")
    Manifest.parse(body)
    return claims(reseal(changed(0, body=body)))


@recipe("A05 E01 K02", "round 1")
def a_node_that_changes_the_key_of_a_trustee() -> Claims:
    return claims(reseal(changed(1, body=honest().drafts[2].body)))


@recipe("A05 E05 K06", "not that of authority")
def a_node_that_changes_the_result() -> Claims:
    at = first(Kind.RESULT)
    value = parse_json(honest().drafts[at].body or b"")
    value["online"][0]["totals"].reverse()
    return claims(changed(at, body=canonical_json(value)))


def verified_before(seen: Election, shown: Election | None = None) -> Tampered:
    """The honest election, or another, to an observer who has verified the setup of `seen` before the poll."""
    found = shown or honest()
    report = verify_config(MemorySource(seen.claims()), seen.manifest.election_id).json()
    assert report["verdict"] == "verified", report
    return Tampered(found.claims(), found.manifest.election_id, setup_report=report)


@recipe("")
def a_setup_that_was_verified_before() -> Tampered:
    return verified_before(honest_setup())


def honest_setup() -> Election:
    """The honest election up to its open poll."""
    found = honest().copy()
    found.drafts = found.drafts[: first(Kind.OPEN) + 1]
    return found


@recipe("K10", "does not extend the 12 records")
def a_setup_that_was_made_again_after_it_was_verified() -> Tampered:
    return verified_before(honest_setup(), hold(Election, open_poll=later_open))


def later_open(e: Election) -> None:
    """The poll opens a second later than it did."""
    e.append(Kind.OPEN, 1101, head_of(e.drafts).body(), AUTHORITY)
    e.opened = e.open_election()


@recipe("K10", "is about election")
def a_setup_of_another_election_than_the_one_that_was_verified() -> Tampered:
    class Other(Election):
        def manifest_value(self) -> dict[str, Any]:
            return super().manifest_value() | {"name": "Another election"}

    return verified_before(hold(Other, until="fill_ballots"))


@recipe("K10", "does not extend the 39 records")
def a_log_that_is_shorter_than_when_its_setup_was_verified() -> Tampered:
    longer = after("certify", lambda e: e.append(Kind.COMPLAINT, 3600, statement(Kind.COMPLAINT, "late", 0), VERIFIER))
    return verified_before(longer)


from tests.tamper import forms, hash_mode  # noqa: E402, F401  enter their tables, which need what is above
