"""Everything that the board says to people, in one place: English, by key. Another language is another table with the same keys.

`say(key, …)` fills in values; they are escaped where they are put into a page, so a table holds plain text and no markup.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

LANGUAGE = "en"

WORDS: dict[str, str] = {
    # ---- frame
    "site": "Public bulletin board",
    "skip": "Skip to the content",
    "nav": "On this page",
    "to-overview": "Back to the election",
    "practice": "Practice. Nothing here is a real vote.",
    "alarm.title": "This board has stopped",
    "alarm.text": "What the chain says does not fit what this board has read. Nothing after record {size} is shown. Do not rely on this page alone: run the "
    "verifier, or ask another board.",
    "trouble": "The chain does not answer at the moment. What is shown is as of {time}.",
    "reading": "The board is still reading the log: {size} records so far. What is shown is not complete.",
    "empty.text": "Nothing has been read yet. Try again in a moment.",
    "setup-wrong": "The setup of this election does not hold, so no ballot can be checked: {problem}",
    "result-wrong": "Do not rely on this result: {problem}. Run the verifier, or ask another board.",
    "footer": "Everything here is computed from the public record. You need not believe it: the verifier recomputes it.",
    "footer.api": "The election as data",
    "footer.openapi": "What else there is as data",
    "as-of": "As of {time}, block {block}",
    # ---- phases
    "phase.setup": "Not open yet",
    "phase.open": "Voting is open",
    "phase.closing": "Voting has ended",
    "phase.closed": "The polls are closed",
    "phase.settled": "The counted ballots are fixed",
    "phase.final": "The result is announced",
    "phase.setup.text": "The trustees make the key, and the roll is published. No ballot can be recorded before the poll opens.",
    "phase.open.text": "Ballots are recorded here, encrypted, as they come in.",
    "phase.closing.text": "Ballots that were sent in time are still being recorded.",
    "phase.closed.text": "No ballot can be recorded any more. Polling stations report; which ballots count is fixed by the settlement.",
    "phase.settled.text": "Which ballots count cannot change any more. The trustees decrypt the totals, never a ballot.",
    "phase.final.text": "The totals were decrypted, and the authority has announced them.",
    "step.setup": "Setup",
    "step.open": "Voting",
    "step.closed": "Counting",
    "step.settled": "Settlement",
    "step.final": "Result",
    "step.done": "done",
    "next": "What comes next",
    "next.open": "The poll can open from {time} ({delay}).",
    "next.close": "The poll closes at {time} ({delay}).",
    "next.closed": "The poll can be closed from {time} ({delay}).",
    "next.settle": "The ballots can be settled from {time} ({delay}).",
    "next.decrypt": "The totals can be decrypted from {time} ({delay}).",
    "next.result": "The authority announces the result once enough trustees have decrypted.",
    "next.nothing": "Nothing. Anyone can verify it now, and at any time later.",
    "certified": "The registered verifiers have checked everything and agree.",
    "preliminary": "The registered verifiers have not all reported yet, or do not agree.",
    "result.certified": "Certified",
    "result.preliminary": "Preliminary",
    "result.practice": "Practice",
    "result.practice.text": "This election is a practice. The papers that stations counted are practice papers and nobody's votes; they are in the totals.",
    # ---- figures
    "figure.ballots": "ballots recorded",
    "figure.turnout": "turnout online",
    "figure.stations": "stations reported",
    "figure.records": "records in the log",
    # ---- find
    "find.title": "Find my ballot",
    "find.text": "Enter the ballot code from your receipt: 64 digits and letters, or at least the first eight. The roll index on your card, or a position in the "
    "log, works too.",
    "find.label": "Ballot code or roll index",
    "find.button": "Find",
    "find.receipt": "Check a whole receipt instead",
    "find.receipt.text": "Paste the content of your receipt file. It is compared with this log and not kept.",
    "find.receipt.label": "Receipt",
    "find.receipt.button": "Check the receipt",
    "find.secret": "Never enter the secret code of your voting card here. It belongs in the voting page only.",
    "find.is-secret.title": "That was your voting code",
    "find.is-secret": "What you entered has the form of a secret voting code. This page does not need it and has not kept it. If somebody told you to "
    "enter it here, somebody may want to vote in your place: vote again, or ask for another card.",
    "find.none.title": "No such ballot here",
    "find.none": "The log has no ballot with this code so far. A ballot can take a minute from the promise to the log. If the time in your promise has passed, "
    "your promise is proof: give it to an observer.",
    "find.none.number": "The log has no valid ballot of the card with this roll index so far, and no ballot at this position.",
    "find.many.title": "Ballots found",
    "find.many": "These ballots have that code, roll index or position.",
    "find.unknown": "This is neither a ballot code, nor the first eight digits of one, nor a number.",
    "find.bad": "This is neither a ballot code nor a receipt: {problem}",
    "find.bad.title": "Not readable",
    "find.too-long": "it is longer than any receipt",
    # ---- a ballot
    "ballot.title": "Ballot",
    "ballot.recorded": "Recorded at position {position} at {time}",
    "state.recorded": "Recorded",
    "state.counted": "Counted",
    "state.superseded": "Superseded",
    "state.replaced-by-paper": "Replaced by paper",
    "state.revoked": "Card replaced",
    "state.duplicate": "Copy",
    "state.invalid": "Not valid",
    "state.not-held": "Content not held",
    "state.not-checked": "Recorded, not checked",
    "fate.recorded": "This ballot is recorded, and its proofs and signature are right. Whether it counts is fixed by the settlement: a later ballot of the same "
    "card, or a paper ballot, may take its place.",
    "fate.recorded.invalid": "This ballot is recorded and cannot count, because {reason}.",
    "fate.not-checked": "This ballot is recorded. Its proofs and signature have not been checked here yet.",
    "fate.counted": "This ballot is counted.",
    "fate.superseded": "This ballot is not counted. Another ballot of the same card stands, the one at position {reference}.",
    "fate.replaced-by-paper": "This ballot is not counted. At the polling station “{station}” a paper ballot was handed out for this card (record "
    "{reference}), and paper takes precedence. If you took none, tell an observer.",
    "fate.revoked": "This ballot is not counted. Its card was revoked and replaced by another (record {reference}).",
    "fate.duplicate": "This is a copy, byte for byte, of the ballot at position {reference}. Only the first one can count.",
    "fate.invalid": "This ballot is not counted, because {reason}.",
    "fate.not-held": "This ballot is not counted. Only its hash is on the chain, and nobody vouched for its content.",
    "reason.malformed-header": "it is not a ballot of this kind",
    "reason.unknown-credential": "no card on the roll has its number",
    "reason.malformed-length": "it does not have the length of its ballot style",
    "reason.malformed-scalar": "a number in it is out of range",
    "reason.malformed-point": "a value in it is not a point of the group",
    "reason.bad-proof": "its proof that it holds a permitted choice is wrong",
    "reason.bad-signature": "it is not signed with the card that it names",
    "reason.seen-too-high": "it claims to have seen records that did not exist yet",
    "ballot.code": "Ballot code",
    "ballot.position": "Position in the log",
    "ballot.time": "Recorded at",
    "ballot.relayer": "Brought by",
    "ballot.card": "Roll index of the card",
    "ballot.unit": "Unit",
    "ballot.attempts": "Valid ballots of this card",
    "ballot.attempts.many": "This card has cast {count} valid ballots. At most one of them counts. If you did not cast them all, somebody else has used your card.",
    "ballot.attempts.open": "Vote again, or ask for another card.",
    "ballot.check-in": "At the polling station “{station}” a paper ballot was handed out for this card (record {position}). Paper takes precedence. If you took "
    "none, dispute it before the settlement.",
    "ballot.record": "The record",
    "ballot.api": "This ballot as data",
    "ballot.copies": "Also recorded at",
    "ballot.block": "Block",
    "ballot.transaction": "Transaction",
    "ballot.receipt": "Download the receipt",
    "ballot.receipt.text": "The receipt holds the ballot, its place in the log, and the proof that leads from it to the log's head. Anyone can check it without "
    "asking this board:",
    "proves.title": "What this proves, and what it does not",
    "proves.yes": "It proves that this encrypted ballot is in the log, at this place, unchanged. Any other board or observer who knows the head can confirm it.",
    "proves.card": "Compare the roll index with the one on your card: if it is another, this is not your ballot.",
    "proves.no": "It does not show what was chosen. This board cannot read that, and the receipt does not hold it: only totals are decrypted.",
    "proves.device": "It does not show that your device encrypted what you meant. For that, let the voting page audit a ballot before you cast one.",
    # ---- a pasted receipt
    "receipt.title": "Your receipt",
    "receipt.good": "The receipt is right: this ballot is in the log as the receipt says.",
    "receipt.wrong": "The receipt does not fit this log. Keep the file, it may be evidence, and show it to an observer.",
    "receipt.other": "The receipt is from another election, or from another board.",
    "receipt.step.proof": "The ballot, the log entry and the proof in the receipt lead to the head in the receipt",
    "receipt.step.board": "The receipt is of this election and this board",
    "receipt.step.entry": "The log has this entry at this position",
    "receipt.step.head": "The head in the receipt is one that this log has had",
    "receipt.yes": "yes",
    "receipt.no": "no",
    "receipt.skipped": "not looked at",
    # ---- result
    "result.title": "Result",
    "result.none": "There is no result yet.",
    "result.none.paper": "Results of polling stations are shown from {time} on, not before.",
    "result.partial": "Partial result",
    "result.partial.text": "Paper ballots of {revealed} of {stations} stations only. The online ballots are decrypted together, after the settlement. This is not the "
    "result.",
    "result.final": "Announced result",
    "result.final.text": "Recorded at position {position}. This board has computed it again from the record and gets the same.",
    "result.unchecked": "This board has not computed it again yet.",
    "result.wrong": "Do not rely on this result: {problem}.",
    "result.wrong.title": "Wrong",
    "result.option": "Option",
    "result.online": "Online",
    "result.paper": "Paper",
    "result.paper.practice": "Paper (practice)",
    "result.total": "Total",
    "result.total.practice": "Total (with practice)",
    "result.share": "Share",
    "result.caption": "{title}: votes",
    "result.of": "Ballots: {ballots}, of them {online} online and {paper} on paper. Shares are of all.",
    "result.of.practice": "Ballots: {ballots}, of them {online} online and {paper} practice papers. Shares are of all.",
    "result.of.paper": "Paper ballots so far: {ballots}. Shares are of these.",
    "result.of.paper.practice": "Practice papers so far: {ballots}. Shares are of these.",
    "result.papers": "On paper, {invalid} invalid.",
    "result.papers.blank": "On paper, {blank} blank and {invalid} invalid.",
    "result.blank": "blank",
    "result.rule.one-of-k": "One choice",
    "result.rule.approval": "Any number of choices",
    "result.rule.up-to-L": "Up to {limit} choices",
    "counted.title": "What became of the {size} ballots recorded",
    # ---- turnout
    "turnout.title": "Turnout online",
    "turnout.text": "Cards that a valid ballot was recorded for. Who voted on paper is not in it, and nobody's name is here.",
    "turnout.caption": "Recorded ballots by unit",
    "turnout.unit": "Unit",
    "turnout.voters": "Cards on the roll",
    "turnout.ballots": "Valid ballots",
    "turnout.cards": "Cards with a ballot",
    "turnout.share": "Turnout",
    "turnout.all": "All units",
    "turnout.none": "The list of units is not published yet.",
    "turnout.invalid": "{count} recorded ballots are not valid and belong to no unit.",
    "more": "{count} more, as data",
    # ---- stations
    "stations.title": "Polling stations",
    "stations.text": "A station first records the signed hash of its result; the figures follow once the law allows, and must have that hash.",
    "stations.embargo": "Figures are published from {time} on, not before.",
    "stations.none": "This election has no polling stations, or their list is not published yet.",
    "stations.caption": "Stations and what they have reported",
    "stations.station": "Station",
    "stations.state": "State",
    "stations.papers": "Papers counted",
    "stations.papers.practice": "Practice papers counted",
    "stations.when": "Reported at",
    "station.waiting": "Not yet",
    "station.reported": "Reported",
    "station.revealed": "Revealed",
    "station.amended": "Amended",
    "station.reported.embargo": "Reported, under embargo",
    "station.reported.again": "Amendment reported",
    "station.changed": "Revision {revision} of {revisions}: {reason}",
    "station.wrong": "Does not add up, and is not counted: {problem}",
    # ---- ballots
    "ballots.title": "Ballots",
    "ballots.text": "Every ballot on the record, the newest first. Encrypted: nobody can see what was chosen.",
    "ballots.none": "No ballot is recorded yet.",
    "ballots.caption": "Recorded ballots",
    "ballots.older": "Older ballots",
    "ballots.newest": "The newest ballots",
    # ---- verify
    "verify.title": "Verify it yourself",
    "verify.text": "One command, on any computer with Ballotboard installed, recomputes everything from the chain, believes neither this board nor the people who "
    "ran the election, and says whether the result is right:",
    "verify.id": "Compare the election id with the one printed on a voter's card:",
    "verify.early": "Before the result is announced, check the setup instead:",
    "verify.anvil": "This election runs on one process without consensus (anvil). That is fit for trying out and for rooms where everybody watches the machine.",
    "head.title": "Head of the log",
    "head.size": "Records",
    "head.root": "Root",
    "head.contract": "Board contract",
    "head.chain": "Chain",
    "head.block": "Block",
    # ---- errors
    "error.404.title": "Nothing here",
    "error.404": "There is no page at this address.",
    "error.503.title": "Not just now",
    # ---- delays
    "delay.now": "now",
    "delay.in": "in {span}",
    "delay.ago": "{span} ago",
    "span.second": "{n} second", "span.seconds": "{n} seconds", "span.minute": "{n} minute", "span.minutes": "{n} minutes",
    "span.hour": "{n} hour", "span.hours": "{n} hours", "span.day": "{n} day", "span.days": "{n} days",
}  # fmt: skip

LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def say(key: str, **values: Any) -> str:
    """The words of a key with its values; integers with thousands separated. Raises KeyError for a key that there is none of."""
    return WORDS[key].format(
        **{name: number(value) if isinstance(value, int) else value for name, value in values.items()}
    )


def number(value: int | None) -> str:
    """With thousands separated; a dash for what is not known."""
    return "–" if value is None else f"{value:,}"


def share(part: int, whole: int | None) -> str:
    """A percentage with one decimal; a dash where there is nothing to be a part of."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def when(seconds: int) -> str:
    """A time in words, in UTC."""
    time = _datetime(seconds)
    return f"{time.day} {time:%B %Y, %H:%M:%S} UTC"


def iso(seconds: int) -> str:
    """The same for machines (HTML's datetime attribute)."""
    return f"{_datetime(seconds):%Y-%m-%dT%H:%M:%SZ}"


def delay(to: int, now: int) -> str:
    """From now to a time, roughly: "in 3 hours"."""
    distance = abs(to - now)
    for name, length in _UNITS:
        if distance >= length:
            n = distance // length
            return say("delay.in" if to > now else "delay.ago", span=say(f"span.{name}{'s' * (n != 1)}", n=n))
    return say("delay.now")


def _datetime(seconds: int) -> datetime:
    # A manifest's times go further than a calendar of four-digit years.
    return datetime.fromtimestamp(min(seconds, LAST_SECOND), UTC)
