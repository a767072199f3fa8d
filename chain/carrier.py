"""Records through a relayer instead of an account of one's own: it pays, and sends again until the record is in a block.

    carrier = Carrier(connect(rpc), contract, ["https://relayer.example"])
    carrier.append_stations([item])        # as chain.writer.Writer does, answered with where it landed

Stations and trustees need no funds then. A relayer can delay a record and change nothing in it: its signatures are inside, and that it landed is
read from the caller's own node.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import httpx
from web3 import Web3

from chain.board import Board
from chain.contract import Refused, encode, refusal
from chain.errors import ChainError, RpcError, Undelivered
from chain.rpc import Address, call, checksummed
from chain.writer import Landed, Writer
from protocol.errors import BallotboardError

TIMEOUT = 20.0
"""Seconds for a relayer's answer: it asks its node and syncs to disk first."""

WAIT = 120.0
"""Seconds until a record must be in a block: longer than a relayer needs to replace a stuck transaction."""

FIRST_POLL, LAST_POLL = 0.02, 0.5
"""Seconds between questions for a record, doubled from the first to the last: a relayer looks at its chain four times a second."""


class Carrier(Writer):
    """A Writer of the calls that anyone may carry: `append`, `append_signed`, `append_stations`, `reveal`, `close`, `settle`.

    `relayers` are tried in turn. Every method raises Refused where our own node too says that the board would not take the record; ChainError where a
    relayer alone says so, or the board refused it later; and Undelivered where no relayer takes the record or brings it into a block: sent again, it is
    the same record, and cannot be appended twice.
    """

    def __init__(self, web3: Web3, address: Address, relayers: Sequence[str]) -> None:
        if not relayers:
            raise BallotboardError("say who sends it: --key FILE of an account that can pay, or --relayer URL")
        self.board, self.relayers = Board(web3, address), [url.rstrip("/") for url in relayers]
        self.web3, self.chain_id = web3, int(call(web3, "eth_chainId"), 16)

    def send(self, function: str, *values: Any) -> Landed:
        content = encode(function, *values)
        relayer = self._offer(content)
        url = f"{relayer}/v1/records/{hashlib.sha256(content).hexdigest()}"
        end, pause = time.monotonic() + WAIT, FIRST_POLL
        while True:
            status, state = _ask("GET", url)
            transaction = state.get("transaction")
            if transaction and state.get("state") == "final":
                receipt = call(self.web3, "eth_getTransactionReceipt", "0x" + transaction)
                if receipt and int(receipt["status"], 16) == 1:  # as our own node says
                    return self._landed(receipt)
            if state.get("state") == "dead":
                raise ChainError(f"the board has refused the record: {state.get('reason', '')}")
            if time.monotonic() > end:
                raise Undelivered(
                    f"the record is in no block after {WAIT:.0f} s ({relayer} says {state.get('state', status)}); it may still land: look before sending again"
                )
            time.sleep(pause)
            pause = min(2 * pause, LAST_POLL)

    def _offer(self, content: bytes) -> str:
        """The relayer that has stored the call."""
        problems, refused = [], False
        for relayer in self.relayers:
            status, answer = _ask("POST", f"{relayer}/v1/records", content)
            if status == 202:
                return relayer
            problems.append(f"{relayer}: {answer.get('message', status)}")
            refused |= 400 <= status < 500
        why = f"no relayer takes the record ({'; '.join(problems)}): name another with --relayer, or pay yourself"
        raise self._refusal(content, why) if refused else Undelivered(why)

    def _refusal(self, content: bytes, why: str) -> ChainError:
        """The board's own refusal of a call, asked of our node: a relayer's word is no reason to give a record up. Else what the relayer said."""
        try:
            call(self.web3, "eth_call", {"to": checksummed(self.board.address), "data": "0x" + content.hex()}, "latest")
        except RpcError as error:
            if isinstance(found := refusal(error), Refused):
                return found
        return ChainError(why)


def _ask(method: str, url: str, content: bytes | None = None) -> tuple[int, dict[str, Any]]:
    """HTTP status and the JSON object of an answer; status 0 where there is none."""
    try:
        answer = httpx.request(method, url, content=content, timeout=TIMEOUT)
        value = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return 0, {"message": str(error) or type(error).__name__}
    return answer.status_code, value if isinstance(value, dict) else {}
