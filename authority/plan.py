"""A new election from a few answers: its election.toml and, for trying out on one machine, a key file for everyone.

In a real election everybody runs `ballotboard keys new` on a machine of their own and sends only the address; a folder with all keys is
a folder whose owner can do everything.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from authority.config import CONFIG_FILE, STYLE, new_config, parse_config, print_duration
from chain.keys import new_account
from protocol.attachments import Station, Unit
from protocol.election import Progress
from protocol.encoding import u32
from protocol.errors import BallotboardError
from protocol.manifest import RULE_NAMES, Contest, Role, RoleKind
from relayer import keys as relayer_keys
from rollup.tree import read_tree

KEYS_FOLDER = "keys"

OFFICERS = 2
"""Key files made for a station: as many as must sign."""

APPEND_GRACE = 20
"""Seconds between the close and the last append in a trial: many times a relayer's longest wait for a batch."""

SETTLE_DELAY = 60
"""Seconds between the close and the settlement in a trial: until then a station can bring its check-ins."""


@dataclass(frozen=True)
class Plan:
    """What `election new` asks for. The rest is defaults, to be changed in the file.

    `units` are right under the whole; `units_file` has a tree of any depth instead (rollup/tree.py). `setup_minutes` is what the ceremony and the roll may take after publication, so that the poll is open for `voting_minutes` at least.
    """

    name: str
    title: str
    options: tuple[str, ...]
    rule: str = "one-of-k"
    limit: int = 0
    units: tuple[str, ...] = ()
    units_file: Path | None = None
    trustees: int = 3
    threshold: int = 2
    relayers: int = 1
    verifiers: int = 1
    stations: int = 1
    setup_minutes: int = 5
    voting_minutes: int = 5
    practice: bool = False

    def role_names(self) -> list[tuple[RoleKind, str]]:
        """(kind, name) of all roles, in the manifest's order."""
        several = (
            (RoleKind.TRUSTEE, self.trustees),
            (RoleKind.RELAYER, self.relayers),
            (RoleKind.VERIFIER, self.verifiers),
        )
        return [
            *((kind, kind.text) for kind in (RoleKind.AUTHORITY, RoleKind.REGISTRAR, RoleKind.COSIGNER)),
            *((kind, f"{kind.text}-{number}") for kind, count in several for number in range(1, count + 1)),
        ]

    def officer_names(self, station: int) -> list[str]:
        """Names of a station's officers; stations count from 0, as on the record."""
        return [f"station-{station}-officer-{number}" for number in range(1, OFFICERS + 1)]

    def all_officers(self) -> list[str]:
        return [name for station in range(self.stations) for name in self.officer_names(station)]

    def windows(self) -> dict[str, str]:
        """All windows, relative to publication: counting and reveal from the close on, then settlement and decryption."""
        end = 60 * (self.setup_minutes + self.voting_minutes)
        close, settle = f"+{print_duration(end)}", f"+{print_duration(end + SETTLE_DELAY)}"
        return {
            "open_not_before": "+0s", "close": close, "close_not_after": close, "append_grace": print_duration(APPEND_GRACE),
            "count_not_before": close, "reveal_not_before": close, "settle_not_before": settle, "decrypt_not_before": settle,
        }  # fmt: skip


Hand = tuple[bytes, bytes]
"""What the manifest says of a key holder: address (20 bytes), and Ed25519 key (32 bytes, or empty)."""

NOBODY: Hand = (bytes(20), b"")


def new_election(folder: Path, plan: Plan, passphrase: str | None = None, progress: Progress | None = None) -> Path:
    """Write election.toml into `folder` and, with a passphrase, keys for everyone; gives the file's path.

    Keys are `keys/NAME.json` for every role and officer, and for a relayer the folder `keys/NAME`, as `ballotboard relayer run --dir` takes it. Without a passphrase no key is made, and addresses are left empty for people to send. Raises BallotboardError where there is an election already.
    """
    path, keys = folder / CONFIG_FILE, folder / KEYS_FOLDER
    if path.exists() or keys.exists():
        raise BallotboardError(f"there is an election in {folder} already: choose another folder")
    if passphrase == "":
        raise BallotboardError("the passphrase is empty: choose one of several words")
    # What is wrong with the plan shows before anything is written.
    names = [name for _, name in plan.role_names()] + plan.all_officers()
    parse_config(
        config_text(plan, {name: (bytes(16) + u32(number), bytes(32)) for number, name in enumerate(names, 1)}),
        0,
        "the plan",
        plan.units_file.parent if plan.units_file else Path(),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hands = {} if passphrase is None else _new_keys(keys, plan, passphrase, progress)
        if plan.units_file:
            beside = folder / plan.units_file.name
            if not (beside.exists() and beside.samefile(plan.units_file)):
                shutil.copyfile(plan.units_file, beside)
        path.write_text(config_text(plan, hands), encoding="utf-8")
    except OSError as error:
        raise BallotboardError(f"cannot write {error.filename}: {error.strerror}") from error
    return path


def config_text(plan: Plan, hands: Mapping[str, Hand]) -> str:
    """The election.toml of a plan, with the key holders that are known by name."""
    if plan.rule not in RULE_NAMES:
        raise BallotboardError(f"there is no rule {plan.rule!r}: write one of {', '.join(RULE_NAMES)}")
    if plan.units_file:
        if plan.units:
            raise BallotboardError("units come from a file or one by one, not both")
        units = read_tree(plan.units_file, [STYLE])[0]
    else:
        root = Unit("whole", plan.name, -1, -1 if plan.units else 0)
        units = [root, *(Unit("unit", name, 0, 0) for name in plan.units)]
    leaves = [number for number, unit in enumerate(units) if unit.style >= 0]
    stations = [
        Station(
            number,
            leaves[number % len(leaves)],
            tuple(hands.get(name, NOBODY)[0] for name in plan.officer_names(number)),
            f"Station {number}",
        )
        for number in range(plan.stations)
    ]
    return new_config(
        name=plan.name,
        contests=[Contest("contest-1", plan.title, RULE_NAMES[plan.rule], plan.limit, plan.options)],
        units=units,
        stations=stations,
        roles=[Role(kind, name, *hands.get(name, NOBODY)) for kind, name in plan.role_names()],
        windows=plan.windows(),
        trustees=plan.threshold,
        verifiers=min(1, plan.verifiers),
        decrypt_level=1 if len(units) > 1 else 0,
        practice=plan.practice,
        units_file=plan.units_file.name if plan.units_file else "",
    )


def _new_keys(folder: Path, plan: Plan, passphrase: str, progress: Progress | None) -> dict[str, Hand]:
    names = [name for _, name in plan.role_names()] + plan.all_officers()
    relayers = {name for kind, name in plan.role_names() if kind == RoleKind.RELAYER}
    folder.mkdir(mode=0o700)
    hands: dict[str, Hand] = {}
    for name in names:
        if name in relayers:
            address, key = relayer_keys.create(folder / name, passphrase)
        else:
            address, key = new_account(folder / f"{name}.json", passphrase).address, b""
        hands[name] = (bytes.fromhex(address[2:]), key)
        if progress:
            progress(len(hands), len(names))
    return hands
