"""The numbered checks: what each proves, what its failure means, and the function that decides it.

Five groups: completeness (C), authenticity (A), consistency (K), integrity (I), evidence (E). `docs/checks.md` and `ballotboard verify
explain` are made from this table. A number is never given to another check.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from chain import evidence
from chain.contract import artifact
from chain.deploy import constructor_arguments, parse_creation
from chain.errors import BadSignature
from chain.sign import SIGNATURE, recover_record
from protocol import ceremony, election, engine, paper
from protocol.ballot import Reason
from protocol.counting import Status
from protocol.election import LogRecord
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.manifest import RoleKind
from protocol.records import (
    ANYONE,
    COSIGNED,
    MAX_BODY,
    SIGNER,
    STATION_OFFICERS,
    CheckIns,
    Kind,
    LogHead,
    Report,
    StationHash,
)
from protocol.tally import TooFewShares
from verifier import windows
from verifier.case import Case
from verifier.check import CHECKS, MOST_SENTENCES, Check, Fault, Found, NotApplicable, Result, check, run
from verifier.log import Run, positions
from verifier.setup import read_setup_report

__all__ = ["CHECKS", "Check", "Result", "run"]

# ---------------------------------------------------------------- completeness


@check(
    "C01", "The log has no gap", config=True,
    proves="The records that were read have the positions 0, 1, 2 … without a gap or a repeat.",
    failure="The source left records out, repeated one, or put them in another order.",
    remedy="Read from another node. If that one shows the missing records, the first hides them: keep both answers.",
)  # fmt: skip
def log_has_no_gap(case: Case) -> Found:
    faults, expected = [], 0
    for item in case.log.order:
        first, count = (item.first, item.count) if isinstance(item, Run) else (item.position, 1)
        if first != expected:
            faults.append(Fault(first, f"stands where record {expected} belongs"))
        expected = first + count
    if not case.log.size:
        faults.append(Fault(None, case.claims.contradiction or "the log is empty"))
    return Found(faults, f"{case.log.size} records")


@check(
    "C02", "Every body is there", config=True,
    proves="For every record not only the hash but the body was read, so that nothing is taken on trust. Where the chain has ballots' hashes only: that of every"
    " ballot for which the data holders signed in the settlement; the others count for nothing, whoever may have them, and are listed.",
    failure="A body is withheld. What it says cannot be checked by anybody. Where data holders signed that they keep it, they are named.",
    remedy="Ask another node, mirror or data holder (--holder) for the body; its SHA-256 is in the log. If those who signed for it cannot show it, they broke"
    " their word, and the count cannot be checked.",
)  # fmt: skip
def bodies_are_there(case: Case) -> Found:
    ballots, others = case.log.ballots, case.log.others
    hashes = {r.position: r.entry.body_hash for r in others if r.body is None}
    hashes |= {ballots.positions[number]: ballots.hash(number) for number in ballots.missing}
    note = f"{ballots.bytes + sum(len(r.body or b'') for r in others)} bytes"
    if _keeps_hashes(case):
        return _held_bodies(case, hashes, note)
    missing = [Fault(position, f"the body of {hashes[position].hex()} is not to be had") for position in sorted(hashes)]
    if not case.log.size:
        missing.append(Fault(None, "no record was read"))
    return Found(missing, note)


def _keeps_hashes(case: Case) -> bool | None:
    """Whether the chain has ballots' hashes only; None where the manifest does not say, which is for I01."""
    try:
        return case.manifest.body_mode == "hash"
    except BallotboardError:
        return None


def _held_bodies(case: Case, hashes: dict[int, bytes], note: str) -> Found:
    """C02 in hash mode; `hashes` are those of the bodies that were not read, by position. Before the settlement nobody has signed for any ballot."""
    positions_of = case.log.ballots.positions
    ballots, signed = {positions_of[number] for number in case.log.ballots.missing}, ""
    if case.of_kind(Kind.SETTLEMENT):
        record = election.only(case.records, Kind.SETTLEMENT)
        names = [case.manifest.roles[role].name for role in _holders_signed(case, record) if role is not None]
        signed = f", for which {', '.join(names) or 'nobody'} signed in record {record.position}"
        void = [position for position in positions_of[: case.votes] if position not in case.bitmap]
    else:
        void = sorted(ballots)
    faults = [
        Fault(position, f"the body of {hashes[position].hex()} is not to be had{signed if position in ballots else ''}")
        for position in sorted(hashes.keys() - set(void))
    ]
    if void:
        named = ", ".join(map(str, void[:MOST_SENTENCES])) + (" …" if len(void) > MOST_SENTENCES else "")
        what = (
            "are not held and count for nothing"
            if signed
            else "are not to be had yet; the settlement will say which must be"
        )
        note += f"; {len(void)} ballots {what}: {named}"
    return Found(faults, note, void)


@check(
    "C03", "Every named file is there", needs="I01", config=True,
    proves="The lists of units, stations and voters' credentials (and of the ballots that data holders keep, where there are any) are there, and each is the very file that the record names by SHA-256.",
    failure="A list is withheld or was replaced by another.",
    remedy="Get the file of that hash from another mirror; a file with another hash is another list.",
)  # fmt: skip
def files_are_there(case: Case) -> Found:
    named = {"units": case.manifest.units.sha256, "stations": case.manifest.stations.sha256}
    if case.of_kind(Kind.ROLL):
        named["roll"] = case.roll_record.sha256
    if case.manifest.body_mode == "hash" and case.of_kind(Kind.SETTLEMENT):
        named["bitmap"] = case.settlement.bitmap
    faults = []
    for name, digest in named.items():
        data = b"" if digest == election.EMPTY_FILE else case.claims.attachments.get(digest)
        if data is None:
            faults.append(Fault(None, f"the file of the {name}, {digest.hex()}, is missing"))
        elif hashlib.sha256(data).digest() != digest:
            faults.append(Fault(None, f"the file of the {name} does not hash to its name {digest.hex()}"))
    return Found(faults, ", ".join(named))


