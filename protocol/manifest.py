"""The manifest: record 0, what is voted on, by which rules, by whom (docs/protocol.md, section 3).

Its SHA-256 is the election id. A Manifest object is always a checked one: `Manifest.parse` and `Manifest.build`
refuse what contradicts itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

from protocol.attachments import Attachment
from protocol.encoding import canonical_json, members, parse_json, u64, unhex
from protocol.errors import Malformed
from protocol.group import H

FORMAT = "ballotboard/manifest/v1"
MAX_OPTIONS = 100
BLANK = "blank"
"""The text of the blank option: an option like any other for the proof, named so that counts of paper can be joined to it."""


class Rule(IntEnum):
    """Contest rules with their codes in transcripts."""

    ONE_OF_K = 1
    APPROVAL = 2
    UP_TO_L = 3


RULE_NAMES = {"one-of-k": Rule.ONE_OF_K, "approval": Rule.APPROVAL, "up-to-L": Rule.UP_TO_L}


class RoleKind(IntEnum):
    """Role kinds with their codes in the contract."""

    AUTHORITY = 1
    REGISTRAR = 2
    COSIGNER = 3
    TRUSTEE = 4
    RELAYER = 5
    VERIFIER = 6
    DATA_HOLDER = 7

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Contest:
    """One question: its id (in transcripts), title, rule, limit (L, or 0) and option texts."""

    id: str
    title: str
    rule: Rule
    limit: int
    options: tuple[str, ...]

    @property
    def k(self) -> int:
        return len(self.options)

    @property
    def blank(self) -> int | None:
        """The place of the blank option, if there is one."""
        return self.options.index(BLANK) if BLANK in self.options else None

    def value(self) -> dict[str, Any]:
        """The manifest's form; `parse_contest` reads it."""
        names = {rule: name for name, rule in RULE_NAMES.items()}
        return {
            "id": self.id, "title": self.title, "rule": names[self.rule], "limit": self.limit, "options": list(self.options),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Role:
    """A hand that may append: its kind, public name, chain address (20 bytes) and Ed25519 key (32 bytes or empty)."""

    kind: RoleKind
    name: str
    address: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Windows:
    """Times in seconds since 1970-01-01 UTC; `append_grace` is a duration in seconds."""

    open_not_before: int
    close: int
    close_not_after: int
    append_grace: int
    count_not_before: int
    reveal_not_before: int
    settle_not_before: int
    decrypt_not_before: int

    def __post_init__(self) -> None:
        ordered = (
            self.open_not_before < self.close <= self.close_not_after
            and self.close_not_after + self.append_grace <= self.settle_not_before <= self.decrypt_not_before
            and self.count_not_before <= self.reveal_not_before <= self.decrypt_not_before
        )
        if not ordered or min(getattr(self, name) for name in WINDOW_NAMES) < 0 or self.decrypt_not_before >= 2**40:
            raise Malformed(
                "manifest.windows",
                "must satisfy open_not_before < close <= close_not_after, close_not_after + append_grace <= settle_not_before"
                " <= decrypt_not_before, count_not_before <= reveal_not_before <= decrypt_not_before",
            )


WINDOW_NAMES = tuple(Windows.__slots__)


@dataclass(frozen=True, slots=True)
class Validator:
    """A consensus validator: Ed25519 key (32 bytes) and voting power."""

    key: bytes
    power: int


@dataclass(frozen=True)
class Manifest:
    """A parsed and checked manifest. `body` is its canonical bytes."""

    body: bytes
    name: str
    chain_id: int
    engine: str
    code_hash: bytes
    validators: tuple[Validator, ...]
    contests: tuple[Contest, ...]
    styles: tuple[tuple[int, ...], ...]
    units: Attachment
    stations: Attachment
    roles: tuple[Role, ...]
    trustee_threshold: int
    verifier_threshold: int
    data_holder_threshold: int
    windows: Windows
    revote: str
    channel: str
    minimum_ballots: int
    decrypt_level: int
    body_mode: str
    practice: bool
    language: str

    @cached_property
    def election_id(self) -> bytes:
        """SHA-256 of the manifest: printed on voters' cards."""
        return hashlib.sha256(self.body).digest()

    @cached_property
    def trustees(self) -> tuple[int, ...]:
        """Role indices of the trustees; trustee number j (from 1) is `trustees[j − 1]`."""
        return self.roles_of(RoleKind.TRUSTEE)

    def roles_of(self, kind: RoleKind) -> tuple[int, ...]:
        return tuple(index for index, role in enumerate(self.roles) if role.kind == kind)

    def role_index(self, address: bytes) -> int | None:
        return next((index for index, role in enumerate(self.roles) if role.address == address), None)

    def style_contests(self, style: int) -> tuple[Contest, ...]:
        return tuple(self.contests[index] for index in self.styles[style])

    def context(self, contract: bytes, open_leaf: bytes) -> bytes:
        """What every ballot proof and partial decryption is bound to; 64 bytes (docs/protocol.md, section 5)."""
        return H("context", u64(self.chain_id), contract, open_leaf)

    @staticmethod
    def build(value: dict[str, Any]) -> Manifest:
        """A manifest from its JSON value; raises Malformed naming the member that is wrong."""
        return Manifest.parse(canonical_json(value))

    @staticmethod
    def parse(body: bytes) -> Manifest:
        """A manifest from its body; raises Malformed naming the member that is wrong."""
        value = members(
            parse_json(body, "manifest"), "manifest", format=str, name=str, chain=dict, contests=list, styles=list, units=dict,
            stations=dict, roles=list, thresholds=dict, windows=dict, rules=dict, practice=bool, language=str,
        )  # fmt: skip
        if value["format"] != FORMAT:
            raise Malformed("manifest.format", f"expected {FORMAT}")
        chain = members(value["chain"], "manifest.chain", id=int, engine=str, code_hash=str, validators=list)
        if not 0 < chain["id"] < 2**53:
            raise Malformed("manifest.chain.id", "must be a positive integer")
        if chain["engine"] not in ("anvil", "cometbft"):
            raise Malformed("manifest.chain.engine", "must be anvil or cometbft")
        rules = members(
            value["rules"],
            "manifest.rules",
            revote=str,
            channel=str,
            minimum_ballots=int,
            decrypt_level=int,
            body_mode=str,
        )
        _one_of(rules, "revote", "last", "first")
        _one_of(rules, "channel", "paper-precedence", "online-precedence")
        _one_of(rules, "body_mode", "calldata", "hash")
        if rules["minimum_ballots"] < 0 or rules["decrypt_level"] < 0:
            raise Malformed("manifest.rules", "minimum_ballots and decrypt_level are not negative")
        contests = tuple(parse_contest(item, f"manifest.contests[{i}]") for i, item in enumerate(value["contests"]))
        if not contests or len({contest.id for contest in contests}) != len(contests):
            raise Malformed("manifest.contests", "needs at least one contest, with distinct ids")
        styles = tuple(
            parse_style(item, len(contests), f"manifest.styles[{i}]") for i, item in enumerate(value["styles"])
        )
        if not styles:
            raise Malformed("manifest.styles", "needs at least one style")
        _ballots_fit(contests, styles)
        roles = tuple(_role(item, f"manifest.roles[{i}]") for i, item in enumerate(value["roles"]))
        if len(roles) >= 65534 or len({role.address for role in roles}) != len(roles):
            raise Malformed("manifest.roles", "addresses must be distinct: one hand, one role")
        thresholds = members(value["thresholds"], "manifest.thresholds", trustees=int, verifiers=int, data_holders=int)
        _thresholds(thresholds, roles, rules["body_mode"])
        windows = members(value["windows"], "manifest.windows", **dict.fromkeys(WINDOW_NAMES, int))
        return Manifest(
            body=body, name=value["name"], chain_id=chain["id"], engine=chain["engine"],
            code_hash=unhex(chain["code_hash"], 32, "manifest.chain.code_hash"),
            validators=tuple(_validator(item, f"manifest.chain.validators[{i}]") for i, item in enumerate(chain["validators"])),
            contests=contests, styles=styles,
            units=Attachment.parse(value["units"], "manifest.units"), stations=Attachment.parse(value["stations"], "manifest.stations"),
            roles=roles, trustee_threshold=thresholds["trustees"], verifier_threshold=thresholds["verifiers"],
            data_holder_threshold=thresholds["data_holders"], windows=Windows(**windows),
            revote=rules["revote"], channel=rules["channel"], minimum_ballots=rules["minimum_ballots"],
            decrypt_level=rules["decrypt_level"], body_mode=rules["body_mode"], practice=value["practice"], language=value["language"],
        )  # fmt: skip


def _one_of(rules: dict[str, Any], name: str, *allowed: str) -> None:
    if rules[name] not in allowed:
        raise Malformed(f"manifest.rules.{name}", f"must be {' or '.join(allowed)}")


def parse_contest(value: Any, field: str) -> Contest:
    """A contest in the manifest's form; raises Malformed naming the member that is wrong."""
    members(value, field, id=str, title=str, rule=str, limit=int, options=list)
    if value["rule"] not in RULE_NAMES:
        raise Malformed(f"{field}.rule", f"must be one of {', '.join(RULE_NAMES)}")
    if not value["id"] or not all(isinstance(option, str) and option for option in value["options"]):
        raise Malformed(field, "id and options are non-empty texts")
    options = tuple(value["options"])
    if not 2 <= len(options) <= MAX_OPTIONS or len(set(options)) != len(options):
        raise Malformed(f"{field}.options", f"needs 2 to {MAX_OPTIONS} distinct options")
    rule = RULE_NAMES[value["rule"]]
    if rule == Rule.UP_TO_L and not 1 <= value["limit"] < len(options):
        raise Malformed(f"{field}.limit", "must be at least 1 and below the number of options")
    if rule != Rule.UP_TO_L and value["limit"] != 0:
        raise Malformed(f"{field}.limit", "must be 0 for this rule")
    return Contest(value["id"], value["title"], rule, value["limit"], options)


def parse_style(value: Any, contests: int, field: str) -> tuple[int, ...]:
    """A style, over so many contests; raises Malformed."""
    ok = isinstance(value, list) and value and all(type(i) is int and 0 <= i < contests for i in value)
    if not ok or len(set(value)) != len(value):
        raise Malformed(field, "must list distinct contest indices, at least one")
    return tuple(value)


def _ballots_fit(contests: tuple[Contest, ...], styles: tuple[tuple[int, ...], ...]) -> None:
    from protocol.ballot import MAX_BALLOT, ballot_size  # which is about contests, so it imports this module

    for number, style in enumerate(styles):
        if ballot_size([contests[index] for index in style]) > MAX_BALLOT:
            raise Malformed(
                f"manifest.styles[{number}]", f"its ballot is longer than {MAX_BALLOT} bytes: split the contests"
            )


def _role(value: Any, field: str) -> Role:
    members(value, field, kind=str, name=str, address=str, key=str)
    kinds = {kind.text: kind for kind in RoleKind}
    if value["kind"] not in kinds:
        raise Malformed(f"{field}.kind", f"must be one of {', '.join(kinds)}")
    kind = kinds[value["kind"]]
    needs_key = kind in (RoleKind.RELAYER, RoleKind.DATA_HOLDER)
    key = unhex(value["key"], 32, f"{field}.key") if value["key"] or needs_key else b""
    address = unhex(value["address"], 20, f"{field}.address")
    if address == bytes(20):
        raise Malformed(f"{field}.address", "must not be zero")
    return Role(kind, value["name"], address, key)


def _validator(value: Any, field: str) -> Validator:
    members(value, field, key=str, power=int)
    if value["power"] <= 0:
        raise Malformed(f"{field}.power", "must be positive")
    return Validator(unhex(value["key"], 32, f"{field}.key"), value["power"])


def _thresholds(value: dict[str, int], roles: tuple[Role, ...], body_mode: str) -> None:
    count = {kind: sum(role.kind == kind for role in roles) for kind in RoleKind}
    for kind in (RoleKind.AUTHORITY, RoleKind.REGISTRAR, RoleKind.TRUSTEE, RoleKind.RELAYER):
        if not count[kind]:
            raise Malformed("manifest.roles", f"needs at least one {kind.text}")
    if not 1 <= value["trustees"] <= count[RoleKind.TRUSTEE]:
        raise Malformed("manifest.thresholds.trustees", "must be between 1 and the number of trustees")
    if not 0 <= value["verifiers"] <= count[RoleKind.VERIFIER]:
        raise Malformed("manifest.thresholds.verifiers", "must be between 0 and the number of verifiers")
    if not (body_mode == "hash") <= value["data_holders"] <= count[RoleKind.DATA_HOLDER]:
        raise Malformed(
            "manifest.thresholds.data_holders", "must be between 0 (1 in hash mode) and the number of data holders"
        )
