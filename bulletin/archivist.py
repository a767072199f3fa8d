"""The archive of the log as one file (docs/protocol.md, section 14), made from the board's database and kept beside it for everyone to download.

It is byte for byte what `ballotboard archive make` writes from a node at the same head. What the database has not, the creation of the contract, its
code and the validators' signatures, is asked of the node; without one there is no archive, and the pages say so.

The process that follows the chain makes it, never a request: when a result is announced; when the log has not grown for a while; and now and then while
it grows. The new file is complete on the disk before the note (bulletin.archives) names it, so a crash or a full disk leaves the one that there was. The
file before is deleted one making later: who is downloading it has that long.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bulletin.archives import Archives, Held, Note
from bulletin.store import Reading, Store, StoreError
from chain.console import Connection
from chain.network.collect import head_evidence
from chain.reader import Batch, Reader
from chain.rpc import call, connect
from protocol.errors import BallotboardError
from protocol.manifest import Manifest
from verifier.stored import Recorder

QUIET = 20.0
"""Seconds without a new record after which the log may be done for now."""

EVERY = 900.0
"""Seconds between two archives of a log that grows: for who wants to hold on to what was there at some time."""

SHARE = 10
"""At most a tenth of the time is spent on making archives, however long one takes."""

RETRY = 30.0
"""Seconds after one could not be made."""

POLL = 1.0
"""Seconds between looks at the database, and between notes of how far a making is."""

log = logging.getLogger("bulletin")


class Archivist:
    """Keeps the archive of the log in `store` under `folder`, and the note beside it. One thread uses it."""

    def __init__(
        self, store: Store, connection: Connection, folder: Path, ready: Callable[[], bool] = lambda: True
    ) -> None:
        """`ready` says whether the log is read: nothing is made before."""
        self.store, self.connection, self._ready = store, connection, ready
        self.archives = Archives(store, folder)
        self.note = replace(self.archives.note(), making=None)  # whoever was making one is gone
        self._source: tuple[Reader, int, bytes, bytes] | None = None
        self._size, self._changed, self._looked, self._ended, self._pause = -1, 0.0, 0.0, -EVERY, 0.0

    def run(self, stop: threading.Event) -> None:
        """Makes archives until `stop` is set."""
        while not stop.wait(POLL):
            if self._ready() and self._due():
                self.step()

    def step(self) -> bool:
        """Makes the archive of the log as it is now; false, with the trouble in the note, if that cannot be."""
        began, trouble, held = time.monotonic(), "", self.note.held
        part = self.archives.folder / f"{self.archives.election}.archive.part"
        try:
            held = self._make(part)
            log.info("the archive of %d records is made: %s", held.size, held.name)
        except OSError as error:
            trouble = f"cannot write {part.name}: {error.strerror or error}"
        except (BallotboardError, StoreError) as error:
            trouble = str(error)
        finally:
            part.unlink(missing_ok=True)
            self._ended = time.monotonic()
            self._pause = RETRY if trouble else SHARE * (self._ended - began)
            self._tell(Note(held, None, trouble))
        if trouble:
            log.warning("no archive: %s", trouble)
        return not trouble

    # ---- helpers

    def _due(self) -> bool:
        now, held = time.monotonic(), self.note.held
        try:
            with self.store.read() as tx:
                size, files, final = tx.head().size, tx.files(), tx.fact("result") is not None
                if not size or tx.fact("alarm"):
                    return False
                if size != self._size:
                    self._size, self._changed = size, now
                if now - self._ended < self._pause:
                    return False
                if held and (size, files) == (held.size, held.files):
                    # bodies of ballots may still come from the data holders; looking for them is looking at every ballot
                    if not held.missing or now - max(self._ended, self._looked) < EVERY:
                        return False
                    self._looked = now
                    return tx.lacking() < held.missing
        except StoreError:
            return False  # the pages say so
        first_final = final and not (held and held.final)
        return first_final or held is None or now - self._changed >= QUIET or now - self._ended >= EVERY

    def _make(self, part: Path) -> Held:
        reader, chain_id, creation, code = self._of_node()
        with self.store.read() as tx, part.open("wb") as file:
            if tx.fact("alarm"):
                raise BallotboardError("this board has stopped: what it holds is not to be relied on")
            head, (size, missing, files) = tx.head(), _state(tx)
            recorder = Recorder(file, chain_id, reader.address, creation, code)
            told = 0.0
            for batch in _batches(tx):
                if time.monotonic() - told >= POLL:
                    self._tell(replace(self.note, making=(recorder.size, size)))
                    told = time.monotonic()
                recorder.batch(batch)
            evidence = b""
            if self.connection.comet:
                evidence = head_evidence(reader.web3, self.connection.comet, reader.address, recorder.block).body()
            held = {name: data for name in recorder.named if (data := tx.attachment(name)) is not None}
            record = recorder.finish(head, held, evidence)
            final = tx.fact("result") is not None
            os.fsync(file.fileno())
        with part.open("rb") as whole:
            digest = hashlib.file_digest(whole, "sha256").hexdigest()
        name = f"{self.archives.election}-{digest[:16]}.archive"
        found = Held(name, size, head.root.hex(), missing, files, final, digest, part.stat().st_size, record.hex())
        os.replace(part, self.archives.folder / name)
        before = self.note.held
        self.archives.write(Note(found, None, ""))
        keep = {name, before.name if before else name}
        for old in self.archives.folder.glob(f"{self.archives.election}-*.archive"):
            if old.name not in keep:
                old.unlink(missing_ok=True)
        return found

    def _tell(self, note: Note) -> None:
        self.note = note
        try:
            self.archives.write(note)
        except OSError as error:
            log.warning("cannot write the note of the archives: %s", error.strerror or error)

    def _of_node(self) -> tuple[Reader, int, bytes, bytes]:
        """The chain, and what never changes of the contract. Raises NodeUnreachable."""
        if self._source is None:
            reader = Reader(connect(self.connection.rpc), self.connection.contract_bytes)
            chain_id = int(call(reader.web3, "eth_chainId"), 16)
            self._source = reader, chain_id, reader.creation().input, reader.runtime_code()
        return self._source


def _batches(tx: Reading) -> Iterator[Batch]:
    """The events of the log, as they were read from the chain."""
    records, first = tx.records(), 0
    for place in tx.places():
        yield Batch(
            first,
            list(islice(records, place.size - first)),
            place.root,
            place.block,
            place.block_hash,
            place.transaction,
        )
        first = place.size


def _state(tx: Reading) -> tuple[int, int, int]:
    """What an archive follows from: the records, the ballots without a body, the files."""
    manifest = tx.record(0)
    hash_mode = manifest is not None and Manifest.parse(manifest.body or b"").body_mode == "hash"
    return tx.head().size, tx.lacking() if hash_mode else 0, tx.files()
