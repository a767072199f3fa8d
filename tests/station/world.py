"""An open election on a real board, and a station's folder in it: what every test of stations begins with."""

from __future__ import annotations

from pathlib import Path

from chain.console import Connection
from chain.log import ElectionLog, read_log
from chain.rpc import checksummed
from chain.sealed import LIGHT
from protocol import paper
from protocol.paper import ContestCount
from protocol.records import Kind
from station import actions
from station.folder import StationFolder
from station.result import Counted
from tests.trustee.boards import Election
from verifier import checks
from verifier.case import Case
from verifier.node import NodeSource

VOTERS = 4
"""Per unit: roll indices 0 to 3 vote at station 0, 4 to 7 at station 1."""

COUNTED = Counted(2, 0, 0, 2, (ContestCount(0, (1, 1, 0), 0, 0),))
CORRECTED = Counted(2, 0, 0, 2, (ContestCount(0, (2, 0, 0), 0, 0),))


def start(board: Election, path: Path, number: int) -> StationFolder:
    where = Connection(board.chain.url, checksummed(board.board.address))
    return actions.init(path, board.board, number, "pass", where, clock=board.board.now, cost=LIGHT)


def until_counted(board: Election, place: StationFolder) -> None:
    """Two voters check in, the station closes and counts."""
    first = VOTERS * place.station.number
    actions.open_station(place)
    actions.check_in(place, [first, first + 2])
    actions.close_station(place)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    actions.count(place, COUNTED)


def signed(board: Election, place: StationFolder) -> None:
    for officer in board.officers[place.station.number][:2]:
        actions.sign(place, officer)


def log_of(board: Election) -> ElectionLog:
    return read_log(board.chain.web3, board.board.address)


def kinds(board: Election) -> list[int]:
    return [r.kind for r in log_of(board).records if r.kind in (Kind.CHECK_IN, Kind.STATION_HASH, Kind.STATION_RESULT)]


def standing(board: Election) -> dict[int, paper.StationResult]:
    """The standing results by the verifier's own checks of stations."""
    case = Case(NodeSource(board.chain.url, checksummed(board.board.address)).read())
    results = checks.run(
        case, [checks.CHECKS[id] for id in ("C01", "A03", "A04", "A06", "K01", "K03", "I02", "I03", "I04")]
    )
    assert [(r.check.id, r.outcome) for r in results if r.outcome != "pass"] == []
    return case.station_results[0]


def sender(board: Election):
    return board.officers[0][0]
