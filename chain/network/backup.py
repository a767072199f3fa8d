"""One operator's keys, network file and chain in one encrypted file, and back: for a machine that is lost.

    header line (chain.sealed)  ||  a tar archive in pieces of 1 MiB, each a SecretBox

Piece i has the nonce u64 i, then 1 if it is the last: none can be left out, moved or added, and the end cannot be cut off. The key is this
file's alone, so no nonce comes twice. Source: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, 2015).

**What was signed last is never in it** (data/priv_validator_state.json, and the log of consensus, data/cs.wal). A validator with an older
state than its key's last vote may sign a second vote for the same height, and everyone can prove that for years. So it is made safe in
three steps, each of which the next needs:

1. `restore` writes a signing state that lies above every height: the validator follows the network and signs nothing. CometBFT itself
   refuses, whatever starts it.
2. `rejoin` asks the running node: it is level with the others, the network makes QUIET blocks while it watches (their own times pass no
   faster than the watch), and no commit of them carries its signature. So the network goes on without it, and nobody else signs with this
   key as far as the network sees.
3. Only then it writes a state MARGIN above the last block. A vote that the old machine signed while it was alive is for a height at most two
   above what any other validator had decided then (it needs their precommits to come that far), and QUIET blocks have passed since.

What no program can see is an old machine that is alive behind a cut cable and comes back later: whoever restores must know that it is dead.
A network that stands still because of the loss is not helped by this: it needs another of its validators back.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from chain.comet import address
from chain.errors import ChainError
from chain.network.genesis import Network
from chain.network.node import Node, join
from chain.network.operator import KEY_FILES
from chain.network.status import block_time, blocks_behind, connected_ids, count_signatures
from chain.process import port_is_free
from chain.sealed import STRONG, Cost, WrongPassphrase, new_header, open_box, take_header

FORMAT = "ballotboard/node-backup/v1"

FILES = ("operator.json", "ports.json", "network.json", *KEY_FILES)
"""What cannot be made again; the rest of a folder follows from it."""

CHAIN = ("data/blockstore.db", "data/state.db", "data/evidence.db", "geth/geth/chaindata")
"""CometBFT's blocks and geth's: others have them too, so they only save the time of asking."""

STATE = "data/priv_validator_state.json"

NEVER = 2**63 - 1
"""The height of a signing state that lets nothing be signed: CometBFT's largest."""

QUIET = 10
"""Blocks that the network must make without this validator before it signs again."""

MARGIN = 2
"""Heights above the last block that are left out too."""

PATIENCE = 60.0
"""Seconds for QUIET blocks: four times what they take with one of four validators missing."""

SLACK = 3.0
"""Seconds that the blocks' own times may span more than they were watched: validators' clocks differ."""

POLL = 0.2

PIECE = 2**20
"""Bytes of a piece: little memory, whatever the size of the chain."""

_OVERHEAD = 16  # of a SecretBox without its nonce


def backup(home: Path, out: Path, passphrase: str, keys_only: bool = False, cost: Cost = STRONG) -> int:
    """Writes the folder's backup to a new file `out`; gives its size. Raises ChainError: `out` exists, no network yet, or, unless `keys_only`,
    the node runs (its databases are whole only when nobody writes them)."""
    node = Node(home)
    if not keys_only and not (port_is_free(node.ports.rpc) and port_is_free(node.ports.comet)):
        raise ChainError(
            f"the node of {home} runs: stop it first (`chain stop {home}`), or take --keys-only; the others have the chain"
        )
    paths = [home / name for name in FILES]
    if not keys_only:
        paths += [path for name in CHAIN for path in sorted((home / name).rglob("*")) if path.is_file()]
    header = new_header(FORMAT, cost)
    box = open_box(header, passphrase, str(out))
    try:
        file = os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise ChainError(f"{out} exists and is not overwritten: name another file") from None
    except OSError as error:
        raise ChainError(f"cannot write {out}: {error.strerror}") from error
    try:
        with file:
            file.write(header)
            sealer = _Sealer(file, box)
            with tarfile.open(fileobj=cast(IO[bytes], sealer), mode="w|", bufsize=PIECE) as archive:
                for path in paths:
                    archive.add(path, str(path.relative_to(home)), recursive=False)
            sealer.finish()
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        out.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ChainError(f"cannot write the backup {out}: {error.strerror or error}") from error
        raise
    return out.stat().st_size


