"""One relayer: its parts, the thread that looks at the chain, and the server in front.

Threads: the event loop (HTTP), the intake worker (checks, commits, signs), the chain thread (follows the log, sends batches), and in hash mode
one that fetches bodies from the other data holders. They share the outbox and the follower's view; nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import structlog
import uvicorn
from eth_account.signers.local import LocalAccount
from nacl.signing import SigningKey
from web3 import Web3

from chain.errors import ChainError
from chain.writer import Writer
from protocol import engine
from protocol.errors import BallotboardError
from protocol.manifest import Manifest, RoleKind
from protocol.receipt import Receipt
from protocol.records import LogHead
from relayer.batcher import Batcher
from relayer.config import Settings
from relayer.follower import Follower
from relayer.holder import Replicator
from relayer.intake import Identity, Intake
from relayer.metrics import Metrics
from relayer.outbox import Outbox, State
from relayer.records import Records

OUTBOX_FILE = "outbox.db"
LOCK_FILE = "relayer.lock"

LOCK_WAIT = 0.5
"""Seconds to try for the lock of a folder: `running` holds it for an instant."""

RETRY = 1.0
"""Seconds before the next look at a chain that did not answer."""

TIDY = 1.0
"""Seconds between counts of a shared outbox, which others fill too, and between checkpoints of an own one: 5,000 ballots, 2 MB."""

SWITCH = 0.0005
"""Seconds for which a thread may keep the interpreter while another waits for it. Python's 5 ms are half of a promise's way."""

BACKLOG = 2048
"""Connections that the kernel holds until they are accepted: a load balancer's restart, not a queue of ballots."""

log = structlog.get_logger()


