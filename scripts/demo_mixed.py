"""`ballotboard demo --mixed`: paper and online in one election, with the published figures of a real place as its polling stations.

Each area of the place is a station with two officers, a folder and a journal. Hashes go out when counting ends and documents after the embargo, by
one courier. On the way, four stations have a bad day, and nothing may be lost by it: two have no network until the next morning, one is killed with kill
-9 in the middle of its count, and one submits a wrong figure, is found out by the region's sum, and amends it. Online votes are cast beside all this.

The published figures are the paper. The online part is a rehearsal drawn from them, so the total of both is nobody's official result.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from eth_account import Account
from rich.table import Table

from authority.config import new_config
from bulletin.colours import COLUMNS
from chain.console import note, progress, screen
from chain.log import read_log
from chain.writer import Writer
from protocol.attachments import Station, Unit
from protocol.errors import BallotboardError
from protocol.manifest import Contest, Role, RoleKind, Rule
from protocol.paper import ContestCount
from scripts import demo
from scripts.demo import Demo, People
from scripts.places import NOT_PUBLISHED, Place, online_part, read_place
from scripts.services import COMMAND
from station import actions, courier
from station.folder import StationFolder
from station.result import Counted
from verifier import picture

ONLINE_VOTERS = 1_000
"""Online votes beside the paper, unless --limit says otherwise: enough that every part of the online path is used."""

OFFLINE, KILLED = (1, 2), 3
"""Stations with a bad day: without a network, killed mid-count. The one that submits a wrong figure is the next in a region that adds up otherwise."""

BUNDLE = 100
"""Papers of the bundle that the wrong figure counts twice."""

LEVEL = 1
"""Totals of the online part are decrypted for regions, not below."""

FLAGS_SHOWN = 20
"""Flags listed at the end; all of them are in the JSON."""

CONTEST = "question"
"""Id of the one contest."""

KILL_AFTER = 30.0
"""Seconds to wait for the counting process to ask for a figure before it is killed."""


def mixed(key: str, data: Path | None, voters: int | None, folder: Path, services: Any) -> MixedDemo:
    """The demo of a place: `run` gives the summary, with `paper` the place's published figures and `tally` the online part."""
    place = read_place(key, data)
    if len(place.areas) <= KILLED + 1:
        raise BallotboardError(f"{place.name} has {len(place.areas)} areas, too few for a demo")
    votes = online_part(place, ONLINE_VOTERS if voters is None else voters, len(place.regions))
    people = People.draw()
    people.officers = [(Account.create(), Account.create()) for _ in place.areas]
    _allow_files(len(place.areas))
    return MixedDemo(votes, folder, services, people=people, place=place)


