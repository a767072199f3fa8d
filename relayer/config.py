"""Settings of a relayer: one TOML file, each key also as an environment variable `BALLOTBOARD_RELAYER_KEY`.

`Settings` is the list of keys; `example()` is the same list as a commented file, which `ballotboard relayer init` writes.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from chain.contract import MAX_PACKED
from protocol.errors import BallotboardError

PREFIX = "BALLOTBOARD_RELAYER_"


def _key(default: Any, why: str) -> Any:
    return field(default=default, metadata={"why": why})


@dataclass(frozen=True)
class Settings:
    """Every setting with its default; the text beside it is the documentation of the key."""

    host: str = _key(
        "127.0.0.1",
        "Address to listen on: this machine only, since TLS and the public address belong to a reverse proxy.",
    )
    port: int = _key(8040, "TCP port; 0 takes a free one, which the ready line names.")
    database: str = _key(
        "",
        "SQLAlchemy URL of the outbox; empty means SQLite in the relayer's folder. postgresql+psycopg://user@host/name is a PostgreSQL database,"
        " which several relayers may share, each with a folder, an account and a promise key of its own.",
    )

    peers: str = _key(
        "",
        "Where the chain has ballots' hashes only: URLs of the other data holders, with spaces between, from which bodies are fetched; empty"
        " means the `holders` of the connection file.",
    )

    max_delay: float = _key(
        1.0, "Seconds a ballot waits for others before its batch is sent: a small part of promise_seconds."
    )
    max_batch_bytes: int = _key(
        MAX_PACKED,
        "Bytes of packed ballots in one transaction: what 96 KiB of calldata carry, which every engine takes.",
    )
    max_in_flight: int = _key(
        32, "Batches sent and not yet in a block: 3 MB, half as much again as four validators put into a second."
    )
    rebroadcast_after: float = _key(
        5.0, "Seconds after which a batch that is in no block is sent again: a node that was killed forgets its pool."
    )
    replace_after: float = _key(
        30.0,
        "Seconds, and three blocks, after which a batch in no block is signed again at twice the fees: half of promise_seconds.",
    )
    takeover_after: float = _key(
        10.0,
        "Seconds between looks at the batches of other relayers on the same database; what is still in flight at the next is looked after.",
    )
    poll_interval: float = _key(0.25, "Seconds between looks at the chain: a fraction of the shortest block time.")

    promise_seconds: int = _key(
        60,
        "Seconds of chain time from a ballot's arrival to the promised moment: many times the slowest block seen under faults.",
    )
    stale_after: float = _key(
        10.0,
        "Seconds without an answer from the node after which nothing is promised, since the window cannot be judged.",
    )

    max_queue: int = _key(
        1_000_000,
        "Ballots promised and not final beyond which intake answers busy: about 1 GB on disk, 100 MB in memory.",
    )
    max_waiting: int = _key(
        20_000, "Ballots received and not yet checked beyond which intake answers busy: a few seconds of work."
    )
    verify_batch: int = _key(
        1024,
        "Most ballots checked and committed together: enough for the batch check to pay, short enough for a quick answer.",
    )
    threads: int = _key(0, "Threads that check ballots; 0 means all cores.")
    max_request_bytes: int = _key(4 * 1024 * 1024, "Largest request body: some 10,000 yes/no ballots in one.")
    max_streams: int = _key(
        1_000,
        "Voters that may wait on event streams at once: a connection and a few kB each; further ones are told to poll.",
    )
    credential_attempts: int = _key(
        20, "Ballots of one credential taken a minute: no voter changes their mind oftener, a flooding program does."
    )
    retry_after: int = _key(2, "Seconds named in Retry-After when busy: a queue of max_waiting is worked off by then.")
    drain_seconds: float = _key(
        120.0,
        "Seconds that a stop waits for promised ballots to become final; what is left is sent after the next start.",
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name not in ("host", "database", "peers", "port", "threads") and getattr(self, item.name) <= 0:
                raise BallotboardError(f"relayer setting {item.name} must be positive")
        if self.max_batch_bytes > MAX_PACKED:
            raise BallotboardError(f"relayer setting max_batch_bytes must be at most {MAX_PACKED}")
        if self.max_delay * 2 > self.promise_seconds:
            raise BallotboardError("relayer setting max_delay must be well below promise_seconds, or promises break")


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Defaults, replaced by the file's keys, replaced by the environment's. Raises BallotboardError naming a wrong key."""
    values: dict[str, Any] = {}
    if path:
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BallotboardError(f"{path} is not TOML: {error}") from error
    kinds = {item.name: type(item.default) for item in fields(Settings)}
    for name in values:
        if name not in kinds:
            raise BallotboardError(f"{path}: there is no setting {name}; the settings are {', '.join(kinds)}")
    for name in kinds:
        if PREFIX + name.upper() in environment:
            values[name] = environment[PREFIX + name.upper()]
    return Settings(**{name: _convert(name, value, kinds[name]) for name, value in values.items()})


def example() -> str:
    """A settings file with every key, commented out, at its default."""
    lines = [
        "# Settings of `ballotboard relayer run`. Each is also read from the environment as " + PREFIX + "KEY.",
        "",
    ]
    for item in fields(Settings):
        value = f'"{item.default}"' if isinstance(item.default, str) else item.default
        lines += [f"# {item.metadata['why']}", f"#{item.name} = {value}", ""]
    return "\n".join(lines)


def _convert(name: str, value: Any, kind: type) -> Any:
    exact = isinstance(value, (str, kind)) or (kind is float and isinstance(value, int))
    try:
        if isinstance(value, bool) or not exact:
            raise ValueError
        return kind(value)
    except ValueError as error:
        raise BallotboardError(f"relayer setting {name} must be of type {kind.__name__}, not {value!r}") from error
