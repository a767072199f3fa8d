"""A relayer's two keys, in its folder: the account that pays and sends, and the Ed25519 key that signs promises and refusals.

They are apart so that the account's key can be replaced by another signer later, and a promise never looks like a transaction.
"""

from __future__ import annotations

import os
from pathlib import Path

from eth_account.signers.local import LocalAccount
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey

from chain.keys import address_of, load_account, new_account
from chain.sealed import STRONG, Cost, WrongPassphrase, new_header, open_box, take_header
from protocol.errors import BallotboardError

ACCOUNT_FILE = "account.json"
PROMISE_FILE = "promise.key"
PUBLIC_FILE = "promise.pub"
FORMAT = "ballotboard/promise-key/v1"


def create(folder: Path, passphrase: str, cost: Cost = STRONG) -> tuple[str, bytes]:
    """New keys in `folder`, which is made if need be: (address, Ed25519 public key). Refuses to overwrite any."""
    header = new_header(FORMAT, cost)
    box = open_box(header, passphrase, PROMISE_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / PROMISE_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BallotboardError(
            f"{folder} holds a relayer's keys already, or is a file: choose another folder"
        ) from None
    except OSError as error:
        raise BallotboardError(f"cannot write to {folder}: {error.strerror}") from error
    key = SigningKey.generate()
    with os.fdopen(handle, "wb") as file:
        file.write(header + box.encrypt(key.encode()))
        file.flush()
        os.fsync(file.fileno())
    (folder / PUBLIC_FILE).write_text(key.verify_key.encode().hex() + "\n")
    return new_account(folder / ACCOUNT_FILE, passphrase).address, key.verify_key.encode()


def public(folder: Path) -> tuple[str, bytes]:
    """(address, Ed25519 public key) without the passphrase."""
    address = address_of(folder / ACCOUNT_FILE)
    try:
        return address, bytes.fromhex((folder / PUBLIC_FILE).read_text().strip())
    except (OSError, ValueError) as error:
        raise BallotboardError(f"cannot read {folder / PUBLIC_FILE}: {error}") from error


def load(folder: Path, passphrase: str) -> tuple[LocalAccount, SigningKey]:
    """Raises BallotboardError saying which file is missing, wrong, or does not open."""
    path = folder / PROMISE_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BallotboardError(f"{folder} holds no relayer's keys: ballotboard relayer init {folder}") from error
    header = take_header(data, FORMAT, str(path))
    try:
        seed = open_box(header, passphrase, str(path)).decrypt(data[len(header) :])
    except CryptoError as error:
        raise WrongPassphrase(f"{path} does not open with this passphrase") from error
    return load_account(folder / ACCOUNT_FILE, passphrase), SigningKey(seed)
