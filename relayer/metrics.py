"""What a relayer counts and measures, for Prometheus. No label names a ballot, a credential or an address."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from relayer.outbox import Outbox, State

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Buckets from one sync of a fast disk to a whole promise."""

BALLOTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Buckets from a lone ballot to the fullest micro-batch."""


SLACK = (0, 5, 10, 20, 30, 40, 50, 55, 58, 60, 120)
"""Buckets around the promise's minute; what is in the first was late."""


class Metrics:
    """The metrics of one relayer, in a registry of their own so that several can live in one process."""

    def __init__(self, outbox: Outbox) -> None:
        self.registry = registry = CollectorRegistry()
        self.promised = Counter("ballotboard_ballots_promised", "Ballots promised.", registry=registry)
        self.refused = Counter("ballotboard_ballots_refused", "Ballots refused.", ["reason"], registry=registry)
        self.given_back = Counter("ballotboard_batches_given_back", "Batches that did not land.", registry=registry)
        self.check = Histogram(
            "ballotboard_check_seconds", "Checking a micro-batch.", buckets=SECONDS, registry=registry
        )
        self.commit = Histogram("ballotboard_commit_seconds", "One group commit.", buckets=SECONDS, registry=registry)
        self.group = Histogram(
            "ballotboard_group_ballots", "Ballots in a group commit.", buckets=BALLOTS, registry=registry
        )
        self.batch = Histogram(
            "ballotboard_batch_ballots", "Ballots in a transaction.", buckets=BALLOTS, registry=registry
        )
        self.landing = Histogram(
            "ballotboard_landing_seconds",
            "From a batch's first sending to its place in the log.",
            buckets=SECONDS,
            registry=registry,
        )
        self.slack = Histogram(
            "ballotboard_promise_slack_seconds",
            "Chain time left of the shortest promise in a batch when it landed; below 0 it was broken.",
            buckets=SLACK,
            registry=registry,
        )
        self.gas = Counter(
            "ballotboard_gas", "Gas used by transactions of this relayer that landed.", registry=registry
        )
        self.replaced = Counter("ballotboard_batches_replaced", "Stuck transactions replaced.", registry=registry)
        self.nonce_gap = Gauge(
            "ballotboard_nonce_gap", "Nonces of this account that are signed and in no block.", registry=registry
        )
        self.attempts = Counter(
            "ballotboard_repeated_ballots", "Ballots promised to credentials that had one before.", registry=registry
        )
        stored = Gauge("ballotboard_ballots", "Ballots in the outbox by state.", ["state"], registry=registry)
        for state in State:
            stored.labels(state.text).set_function(lambda state=state: outbox.counts[state])  # type: ignore[misc]
        self.chain_age = Gauge(
            "ballotboard_chain_age_seconds", "Seconds since the chain was looked at.", registry=registry
        )
        self.lacking = Gauge(
            "ballotboard_bodies_lacking",
            "Hash mode: ballots on the chain whose bodies are not here.",
            registry=registry,
        )
        self.oldest = Gauge(
            "ballotboard_oldest_seconds", "Age of the oldest ballot that is not final.", registry=registry
        )
