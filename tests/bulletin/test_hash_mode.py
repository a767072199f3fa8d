"""A board of an election whose chain has ballots' hashes only: what it says of a ballot whose content is not here, or is void."""

from __future__ import annotations

from dataclasses import replace

from bulletin.replica import Replica
from bulletin.store import Store
from bulletin.views import ballot_lines
from protocol.records import Kind, ballot_hash
from tests.bulletin.boards import events, feed, in_calls
from tests.bulletin.pages import Page
from tests.bulletin.test_app import client, page
from tests.tamper import builder
from tests.tamper.builder import OUTSIDE, HashElection, hold


def test_a_ballot_whose_content_is_not_here_yet_says_so_until_a_data_holder_has_sent_it(tmp_path):
    held = hold(HashElection)
    chain = [
        in_calls(replace(event, records=[replace(r, body=None) if r.kind == Kind.BALLOT else r for r in event.records]))
        for event in events(held)
    ]
    settled = next(i for i, event in enumerate(chain) if event.records[0].kind == Kind.SETTLEMENT)
    copy = Replica(Store(f"sqlite:///{tmp_path}/board.sqlite"), held.manifest, builder.CONTRACT)
    copy.attach(held.files)
    feed(copy, chain[:settled])
    web, names = client(copy), {name: ballot_hash(body).hex() for name, body in held.cast.items()}

    def state(name: str) -> str:
        value = web.get(f"/api/v1/ballots/{names[name]}").json()
        assert [row["state"] for row in lines() if row["hash"] == names[name]] == [value["fate"]["state"]]
        return value["fate"]["state"]

    def lines() -> list[dict]:
        with copy.store.read() as tx:
            return ballot_lines(tx, None, 100)["ballots"]

    assert state("row 3") == state(OUTSIDE) == "not-here"
    assert "has not reached this board yet" in page(web, f"/ballots/{names['row 3']}").text
    assert "pas encore arrivé à ce tableau" in Page(web.get(f"/fr/ballots/{names['row 3']}").text).text
    assert web.get(f"/api/v1/receipts/{names['row 3']}").status_code == 404  # there is nothing to put into it
    assert {row[1] for row in page(web, "/").rows("Recorded ballots")} == {"Recorded, content not here yet"}

    copy.supply({ballot_hash(body): body for name, body in held.cast.items() if name != OUTSIDE})
    copy.derive()
    assert (state("row 3"), state(OUTSIDE)) == ("recorded", "not-here")
    feed(copy, chain[settled:])
    assert (state("row 3"), state(OUTSIDE)) == ("counted", "not-held")
    assert "is void and counts for nothing" in page(web, f"/ballots/{names[OUTSIDE]}").text
    assert "est nul et ne compte pas" in Page(web.get(f"/fr/ballots/{names[OUTSIDE]}").text).text
    assert web.get("/api/v1/result").json()["problem"] == ""
