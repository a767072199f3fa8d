"""Where the published data lies: beside the checkout, never in it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(*parts: str) -> Path:
    """A file of the shared data; the test is skipped, saying what is missing, where there is none."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"published data not here: shared/data/{'/'.join(parts)}")
    return path