@check(
    "C04", "The setup is on the record", needs="I01", config=True,
    proves="There is a roll and there are messages of the key ceremony: what must exist before a poll can open.",
    failure="The election was not set up, or the record of it is incomplete.",
    remedy="Before the poll: wait for the registrar and the trustees. After it: nothing about this election can be checked.",
)  # fmt: skip
def setup_is_there(case: Case) -> Found:
    return _present(case, Kind.ROLL, Kind.CEREMONY)


@check(
    "C05", "The election came to its end", needs="I01",
    proves="The poll was opened, closed and settled, and a result was recorded.",
    failure="The election is still under way, or its end was left out. There is no result to verify yet.",
    remedy="Wait until the result is announced and run the verifier again; `verify config` checks the setup meanwhile.",
)  # fmt: skip
def end_is_there(case: Case) -> Found:
    return _present(case, Kind.OPEN, Kind.CLOSE, Kind.SETTLEMENT, Kind.RESULT)


@check(
    "C06", "Every station has reported", needs="E01 I05 C05",
    proves="Every polling station in the manifest has a signed result on the record, and the document behind it was revealed.",
    failure="Paper votes of a station are missing from the result: it never reported, or its document is held back.",
    remedy="Ask the station, and whoever holds the document, to reveal it. Until then the paper totals are incomplete.",
)  # fmt: skip
def stations_reported(case: Case) -> Found:
    stations = case.places[1]
    if not stations:
        raise NotApplicable("the manifest has no polling stations")
    standing, missing = case.station_results
    faults = [
        Fault(case.position_of(found.body()), f"station {found.station}: revision {found.revision} is not revealed")
        for found in missing
        if found.document not in case.documents
    ]
    reported = {*standing, *(found.station for found in missing)}
    faults += [
        Fault(None, f"station {station.number} ({station.name}) has recorded no result")
        for station in stations
        if station.number not in reported
    ]
    return Found(faults, f"{len(stations)} stations")


# ---------------------------------------------------------------- authenticity


@check(
    "A01", "The contract is the published one", needs="I01", config=True,
    proves="The transaction that created the board, and the code that runs at its address, are the code that this verifier ships, byte for byte.",
    failure="The record was kept by other rules than the published ones; who could write what and when is unknown.",
    remedy="Compare the code hash with the one in the manifest and in the sources; do not rely on this record.",
)  # fmt: skip
def contract_is_known(case: Case) -> Found:
    known, faults = artifact(), []
    if not case.claims.creation.startswith(known.creation_code):
        faults.append(Fault(None, "the creation transaction holds other code than contracts/BulletinBoard.json"))
    if case.claims.runtime_code != known.runtime_code:
        faults.append(Fault(None, "the code at the address is not that of contracts/BulletinBoard.json"))
    if case.manifest.code_hash != known.code_hash:
        faults.append(
            Fault(
                0,
                f"the manifest names the code {case.manifest.code_hash.hex()}, this verifier knows {known.code_hash.hex()}",
            )
        )
    return Found(faults, f"code hash {known.code_hash.hex()}")


@check(
    "A02", "It is the election you asked for", needs="I01", config=True,
    proves="The manifest hashes to the election id that you gave, the one printed on voters' cards.",
    failure="This is another election, however convincing its record is.",
    remedy="Compare the id with a voter's card, and the contract's address with what the authority published.",
)  # fmt: skip
def election_is_the_one(case: Case) -> Found:
    found = case.manifest.election_id
    if case.election_id is None:
        raise NotApplicable(f"no election id was given: compare {found.hex()} with the one printed on voters' cards")
    faults = (
        [Fault(0, f"the manifest's id is {found.hex()}, not {case.election_id.hex()}")]
        if found != case.election_id
        else []
    )
    return Found(faults, found.hex())


@check(
    "A03", "The board was created as the manifest says", needs="I01 A01", config=True,
    proves="The board's constructor was given this manifest, and its roles, time windows, thresholds, stations and chain are the manifest's.",
    failure="The contract enforces other roles or times than those that were published.",
    remedy="Compare the manifest with the constructor's arguments; the difference is named.",
)  # fmt: skip
def board_is_the_manifests(case: Case) -> Found:
    manifest = case.manifest
    body, roles, setup = parse_creation(case.claims.creation)
    right_roles, right_setup = constructor_arguments(manifest)
    pairs = {
        "manifest": (body, manifest.body),
        "roles": (roles, right_roles),
        "chain_id": (case.claims.chain_id, manifest.chain_id),
    }
    pairs |= {name: (getattr(setup, name), getattr(right_setup, name)) for name in setup._fields}
    return Found(
        [Fault(0, f"the board's {name} is not the manifest's") for name, (a, b) in pairs.items() if a != b],
        ", ".join(pairs),
    )


