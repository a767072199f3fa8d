"""A trustee's keystore: one encrypted file with the chain key, the ceremony's secrets and what must never be forgotten.

    header line (chain.sealed, or trustee.token)  ||  SecretBox(canonical JSON below), nonce first

A passphrase opens it (Argon2id), or a PKCS#11 token with its PIN; which one, the header says.

Every save replaces the whole file atomically, with mode 0600, and is on the disk before `save` returns: a caller saves *before* it lets out
anything that depends on what it saved. A message of the ceremony is kept as the bytes that were made first, so that sending it again can
never send a second, different one. While a keystore is open for writing no other process may have it so.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from chain.sealed import STRONG, Cost, WrongPassphrase, new_header, open_box, take_header
from protocol.ceremony import TrusteeSecret
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.group import parse_scalar, scalar_bytes
from protocol.records import LogHead
from trustee.token import Token
from trustee.token import new_header as new_token_header
from trustee.token import open_box as open_token_box
from trustee.token import take_header as token_header

FORMAT = "ballotboard/keystore/v1"
MODE = 0o600


class KeystoreError(BallotboardError):
    """A keystore that is missing, in use, or would be overwritten."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The one board this keystore serves: contract (20 bytes), election id (32 bytes), and the trustee's number there."""

    contract: bytes
    election: bytes
    trustee: int


@dataclass
class Attempt:
    """One attempt at the ceremony: the secrets, and round → the body that was made for it."""

    secret: TrusteeSecret
    messages: dict[int, bytes] = field(default_factory=dict)


