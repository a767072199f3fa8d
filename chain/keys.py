"""Role keys on disk: one secp256k1 key per person, as a Web3 Secret Storage (keystore V3) file.

The file is written whole or not at all, readable by its owner only. scrypt makes a guess cost about a second.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from protocol.errors import BallotboardError


class KeyFileError(BallotboardError):
    """A key file that is missing, is none, or does not open with this passphrase."""


def new_account(path: Path, passphrase: str) -> LocalAccount:
    """A fresh account, saved under `path`. Refuses to overwrite a file: a lost key is a lost role."""
    account: LocalAccount = Account.create()
    save_account(path, account, passphrase)
    return account


def save_account(path: Path, account: LocalAccount, passphrase: str) -> None:
    """Write `account` to a new file with mode 0600, synced before this returns."""
    keystore = Account.encrypt(account.key, passphrase)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} exists and is not overwritten: choose another file") from None
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(handle, "w") as file:
        json.dump(keystore, file)
        file.flush()
        os.fsync(file.fileno())


def address_of(path: Path) -> str:
    """The address in a key file (0x and 40 hex digits), without the passphrase."""
    return "0x" + str(_read(path)["address"]).removeprefix("0x")


def load_account(path: Path, passphrase: str) -> LocalAccount:
    """The account of a key file. Raises KeyFileError, which says what is wrong with it."""
    keystore = _read(path)
    try:
        return Account.from_key(Account.decrypt(keystore, passphrase))
    except ValueError as error:
        raise KeyFileError(f"{path} does not open with this passphrase") from error


def _read(path: Path) -> dict:
    try:
        keystore = json.loads(path.read_text())
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}") from error
    except ValueError as error:
        raise KeyFileError(f"{path} is not a key file") from error
    if not isinstance(keystore, dict) or "address" not in keystore or keystore.get("version") != 3:
        raise KeyFileError(f"{path} is not a key file (keystore version 3)")
    return keystore