@dataclass
class MixedDemo(Demo):
    """The plain demo with another place, and with stations that count what was published there."""

    place: Place = field(kw_only=True)
    flagged: list[dict[str, Any]] = field(default_factory=list)
    amended: dict[str, Any] = field(default_factory=dict)
    found_out: bool = False
    moment: int = 0

    def run(self) -> dict[str, Any]:
        place = self.place
        note(
            f"{place.name}: {len(place.areas):,} stations ({place.levels[2]}) in {len(place.regions)} regions count the published figures"
        )
        note(f"Source: {place.source}. Not published, so taken as issued = counted: {', '.join(NOT_PUBLISHED)}")
        summary = super().run()
        official = summary["paper"] == place.totals
        found = self.picture()
        differing = sorted(flag["text"].partition(":")[0] for flag in found["flags"] if flag["rule"] == "official")
        regions = {row["name"]: row["totals"][0] for row in found["units"] if row["parent"] == 0}
        right = regions == place.region_totals() and differing == sorted(place.differing)
        return summary | {
            "amended": self.amended, "flags": found["flags"], "flags_before_amendment": self.flagged,
            "killed": [self._label(KILLED)], "not_published": list(NOT_PUBLISHED),
            "offline": [self._label(n) for n in OFFLINE], "paper_is_published": official, "place": place.key,
            "regions": regions, "regions_differing": differing, "source": place.source, "stations": len(place.areas),
            "verified": summary["verified"] and official and right and self.found_out,
        }  # fmt: skip

    @cached_property
    def wrong(self) -> int:
        """The station that submits a wrong figure."""
        differing = self.place.differing
        return next(n for n, area in enumerate(self.place.areas) if n > KILLED and area.region not in differing)

    # ---- morning: every station gets its folder and opens

    def open(self) -> None:
        super().open()
        log, number = read_log(self.chain.web3, self.contract), len(self.place.areas)
        with self._timed("stations"), progress(f"{number:,} stations make their folders and open", number) as advance:

            def start(n: int) -> StationFolder:
                folder = self.services.enter_context(
                    actions.make(
                        self.folder / f"station-{n}",
                        log,
                        n,
                        self.passphrase,
                        self._connection(),
                        self._clock,
                        demo.QUICK,
                    )
                )
                actions.open_station(folder)
                advance(n + 1)
                return folder

            self.stations = [start(n) for n in range(number)]

    def board_options(self) -> list[str]:
        if not self.place.colours:
            return []
        file = self.folder / "colours.csv"
        with file.open("w", newline="") as out:
            lines = csv.writer(out)
            lines.writerow(COLUMNS)
            options = zip(self.place.options, self.place.colours, strict=False)
            lines.writerows((CONTEST, option, *shades) for option, shades in options)
        return ["--colours", str(file)]

    # ---- evening: the count, the signatures, the hashes

    def count_paper(self) -> None:
        self._until(demo.EVENING)
        number = len(self.stations)
        with self._timed("count"), progress(f"17:00: {number:,} stations count and sign hashes", number) as advance:
            for n in range(number):
                self._count_station(n)
                advance(n + 1)
        connected = [n for n in range(number) if n not in OFFLINE]
        with self._timed("hashes"), progress("A courier carries the hashes", len(connected)) as advance:
            items = [self.stations[n].item(item) for n in connected for item in actions.signed_items(self.stations[n])]
            self._delivered(courier.carry(self._carrier(), items))
            self._note_sent(connected, advance)
        away = " and ".join(self._label(n) for n in OFFLINE)
        note(f"     {away} have no network: they have counted and signed all the same, and nobody hears of it yet")

    def _count_station(self, n: int) -> None:
        """Nobody's clock but the station's own is asked here: a station needs no network to count."""
        actions.close_station(self.stations[n])
        if n == KILLED:
            self._kill_mid_count(n)
        figures = self._with_bundle(n) if n == self.wrong else self._figures(n)
        actions.count(self.stations[n], figures)
        for officer in self.people.officers[n]:
            actions.sign(self.stations[n], officer)

    def _kill_mid_count(self, n: int) -> None:
        """The station's own command is asking for figures when the power goes; the journal then opens where it was."""
        folder, path = self.stations[n], self.stations[n].path
        before = folder.journal.head
        folder.close()
        arguments = ["station", "count", "--folder", str(path)]
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "ignore"}
        environment["BALLOTBOARD_PASSPHRASE"] = self.passphrase
        with tempfile.TemporaryFile() as output:
            command = [*COMMAND, *arguments]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment)
            try:
                assert child.stdin
                child.stdin.write(f"{self.place.areas[n].counted}\n0\n".encode())
                child.stdin.flush()
                end = time.monotonic() + KILL_AFTER
                while b"not returned" not in (said := _said(output)):
                    if child.poll() is not None or time.monotonic() > end:
                        raise BallotboardError(f"the counting process was to ask for figures and said: {said[-200:]!r}")
                    time.sleep(0.05)
            finally:
                child.kill()
                child.wait()
        again = StationFolder.open(path, self.passphrase, self._clock)
        self.stations[n] = self.services.enter_context(again)
        if again.journal.head != before:
            raise BallotboardError(f"{path} does not open where it was before its process was killed")
        note(
            f"     {self._label(n)}: killed in the middle of its count; its journal opens where it was, and it counts again"
        )

    # ---- after the embargo

    def reveal_paper(self) -> None:
        self._until(demo.EMBARGO)
        connected = [n for n in range(len(self.stations)) if n not in OFFLINE]
        title = "20:00: the embargo ends, documents are revealed"
        with self._timed("results"), progress(title, len(connected)) as advance:
            documents = [actions.latest(self.stations[n]).result.body() for n in connected]
            self._delivered(courier.reveal(self._carrier(), documents))
            for done, n in enumerate(connected, 1):
                actions.reveal(self.stations[n], self._board(), self.people.officers[n][0])
                advance(done)
        self._together(lambda n: actions.sync(self.stations[n], self._board(), self.people.officers[n][0]), OFFLINE)
        note(
            f"     {' and '.join(self._label(n) for n in OFFLINE)} have a network again: one `sync` each, and they are in"
        )
        self._amend()

    def _amend(self) -> None:
        region = self.place.areas[self.wrong].region
        self.flagged = self.picture()["flags"]
        named = [flag for flag in self.flagged if flag["rule"] == "official" and flag["text"].startswith(f"{region}:")]
        self.found_out = bool(named)
        note(f"     {named[0]['text'] if named else f'NOBODY NOTICED what is wrong in {region}'}")
        folder, before = self.stations[self.wrong], self._with_bundle(self.wrong)
        reason = f"a bundle of {BUNDLE} papers was counted twice"
        actions.amend(folder, self._figures(self.wrong), reason)
        for officer in self.people.officers[self.wrong]:
            actions.sign(folder, officer)
        actions.sync(folder, self._board(), self.people.officers[self.wrong][0])
        after = self._figures(self.wrong)
        self.amended = {
            "after": list(after.contests[0].counts), "before": list(before.contests[0].counts), "reason": reason, "station": self._label(self.wrong),
        }  # fmt: skip
        note(f"     {self._label(self.wrong)} amends: {reason}; both revisions stay on the record")

    def picture(self) -> dict[str, Any]:
        """The central picture by the record as it is now, compared with the certified figures."""
        log = read_log(self.chain.web3, self.contract)
        published = picture.Published(self.place.source, self.place.official)
        return picture.picture(picture.known(log), self._board().now(), published)

    # ---- helpers

    def _label(self, n: int) -> str:
        return f"{self.place.areas[n].name}, {self.place.areas[n].region}"

    def _figures(self, n: int) -> Counted:
        area = self.place.areas[n]
        return Counted(area.counted, 0, 0, area.counted, (ContestCount(0, area.votes, 0, area.rejected),))

    def _with_bundle(self, n: int) -> Counted:
        """The same with a bundle counted twice."""
        right = self._figures(n)
        votes = right.contests[0].counts
        contest = replace(right.contests[0], counts=(votes[0] + BUNDLE, *votes[1:]))
        return Counted(right.issued + BUNDLE, 0, 0, right.in_box + BUNDLE, (contest,))

    def _note_sent(self, numbers: list[int], advance: Any) -> None:
        for done, n in enumerate(numbers, 1):
            actions.submit(self.stations[n], self._board(), self.people.officers[n][0])
            advance(done)

    def _carrier(self) -> Writer:
        """Whoever pays for the delivery; it signs nothing."""
        return Writer(self.chain.web3, self.contract, self.people.authority)

    @staticmethod
    def _delivered(delivery: courier.Delivery) -> None:
        if delivery.refused:
            raise delivery.refused[0][1]

    def _clock(self) -> int:
        """The stations' clocks: the demo's day, which this process moves and no station asks the network for."""
        return self.moment

    def _until_time(self, moment: int, what: str) -> None:
        super()._until_time(moment, what)
        self.moment = max(moment, self.moment)

    def _config_text(self) -> str:
        place, people = self.place, self.people
        number = {region: 1 + i for i, region in enumerate(place.regions)}
        units = [Unit(place.levels[0], place.root, -1, -1)]
        units += [Unit(place.levels[1], region, 0, -1) for region in place.regions]
        units += [Unit(place.levels[2], f"{area.name}, {area.region}", number[area.region], 0) for area in place.areas]
        stations = [
            Station(n, 1 + len(number) + n, tuple(bytes.fromhex(officer.address[2:]) for officer in officers), self._label(n))
            for n, (area, officers) in enumerate(zip(place.areas, people.officers, strict=True))
        ]  # fmt: skip
        named = [
            (RoleKind.AUTHORITY, "authority", people.authority), (RoleKind.REGISTRAR, "registrar", people.registrar),
            (RoleKind.COSIGNER, "cosigner", people.cosigner), (RoleKind.VERIFIER, "observer", people.verifier),
            *((RoleKind.TRUSTEE, f"trustee {j}", account) for j, account in enumerate(people.trustees, 1)),
        ]  # fmt: skip
        roles = [Role(kind, name, bytes.fromhex(account.address[2:]), b"") for kind, name, account in named]
        roles.append(Role(RoleKind.RELAYER, "relayer", bytes.fromhex(self.relayer_address[2:]), self.relayer_key))
        hours = {
            "open_not_before": demo.MORNING, "close": demo.EVENING, "close_not_after": demo.EVENING, "count_not_before": demo.EVENING,
            "reveal_not_before": demo.EMBARGO, "settle_not_before": demo.EMBARGO, "decrypt_not_before": demo.NIGHT,
        }  # fmt: skip
        windows = {name: datetime.fromtimestamp(self._hour(hour), UTC).isoformat() for name, hour in hours.items()}
        windows["append_grace"] = f"{demo.APPEND_GRACE}s"
        return new_config(
            name=place.name, practice=True, contests=[Contest(CONTEST, place.name, Rule.ONE_OF_K, 0, place.options)], units=units,
            stations=stations, windows=windows, trustees=demo.THRESHOLD, verifiers=1, roles=roles,
            minimum_ballots=demo.MINIMUM_BALLOTS, decrypt_level=LEVEL,
        )  # fmt: skip