@check(
    "A04", "Every record is from a role that may append it", needs="I01", config=True,
    proves="Ballots come from relayers, keys and decryptions from trustees, and so on, as the manifest names them.",
    failure="Somebody appended what is not theirs to append; the published contract would have refused it.",
    remedy="See A01: either the contract is another, or the source lies.",
)  # fmt: skip
def roles_are_right(case: Case) -> Found:
    roles, faults = case.manifest.roles, []
    for item in case.log.order:
        kind, index = (Kind.BALLOT, item.role) if isinstance(item, Run) else (item.kind, item.entry.role)
        expected, wrong = _reserved(kind), ""
        if expected is not None:
            if index != expected:
                wrong = f"a {_kind(kind)} record from role {index}, expected {expected}"
        elif index >= len(roles):
            wrong = f"from role {index}; the manifest has {len(roles)}"
        else:
            wanted = RoleKind.RELAYER if kind == Kind.BALLOT else SIGNER.get(Kind(kind)) if kind in SIGNER else None
            if wanted and roles[index].kind != wanted:
                wrong = f"a {_kind(kind)} record from a {roles[index].kind.text}, expected a {wanted.text}"
        if wrong:
            faults += [Fault(position, wrong) for position in positions(item)]
    return Found(faults, f"{len(roles)} roles")


def _reserved(kind: int) -> int | None:
    """The reserved role index of the kinds that no role appends, None for the others."""
    if kind in (Kind.CHECK_IN, Kind.STATION_HASH):
        return STATION_OFFICERS
    return ANYONE if kind in (Kind.MANIFEST, Kind.STATION_RESULT, Kind.CLOSE, Kind.SETTLEMENT) else None


@check(
    "A05", "Every role's signature is right", needs="I01 C01 A04", config=True,
    proves="Each record of a role carries that role's EIP-712 signature over this board, its kind, its body and the signer's next number;"
    " roll changes and decisions a cosigner's too, and where the chain has ballots' hashes only, the settlement those of enough data holders. So no record of a role can be forged, moved to another board or repeated.",
    failure="A record was forged or changed after it was signed, one is missing in between, or one was repeated.",
    remedy="Ask the role whether it signed this record. If not, the record is forged and the source lies.",
)  # fmt: skip
def roles_signed(case: Case) -> Found:
    roles, faults, count = case.manifest.roles, [], 0
    cosigners = case.manifest.roles_of(RoleKind.COSIGNER)
    numbers = dict.fromkeys(range(len(roles)), 0)
    for record in case.log.others:
        if record.kind == Kind.SETTLEMENT and case.manifest.body_mode == "hash":
            faults += _settlement_faults(case, record)
            for holder in _holders_signed(case, record):
                if holder is not None:
                    numbers[holder] += 1
                    count += 1
        if record.kind not in SIGNER and record.kind != Kind.COMPLAINT:
            continue
        parts = [record.signatures[i : i + SIGNATURE] for i in range(0, len(record.signatures), SIGNATURE)]
        if len(parts) != (2 if record.kind in COSIGNED else 1):
            faults.append(Fault(record.position, f"carries {len(parts)} signatures"))
            continue
        count += len(parts)
        index = record.entry.role
        if record.number != numbers[index]:
            faults.append(
                Fault(record.position, f"is number {record.number} of {roles[index].name}, expected {numbers[index]}")
            )
        numbers[index] = record.number + 1
        if _signer(case, record, record.number, parts[0]) != roles[index].address:
            faults.append(Fault(record.position, f"the signature is not that of {roles[index].name} (role {index})"))
        if record.kind in COSIGNED:
            second = next(
                (c for c in cosigners if _signer(case, record, numbers[c], parts[1]) == roles[c].address), None
            )
            if second is None:
                faults.append(Fault(record.position, "the second signature is no cosigner's"))
            else:
                numbers[second] += 1
    return Found(faults, f"{count} signatures")


def _settlement_faults(case: Case, record: LogRecord) -> list[Fault]:
    """What is wrong with a settlement's signatures in hash mode: of enough data holders, in the order of the roles, with nothing left over."""
    signed, needed = _holders_signed(case, record), case.manifest.data_holder_threshold
    if None in signed:
        return [Fault(record.position, "a signature of the settlement is no data holder's")]
    roles = [role for role in signed if role is not None]
    if roles != sorted(set(roles)) or len(roles) < needed:
        return [
            Fault(
                record.position,
                f"is signed by {len(set(roles))} data holders, in the order of their roles by {needed} or more",
            )
        ]
    return []


def _holders_signed(case: Case, record: LogRecord) -> list[int | None]:
    """Per signature of a settlement the role of the data holder whose it is. Before it a data holder signs complaints and nothing else."""
    roles, holders = case.manifest.roles, case.manifest.roles_of(RoleKind.DATA_HOLDER)
    numbers = Counter(
        other.entry.role
        for other in case.log.others
        if other.kind == Kind.COMPLAINT and other.position < record.position
    )
    parts = [record.signatures[i : i + SIGNATURE] for i in range(0, len(record.signatures), SIGNATURE)]
    return [
        next((h for h in holders if _signer(case, record, numbers[h], part) == roles[h].address), None)
        for part in parts
    ]


@check(
    "A06", "Two officers signed every station record", needs="I04 C01",
    proves="Every check-in batch and every result hash is signed by two different officers of that station, as listed in the manifest's stations.",
    failure="A station's record was forged, or signed by one person alone or by somebody of another station.",
    remedy="Ask the station's officers. The paper behind the record is with them.",
)  # fmt: skip
def officers_signed(case: Case) -> Found:
    stations, faults, count = case.places[1], [], 0
    for record in case.records:
        if record.kind not in (Kind.CHECK_IN, Kind.STATION_HASH) or record.body is None:
            continue
        count += 1
        station, number = _station_number(record)
        if station >= len(stations):
            faults.append(Fault(record.position, f"there is no station {station}"))
            continue
        signers = {
            _signer(case, record, number, record.signatures[i : i + SIGNATURE])
            for i in range(0, len(record.signatures), SIGNATURE)
        }
        if (
            record.number != number
            or len(record.signatures) != 2 * SIGNATURE
            or len(signers & set(stations[station].officers)) != 2
        ):
            faults.append(
                Fault(record.position, f"is not signed, as number {number}, by two officers of station {station}")
            )
    if not count:
        raise NotApplicable("there are no station records")
    return Found(faults, f"{count} records")


