"""Commands as people type them."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""`ballotboard WORDS` (the fixture `run`): exit status, standard output, standard error."""


def fails(run: Run, *words: object) -> str:
    """The one line of a command that could not run."""
    status, _, err = run(*words)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(lines) == 1 and lines[0] == err.splitlines()[-1], (status, err)
    return lines[0]
