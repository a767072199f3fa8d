"""Ports for processes of our own."""

from __future__ import annotations

import socket
from itertools import count

from chain import process
from chain.process import PORTS, free_port


def test_a_port_is_not_given_twice_before_its_taker_listens():
    given = [free_port() for _ in range(500)]
    assert len(set(given)) == 500 and all(port in PORTS for port in given)


def test_a_port_that_is_taken_is_passed_over(monkeypatch):
    port = free_port()
    monkeypatch.setattr(process, "_places", count(PORTS.index(port)))
    with socket.create_server(("127.0.0.1", port)):
        assert free_port() != port
