"""When a record may be appended: the contract's phases and time windows (docs/protocol.md, section 2), replayed over the log.

The contract has refused what this finds, if the contract is the one that the manifest names and the node tells the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chain.contract import Phase
from protocol.manifest import Manifest
from protocol.records import Kind
from verifier.log import Item, Run, positions

UNTIL_RESULT = (Phase.SETUP, Phase.OPEN, Phase.CLOSED, Phase.SETTLED)

PHASES: dict[int, tuple[Phase, ...]] = {
    Kind.CEREMONY: (Phase.SETUP,),
    Kind.ROLL: (Phase.SETUP,),
    Kind.OPEN: (Phase.SETUP,),
    Kind.BALLOT: (Phase.OPEN,),
    Kind.CHECK_IN: (Phase.OPEN, Phase.CLOSED),
    Kind.STATION_HASH: UNTIL_RESULT,
    Kind.STATION_RESULT: UNTIL_RESULT,
    Kind.CLOSE: (Phase.OPEN,),
    Kind.SETTLEMENT: (Phase.CLOSED,),
    Kind.PARTIAL_DECRYPTION: (Phase.SETTLED,),
    Kind.RESULT: (Phase.SETTLED,),
    Kind.REPORT: (Phase.FINAL,),
    Kind.EXTENSION: (Phase.OPEN,),
    Kind.ROLL_CHANGE: (Phase.OPEN,),
    Kind.DECISION: (Phase.OPEN, Phase.CLOSED),
}
"""The phases in which a kind may be appended; a complaint in any."""

BEGINS: dict[int, Phase] = {
    Kind.OPEN: Phase.OPEN,
    Kind.CLOSE: Phase.CLOSED,
    Kind.SETTLEMENT: Phase.SETTLED,
    Kind.RESULT: Phase.FINAL,
}
"""The records that end a phase, and the one that they begin."""

REQUIRES: dict[int, Kind] = {Kind.OPEN: Kind.ROLL, Kind.RESULT: Kind.PARTIAL_DECRYPTION}
"""What must be on the record before a kind, beyond its phase."""

END_OF_TIME = 2**40


def out_of_place(manifest: Manifest, order: Sequence[Item]) -> Iterator[tuple[int, str]]:
    """(position, why) for every record that the contract would have refused where and when it stands. Ballots of one run share all of it."""
    phase, close, before = Phase.SETUP, manifest.windows.close, 0
    met: set[int] = set()
    for item in order:
        kind, time, here = Kind.BALLOT if isinstance(item, Run) else item.kind, time_of(item), positions(item)
        if time < before:
            yield here[0], f"its time {time} is before that of the record in front of it, {before}"
        before = max(before, time)

        if (kind == Kind.MANIFEST) != (here[0] == 0):
            yield here[0], "the manifest is record 0, and nothing else is"
        if phase not in PHASES.get(kind, (phase,)):
            yield from ((position, f"a {_name(kind)} record in phase {phase.name.lower()}") for position in here)
        if kind in REQUIRES and REQUIRES[kind] not in met:
            yield here[0], f"there is no {REQUIRES[kind].text} record before it"
        if kind == Kind.ROLL and kind in met:
            yield here[0], "there is one roll, and this is another"

        earliest, latest = _window(manifest, kind, close)
        if time < earliest:
            why = f"a {_name(kind)} record at {time}, which may come from {earliest} on"
            yield from ((position, why) for position in here)
        if time >= latest:
            why = f"a {_name(kind)} record at {time}, which must come before {latest}"
            yield from ((position, why) for position in here)

        if kind == Kind.EXTENSION and not isinstance(item, Run):
            later = int.from_bytes(
                (item.body or b"")[:5], "big"
            )  # as the contract reads it, whatever the reason behind it is
            if not close < later <= manifest.windows.close_not_after:
                yield (
                    item.position,
                    f"extends the poll from {close} to {later}; the manifest allows until {manifest.windows.close_not_after}",
                )
            close = max(close, later)
        met.add(kind)
        phase = max(phase, BEGINS.get(kind, phase))  # never back, so that one misplaced record is one fault


def time_of(item: Item) -> int:
    """The block time of a run or of one record."""
    return item.time if isinstance(item, Run) else item.entry.time


def _window(manifest: Manifest, kind: int, close: int) -> tuple[int, int]:
    """[earliest, latest) block time of a kind; `close` is the current close time."""
    w = manifest.windows
    windows: dict[int, tuple[int, int]] = {
        Kind.OPEN: (w.open_not_before, close),
        Kind.BALLOT: (0, close + w.append_grace),
        Kind.CHECK_IN: (0, w.settle_not_before),
        Kind.STATION_HASH: (w.count_not_before, END_OF_TIME),
        Kind.STATION_RESULT: (w.reveal_not_before, END_OF_TIME),
        Kind.CLOSE: (close + w.append_grace, END_OF_TIME),
        Kind.SETTLEMENT: (w.settle_not_before, END_OF_TIME),
        Kind.PARTIAL_DECRYPTION: (w.decrypt_not_before, END_OF_TIME),
        Kind.EXTENSION: (0, close),
        Kind.ROLL_CHANGE: (0, close),
    }
    return windows.get(kind, (0, END_OF_TIME))


def _name(kind: int) -> str:
    return Kind(kind).text if kind in set(Kind) else f"kind {kind}"