# ---------------------------------------------------------------- consistency


@check(
    "K01", "Every record is in its phase and time window", needs="I01 C01", config=True,
    proves="Replaying the log, every record stands in the phase and between the times that the manifest gives to its kind, with extensions of the"
    " poll taken into account, and time never runs backwards.",
    failure="Something was appended too early, too late, or in the wrong order; the published contract would have refused it.",
    remedy="See A01. Compare block times with another node.",
)  # fmt: skip
def in_time(case: Case) -> Found:
    order = case.log.order
    faults = [Fault(position, why) for position, why in windows.out_of_place(case.manifest, order)]
    return Found(faults, f"from {windows.time_of(order[0])} to {windows.time_of(order[-1])}")


@check(
    "K02", "Opening, closing and settlement name the log before them", needs="C01 I01", config=True,
    proves="The open, close and settlement records each hold the size and root of the log just before them, so they fix what came before.",
    failure="Records were added, removed or changed before that point after it was recorded.",
    remedy="Compare the log with another node's, or with an earlier copy: they differ before the position named.",
)  # fmt: skip
def heads_are_named(case: Case) -> Found:
    heads = [r for r in case.records if r.kind in (Kind.OPEN, Kind.CLOSE, Kind.SETTLEMENT)]
    if not heads:
        raise NotApplicable("the poll is not open yet")
    roots = case.roots(r.position for r in heads)
    faults = [
        Fault(r.position, f"the {_kind(r.kind)} record names another log than the {r.position} records before it")
        for r in heads
        if (r.body or b"")[:40] != LogHead(r.position, roots[r.position]).body()
    ]
    return Found(faults, ", ".join(f"{_kind(r.kind)} at {r.position}" for r in heads))


@check(
    "K03", "Stations' records follow each other", needs="C01 I01",
    proves="Each station's check-in batches are numbered from 0 and its results from 1 without a gap; each revealed document is the one whose hash was"
    " signed, for that station and revision, and is revealed once; after the embargo a result is amended only once it is revealed.",
    failure="A station's record is missing or was repeated, or a document was revealed that nobody signed for that station.",
    remedy="Ask the station for its journal; compare with another node.",
)  # fmt: skip
def stations_in_order(case: Case) -> Found:
    faults, count = [], 0
    batches: dict[int, int] = {}
    revisions: dict[int, int] = {}
    signed: dict[bytes, StationHash] = {}
    last: dict[int, bytes] = {}
    revealed: set[bytes] = set()
    for record in case.log.others:
        if record.kind not in (Kind.CHECK_IN, Kind.STATION_HASH, Kind.STATION_RESULT) or record.body is None:
            continue
        if record.position in case.malformed and record.kind != Kind.STATION_RESULT:
            continue
        count += 1
        if record.kind == Kind.STATION_RESULT:
            # The board goes by a document's hash alone, so a void one is revealed too.
            found, document = signed.get(record.entry.body_hash), case.documents.get(record.entry.body_hash)
            if found is None:
                faults.append(Fault(record.position, "this document's hash was never recorded"))
            elif document and (document.station, document.revision) != (found.station, found.revision):
                faults.append(
                    Fault(
                        record.position,
                        f"says it is of station {document.station}, but was signed for station {found.station}",
                    )
                )
            if record.entry.body_hash in revealed:
                faults.append(Fault(record.position, "was revealed before"))
            revealed.add(record.entry.body_hash)
            continue
        station, number = _station_number(record)
        series, start = (batches, 0) if record.kind == Kind.CHECK_IN else (revisions, 1)
        if number != series.get(station, start):
            faults.append(
                Fault(
                    record.position,
                    f"is {_kind(record.kind)} {number} of station {station}, expected {series.get(station, start)}",
                )
            )
        series[station] = number + 1
        if record.kind == Kind.STATION_HASH:
            found = StationHash.parse(record.body)
            if found.document in signed:
                faults.append(Fault(record.position, "this document's hash is recorded already"))
            amended = last.get(station)
            if amended and amended not in revealed and record.entry.time >= case.manifest.windows.reveal_not_before:
                faults.append(
                    Fault(record.position, "amends a result that is not revealed, though the embargo is over")
                )
            signed[found.document], last[station] = found, found.document
    if not count:
        raise NotApplicable("there are no station records")
    return Found(faults, f"{count} records")


@check(
    "K04", "The result counts the right ballots", needs="C05 E02",
    proves="Applying the rules to the log up to the settlement gives the very set of counted ballots whose root the result record names: one ballot a"
    " voter, duplicates, earlier votes, revoked rows and votes replaced by paper left out.",
    failure="A ballot was counted that should not be, or left out that should be. The announced result is not that of the record.",
    remedy="The statuses per ballot are public; compare the board's list with this verifier's to find the ballot.",
)  # fmt: skip
def counted_set_is_right(case: Case) -> Found:
    expected = case.recounted
    position = election.only(case.records, Kind.RESULT).position
    wrong = [name for name in expected if case.announced["counted_set"].get(name) != expected[name]]
    faults = [
        Fault(
            position,
            f"{name} of the counted set is {case.announced['counted_set'].get(name)}, recomputed {expected[name]}",
        )
        for name in wrong
    ]
    tallied = case.counted.tally()
    note = ", ".join(f"{number} {status.text}" for status, number in tallied.items() if number) or "no ballots"
    return Found(faults, f"{note}; root {expected['root']}")