def restore(path: Path, home: Path, passphrase: str) -> Node:
    """Makes the folder `home` from a backup, with a signing state that lets nothing be signed. Raises ChainError or WrongPassphrase, and
    leaves nothing then: a folder that holds anything is not touched."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ChainError(f"{home} is not empty and is not overwritten: name a new folder")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    except OSError as error:
        raise ChainError(f"cannot write beside {home}: {error.strerror}") from error
    try:
        with path.open("rb") as file:
            header = take_header(file.readline(PIECE), FORMAT, str(path))
            unsealed = _Unsealed(file, open_box(header, passphrase, str(path)), path)
            with tarfile.open(fileobj=cast(IO[bytes], unsealed), mode="r|", bufsize=PIECE) as archive:
                archive.extractall(aside, filter="data")
            unsealed.finish()
        for folder in ("data", "logs"):
            (aside / folder).mkdir(exist_ok=True)
        write_signing_state(aside, NEVER)
        network = Network.parse((aside / "network.json").read_bytes())
        (aside / "network.json").unlink()  # `join` writes it last, when all that follows from it is there
        join(aside, network, listed=False)  # one that was voted in later is not in the file
        aside.rename(home)
    except OSError as error:
        raise ChainError(f"cannot restore {path} to {home}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Node(home)


def is_restored(home: Path) -> bool:
    """Whether the folder comes from a backup and may not sign yet."""
    try:
        return int(json.loads((home / STATE).read_text())["height"]) == NEVER
    except (OSError, ValueError, KeyError, TypeError):
        return False


def rejoin(home: Path, tick: Callable[[int], None] | None = None) -> int:
    """Lets a restored node sign again, from its next start on; gives the height above which. `tick` gets the blocks seen so far.

    Raises ChainError, and changes nothing, unless all of what the module's text asks for is seen.
    """
    node = Node(home)
    if not is_restored(home):
        raise ChainError(f"{home} does not come from a backup, or signs again already: there is nothing to do")
    height = watch_silence(node, tick) + MARGIN
    write_signing_state(home, height)
    return height


def watch_silence(node: Node, tick: Callable[[int], None] | None = None) -> int:
    """Watches QUIET blocks that the network makes now, none signed with this node's key; gives the last one's height."""
    own, end = address(node.operator.validator_key), time.monotonic() + PATIENCE
    while not _is_level(node):
        if time.monotonic() > end:
            raise ChainError(
                f"the node is not level with the others: see `chain status {node.home}`, and wait until it is"
            )
        time.sleep(POLL)
    first, began, end = _height(node), time.monotonic(), time.monotonic() + PATIENCE
    while (last := _height(node)) < first + QUIET:
        if time.monotonic() > end:
            raise ChainError(
                f"{last - first} blocks in {PATIENCE:.0f} s: the network must go on without this validator before it may sign again;"
                f" see `chain status {node.home}`, and get another validator back"
            )
        if tick:
            tick(last - first)
        time.sleep(POLL)
    # A block's time is when the one before it was signed. `first` was signed before the watch began, and first + 1 within it, unless these
    # are old blocks: they arrive faster than they were made.
    watched, passed = time.monotonic() - began, block_time(node.comet_url, last) - block_time(node.comet_url, first + 2)
    if passed > watched + SLACK:
        raise ChainError("the node was still catching up, and old blocks prove nothing: try again")
    if signed := count_signatures(node.comet_url, range(first + 1, last + 1)).get(own):
        raise ChainError(
            f"{signed} of the last {last - first} blocks carry this validator's signature: its key is in use elsewhere;"
            " end that machine, and destroy its disk, before anything else"
        )
    return last


def write_signing_state(home: Path, height: int) -> None:
    """A signing state under which nothing is signed at or below `height`: no round or step comes after these."""
    path, new = home / STATE, home / f"{STATE}.new"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"height": str(height), "round": 2**31 - 1, "step": 3}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _height(node: Node) -> int:
    return int(node.comet("status")["sync_info"]["latest_block_height"])


def _is_level(node: Node) -> bool:
    """Whether the node takes part in consensus, and no validator that it is connected to is further."""
    catching_up = node.comet("status")["sync_info"]["catching_up"]
    return not catching_up and bool(connected_ids(node.comet_url)) and not blocks_behind(node.comet_url, _height(node))


# ---------------------------------------------------------------- the encrypted stream


def _nonce(number: int, last: bool) -> bytes:
    return (number.to_bytes(8, "big") + bytes([last])).ljust(SecretBox.NONCE_SIZE, b"\0")


class _Sealer:
    """What tarfile writes to."""

    def __init__(self, file: IO[bytes], box: SecretBox) -> None:
        self._file, self._box = file, box
        self._held, self._number = bytearray(), 0

    def write(self, data: bytes) -> int:
        self._held += data
        while len(self._held) > PIECE:  # the last piece, even a full one, waits for `finish`
            self._seal(bytes(self._held[:PIECE]), False)
            del self._held[:PIECE]
        return len(data)

    def finish(self) -> None:
        self._seal(bytes(self._held), True)

    def _seal(self, piece: bytes, last: bool) -> None:
        self._file.write(self._box.encrypt(piece, _nonce(self._number, last)).ciphertext)
        self._number += 1


class _Unsealed:
    """What tarfile reads from."""

    def __init__(self, file: IO[bytes], box: SecretBox, path: Path) -> None:
        self._pieces, self._held = _pieces(file, box, path), b""

    def read(self, size: int) -> bytes:
        while len(self._held) < size and (piece := next(self._pieces, None)) is not None:
            self._held += piece
        given, self._held = self._held[:size], self._held[size:]
        return given

    def finish(self) -> None:
        """Reads what the archive's reader left, to the end: only a whole file is one that we wrote."""
        for _ in self._pieces:
            pass


def _pieces(file: IO[bytes], box: SecretBox, path: Path) -> Iterator[bytes]:
    number, sealed = 0, file.read(PIECE + _OVERHEAD)
    while True:
        following = file.read(PIECE + _OVERHEAD)
        try:
            yield box.decrypt(sealed, _nonce(number, not following))
        except (CryptoError, ValueError) as error:
            raise WrongPassphrase(f"{path} does not open: the passphrase is wrong, or the file was damaged") from error
        if not following:
            return
        number, sealed = number + 1, following
