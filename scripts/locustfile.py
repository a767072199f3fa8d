"""The load of `make bench ONLY=relayer` for a real deployment: prepared ballots, one a request, each user on a kept-alive connection.

    locust -f scripts/locustfile.py --headless -u 64 -r 64 -t 60s --host https://relayer.example --ballots ballots.bin

`ballots.bin` holds valid ballots of the running election, `u16 length || ballot` each, as a practice election's booth wrote them. Each is sent once
by one of this process's users; give every worker process a file of its own. locust is not installed by `make setup`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant, events, task
from locust.exception import StopUser

from protocol.records import unpack_bodies

_ballots: Any = iter(())


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    parser.add_argument("--ballots", required=True, help="File of packed ballots.")


@events.test_start.add_listener
def _read(environment: Any, **_: Any) -> None:
    global _ballots
    _ballots = iter(unpack_bodies(Path(environment.parsed_options.ballots).read_bytes()))


class Voter(FastHttpUser):
    """Sends the next ballot as soon as the last is answered; anything but a promise is a failure."""

    wait_time = constant(0)

    @task
    def vote(self) -> None:
        body = next(_ballots, None)
        if body is None:
            raise StopUser
        headers = {"content-type": "application/octet-stream"}
        with self.client.post("/v1/ballots", data=body, headers=headers, catch_response=True) as response:
            if response.status_code != 202:
                response.failure(f"{response.status_code} {response.text}")
