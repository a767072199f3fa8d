"""The peer: how many yes/no ballots a second `belenios-tool` (a Debian package) verifies on this machine.

A small election is run as an operator would run it; every step is a process of the tool. Its processor time is taken, less
what verification costs without ballots. The answer is kept in build/, since making the ballots takes most of the time.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

CACHE = Path("build/bench/belenios-cache.json")
GROUP = "BELENIOS-2048"
"""What the Debian build verifies fastest; it has no Ed25519."""
ELSEWHERE = {"one-of-2": (361.0, 1_719), "one-of-5": (179.0, 3_274)}
"""Ballots a second and bytes of the newer Belenios over Ed25519, which Debian has not: measured by us earlier, on a core like this one."""
QUESTIONS = {
    "description": "d",
    "name": "n",
    "administrator": "A",
    "credential_authority": "C",
    "questions": [{"answers": ["Yes", "No"], "min": 1, "max": 1, "question": "Q?"}],
}


@dataclass(frozen=True)
class Peer:
    """What was measured: verified ballots a second on one core, and bytes of a ballot."""

    name: str
    ballots: int
    rate: float
    ballot_bytes: int


def measure(ballots: int) -> Peer | None:
    """The tool over so many ballots, from the cache where it is there; None where it is not installed."""
    if shutil.which("belenios-tool") is None:
        return None
    version = subprocess.run(["belenios-tool", "--version"], capture_output=True, text=True, check=True).stdout.split()[
        0
    ]
    name = f"belenios-tool {version} ({GROUP})"
    if CACHE.exists():
        cached = Peer(**json.loads(CACHE.read_text()))
        if (cached.name, cached.ballots) == (name, ballots):
            return cached
    with tempfile.TemporaryDirectory() as folder:
        rate, ballot_bytes = _election(Path(folder), ballots)
    peer = Peer(name, ballots, rate, ballot_bytes)
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    CACHE.write_text(json.dumps(asdict(peer)) + "\n")
    return peer


def _election(folder: Path, ballots: int) -> tuple[float, int]:
    """(verified ballots a second, bytes of a ballot)"""

    def tool(*arguments: str, given: str = "") -> str:
        return subprocess.run(
            ["belenios-tool", *arguments],
            cwd=folder,
            input=given,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"BELENIOS_USE_URANDOM": "1"},
        ).stdout

    def verify() -> float:
        started = children_cpu()
        tool("election", "verify")
        return children_cpu() - started

    def children_cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def only(pattern: str) -> Path:
        (found,) = folder.glob(pattern)
        return found

    election = ["--uuid", tool("setup", "generate-token").strip(), "--group", GROUP]
    (folder / "voters.txt").write_text("".join(f"v{i}@example.org,v{i},1\n" for i in range(ballots)))
    tool("setup", "generate-credentials", *election, "--file", "voters.txt")
    only("*.pubcreds").rename(folder / "public_creds.json")
    tool("setup", "generate-trustee-key", "--group", GROUP)
    (folder / "public_keys.jsons").write_text(only("*.pubkey").read_text())
    tool("setup", "make-trustees")
    (folder / "questions.json").write_text(json.dumps(QUESTIONS))
    tool("setup", "make-election", *election, "--template", "questions.json")
    tool("archive", "init")
    for name in ("election.json", "trustees.json", "public_creds.json"):
        (folder / name).unlink(missing_ok=True)
    empty = verify()
    size = 0
    for i, line in enumerate(only("*.privcreds").read_text().splitlines()):
        (folder / "credential").write_text(line.split()[1] + "\n")
        (folder / "vote").write_text("[[0,1]]\n" if i % 3 == 0 else "[[1,0]]\n")
        ballot = tool("election", "generate-ballot", "--privcred", "credential", "--ballot", "vote")
        tool("archive", "add-event", "--type=Ballot", given=ballot)
        size = len(ballot.strip())
    return ballots / (min(verify(), verify()) - empty), size