def _said(output: Any) -> bytes:
    output.seek(0)
    return bytes(output.read())


def _allow_files(stations: int) -> None:
    """Each open station holds its journal: ask for as many open files as that takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = stations + 1_000
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def print_summary(summary: dict[str, Any], folder: Path | None) -> None:
    """The regions, the total, and what the stations with a bad day came to, for people."""
    options = list(summary["paper"])
    table = Table(title=f"\n{summary['election']}: paper as published, by region")
    for column in ("region", *options, "certified"):
        table.add_column(column, justify="left" if column == "region" else "right")
    for region, votes in summary["regions"].items():
        same = "differs" if region in summary["regions_differing"] else "same"
        table.add_row(region, *(f"{number:,}" for number in votes), same)
    table.add_section()
    for name, row in (
        ("paper", summary["paper"]),
        ("online, a rehearsal", summary["tally"]),
        ("both", summary["total"]),
    ):
        table.add_row(name, *(f"{row[option]:,}" for option in options), "")
    screen.print(table)
    amended = summary["amended"]
    note(
        f"{summary['stations']:,} stations; offline for a while: {' and '.join(summary['offline'])}; killed mid-count: {summary['killed'][0]}"
    )
    note(f"amended: {amended['station']}, {amended['before']} became {amended['after']} ({amended['reason']})")
    note(f"not published, so taken as issued = counted: {', '.join(summary['not_published'])}")
    for flag in summary["flags"][:FLAGS_SHOWN]:
        note(f"flag, {flag['severity']}: {flag['text']}")
    note(", ".join(f"{name} {taken:.1f} s" for name, taken in summary["seconds"].items()))
    verdict = "[bold green]verified[/bold green]" if summary["verified"] else "[bold red]NOT VERIFIED[/bold red]"
    published = "the published figures" if summary["paper_is_published"] else "NOT THE PUBLISHED FIGURES"
    screen.print(f"the paper on the record is {published}: {verdict}\n")
    if folder:
        screen.print(
            f"  node      {summary['rpc']}\n  contract  {summary['contract']}\n  board     {summary['board']}\n  files     {folder}"
        )
        note(
            f"Next: ballotboard station report --rpc {summary['rpc']} --contract {summary['contract']} --form pdf --out report.pdf"
        )
