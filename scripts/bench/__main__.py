"""`python -m scripts.bench [NAME …] [--quick]`: run benchmarks, print them, write build/bench/NAME.json."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import scripts.bench

OUT = Path("build/bench")


def names() -> list[str]:
    return sorted(
        module.name for module in pkgutil.iter_modules(scripts.bench.__path__) if not module.name.startswith("_")
    )


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    info: dict[str, Any] = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        info["cpu"] = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags")).split()
        info["avx512ifma"] = "avx512ifma" in flags
        info["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (OSError, StopIteration, ValueError):
        info["cpu"] = platform.processor() or "unknown"
    return info


def commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(names())}; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(names()))
    if unknown:
        print(f"error: no benchmark {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or names():
        results = importlib.import_module(f"scripts.bench.{name}").run(arguments.quick)
        report = {"machine": machine(), "commit": commit(), "quick": arguments.quick, "results": results}
        (OUT / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
        print(f"{name}  ({report['machine']['cpu']}, {report['machine']['cores']} cores)")
        for result in results:
            print("  " + line(result))
    return 0


def line(result: dict[str, Any]) -> str:
    value = "not measured" if result["value"] is None else f"{result['value']:,.6g}"
    beside = (
        f"  {result['ratio']:.3g} x {result['baseline']} ({result['baseline_value']:,.6g})" if result["ratio"] else ""
    )
    return f"{result['name']:<34}{value:>14} {result['unit']}{beside}"


if __name__ == "__main__":
    sys.exit(main())