@check(
    "K05", "The groups and encrypted sums are right", needs="C05 E02",
    proves="Adding up the counted ballots of each group of units, still encrypted, gives the sums that are to be decrypted; the result names the same"
    " groups with the same numbers of ballots, none smaller than the manifest allows where there is a choice.",
    failure="The announced result groups the ballots otherwise than the rules say: votes may be missing, or a group may be small enough to expose voters.",
    remedy="Compare the groups of the result record with those of this verifier.",
)  # fmt: skip
def sums_are_right(case: Case) -> Found:
    expected = [[group.ballots for group in groups] for groups in case.settled.groups]
    announced = [_group_ballots(contest) for contest in case.announced["online"]]
    position = election.only(case.records, Kind.RESULT).position
    contests = case.manifest.contests
    faults = (
        [Fault(position, f"has {len(announced)} contests, the manifest {len(expected)}")]
        if len(announced) != len(expected)
        else []
    )
    faults += [
        Fault(position, f"contest {contests[i].id}: groups of {b} ballots, recomputed {a}")
        for i, (a, b) in enumerate(zip(expected, announced, strict=False))
        if a != b
    ]
    return Found(faults, f"{sum(map(len, expected))} groups in {len(expected)} contests")


def _group_ballots(contest: Any) -> list[Any]:
    """Ballots per group of one member of `online`, as announced; what is not of that shape equals nothing."""
    try:
        return [group["ballots"] for group in contest["groups"]]
    except (TypeError, KeyError):
        return []


@check(
    "K06", "The online totals are right", needs="K05 E03",
    proves="The totals in the result record are the ones that the trustees' proven decryptions give.",
    failure="The announced online totals are not those of the encrypted ballots.",
    remedy="The right totals are in this report. The authority signed others: ask it to explain.",
)  # fmt: skip
def online_totals_are_right(case: Case) -> Found:
    return _announced(case, "online")


@check(
    "K07", "The paper totals are right", needs="C05 E01 I05",
    proves="The paper totals in the result record are the sums of the stations' last revealed documents that add up.",
    failure="The announced paper totals are not the sum of what the stations signed.",
    remedy="Add up the stations' sheets: the right sums are in this report.",
)  # fmt: skip
def paper_totals_are_right(case: Case) -> Found:
    return _compare(case, "paper", paper.paper_totals(case.manifest, list(case.station_results[0].values())))


@check(
    "K08", "The result record is the one right one", needs="K04 K05 K06 K07",
    proves="The result record is, byte for byte, what this verifier would have written: totals of online and paper together, and the settlement it is for.",
    failure="Something in the announced result is not what the record gives, though each part by itself is right.",
    remedy="Compare the two documents; the members that differ are named.",
)  # fmt: skip
def result_is_right(case: Case) -> Found:
    record = election.only(case.records, Kind.RESULT)
    right = case.recomputed
    differ = [name for name in right if case.announced.get(name) != right[name]]
    faults = [
        Fault(record.position, f"{name} is {case.announced.get(name)}, recomputed {right[name]}") for name in differ
    ]
    if record.body != canonical_json(right) and not faults:
        faults = [Fault(record.position, "is not the recomputed result")]
    return Found(faults, f"SHA-256 {record.entry.body_hash.hex()}")


@check(
    "K09", "Papers issued are voters checked in", needs="C06 I06 K03 E02",
    proves="At every station as many voters were checked in on the record as papers were issued, so nobody put in papers without a voter,"
    " and nobody's online vote was cancelled without a paper.",
    failure="A station issued more or fewer papers than voters it checked in, or checked voters in and reported nothing.",
    remedy="Compare the station's list of voters with its stack of papers. The check-ins that cancelled online votes are on the record.",
)  # fmt: skip
def check_ins_match(case: Case) -> Found:
    counted, standing = case.settled.counted, case.station_results[0]
    if case.manifest.practice:
        raise NotApplicable("a practice election has no check-ins")
    stations, faults = sorted({*counted.check_ins, *standing}), []
    for number in stations:
        found = counted.check_ins.get(number, 0)
        issued = standing[number].issued if number in standing else None
        if issued != found:
            position = case.position_of(standing[number].body()) if number in standing else None
            faults.append(
                Fault(
                    position,
                    f"station {number}: {found} valid check-ins, {'no result' if issued is None else f'{issued} papers issued'}",
                )
            )
    if not stations:
        raise NotApplicable("no station issued papers")
    double = [f"row {c.roll_index} checked in twice" for c in counted.conflicts] + [
        f"void check-in of row {row} in record {position}" for position, row in counted.void_check_ins
    ]
    facts = [c.second for c in counted.conflicts] + [position for position, _ in counted.void_check_ins]
    return Found(faults, "; ".join([f"{len(stations)} stations", *double[:MOST_SENTENCES]]), facts)


