"""The one error base, and the error of every parser."""

from __future__ import annotations


class BallotboardError(Exception):
    """Something a person can act on. The message is one line, lower case, and says what to do."""


class Malformed(BallotboardError):
    """Bytes that are not what they should be: which field, at which offset (-1 where there is none), and why."""

    def __init__(self, field: str, reason: str, offset: int = -1) -> None:
        self.field, self.reason, self.offset = field, reason, offset
        where = f" at byte {offset}" if offset >= 0 else ""
        super().__init__(f"{field}{where}: {reason}")