class Relayer:
    """`start` and `stop` the chain thread; the application is `relayer.app.create_app(relayer)`."""

    def __init__(
        self,
        web3: Web3,
        contract: bytes,
        account: LocalAccount,
        key: SigningKey,
        settings: Settings,
        outbox: Outbox,
        comet: str = "",
        peers: Sequence[str] = (),
    ) -> None:
        """`comet` is the URL of a validator's CometBFT RPC, for evidence in receipts; without one receipts have none. `peers` are the URLs of the data holders, in hash mode. Reads the log. Raises BallotboardError unless the manifest names this account and key as a relayer's, ChainError without a board."""
        self.settings, self.outbox = settings, outbox
        self.follower = Follower(web3, contract)
        manifest = self.follower.manifest
        role = manifest.role_index(bytes.fromhex(account.address[2:]))
        if role is None or manifest.roles[role].kind != RoleKind.RELAYER:
            raise BallotboardError(f"{account.address} is no relayer of this election's manifest")
        if manifest.roles[role].key != key.verify_key.encode():
            raise BallotboardError(
                f"the manifest names another promise key for {account.address} than this folder holds"
            )
        outbox.bind(facts(manifest, contract))
        self.identity = Identity(role, key, manifest.chain_id, contract, manifest.election_id)
        self.metrics = Metrics(outbox)
        writer = Writer(web3, contract, account)
        self.intake = Intake(self.identity, outbox, self.follower, writer.board, settings, self.metrics)
        self.batcher = Batcher(outbox, self.follower, writer, role, settings, self.metrics)
        self.records = Records(outbox, self.follower, writer.sender)
        self.replicator = Replicator(outbox, self.follower, peers) if manifest.body_mode == "hash" else None
        self.batcher.observe(self.follower.poll())
        self.problem = ""
        self._web3, self._comet = web3, comet
        self._evidence: tuple[LogHead, dict[str, Any]] | None = None
        self._evidence_lock = threading.Lock()
        self._tidied = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="chain", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if self.replicator:
            # Not waited for at the end: it may be waiting for a peer, and what it has not stored yet it fetches again.
            threading.Thread(target=self.replicator.run, args=(self._stopped,), name="bodies", daemon=True).start()

    def stop(self) -> None:
        """Ends at once and in good order: what is promised is in the outbox, and is sent after the next start."""
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()
        self.intake.stop()
        self.outbox.close()

    @property
    def drained(self) -> bool:
        """Whether, with intake closing, nothing is left to do. On a shared outbox only what is in flight from here counts: others carry on."""
        if self.outbox.shared:
            return self.intake.idle and not self.batcher.flight
        return self.intake.idle and not self.outbox.depth and not self.outbox.records_waiting()

    @property
    def bodies_lacking(self) -> int:
        """In hash mode, how many ballots on the chain have no body here."""
        return len(self.replicator.lacking) if self.replicator else 0

    def receipt(self, ballot_hash: bytes, head: LogHead | None = None) -> Receipt | None:
        """The receipt of a ballot in the log against `head`, by default the newest that was seen; None of one that is not there. Raises ChainError."""
        position = self.follower.positions.get(ballot_hash)
        head = head or self.follower.view.head
        if position is None or position >= head.size:
            return None
        stored, place = self.outbox.find([ballot_hash]).get(ballot_hash), self.follower.place(position)
        return Receipt(
            ballot=self.outbox.body(ballot_hash) or self.follower.ballot(position),
            chain_id=self.identity.chain_id, contract=self.identity.contract, election_id=self.identity.election,
            block_number=place.block, block_hash=place.block_hash, entry=self.follower.entry(position), head=head, position=position,
            proof=tuple(self.follower.tree.proof(position, head.size)), promise=self.intake.promise(stored) if stored else None,
        )  # fmt: skip

    def states(self, hashes: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
        """What has become of these ballots, by hash: `ballot` and `state`, and where there is one `promise`, `attempts`, `position`, `reason`."""
        wanted = list(hashes)
        found, states = self.outbox.find(wanted), {}
        for digest in wanted:
            stored, position = found.get(digest), self.follower.positions.get(digest)
            value: dict[str, Any] = {"ballot": digest.hex(), "state": "unknown"}
            if position is not None:
                value |= {"state": State.FINAL.text, "position": position}
            elif stored:
                # final is what is seen in the log; until then the outbox may know of it a moment earlier than this process
                value["state"] = min(stored.state, State.SUBMITTED).text if not stored.reason else State.DEAD.text
            if stored:
                value |= {"promise": self.intake.promise(stored), "attempts": self.outbox.attempts(stored.roll_index)}
                value |= {"reason": stored.reason} if stored.reason else {}
            states[digest] = value
        return states

    def final(self, state: dict[str, Any], evidence: bool) -> dict[str, Any]:
        """A final state with its receipt, and with `evidence` what the validators signed for the receipt's head, where there are validators."""
        proven, head = None, None
        try:
            if evidence and self._comet:
                head, proven = self._evidence_of(state["position"])
            found = self.receipt(bytes.fromhex(state["ballot"]), head)
        except ChainError as error:
            return state | {"problem": str(error)}
        if found is None:
            return state
        return state | {"receipt": json.loads(found.body())} | ({"evidence": proven} if proven else {})

    def _evidence_of(self, position: int) -> tuple[LogHead, dict[str, Any]]:
        """Evidence of a head with more than `position` records: one for all receipts until a newer record asks for more."""
        from chain.network.collect import head_evidence

        with self._evidence_lock:
            if self._evidence is None or self._evidence[0].size <= position:
                view = self.follower.view
                evidence = head_evidence(self._web3, self._comet, self.identity.contract, view.block)
                self._evidence = view.head, json.loads(evidence.body())
            return self._evidence

    def status(self) -> dict[str, Any]:
        """What anybody may know of this relayer."""
        view, counts, manifest = self.follower.view, self.outbox.counts, self.follower.manifest
        oldest = self.outbox.oldest()
        return {
            "relayer": self.identity.role, "name": manifest.roles[self.identity.role].name,
            "election": manifest.election_id.hex(), "chain": manifest.chain_id, "contract": self.identity.contract.hex(),
            "phase": view.phase.name.lower(), "now": view.now, "close": view.close,
            "head": {"root": view.head.root.hex(), "size": view.head.size},
            "queue": self.outbox.depth, "oldest": None if oldest is None else max(0, view.now - oldest),
            "ballots": {state.text: counts[state] for state in State}, "dead_letters": counts[State.DEAD],
            "records_waiting": self.outbox.records_waiting(), "dead_records": len(self.outbox.dead_records()),
            "bodies_lacking": self.bodies_lacking,
            "batches_in_flight": len(self.batcher.flight), "engine": engine.name(), "database": self.outbox.engine.dialect.name,
            "busy": self.intake.busy(), "problem": self.problem or self.follower.problem or self.batcher.problem,
        }  # fmt: skip

    def _tidy(self) -> None:
        """Once a second: what keeps the outbox's figures true and its files small."""
        if time.monotonic() - self._tidied > TIDY:
            if self.outbox.shared:
                self.outbox.recount()
            self.outbox.checkpoint()
            self._tidied = time.monotonic()

    def _follow(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            try:
                self.batcher.observe(self.follower.poll())
                self.batcher.step(hurry=self.intake.closing)
                self._tidy()
                self.problem, pause = "", self.settings.poll_interval
            except ChainError as error:
                if self.problem != str(error):
                    log.warning("the chain does not answer", error=str(error))
                self.problem, pause = str(error), RETRY
            except Exception as error:  # a fault here must not leave promises unkept in silence
                log.exception("the chain thread failed")
                self.problem, pause = f"fault: {error}", RETRY


def facts(manifest: Manifest, contract: bytes) -> dict[str, str]:
    """What an outbox is bound to."""
    return {"election": manifest.election_id.hex(), "contract": contract.hex(), "chain": str(manifest.chain_id)}


def serve(relayer: Relayer, app: Any, ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM, which refuses new ballots, waits until the promised ones are final, and returns; or ^C, which ends at once and raises KeyboardInterrupt.

    `ready` is called with the URL when requests are answered.
    """
    settings = relayer.settings
    listener = _listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        app, backlog=BACKLOG, lifespan="off", access_log=False, log_level="warning", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()  # what start-up left stays: no collection looks at it again
    relayer.start()
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            interrupted = runner.run(_serve(relayer, _Server(config), listener, lambda: ready(f"http://{host}:{port}")))
    finally:
        relayer.stop()
    if interrupted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[Callable[[str], None]]:
    """One process at a time owns a relayer's folder. Yields a function that writes down the URL for `running`."""
    with open(folder / LOCK_FILE, "a+") as file:
        end = time.monotonic() + LOCK_WAIT
        while not _locked(file, fcntl.LOCK_EX):
            if time.monotonic() > end:
                raise BallotboardError(
                    f"a relayer runs in {folder}, and two would break each other's sequence: end it with `ballotboard relayer drain --dir {folder}`"
                )
            time.sleep(0.05)

        def write(url: str) -> None:
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "url": url}))
            file.flush()

        write("")
        yield write


