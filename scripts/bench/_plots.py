"""`make bench-plots`: how time and memory grow with size, from build/bench/national.json, as PNG and SVG in build/bench/plots."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

BENCH = Path("build/bench")
OUT = BENCH / "plots"

PLOTS = {
    # file: (title, x axis, y axis, pattern of the rows' names with the size as its group)
    "rollup-units": ("Roll-up of a nation from signed files", "units", "seconds", r"growth\.units\.(\d+)_s"),
    "rollup-ballots": ("One unit's process", "ballots", "seconds", r"growth\.ballots\.(\d+)_s"),
    "rollup-memory": ("One unit's memory after its first checkpoint", "ballots", "kB", r"growth\.ballots\.(\d+)_kb"),
    "credentials": ("Credentials from a register", "voters", "credentials/s", r"credentials\.(\d+)"),
}


def main() -> int:
    source = BENCH / "national.json"
    try:
        report = json.loads(source.read_text())
    except OSError as error:
        print(f"error: cannot read {source}: {error.strerror}; make bench ONLY=national makes it", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (title, x, y, pattern) in PLOTS.items():
        points = sorted(
            (int(match[1]), row["value"])
            for row in report["results"]
            if row["value"] is not None and (match := re.fullmatch(pattern, row["name"]))
        )
        if not points:
            print(f"{name}: no rows like {pattern} in {source}", file=sys.stderr)
            continue
        plot(OUT / name, f"{title} ({report['machine']['cpu']}, {report['machine']['cores']} cores)", x, y, points)
        print(f"{OUT / name}.png  {OUT / name}.svg")
    return 0


def plot(path: Path, title: str, x: str, y: str, points: list[tuple[int, float]]) -> None:
    """A line through the points; logarithmic axes, but a plain y axis where a value is not positive."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.plot(*zip(*points, strict=True), marker="o")
    axes.set(title=title, xlabel=x, ylabel=y, xscale="log")
    if min(value for _, value in points) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(True, which="major", alpha=0.3)
    for end in (".png", ".svg"):
        figure.savefig(path.with_suffix(end), dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
