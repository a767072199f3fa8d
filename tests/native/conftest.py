"""Where `ballotboard_native` is not built, the tests of this folder are skipped, and say so."""

import pytest

try:
    import ballotboard_native
except ImportError:
    ballotboard_native = None


class NotBuilt(pytest.Module):
    """A test file that could not be imported."""

    def collect(self):
        pytest.skip("ballotboard-native is not built: `make native`", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return None if ballotboard_native else NotBuilt.from_parent(parent, path=module_path)
