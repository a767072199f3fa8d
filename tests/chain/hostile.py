"""A node that lies: a proxy in front of a real one that changes what it answers."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from web3 import Web3

from chain.rpc import connect

Lie = Callable[[str, list[Any], Any], Any]
"""(method, parameters, honest result) → what is answered. Raises Refuse for an error answer."""


class Refuse(Exception):
    """The proxy's own JSON-RPC error."""


@contextmanager
def lying(url: str, lie: Lie, whole: Callable[[list[Any]], list[Any]] = lambda answers: answers) -> Iterator[Web3]:
    """A connection to the node at `url` through a proxy. `whole` may change the list of answers to a batch."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 20  # headers and body in one packet: two would wait 40 ms for each other

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = json.loads(body)
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as response:
                answered = json.loads(response.read())
            if isinstance(asked, list):
                by_id = {answer["id"]: answer for answer in answered}
                answered = whole([_answer(one, by_id[one["id"]]) for one in asked])
            else:
                answered = _answer(asked, answered)
            data = json.dumps(answered).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    def _answer(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if "result" not in answer:
            return answer
        try:
            return answer | {"result": lie(asked["method"], asked["params"], answer["result"])}
        except Refuse as refused:
            return {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32005, "message": str(refused)}}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield connect(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
