from dataclasses import fields
from pathlib import Path

import pytest

from protocol.errors import BallotboardError
from relayer.config import PREFIX, Settings, example, load


def test_the_example_file_names_and_explains_every_setting_at_its_default(tmp_path: Path) -> None:
    lines = example().splitlines()
    for item in fields(Settings):
        [place] = [i for i, line in enumerate(lines) if line.startswith(f"#{item.name} =")]
        assert lines[place - 1] == f"# {item.metadata['why']}" and len(item.metadata["why"]) > 20
    file = tmp_path / "relayer.toml"
    file.write_text("\n".join(line.removeprefix("#") for line in lines if " = " in line))
    assert load(file, {}) == Settings()


def test_the_file_beats_the_defaults_and_the_environment_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "relayer.toml"
    file.write_text("port = 9000\nmax_delay = 2\nhost = '::1'\n")
    found = load(file, {PREFIX + "PORT": "9001", "BALLOTBOARD_OTHER": "x"})
    assert (found.port, found.max_delay, found.host) == (9001, 2.0, "::1")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 1", "prot"),
        ("port = 'http'", "port"),
        ("port = true", "port"),
        ("port = 1.5", "port"),
        ("max_queue = 0", "max_queue"),
        ("max_batch_bytes = 98304", "max_batch_bytes"),
        ("max_delay = 31", "max_delay"),
        ("port =", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "relayer.toml"
    file.write_text(text)
    with pytest.raises(BallotboardError, match=named):
        load(file, {})


def test_the_documentation_has_every_setting_with_its_default_and_reason() -> None:
    page = (Path(__file__).parents[2] / "docs" / "relayer.md").read_text()
    for item in fields(Settings):
        default = '""' if item.default == "" else item.default
        assert f"| `{item.name}` | `{default}` | {item.metadata['why']} |" in page
