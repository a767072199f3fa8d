"""The order of the files, where several workers take one after the other (`--dist loadfile --no-loadscope-reorder`; a file's tests share what they set up).

Files with processes of their own mostly wait, and come first, the longest before all. Real networks are kept apart, as far as an order can do it: two
of them have sixteen programs. Of the others those with many tests begin, so that all workers end together.
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

LONGEST = "test_readme"


def pytest_configure() -> None:
    """What is started in the background of a script (`.ci/run &`) ignores SIGINT, and so would every process whose end by it is tested."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Counter(item.path for item in items)
    waiting = list(dict.fromkeys(item.path for item in items if item.get_closest_marker("e2e")))
    networks = [path for path in waiting if path.parent.name == "network"]
    others = sorted((path for path in waiting if path not in networks), key=lambda path: path.stem != LONGEST)
    place: dict[Path, float] = {path: number for number, path in enumerate(others)}
    for number, path in enumerate(networks):
        place[path] = (number + 0.5) * len(others) / len(networks)
    items.sort(key=lambda item: (place.get(item.path, len(others)), -tests[item.path], str(item.path)))
