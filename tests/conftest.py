"""The order of the tests, and which share a worker, where several run side by side.

Tests with processes of their own mostly wait, and share what took long to start: those of a module go to one worker, all real networks to one, so that
there is one at a time, and they begin first. The many quick ones then fill what the others leave.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: FIRST.index(found) if (found := _group(item)) in FIRST else 2 if found else 3)
    yield


FIRST = ("network", "e2e/test_readme")
"""The longest, which would be waited for at the end."""


def _group(item: pytest.Item) -> str:
    """The group that a test belongs to, "" for one that may run anywhere."""
    if not item.get_closest_marker("e2e"):
        return ""
    folder = item.path.parent.name
    return folder if folder == "network" else f"{folder}/{item.path.stem}"