def running(folder: Path) -> dict[str, Any] | None:
    """`{"pid", "url"}` of the relayer that runs in this folder, None if none does."""
    try:
        with open(folder / LOCK_FILE) as file:
            return None if _locked(file, fcntl.LOCK_SH) else json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: a stop here begins with a drain, during which receipts are still served."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(relayer: Relayer, server: _Server, listener: socket.socket, ready: Callable[[], None]) -> bool:
    """Whether it was interrupted."""
    drain, interrupt = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, drain.set)
    loop.add_signal_handler(signal.SIGINT, interrupt.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    ready()
    stops = [asyncio.create_task(event.wait()) for event in (drain, interrupt)]
    await asyncio.wait([serving, *stops], return_when=asyncio.FIRST_COMPLETED)
    if drain.is_set():
        relayer.intake.closing = True
        log.info("draining", ballots=relayer.outbox.depth)
        end = time.monotonic() + relayer.settings.drain_seconds
        while not relayer.drained and not interrupt.is_set() and time.monotonic() < end:
            await asyncio.sleep(0.1)
        log.info("drained" if relayer.drained else "stopped before everything was final", ballots=relayer.outbox.depth)
    server.should_exit = True
    await serving
    for stop in stops:
        stop.cancel()
    return interrupt.is_set()


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise BallotboardError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return listener
