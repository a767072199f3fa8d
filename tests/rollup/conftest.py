"""The state that most tests roll up, made once, and counted once."""

import shutil

import pytest

from tests.rollup import world


@pytest.fixture(scope="session")
def state():
    return world.state()


@pytest.fixture(scope="session")
def _counted(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("counted")
    state.save(folder)
    state.count(folder)
    return folder


@pytest.fixture
def counted(_counted, tmp_path):
    """A folder of its own in which every leaf unit has counted and sent its sum."""
    folder = tmp_path / "rollup"
    shutil.copytree(_counted, folder)
    return folder
