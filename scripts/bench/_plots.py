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

PLOTS: dict[str, tuple[str, str, str, str, tuple[int, float] | None]] = {
    # file: (title, x axis, y axis, pattern of the rows' names with the size as its group, (size, goal there))
    "rollup-units": ("Roll-up of a nation from signed files", "units", "seconds", r"growth\.units\.(\d+)_s", (175_000, 10)),
    "rollup-units-memory": ("Roll-up of a nation, all processes", "units", "MiB", r"growth\.units\.(\d+)_mb", None),
    "rollup-ballots": ("One unit's ballots verified, logged and summed", "ballots", "seconds", r"growth\.ballots\.(\d+)_s", None),
    "rollup-memory": ("Growth of one unit's process after its first checkpoint", "ballots", "kB", r"growth\.ballots\.(\d+)_kb", (1_000_000, 500)),
    "replay": ("One unit's log replayed and verified again, one core", "ballots", "seconds", r"growth\.replay\.(\d+)_s", None),
    "decryption": ("Totals of one of five by five trustees of nine", "groups of units", "seconds", r"growth\.groups\.(\d+)_s", None),
    "credentials": ("Credentials from a register", "voters", "seconds", r"growth\.credentials\.(\d+)_s", (8_000_000, 120)),
    "credentials-memory": ("Credentials from a register, all processes", "voters", "MiB", r"growth\.credentials\.(\d+)_mb", None),
    "hashes": ("Register keyed by a hash, one core", "voters", "seconds", r"growth\.hashes\.(\d+)_s", (2_000_000, 10)),
}  # fmt: skip


def main() -> int:
    source = BENCH / "national.json"
    try:
        report = json.loads(source.read_text())
    except OSError as error:
        print(f"error: cannot read {source}: {error.strerror}; make bench ONLY=national makes it", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (title, x, y, pattern, goal) in PLOTS.items():
        points = sorted(
            (int(match[1]), row["value"])
            for row in report["results"]
            if row["value"] is not None and (match := re.fullmatch(pattern, row["name"]))
        )
        if not points:
            print(f"{name}: no rows like {pattern} in {source}", file=sys.stderr)
            continue
        plot(OUT / name, f"{title}\n{report['machine']['cpu']}, {report['machine']['cores']} cores", x, y, points, goal)
        print(f"{OUT / name}.png  {OUT / name}.svg")
    return 0


def plot(
    path: Path, title: str, x: str, y: str, points: list[tuple[int, float]], goal: tuple[int, float] | None
) -> None:
    """A line through the points, each with its value; logarithmic time, and memory from zero."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.plot(*zip(*points, strict=True), marker="o")
    for place, value in points:
        axes.annotate(f"{value:,.3g}" if value < 100 else f"{value:,.0f}", (place, value), (0, 7), textcoords="offset points", ha="center")  # fmt: skip
    if goal:
        axes.plot(*goal, marker="v", linestyle="none", color="tab:red", label=f"goal: {goal[1]:,} {y}")
        axes.legend(loc="lower right" if y == "seconds" else "center left")
    axes.set(title=title, xlabel=x, ylabel=y, xscale="log")
    if y == "seconds":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    else:
        axes.set_ylim(bottom=0, top=1.2 * max(value for _, value in [*points, goal or (0, 1)]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.margins(0.08, 0.12)
    axes.grid(True, which="major", alpha=0.3)
    for end in (".png", ".svg"):
        figure.savefig(path.with_suffix(end), dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
