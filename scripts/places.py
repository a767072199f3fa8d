"""Real results as polling stations: South Dakota 2020, the United Kingdom 2016, the United States 2020.

Two depths. The project has a small table of published totals (scripts/data/places.json: South Dakota by county, the United Kingdom by region, the United
States by state). A folder of the published files goes down to precincts, counting areas and counties. No figure is invented: what was not published
(papers issued, spoiled, not returned) is taken as issued = counted, and said to be so.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from protocol.errors import BallotboardError
from scripts.ballot_data import BallotData

TABLE = Path(__file__).parent / "data" / "places.json"

NOT_PUBLISHED = ("papers issued", "papers spoiled", "papers not returned")
"""What no source has, anywhere."""


@dataclass(frozen=True)
class Area:
    """What one station of the demo reports: its region, name, votes per option, and rejected papers where they were published."""

    region: str
    name: str
    votes: tuple[int, ...]
    rejected: int = 0

    @property
    def counted(self) -> int:
        return sum(self.votes) + self.rejected


@dataclass(frozen=True)
class Place:
    """An election as published: areas in regions, and the certified figures per region (None for an option that was not certified there)."""

    key: str
    name: str
    source: str
    root: str
    levels: tuple[str, str, str]
    options: tuple[str, ...]
    areas: tuple[Area, ...]
    official: Mapping[str, tuple[int | None, ...]]
    colours: tuple[tuple[str, str], ...] = ()
    """Of the first options, as newspapers draw them: in the light and in the dark theme of a board."""

    @property
    def regions(self) -> list[str]:
        return list(dict.fromkeys(area.region for area in self.areas))

    @property
    def totals(self) -> dict[str, int]:
        """The sum of what the areas published."""
        return {name: sum(area.votes[i] for area in self.areas) for i, name in enumerate(self.options)}

    def region_totals(self) -> dict[str, list[int]]:
        found = {region: [0] * len(self.options) for region in self.regions}
        for area in self.areas:
            found[area.region] = [a + b for a, b in zip(found[area.region], area.votes, strict=True)]
        return found

    @property
    def differing(self) -> list[str]:
        """Regions whose areas do not add up to the certified figures."""
        totals = self.region_totals()
        return [
            region
            for region in self.regions
            if any(n is not None and n != have for n, have in zip(self.official[region], totals[region], strict=True))
        ]


def read_place(key: str, data: Path | None) -> Place:
    """A place by its key (`sd`, `uk`, `us`), from the table or, deeper, from a folder of the published files. Raises BallotboardError."""
    table = json.loads(TABLE.read_text())
    if key not in table:
        raise BallotboardError(f"there is no place {key!r}: choose {', '.join(table)}")
    value = table[key]
    areas = [Area(region, name, tuple(votes), rejected) for region, name, votes, rejected in value["areas"]]
    levels = value["levels"]
    if data is not None:
        file, read, deepest = _READERS[key]
        try:
            areas, levels = read(data / file), (*levels[:2], deepest)
        except (KeyError, ValueError) as error:
            raise BallotboardError(f"{data / file} is not the published file: {error}") from error
    official = {region: tuple(numbers) for region, numbers in value["official"].items()}
    return Place(
        key, value["name"], value["source"], value["root"], tuple(levels), tuple(value["options"]), tuple(areas), official,
        tuple((light, dark) for light, dark in value.get("colours", [])),
    )  # fmt: skip


def online_part(place: Place, voters: int, first_unit: int) -> BallotData:
    """Online votes beside the paper: a rehearsal with `voters` votes drawn from the published result, the same in every run.

    Vote (unit, option): area number `a` is unit `first_unit + a`.
    """
    cells = [(first_unit + a, option) for a in range(len(place.areas)) for option in range(len(place.options))]
    weights = [number for area in place.areas for number in area.votes]
    votes = Random(2020).choices(cells, weights, k=voters)
    names = tuple(f"{area.name}, {area.region}" for area in place.areas)
    return BallotData(place.name, place.source, place.options, names, tuple(votes))


# ---------------------------------------------------------------- the published files


def _south_dakota(path: Path) -> list[Area]:
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in _rows(path):
        if row["office"] == "President":
            found.setdefault((row["county"], f"Precinct {row['precinct']}"), {})[row["candidate"]] = int(row["votes"])
    names = json.loads(TABLE.read_text())["sd"]["options"]
    return [Area(county, precinct, tuple(votes[name] for name in names)) for (county, precinct), votes in found.items()]


def _united_kingdom(path: Path) -> list[Area]:
    return [
        Area(row["Region"], row["Area"], (int(row["Remain"]), int(row["Leave"])), int(row["Rejected_Ballots"]))
        for row in _rows(path)
    ]


def _united_states(path: Path) -> list[Area]:
    areas = []
    for row in _rows(path):
        republican, democratic, total = (int(row[name]) for name in ("votes_gop", "votes_dem", "total_votes"))
        name = f"{row['county_name']} ({row['county_fips']})"
        areas.append(Area(row["state_name"], name, (republican, democratic, total - republican - democratic)))
    return areas


_READERS: dict[str, tuple[str, Callable[[Path], list[Area]], str]] = {
    "sd": ("precinct/sd_2020/precinct.csv", _south_dakota, "precinct"),
    "uk": ("referendum/uk_2016/EU-referendum-result-data.csv", _united_kingdom, "counting area"),
    "us": ("national/us_2020/county_president.csv", _united_states, "county"),
}
"""Per place: its file in the folder of published data, who reads it, and what its rows are."""


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
