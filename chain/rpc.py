"""JSON-RPC to a node: one connection, one place where its errors become ours.

Reads are tried again when the connection breaks; nothing that changes the chain is, since only its sender knows
whether sending it twice is harmless.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint, RPCResponse

from chain.address import Address, address_bytes, checksummed, unhex
from chain.errors import ChainError, NodeUnreachable, RpcError

__all__ = [
    "connect", "call", "batch", "readable_head", "is_anvil", "block", "Address", "address_bytes", "checksummed", "unhex",
]  # fmt: skip

TIMEOUT = 30.0
"""Seconds for one answer: a batch of full ballot transactions from a busy node takes one or two."""

TRIES = 3
"""Attempts of a read whose connection broke: enough for a node that restarts behind a keep-alive connection."""

BACKOFF = 0.25
"""Seconds before the second attempt, doubled before each further one."""

READS = frozenset(
    {
        "web3_clientVersion", "eth_chainId", "eth_blockNumber", "eth_call", "eth_estimateGas", "eth_getBlockByNumber",
        "eth_getBlockReceipts", "eth_getCode", "eth_getLogs", "eth_getRawTransactionByHash", "eth_getTransactionByHash",
        "eth_getTransactionCount", "eth_getTransactionReceipt",
    }
)  # fmt: skip
"""The methods that are tried again: they change nothing."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""A node on this machine is asked directly: no proxy is between, and looking for one in the environment takes a third of a request's time."""

T = TypeVar("T")


def connect(url: str, timeout: float = TIMEOUT) -> Web3:
    """A connection to the node at `url` (http or https). Raises NodeUnreachable unless it answers now."""
    web3 = Web3(_Provider(url, timeout))
    call(web3, "eth_chainId")
    return web3


def call(web3: Web3, method: str, *params: Any) -> Any:
    """The raw JSON result of one request. Raises RpcError for an error answer, NodeUnreachable for none."""
    return _result(method, _provider(web3).make_request(RPCEndpoint(method), list(params)))


def batch(web3: Web3, reads: Sequence[tuple[str, list[Any]]]) -> list[Any]:
    """The raw results of several reads in one HTTP request, in the order asked."""
    if not reads:
        return []
    answers = _provider(web3).make_batch_request([(RPCEndpoint(method), params) for method, params in reads])
    if not isinstance(answers, list):
        _result("a batch", answers)
        raise ChainError("the node does not answer batches of requests; use another node")
    if len(answers) != len(reads):
        raise ChainError(f"the node answers {len(answers)} of {len(reads)} requests of a batch; use another node")
    return [_result(method, answer) for (method, _), answer in zip(reads, answers, strict=True)]


def readable_head(web3: Web3) -> int:
    """The highest block that will not change: `finalized` where the engine has finality, anvil's head where it has none."""
    try:
        return int(block(web3, "latest" if is_anvil(web3) else "finalized")["number"], 16)
    except RpcError:
        if int(block(web3, "latest")["number"], 16):
            raise
        return 0  # before a network's first block geth has nothing final, and the genesis block is everybody's


def is_anvil(web3: Web3) -> bool:
    return str(call(web3, "web3_clientVersion")).lower().startswith("anvil")


def block(web3: Web3, number: int | str) -> dict[str, Any]:
    """A block's header fields, by number or tag, as raw JSON. Raises ChainError if the node has none."""
    found = call(web3, "eth_getBlockByNumber", number if isinstance(number, str) else hex(number), False)
    if found is None:
        raise ChainError(f"the node has no block {number}")
    return found


def _provider(web3: Web3) -> HTTPProvider:
    assert isinstance(web3.provider, HTTPProvider)  # what `connect` gives
    return web3.provider


def _result(method: str, answer: RPCResponse) -> Any:
    if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
        raise ChainError(f"the node's answer to {method} is not JSON-RPC; is the URL that of a node?")
    if "error" not in answer:
        return answer["result"]
    error: Any = answer["error"]
    if not isinstance(error, dict):
        raise RpcError(method, 0, str(error))
    data = error.get("data")
    try:
        returned = unhex(data) if isinstance(data, str) and data.startswith("0x") else b""
    except ValueError:
        returned = b""
    raise RpcError(method, int(error.get("code", 0)), str(error.get("message", "")), returned)


class _Provider(HTTPProvider):
    """web3's provider with our timeouts, our retries, and our errors."""

    def __init__(self, url: str, timeout: float) -> None:
        session = None
        if urlsplit(url).hostname in LOOPBACK:
            session = requests.Session()
            session.trust_env = False
        super().__init__(url, request_kwargs={"timeout": timeout}, exception_retry_configuration=None, session=session)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        return self._try(method in READS, lambda: super(_Provider, self).make_request(method, params))

    def make_batch_request(self, batch_requests: list[tuple[RPCEndpoint, Any]]) -> list[RPCResponse] | RPCResponse:
        reads = all(method in READS for method, _ in batch_requests)
        return self._try(reads, lambda: super(_Provider, self).make_batch_request(batch_requests))

    def _try(self, read: bool, request: Callable[[], T]) -> T:
        for attempt in range(TRIES):
            try:
                return request()
            except (requests.ConnectionError, requests.Timeout) as error:
                if not read or attempt == TRIES - 1:
                    raise NodeUnreachable(f"no answer from {self.endpoint_uri}: is the node running?") from error
                time.sleep(BACKOFF * 2**attempt)
            except (requests.RequestException, ValueError, KeyError, TypeError) as error:
                # another protocol, a proxy's error page, or a URL without http://
                what = " ".join(str(error).split())[:120]
                raise NodeUnreachable(f"{self.endpoint_uri} does not speak JSON-RPC: {what}") from error
        raise AssertionError("unreachable")