@check(
    "K10", "The setup is the one that was verified before", needs="C01 I01",
    proves="The report of `verify config` that you gave is about this board, and the log extends the one that it saw: the setup that was verified"
    " before the poll is the setup of this election.",
    failure="Another setup was shown before the poll than the one that the election was held with: the log was exchanged since.",
    remedy="Keep the earlier report: it names the head of the log then. Compare with others who ran `verify config`.",
)  # fmt: skip
def setup_is_the_verified_one(case: Case) -> Found:
    if case.setup_report is None:
        raise NotApplicable("no report of an earlier `verify config` was given")
    seen = read_setup_report(case.setup_report)
    here = (case.manifest.election_id.hex(), case.claims.chain_id, case.claims.contract.hex())
    if seen.board != here:
        return Found(
            [Fault(None, f"the report {seen.name} is about election {seen.board[0]}, contract 0x{seen.board[2]}")]
        )
    if case.roots([seen.head.size]).get(seen.head.size) != seen.head.root:
        why = f"the log does not extend the {seen.head.size} records under {seen.head.root.hex()} of the report {seen.name}"
        return Found([Fault(None, why)])
    return Found([], f"report {seen.name}, of the log's first {seen.head.size} records")


# ---------------------------------------------------------------- integrity


@check(
    "I01", "The manifest is well formed", config=True,
    proves="Record 0 is a manifest in canonical form that does not contradict itself.",
    failure="There is no election here that could be verified.",
    remedy="Check the contract's address.",
)  # fmt: skip
def manifest_is_well_formed(case: Case) -> Found:
    try:
        manifest = case.manifest
    except BallotboardError as error:
        return Found([Fault(0, str(error))])
    return Found([], f"{manifest.name}: {len(manifest.contests)} contests, {len(manifest.roles)} roles")


@check(
    "I02", "The tree is the log", needs="C01", config=True,
    proves="Each record's entry holds the hash of its body, and the Merkle tree rebuilt from the entries has the very root that the board announced"
    " with each record and holds as its head.",
    failure="A record was changed, left out, added or moved after the board had taken it in.",
    remedy="Compare with another node; the first position named is where the two logs part.",
)  # fmt: skip
def tree_is_the_log(case: Case) -> Found:
    claims, total = case.claims, case.log.size
    faults = [Fault(position, "the body is not the one whose hash is in the log") for position in case.log.mismatched]
    sizes = [size for size, _ in claims.roots]
    rebuilt = case.roots([*sizes, total])
    faults += [
        Fault(
            size - 1,
            f"the board announced root {root.hex()}, rebuilt {rebuilt[size].hex() if size in rebuilt else 'none'}",
        )
        for size, root in claims.roots
        if rebuilt.get(size) != root
    ]
    if sizes != sorted(set(sizes)) or sizes[-1:] != [total]:
        faults.append(Fault(None, "the announced roots do not lead, step by step, to the last record"))
    head = LogHead(total, rebuilt[total])
    if claims.head != head:
        faults.append(
            Fault(
                None,
                f"the board's head is {claims.head.size}, {claims.head.root.hex()}; rebuilt {head.size}, {head.root.hex()}",
            )
        )
    return Found(faults, f"{len(sizes)} roots; head {head.size}, {head.root.hex()}")


LAID_OUT_BY_THE_BOARD = (
    Kind.MANIFEST,
    Kind.OPEN,
    Kind.CHECK_IN,
    Kind.STATION_HASH,
    Kind.CLOSE,
    Kind.SETTLEMENT,
    Kind.REPORT,
)
"""Kinds whose layout the contract itself enforces, so that another one shows that it was not this contract."""


@check(
    "I03", "Every record has a known form", needs="I01", config=True,
    proves="Every record has a known kind and 1 to 65,535 bytes, and every record that the board itself lays out is in that layout. Other records that are"
    " not in their kind's one canonical form are void, as if they were not there; they are listed.",
    failure="The board has taken in what the published contract refuses.",
    remedy="See A01. A void record is signed: ask who signed it.",
)  # fmt: skip
def records_are_well_formed(case: Case) -> Found:
    void = {
        record.position for record in case.log.others
        if record.position in case.malformed and record.kind in set(Kind) - {Kind.BALLOT, *LAID_OUT_BY_THE_BOARD} and len(record.body or b"") in range(1, MAX_BODY + 1)
    }  # fmt: skip
    faults = [Fault(position, why) for position, why in case.malformed.items() if position not in void]
    listed = [f"record {position} is void: {case.malformed[position]}" for position in sorted(void)]
    return Found(faults, "; ".join([f"{case.log.size} records", *listed[:MOST_SENTENCES]]), sorted(void))


@check(
    "I04", "Units and stations are well formed", needs="I01 C03", config=True,
    proves="The files of units and stations have the roots and counts in the manifest; the units are one tree, each place where people vote has a ballot"
    " style, each station is in such a place and has at least two officers.",
    failure="Voters or stations cannot be placed; ballots could be counted for the wrong place.",
    remedy="The manifest is fixed: the election must be set up again.",
)  # fmt: skip
def places_are_well_formed(case: Case) -> Found:
    units, stations = case.places
    return Found([], f"{len(units)} units, {len(stations)} stations")


@check(
    "I05", "The electoral roll is well formed", needs="C04 I04", config=True,
    proves="The roll has the root, the count and the counts per unit on the record; its rows ascend strictly, so no credential is there twice and an index"
    " says nothing about a person; each is a valid key in a unit where people vote.",
    failure="The roll on the record is not the one that was published, holds a credential twice, or a row that cannot vote.",
    remedy="Compare the counts per unit with the official register. The roll must be made again.",
)  # fmt: skip
def roll_is_well_formed(case: Case) -> Found:
    case.roll.check(engine.are_points)
    return Found([], f"{len(case.roll)} rows in {len(case.roll.unit_counts())} units")


