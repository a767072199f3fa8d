"""What a board remembers between requests is what it would compute again."""

from __future__ import annotations

import threading
import time

import pytest
from fastapi import Request, Response
from nacl.signing import SigningKey

from bulletin import board as board_module
from bulletin import views
from bulletin.board import SHARE, Board
from bulletin.replica import Replica
from bulletin.store import Store
from bulletin.watch import Watch
from chain.console import Connection
from tests.bulletin.boards import cursor, events
from tests.tamper import builder
from tests.tamper.builder import Election, hold


@pytest.fixture(scope="module")
def held() -> Election:
    return hold()


@pytest.fixture
def copy(held, tmp_path) -> Replica:
    return Replica(Store(f"sqlite:///{tmp_path}/board.sqlite"), held.manifest, builder.CONTRACT)


@pytest.fixture
def board(copy) -> Board:
    return Board(copy.store, Connection("http://127.0.0.1:8545", "0x" + builder.CONTRACT.hex()), SigningKey.generate())


def test_records_and_check_ins_are_those_of_the_log_however_it_grew_between_two_requests(held, copy, board):
    copy.attach(held.files)
    for event in events(held):
        copy.append([event], cursor(event))
        copy.derive()
        with board.moment() as now:
            assert now.acts == now.tx.acts() and now.papers == views.papers(now.tx.acts())
    assert now.papers  # there was something to find


def test_a_moment_of_before_sees_nothing_that_came_after(held, copy, board):
    every = events(held)
    for event in every[:-3]:
        copy.append([event], cursor(event))
    with board.moment() as before:
        for event in every[-3:]:
            copy.append([event], cursor(event))
        with board.moment() as now:
            assert len(now.acts) > len(before.acts)
        with board.store.read():
            assert board._acts_of(before.tx).records == before.acts == before.tx.acts()


def test_a_value_that_takes_long_will_do_for_a_while_and_for_this_database_alone(board, monkeypatch):
    monkeypatch.setattr(board_module, "LONG", 0.01)
    made = []

    def compute() -> int:
        made.append(time.sleep(0.05))
        return len(made)

    assert [board.remember("sum", ("a", size), compute) for size in (1, 1, 2, 3)] == [1, 1, 1, 1]
    assert board.remember("sum", ("b", 3), compute) == 2
    time.sleep(0.05 * (SHARE + 2))
    assert board.remember("sum", ("b", 4), compute) == 3


def test_who_comes_while_a_long_value_is_computed_again_has_the_one_of_before(board, monkeypatch):
    monkeypatch.setattr(board_module, "LONG", 0.01)
    monkeypatch.setattr(board_module, "SHARE", 0)
    board.remember("sum", ("a", 1), lambda: time.sleep(0.02) or "before")
    going, done = threading.Event(), threading.Event()

    def compute() -> str:
        going.set()
        assert done.wait(10)
        return "after"

    found = []
    thread = threading.Thread(target=lambda: found.append(board.remember("sum", ("a", 2), compute)))
    thread.start()
    assert going.wait(10)
    assert board.remember("sum", ("a", 3), lambda: "not computed") == "before"
    done.set()
    thread.join()
    assert found == ["after"] and board.remember("sum", ("a", 2), lambda: "not computed") == "after"


def test_a_value_that_takes_no_time_is_never_one_of_before(board):
    assert [board.remember("size", ("a", size), lambda size=size: size) for size in (1, 2, 2, 1)] == [1, 2, 2, 1]


def test_many_who_want_the_same_value_wait_for_one_computation(board):
    made, found = [], []

    def compute() -> int:
        made.append(time.sleep(0.1))
        return 7

    threads = [
        threading.Thread(target=lambda: found.append(board.remember("sum", ("a", 1), compute))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8 and len(made) == 1


def test_a_page_that_is_kept_is_made_anew_with_every_record_and_every_word_of_the_follower(held, copy, board):
    made = []

    def ask(path: str) -> bytes:
        request = Request({"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []})
        with board.moment() as now:
            return board.kept(request, now, lambda: Response(f"{made.append(path)}{len(made)}")).body

    for event in events(held)[:5]:
        copy.append([event], cursor(event))
        assert ask("/en/") == ask("/en/") != ask("/fr/")
    assert made == ["/en/", "/fr/"] * 5
    copy.note("certified", True)
    ask("/en/")
    Watch(copy.store).tell(False, "no answer")
    ask("/en/")
    assert made == ["/en/", "/fr/"] * 5 + ["/en/"] * 2


def test_a_page_with_a_question_is_never_kept(held, copy, board):
    for event in events(held)[:5]:
        copy.append([event], cursor(event))
    made = []
    request = Request({"type": "http", "method": "GET", "path": "/en/", "query_string": b"before=3", "headers": []})
    for _ in range(2):
        with board.moment() as now:
            board.kept(request, now, lambda: Response(made.append(1)))
    assert len(made) == 2


def test_an_alarm_is_on_a_page_at_once_however_long_the_page_takes(held, copy, board, monkeypatch):
    monkeypatch.setattr(board_module, "LONG", 0)
    monkeypatch.setattr(board_module, "SHARE", 1_000_000)
    for event in events(held)[:5]:
        copy.append([event], cursor(event))
    request = Request({"type": "http", "method": "GET", "path": "/en/", "query_string": b"", "headers": []})

    def ask() -> bytes:
        with board.moment() as now:
            return board.kept(request, now, lambda: Response(board.election(now)["alarm"] or "none")).body

    assert ask() == b"none"
    copy.stop("the chain was replaced")
    assert ask() == b"the chain was replaced"
