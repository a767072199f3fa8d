"""Where a test may kill this process: every step of the commit protocol by its name.

`BALLOTBOARD_RELAYER_CRASH_AT="submit after commit"` ends the process with SIGKILL when it gets there for the first time, `… #3` for the third.
Unset, as it is in operation, a point costs one comparison.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "promise before commit", "promise after commit", "promise before answer", "submit before commit", "submit after commit", "send before", "send after",
    "landed before commit", "landed after commit", "reverted before commit", "reverted after commit", "replace before commit",
    "replace after commit", "bury before commit", "bury after commit",
)  # fmt: skip
"""In the order in which a ballot meets them."""

VARIABLE = "BALLOTBOARD_RELAYER_CRASH_AT"

_name, _, _times = os.environ.get(VARIABLE, "").partition(" #")
_left = int(_times or 1)


def point(name: str) -> None:
    global _left
    if name == _name:
        _left -= 1
        if not _left:
            os.kill(os.getpid(), signal.SIGKILL)
