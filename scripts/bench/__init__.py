"""Benchmarks: one module per name, each with `run(quick) -> rows`; `python -m scripts.bench [NAME]` runs and stores them.

A row is {"name", "value", "unit", "baseline", "baseline_value", "ratio"}: every figure stands beside something measured in the same
run, since machines are noisy and a ratio carries further than a number. A module never invents a figure: what could not
be measured has value None and says why in "unit".
"""

from __future__ import annotations

from typing import Any


def row(
    name: str, value: float | None, unit: str, baseline: str = "", baseline_value: float | None = None
) -> dict[str, Any]:
    """A result row; the ratio is value / baseline_value where both are there."""
    ratio = value / baseline_value if value is not None and baseline_value else None
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "baseline": baseline,
        "baseline_value": baseline_value,
        "ratio": ratio,
    }