@check(
    "I06", "Stations' sums add up", needs="K03 E01 I05 C05",
    proves="In each station's last result papers issued = counted + spoiled + unreturned, and in each contest the counts, blank and invalid papers agree"
    " with the papers counted.",
    failure="A station's sheet contradicts itself: a slip of the pen, or papers added or lost. It is not counted.",
    remedy="The station must recount and amend its result with a reason.",
)  # fmt: skip
def stations_add_up(case: Case) -> Found:
    standing, missing = case.station_results
    last = [
        *standing.values(),
        *(case.documents[found.document] for found in missing if found.document in case.documents),
    ]
    if not last:
        raise NotApplicable("no station result is revealed")
    units, stations = case.places
    faults = [
        Fault(case.position_of(result.body()), f"station {result.station}: {wrong}")
        for result in last
        for wrong in paper.arithmetic(result, case.manifest, stations, units)
    ]
    return Found(faults, f"{len(last)} results")


# ---------------------------------------------------------------- evidence


@check(
    "E01", "The key was made by all trustees together", needs="I01 C04", config=True,
    proves="One complete ceremony stands: all trustees committed before any opened, proved that they know their parts, dealt shares, and confirmed the"
    " same key. The election key and the key of each share are recomputed from their messages.",
    failure="The key may be known to fewer people than the threshold, or to nobody.",
    remedy="The ceremony must be repeated by all trustees before the poll opens. Who is at fault is named.",
)  # fmt: skip
def ceremony_is_complete(case: Case) -> Found:
    try:
        attempt, joint = case.joint
    except ceremony.CeremonyVoid as void:
        roles = [case.manifest.trustees[j - 1] for j in void.culprits]
        faults = [
            Fault(r.position, f"is of a trustee at fault: {void}")
            for r in case.of_kind(Kind.CEREMONY)
            if r.entry.role in roles
        ]
        return Found(faults or [Fault(None, str(void))])
    messages = election.ceremony_messages(case.manifest, case.setup)
    read = {body for rounds in messages.values() for bodies in rounds for body in bodies}
    ignored = [r.position for r in case.of_kind(Kind.CEREMONY) if r.body not in read]
    note = f"{case.manifest.trustee_threshold} of {len(joint.share_keys)}, attempt {attempt}; key {joint.key.hex()}"
    return Found(
        [], note + (f"; {len(ignored)} later or misattributed messages are ignored" if ignored else ""), ignored
    )


@check(
    "E02", "Only valid ballots count", needs="C01 C02 C05 I04 I05 E01 K02",
    proves="The proofs and the signature of every ballot on the record were verified: each counted one is a well-formed, encrypted vote for what its voter may"
    " vote on, made and signed with a credential of the roll, for this election alone. Invalid ballots are listed; they change nothing.",
    failure="The result counts a ballot whose proofs or signature are wrong: it may hold any number of votes, or be nobody's.",
    remedy="The positions are named. No valid result counts them: the authority must say why it did.",
)  # fmt: skip
def ballots_are_valid(case: Case) -> Found:
    counted = case.settled.counted
    rows = [case.counted.row(number) for number in case.counted.of_status(Status.INVALID)]
    invalid = {row.position: Reason(row.reference) for row in rows}
    blindly = bool(invalid) and _is_result_without_proofs(case)
    faults = [
        Fault(position, f"{reason.text}, yet the result takes this ballot for valid")
        for position, reason in invalid.items()
        if blindly
    ]
    named = [f"{position} ({reason.text})" for position, reason in sorted(invalid.items())]
    most = ", ".join(named[:MOST_SENTENCES]) + (" …" if len(named) > MOST_SENTENCES else "")
    note = f"{len(counted.rows)} ballots, {len(invalid)} invalid" + (f": {most}" if named else "")
    refused = [f"roll change {position}: {why}" for position, why in case.settled.roll_state.refused]
    return Found(faults, "; ".join([note, *refused]), sorted(invalid))


def _is_result_without_proofs(case: Case) -> bool:
    """True where the announced counted set is just the one that comes out when no proof is looked at."""
    blind = case.count_with(bytes(case.votes))
    announced = case.announced["counted_set"].get("root")
    return announced == blind.root().hex() != case.recounted["root"]


@check(
    "E03", "Enough trustees decrypted, with proofs", needs="E02",
    proves="For every group of every contest at least the threshold of trustees published a decryption with a valid proof that it was made with the share that"
    " the ceremony gave them, for this settlement. Wrong ones are named and ignored.",
    failure="The totals cannot be decrypted from the record, or were decrypted for another set of ballots.",
    remedy="The trustees named must publish right decryptions. If theirs are for another settlement, the log was changed after they decrypted.",
)  # fmt: skip
def decryptions_are_proven(case: Case) -> Found:
    try:
        wrong = case.tally.faults
    except TooFewShares as error:
        _, wrong = election.valid_shares(case.settled, case.records)
        return Found([Fault(None, str(error)), *(Fault(position, why) for position, why in wrong)])
    ignored = [f"record {position} is ignored: {why}" for position, why in wrong]
    threshold = case.manifest.trustee_threshold
    return Found(
        [],
        "; ".join([f"at least {threshold} in every group", *ignored[:MOST_SENTENCES]]),
        sorted({p for p, _ in wrong}),
    )