class Keystore:
    """An open keystore. Change its members, then `save`.

    account: the role key. binding: None until it has joined a board. attempts: by number. head: the longest log seen; each was checked to
    extend the one before, so a log that extends it extends them all. settlement: the head whose sums this trustee decrypts, the only one ever.
    """

    def __init__(self, path: Path, header: bytes, box: SecretBox, account: LocalAccount) -> None:
        self.path, self.account = path, account
        self._header, self._box = header, box
        self._lock: int | None = None
        self.binding: Binding | None = None
        self.attempts: dict[int, Attempt] = {}
        self.head: LogHead | None = None
        self.settlement: LogHead | None = None

    @property
    def writable(self) -> bool:
        return self._lock is not None

    @classmethod
    def create(
        cls,
        path: Path,
        passphrase: str,
        account: LocalAccount | None = None,
        cost: Cost = STRONG,
        token: Token | None = None,
    ) -> Keystore:
        """A new keystore under `path` with a fresh chain key, or with `account`. With a token `passphrase` is its PIN. Refuses to overwrite a file."""
        lock = _lock(path)
        try:
            if path.exists():
                raise KeystoreError(f"{path} exists and is not overwritten: a lost keystore is a lost share")
            header, box = _new_box(path, passphrase, cost, token)
            store = cls(path, header, box, account or Account.create())
            store._lock = lock
            store.save()
        except BaseException:
            os.close(lock)
            raise
        return store

    @classmethod
    def open(cls, path: Path, passphrase: str, write: bool = True) -> Keystore:
        """The keystore in a file. With `write` it is held for this process alone until `close`.

        Raises KeystoreError, WrongPassphrase, Malformed; the file is never changed by that.
        """
        lock = _lock(path) if write and path.exists() else None
        try:
            store = cls._read(path, passphrase)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        store._lock = lock
        return store

    @classmethod
    def _read(cls, path: Path, passphrase: str) -> Keystore:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise KeystoreError(f"cannot read the keystore {path}: {error.strerror}") from error
        if header := token_header(data, FORMAT, str(path)):
            box = open_token_box(header, passphrase, str(path))
        else:
            header = take_header(data, FORMAT, str(path))
            box = open_box(header, passphrase, str(path))
        try:
            plain = box.decrypt(data[len(header) :])
        except (CryptoError, ValueError) as error:
            raise WrongPassphrase(f"{path} does not open: the passphrase is wrong, or the file was damaged") from error
        return _load(path, header, box, plain)

    def save(self) -> None:
        """Replace the file; when this returns the new content is on the disk. If it raises, nothing may depend on it."""
        if not self.writable:
            raise KeystoreError(f"{self.path} was opened for reading only")
        _replace(self.path, self._header + self._box.encrypt(_dump(self)))

    def backup(self, target: Path, passphrase: str = "", cost: Cost = STRONG) -> None:
        """Copy the content to a new file. It opens as this keystore does, or with another passphrase: that of a token must not need the token."""
        if target.exists():
            raise KeystoreError(f"{target} exists and is not overwritten: choose another file")
        header, box = _new_box(target, passphrase, cost, None) if passphrase else (self._header, self._box)
        _replace(target, header + box.encrypt(_dump(self)))

    def close(self) -> None:
        """Let other processes have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Keystore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _new_box(path: Path, passphrase: str, cost: Cost, token: Token | None) -> tuple[bytes, SecretBox]:
    if token:
        return new_token_header(FORMAT, token, passphrase)
    header = new_header(FORMAT, cost)
    return header, open_box(header, passphrase, str(path))


# ---------------------------------------------------------------- content


def _dump(store: Keystore) -> bytes:
    binding = store.binding
    return canonical_json(
        {
            "account": bytes(store.account.key).hex(),
            "attempts": {str(number): _dump_attempt(attempt) for number, attempt in store.attempts.items()},
            "binding": binding and {
                "contract": binding.contract.hex(), "election": binding.election.hex(), "trustee": binding.trustee,
            },
            "format": FORMAT, "head": _dump_head(store.head), "settlement": _dump_head(store.settlement),
        }
    )  # fmt: skip


def _load(path: Path, header: bytes, box: SecretBox, plain: bytes) -> Keystore:
    maybe = (dict, type(None))
    value = members(
        parse_json(plain, "keystore"), "keystore",
        account=str, attempts=dict, binding=maybe, format=str, head=maybe, settlement=maybe,
    )  # fmt: skip
    if value["format"] != FORMAT:
        raise Malformed("keystore.format", f"expected {FORMAT}")
    store = Keystore(path, header, box, Account.from_key(unhex(value["account"], 32, "keystore.account")))
    if value["binding"] is not None:
        bound = members(value["binding"], "keystore.binding", contract=str, election=str, trustee=int)
        contract = unhex(bound["contract"], 20, "keystore.binding.contract")
        election = unhex(bound["election"], 32, "keystore.binding.election")
        store.binding = Binding(contract, election, bound["trustee"])
    store.attempts = {int(number): _load_attempt(attempt) for number, attempt in value["attempts"].items()}
    store.head, store.settlement = _load_head(value["head"]), _load_head(value["settlement"])
    return store


def _dump_attempt(attempt: Attempt) -> dict[str, Any]:
    secret = attempt.secret
    return {
        "messages": {str(number): body.hex() for number, body in attempt.messages.items()},
        "polynomial": [scalar_bytes(a).hex() for a in secret.polynomial], "q": scalar_bytes(secret.q).hex(), "trustee": secret.number,
    }  # fmt: skip


def _load_attempt(value: Any) -> Attempt:
    members(value, "keystore.attempts", messages=dict, polynomial=list, q=str, trustee=int)
    secret = TrusteeSecret(value["trustee"], _scalar(value["q"]), [_scalar(a) for a in value["polynomial"]])
    return Attempt(secret, {int(number): bytes.fromhex(body) for number, body in value["messages"].items()})


def _dump_head(head: LogHead | None) -> dict[str, Any] | None:
    return {"root": head.root.hex(), "size": head.size} if head else None


def _load_head(value: Any) -> LogHead | None:
    if value is None:
        return None
    members(value, "keystore.head", root=str, size=int)
    return LogHead(value["size"], unhex(value["root"], 32, "keystore.head.root"))


def _scalar(text: Any) -> int:
    return parse_scalar(unhex(text, 32, "keystore.scalar"), "keystore.scalar")


# ---------------------------------------------------------------- files


def _replace(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, sync it, put it in place, sync the directory: at every moment the old file or the new one is there."""
    aside = path.with_name(f".{path.name}.new")
    try:
        aside.unlink(missing_ok=True)  # left by a process that died here; the lock says that it is nobody's
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeystoreError(f"cannot write {path}: {error.strerror}") from error


def _lock(path: Path) -> int:
    """A lock that the system drops when this process ends. It is a file beside the keystore, which itself is replaced at every save."""
    try:
        handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, MODE)
    except OSError as error:
        raise KeystoreError(f"cannot write beside {path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise KeystoreError(f"{path} is in use by another process: wait for it, or stop it") from None
    return handle