@check(
    "E04", "The validators signed for this log", needs="I01", config=True,
    proves="More than two thirds of the validators' power in the manifest signed the block in which the board has this head.",
    failure="The log may be one that a single node made up.",
    remedy="Read from a node of the validators' network, and compare the head with other observers'.",
)  # fmt: skip
def consensus_is_proven(case: Case) -> Found:
    if case.manifest.engine == "anvil":
        raise NotApplicable("anvil: one process, no consensus evidence")
    claims = case.claims
    if not claims.evidence:
        return Found([Fault(None, "no evidence was given: name a validator with --comet, or a file with --evidence")])
    try:
        proven = evidence.verify(claims.evidence, case.manifest, claims.contract)
    except BallotboardError as error:
        return Found([Fault(None, str(error))])
    faults = []
    if proven.head.size != case.log.size:
        faults.append(
            Fault(
                None,
                f"the validators signed for a log of {proven.head.size} records, and this one has {case.log.size}",
            )
        )
    elif proven.head.root != case.roots([proven.head.size])[proven.head.size]:
        faults.append(
            Fault(None, f"the validators signed for the root {proven.head.root.hex()}, which is not this log's")
        )
    return Found(faults, f"power {proven.signed_power} of {proven.total_power} signed block {proven.block}")


@check(
    "E05", "Other verifiers certified the same", needs="K04",
    proves="The reports that registered verifiers committed to and then revealed are about the state that this verifier has recomputed.",
    failure="Enough verifiers to certify the election certified another state: they, or you, were shown another log.",
    remedy="Compare your log with theirs, position by position. This is what observers are for: tell them.",
)  # fmt: skip
def reports_agree(case: Case) -> Found:
    records = case.of_kind(Kind.REPORT)
    if not records:
        raise NotApplicable("there are no reports")
    faults, committed = [], {}
    last: dict[int, tuple[int, Report]] = {}
    for record in records:
        found = Report.parse(record.body or b"")
        if isinstance(found, bytes):
            committed[record.entry.role] = found
        elif committed.pop(record.entry.role, None) != record.entry.body_hash:
            faults.append(Fault(record.position, "reveals a report that its verifier had not committed to"))
        else:
            last[record.entry.role] = (record.position, found)
    others = [(position, report) for position, report in last.values() if report.good and report.state != case.state]
    if len(others) >= max(1, case.manifest.verifier_threshold):
        faults += [
            Fault(position, f"certifies the state {report.state.hex()}, recomputed {case.state.hex()}")
            for position, report in others
        ]
    same = sum(report.good and report.state == case.state for _, report in last.values())
    bad = [position for position, report in last.values() if not report.good]
    return Found(
        faults, f"{same} good on this state, {len(others)} on another, {len(bad)} bad", [*(p for p, _ in others), *bad]
    )


@check(
    "E06", "Promises were kept", needs="I01 C01",
    proves="Every ballot that a relayer promised, in the file of promises that you gave, is in the log by the time promised, and the log extends the one that"
    " the relayer said it saw.",
    failure="A relayer broke a signed promise, or showed its voter another log. The promise is proof of it.",
    remedy="Give the promise and this report to the authority and to the press.",
)  # fmt: skip
def promises_were_kept(case: Case) -> Found:
    if case.promises is None:
        raise NotApplicable("no file of promises was given")
    promises = case.statements
    first = case.log.find({promise.ballot for promise in promises})
    roots = case.roots(promise.head.size for promise in promises)
    faults = []
    for promise in promises:
        landed = first.get(promise.ballot)
        if landed is None:
            faults.append(
                Fault(None, f"ballot {promise.ballot.hex()} was promised by {promise.by} and is not in the log")
            )
        elif landed[1] > promise.by:
            faults.append(Fault(landed[0], f"was promised by {promise.by} and came at {landed[1]}"))
        if roots.get(promise.head.size) != promise.head.root:
            faults.append(
                Fault(None, f"ballot {promise.ballot.hex()}: the log does not extend the head that was promised on")
            )
    return Found(faults, f"{len(promises)} promises")


# ---------------------------------------------------------------- helpers


def _present(case: Case, *kinds: Kind) -> Found:
    return Found(
        [Fault(None, f"the log holds no {kind.text} record") for kind in kinds if not case.of_kind(kind)],
        ", ".join(k.text for k in kinds),
    )


def _announced(case: Case, member: str) -> Found:
    return _compare(case, member, case.recomputed[member])


def _compare(case: Case, member: str, right: list[Any]) -> Found:
    """The announced and the recomputed list of a member of the result record, contest by contest."""
    position = election.only(case.records, Kind.RESULT).position
    announced, contests = case.announced[member], case.manifest.contests
    faults = [
        Fault(
            position,
            f"contest {contest.id}: {member} is {announced[i] if i < len(announced) else 'missing'}, recomputed {right[i]}",
        )
        for i, contest in enumerate(contests)
        if announced[i : i + 1] != [right[i]]
    ]
    if len(announced) > len(contests):
        faults.append(Fault(position, f"{member} has more contests than the manifest"))
    return Found(
        faults,
        "; ".join(f"{contest.id}: {', '.join(map(str, right[i]['totals']))}" for i, contest in enumerate(contests)),
    )


def _station_number(record: LogRecord) -> tuple[int, int]:
    """(station, batch or revision) of a check-in or result hash."""
    if record.kind == Kind.CHECK_IN:
        batch = CheckIns.parse(record.body or b"")
        return batch.station, batch.batch
    found = StationHash.parse(record.body or b"")
    return found.station, found.revision


def _signer(case: Case, record: LogRecord, number: int, signature: bytes) -> bytes | None:
    """The address that signed, None where the board would refuse the signature."""
    try:
        return recover_record(
            case.claims.chain_id, case.claims.contract, record.kind, record.entry.body_hash, number, signature
        )
    except BadSignature:
        return None


def _kind(kind: int) -> str:
    return Kind(kind).text if kind in set(Kind) else f"kind {kind}"
