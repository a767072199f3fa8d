"""The authority's and the registrar's acts on a real anvil, and what each refuses."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace

import pytest
from eth_account import Account

from authority import actions
from authority.actions import NotReady
from authority.registrar import load_roll, publish_roll, read_cards, replace_card, replacement_part
from authority.registrar_roll import combine_parts, make_first_part, make_second_part
from authority.status import read_status
from chain.console import connection
from chain.contract import Phase, Refused
from chain.writer import Writer
from protocol import ceremony, election
from protocol.attachments import ROLL_ROW, Roll, describe, unit_counts_hash
from protocol.credential import read_code, secret_key
from protocol.engine import CreateRequest
from protocol.errors import BallotboardError, Malformed
from protocol.group import base
from protocol.records import CheckIns, Extension, Kind, LogHead, RollRecord
from tests.authority.world import PLAN, World, config_of, deal, write_list
from verifier.node import NodeSource
from verifier.run import verify_tally
from voter.booth import fill, find_voter, read_poll

pytestmark = pytest.mark.e2e


def steps(world: World) -> list[str]:
    return [f"{step.who}: {step.what}" for step in read_status(world.chain.web3, world.contract).next]


def kinds(world: World) -> list[int]:
    return [record.kind for record in world.log().records]


# ---------------------------------------------------------------- the whole of it


def test_an_election_with_paper_is_held_and_verifies(polling):
    polling.vote({0: 0, 1: 1, 2: 0, 3: 2})
    polling.vote({1: 0})  # voter 1 has another mind
    taken = next(card.roll_index for card in polling.issue.cards if card.voter == 2)
    polling.check_in(0, [taken])  # voter 2 takes paper instead
    polling.advance("close")
    polling.close_poll()
    document = polling.count_paper((0, 1, 0), issued=1)
    polling.advance("settle_not_before")
    polling.settle_poll()
    polling.reveal(document)
    polling.decrypt(1)
    polling.decrypt(3)
    announced = polling.announce()
    assert announced.result["online"][0]["totals"] == [2, 0, 1]
    assert announced.result["paper"][0]["totals"] == [0, 1, 0]
    assert announced.result["total"] == [[2, 1, 1]]
    assert announced.faults == []
    election_id = bytes.fromhex(connection(polling.folder / "board.json").election)
    report = verify_tally(NodeSource(polling.chain.url, polling.contract), election_id)
    assert report.verdict == "verified", report.text()


def test_an_election_without_stations_is_held_and_verifies(make_world):
    world = make_world(replace(PLAN, stations=0, units=()))
    world.ceremony()
    world.issue = deal(world.folder, world.config, [0, 0])
    publish_roll(world.chain.web3, world.contract, world.accounts["registrar"], world.folder / "roll")
    world.open_poll()
    world.vote({0: 1, 1: 1})
    world.advance("close")
    world.close_poll()
    world.advance("settle_not_before")
    world.settle_poll()
    world.decrypt(2)
    world.decrypt(3)
    assert world.announce().result["total"] == [[0, 2, 0]]
    report = verify_tally(NodeSource(world.chain.url, world.contract), world.log().manifest.election_id)
    assert report.verdict == "verified", report.text()


# ---------------------------------------------------------------- publish


def test_publication_puts_manifest_units_and_stations_where_everyone_finds_them(world):
    log = world.log()
    found = connection(world.folder / "board.json")
    assert found.election == log.manifest.election_id.hex() == world.board.election_id().hex()
    assert (found.rpc, found.contract) == (world.chain.url, world.contract)
    units, stations = election.read_places(log.manifest, log.attachments)
    assert (tuple(units), tuple(stations)) == (world.config.units, world.config.stations)
    assert kinds(world) == [Kind.MANIFEST]


def test_relative_windows_are_counted_from_the_chains_time(chain, tmp_path):
    chain.advance_to(actions.chain_time(chain.web3) + 5000)  # an hour and more ahead of this machine
    world = World(chain, tmp_path)
    assert 0 <= world.board.now() - world.board.windows().open_not_before <= 2


def test_a_second_publication_is_refused_and_forced_only_on_demand(world):
    before = (world.folder / "board.json").read_text()
    with pytest.raises(BallotboardError, match="--force publishes another"):
        world.publish()
    assert (world.folder / "board.json").read_text() == before
    assert world.publish(force=True).connection.contract != world.contract


def test_a_publication_that_died_before_the_lists_were_published_is_finished(world, monkeypatch, tmp_path):
    board_file = tmp_path / "second.json"
    arguments = (world.chain.web3, world.chain.url, world.config, world.accounts["authority"], board_file)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "attach", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            actions.publish(*arguments)
    contract = connection(board_file).contract
    world.contract = contract
    assert any("election publish` again" in step for step in steps(world))
    assert actions.publish(*arguments).connection.contract == contract
    assert not any("election publish` again" in step for step in steps(world))
    with pytest.raises(BallotboardError, match="--force"):
        actions.publish(*arguments)


def test_the_lists_of_another_election_are_not_published_to_the_board_in_the_connection_file(world):
    other = config_of(replace(PLAN, units=("East", "West")), world.accounts)
    with pytest.raises(BallotboardError, match="--force publishes another"):
        actions.publish(
            world.chain.web3, world.chain.url, other, world.accounts["authority"], world.folder / "board.json"
        )
    assert describe(other.unit_rows).sha256 not in world.log().attachments


def test_a_connection_file_of_a_board_that_is_gone_is_not_overwritten_silently(world):
    path = world.folder / "board.json"
    path.write_text(json.dumps({"rpc": world.chain.url, "contract": "0x" + "11" * 20, "election": "22" * 32}))
    with pytest.raises(BallotboardError, match=r"--force publishes another .*there is no board"):
        world.publish()


def test_only_an_authority_publishes(world):
    with pytest.raises(BallotboardError, match="is no authority of this election"):
        actions.publish(world.chain.web3, world.chain.url, world.config, Account.create(), world.folder / "other.json")
    assert not (world.folder / "other.json").exists()


def test_an_election_for_another_engine_is_refused(world):
    config = replace(world.config, members=world.config.members | {"chain": {"engine": "cometbft", "validators": []}})
    with pytest.raises(BallotboardError, match="'cometbft' and the node is anvil"):
        actions.publish(
            world.chain.web3, world.chain.url, config, world.accounts["authority"], world.folder / "other.json"
        )


# ---------------------------------------------------------------- roll


def test_publishing_a_roll_twice_changes_nothing(world):
    world.publish_roll()
    before = world.log()
    record, position = publish_roll(
        world.chain.web3, world.contract, world.accounts["registrar"], world.folder / "roll"
    )
    assert (kinds(world), position) == ([Kind.MANIFEST, Kind.ROLL], 1)
    assert world.log().head == before.head
    assert RollRecord.parse(before.records[1].body) == record


def test_a_roll_whose_publication_died_half_way_is_finished(world, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "append", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.publish_roll()
    assert kinds(world) == [Kind.MANIFEST]
    record, position = publish_roll(
        world.chain.web3, world.contract, world.accounts["registrar"], world.folder / "roll"
    )
    assert (kinds(world), position) == ([Kind.MANIFEST, Kind.ROLL], 1)
    assert record.sha256 in world.log().attachments


def test_another_roll_after_the_first_is_refused(world):
    world.publish_roll()
    (world.folder / "roll").rename(world.folder / "first")
    with pytest.raises(BallotboardError, match="another roll is on the record"):
        world.publish_roll()
    assert kinds(world) == [Kind.MANIFEST, Kind.ROLL]


def test_a_roll_for_units_that_are_not_in_the_manifest_is_refused(world):
    config = replace(world.config, units=(*world.config.units, replace(world.config.units[2], name="West")))
    deal(world.folder, config, [3])
    with pytest.raises(Malformed, match="not a unit where people vote"):
        publish_roll(world.chain.web3, world.contract, world.accounts["registrar"], world.folder / "roll")
    assert kinds(world) == [Kind.MANIFEST]


def test_only_the_registrar_puts_a_roll_on_the_record(world):
    world.accounts["registrar"] = world.accounts["trustee-1"]
    with pytest.raises(Refused, match="WrongRole"):
        world.publish_roll()
    assert kinds(world) == [Kind.MANIFEST]


# ---------------------------------------------------------------- replacement of a card


def test_a_replaced_card_votes_and_the_lost_one_does_not_count(polling):
    web3, accounts = polling.chain.web3, polling.accounts
    lost = polling.issue.cards[0]
    polling.vote({lost.voter: 0})
    card = replace_card(
        web3,
        polling.contract,
        accounts["registrar"],
        accounts["cosigner"],
        lost.roll_index,
        "card lost",
        polling.folder / "card.csv",
    )
    with (polling.folder / "card.csv").open() as file:
        [row] = csv.DictReader(file)
    serial, code = row["code"].split("-", 1)
    assert (int(row["roll_index"]), int(serial), row["unit"]) == (6, 7, polling.config.units[lost.unit].name)
    log = polling.log()
    opened = log.open()
    state = election.roll_state(opened, log.records)
    secret = secret_key(read_code(code), opened.roll_record.nonce, int(serial))
    assert state.roll.row(6) == (base(secret), lost.unit) and list(state.revoked) == [lost.roll_index]
    bodies = opened.engine.create(
        [CreateRequest(6, len(log.records), lost.unit, 0, secret, os.urandom(32), [[0, 1, 0]])]
    )
    polling.writer("relayer-1").append_ballots(1, bodies)
    records = polling.log().records
    reasons = election.verify_ballots(opened, state.roll, election.of_kind(records, Kind.BALLOT))
    _, counted = election.counted_set(opened, records, reasons)
    assert [row.status.text for row in counted.rows] == ["revoked", "counted"]
    assert card.text == row["code"]


@pytest.mark.slow
def test_an_election_with_two_registrars_is_voted_in_with_two_cards_and_verifies(world):
    """One voter's card is lost and replaced, by both of them again. Nobody votes with one part."""
    world.ceremony()
    folder, web3 = world.folder, world.chain.web3
    make_first_part(write_list(folder / "voters.csv", world.config, [1, 2, 1]), world.config, folder / "a")
    said = make_second_part(folder / "a/request.json", folder / "b")["keys"]
    combine_parts(folder / "a", folder / "b/keys.bin", world.config, folder / "roll", commitment=said)
    units = folder / "a/units.bin"
    combine_parts(folder / "b", folder / "a/keys.bin", world.config, folder / "roll-b", units=units)
    publish_roll(web3, world.contract, world.accounts["registrar"], folder / "roll")
    world.open_poll()
    cards = [list(read_cards(folder / name)) for name in ("roll", "roll-b")]
    lost = cards[0][2].roll_index
    other, key = replacement_part(web3, world.contract, lost, folder / "2.csv")
    accounts = (world.accounts["registrar"], world.accounts["cosigner"])
    card = replace_card(web3, world.contract, *accounts, lost, "lost", folder / "1.csv", key)
    poll = read_poll(world.log())
    whole = [f"{ours.text}+{theirs.text}" for ours, theirs in zip(*cards, strict=True)]
    for one in (card.text, other.text, cards[0][0].text, cards[1][1].text):
        with pytest.raises(BallotboardError, match="one of two parts"):
            find_voter(poll, one)
    with pytest.raises(BallotboardError, match="revoked"):
        find_voter(poll, whole[2])
    voters = [find_voter(poll, text) for text in (*whole[:2], f"{card.text}+{other.text}")]
    assert [voter.roll_index for voter in voters] == [0, 1, 3]
    choices = ([[1, 0, 0]], [[0, 1, 0]], [[0, 1, 0]])
    ballots = [fill(poll, voter, choice).cast() for voter, choice in zip(voters, choices, strict=True)]
    world.writer("relayer-1").append_ballots(0, ballots)
    world.advance("close")
    world.close_poll()
    document = world.count_paper((0, 0, 0), issued=0)
    world.advance("settle_not_before")
    world.settle_poll()
    world.reveal(document)
    world.decrypt(1)
    world.decrypt(2)
    assert world.announce().result["online"][0]["totals"] == [1, 2, 0]
    report = verify_tally(NodeSource(world.chain.url, world.contract), world.log().manifest.election_id)
    assert report.verdict == "verified", report.text()


@pytest.mark.parametrize("index", [-1, 6, 2**32])
def test_a_card_that_is_not_on_the_roll_cannot_be_replaced(polling, index):
    out = polling.folder / "card.csv"
    with pytest.raises(BallotboardError, match="is not on the roll"):
        replace_card(
            polling.chain.web3,
            polling.contract,
            polling.accounts["registrar"],
            polling.accounts["cosigner"],
            index,
            "",
            out,
        )
    assert not out.exists()


def test_a_card_is_replaced_once_and_its_successor_again(polling):
    arguments = (polling.chain.web3, polling.contract, polling.accounts["registrar"], polling.accounts["cosigner"])
    assert replace_card(*arguments, 3, "lost", polling.folder / "1.csv").roll_index == 6
    with pytest.raises(BallotboardError, match="revoked already"):
        replace_card(*arguments, 3, "lost", polling.folder / "2.csv")
    card = replace_card(*arguments, 6, "lost again", polling.folder / "2.csv")
    assert (card.roll_index, card.serial) == (7, 8)


def test_a_replacement_without_a_cosigner_is_refused_and_leaves_no_card(polling):
    out, account = polling.folder / "card.csv", polling.accounts["registrar"]
    with pytest.raises(Refused, match="WrongRole"):
        replace_card(polling.chain.web3, polling.contract, account, account, 0, "lost", out)
    assert not out.exists() and Kind.ROLL_CHANGE not in kinds(polling)


def test_a_replacement_never_overwrites_a_card(polling):
    out = polling.folder / "card.csv"
    out.write_text("precious")
    with pytest.raises(BallotboardError, match="was not replaced"):
        replace_card(
            polling.chain.web3,
            polling.contract,
            polling.accounts["registrar"],
            polling.accounts["cosigner"],
            0,
            "lost",
            out,
        )
    assert out.read_text() == "precious" and Kind.ROLL_CHANGE not in kinds(polling)


# ---------------------------------------------------------------- open


def test_a_poll_opens_over_a_complete_setup_and_names_the_key(world):
    world.ceremony()
    world.publish_roll()
    head = world.log().head
    opened = world.open_poll()
    log = world.log()
    assert (opened.position, opened.voters) == (head.size, 6)
    assert opened.key == log.open().joint.key
    assert LogHead.parse(log.records[-1].body) == head
    assert world.board.phase() == Phase.OPEN


def test_a_poll_does_not_open_before_ceremony_and_roll_and_both_are_named(world):
    with pytest.raises(NotReady, match=r"trustee-1, trustee-2, trustee-3 must run.*; there is no roll"):
        world.open_poll()
    assert kinds(world) == [Kind.MANIFEST]


@pytest.mark.parametrize(("rounds", "silent"), [(1, 1), (1, 0), (2, 1), (2, 0), (3, 1)])
def test_a_poll_does_not_open_before_the_last_word_of_every_trustee(world, rounds, silent):
    world.publish_roll()
    world.ceremony(rounds, silent)
    with pytest.raises(
        NotReady, match="waits for trustee-1, trustee-2, trustee-3" if not silent else "waits for trustee-3:"
    ):
        world.open_poll()
    assert Kind.OPEN not in kinds(world)


def test_a_failed_ceremony_is_named_with_the_trustee_at_fault(world):
    world.publish_roll()
    world.ceremony(2)
    setting = election.setting(world.log().manifest, 0)
    world.secrets[0].q += 1  # it cannot open what was sealed for it, and complains
    body = ceremony.complaint(
        setting, world.secrets[0], 2, ceremony.check_dealing(setting, world.said[0], world.said[1])
    )
    world.append(Kind.CEREMONY, body, "trustee-1")
    with pytest.raises(NotReady, match=r"must begin again: .*trustee 1"):
        world.open_poll()


def test_a_poll_does_not_open_over_a_roll_record_whose_file_is_not_published(world):
    world.ceremony()
    deal(world.folder, world.config, [1])
    _, record = load_roll(world.folder / "roll", world.config.units)
    world.append(Kind.ROLL, record.body(), "registrar")
    with pytest.raises(NotReady, match="registrar publish` again"):
        world.open_poll()


def test_a_poll_does_not_open_over_a_roll_that_is_out_of_order(world):
    world.ceremony()
    issue = deal(world.folder, world.config, [1, 2])
    data = (world.folder / "roll/roll.bin").read_bytes()
    roll = Roll(data[ROLL_ROW:] + data[:ROLL_ROW], [unit.style for unit in world.config.units])
    named, counts = roll.describe(), unit_counts_hash(roll.unit_counts())
    world.writer("registrar").attach(roll.data)
    record = RollRecord(named.count, issue.nonce, named.root, named.sha256, counts)
    world.append(Kind.ROLL, record.body(), "registrar")
    with pytest.raises(NotReady, match="not strictly ascending"):
        world.open_poll()


def test_a_poll_opens_once(polling):
    with pytest.raises(NotReady, match="has been opened"):
        polling.open_poll()


def test_only_the_authority_opens(world):
    world.ceremony()
    world.publish_roll()
    with pytest.raises(Refused, match="WrongRole"):
        actions.open_poll(world.chain.web3, world.contract, world.accounts["trustee-1"])


# ---------------------------------------------------------------- close, settle, extend


def test_close_and_settlement_come_in_order_and_in_time(polling):
    with pytest.raises(NotReady, match="election close` comes first"):
        polling.settle_poll()
    with pytest.raises(Refused, match="TooEarly"):
        polling.close_poll()
    polling.advance("close")
    polling.close_poll()
    with pytest.raises(NotReady, match="closed already"):
        polling.close_poll()
    with pytest.raises(Refused, match="TooEarly"):
        polling.settle_poll()
    polling.advance("settle_not_before")
    polling.settle_poll()
    with pytest.raises(NotReady, match="settled already"):
        polling.settle_poll()
    assert kinds(polling)[-2:] == [Kind.CLOSE, Kind.SETTLEMENT]


def test_nothing_closes_before_it_was_open(world):
    for act in (world.close_poll, world.settle_poll, world.announce):
        with pytest.raises(NotReady, match="election open` comes first"):
            act()


def test_an_extension_moves_the_close_within_the_manifests_limit(chain, tmp_path):
    world = World(
        chain, tmp_path, windows={"close_not_after": "+20m", "settle_not_before": "+21m", "decrypt_not_before": "+21m"}
    )
    world.ceremony()
    world.publish_roll()
    world.open_poll()
    close, latest = world.board.close_time(), world.board.windows().close_not_after
    for wrong in (close, close - 1, latest + 1):
        with pytest.raises(BallotboardError, match="can only move"):
            actions.extend_poll(chain.web3, world.contract, world.accounts["authority"], wrong, "storm")
    position = actions.extend_poll(chain.web3, world.contract, world.accounts["authority"], latest, "storm")
    assert world.board.close_time() == latest
    assert Extension.parse(world.log().records[position].body) == Extension(latest, "storm")
    assert actions.close_time(chain.web3, world.contract) == latest + 20


def test_waiting_follows_the_chains_clock_and_an_extension(chain):
    start, asked, left = actions.chain_time(chain.web3), [], []

    def moment() -> int:
        asked.append(None)
        return start + (1 if len(asked) == 1 else 2)

    actions.wait_until(chain.web3, moment, left.append)
    assert actions.chain_time(chain.web3) >= start + 2
    assert left and all(seconds > 0 for seconds in left)


# ---------------------------------------------------------------- announce


def close_and_settle(world: World) -> None:
    world.advance("close")
    world.close_poll()
    world.advance("settle_not_before")
    world.settle_poll()


def test_a_result_waits_for_every_station(polling):
    polling.vote({0: 0})
    polling.advance("close")
    polling.close_poll()
    polling.advance("settle_not_before")
    polling.settle_poll()
    polling.decrypt(1)
    polling.decrypt(2)
    with pytest.raises(NotReady, match=r"station 0 \(Station 0\): no result is recorded"):
        polling.announce()
    document = polling.count_paper((0, 0, 0), issued=0)
    with pytest.raises(NotReady, match="revision 1 is not revealed"):
        polling.announce()
    polling.reveal(document)
    assert polling.announce().result["total"] == [[1, 0, 0]]
    with pytest.raises(NotReady, match="announced already"):
        polling.announce()


def test_a_result_waits_for_enough_right_decryptions_and_names_the_wrong_one(make_world):
    world = make_world(replace(PLAN, stations=0))
    world.ceremony()
    world.publish_roll()
    world.open_poll()
    world.vote({0: 0, 1: 1})
    close_and_settle(world)
    with pytest.raises(NotReady, match=r"0 of 2 partial decryptions .* more trustees must run"):
        world.announce()
    world.decrypt(1, wrong=True)
    world.decrypt(2)
    with pytest.raises(NotReady, match=r"1 of 2 .*does not count: trustee 1: the proof"):
        world.announce()
    assert Kind.RESULT not in kinds(world)
    world.decrypt(3)
    announced = world.announce()
    assert announced.result["total"] == [[1, 1, 0]]
    assert [why for _, why in announced.faults] == ["trustee 1: the proof for contest 0, group 0 fails"]


def test_only_the_authority_announces(make_world):
    world = make_world(replace(PLAN, stations=0))
    world.ceremony()
    world.publish_roll()
    world.open_poll()
    world.vote({0: 0})
    close_and_settle(world)
    world.decrypt(1)
    world.decrypt(2)
    with pytest.raises(Refused, match="WrongRole"):
        actions.announce(world.chain.web3, world.contract, world.accounts["trustee-1"])


# ---------------------------------------------------------------- status, conflicts


def test_status_says_at_every_step_who_must_do_what(world):
    assert [step.split(":")[0] for step in steps(world)] == ["setup", "setup"]
    world.ceremony()
    assert steps(world) == ["setup: there is no roll: the registrar must run `ballotboard registrar publish`"]
    world.publish_roll()
    assert steps(world) == ["authority: ballotboard election open"]
    world.open_poll()
    world.vote({0: 0})
    station = "Station 0: ballotboard station submit: station 0 (Station 0): no result is recorded"
    assert steps(world) == ["voters: ballotboard vote", station, "anyone: ballotboard election close"]
    world.advance("close")
    assert steps(world) == [station, "anyone: ballotboard election close"]
    world.close_poll()
    document = world.count_paper((0, 0, 0), issued=0)
    hidden = (
        "Station 0: ballotboard station reveal: station 0 (Station 0): revision 1 is not revealed or does not add up"
    )
    assert steps(world) == [hidden, "anyone: ballotboard election settle"]
    world.advance("settle_not_before")
    world.settle_poll()
    assert steps(world) == [hidden, "2 of trustee-1, trustee-2, trustee-3: ballotboard trustee decrypt"]
    world.decrypt(2)
    assert steps(world) == [hidden, "1 of trustee-1, trustee-3: ballotboard trustee decrypt"]
    world.decrypt(3)
    assert steps(world) == [hidden]
    world.reveal(document)
    assert steps(world) == ["authority: ballotboard election announce"]
    world.announce()
    assert steps(world) == ["anyone: ballotboard verify"]


def test_status_counts_records_and_carries_the_present_close(polling):
    polling.vote({0: 0, 1: 1})
    value = read_status(polling.chain.web3, polling.contract).value()
    assert value["counts"] == {"manifest": 1, "ceremony": 9, "roll": 1, "open": 1, "ballot": 2}
    assert value["times"]["close"] == polling.board.close_time()
    assert (value["phase"], value["key"]) == ("open", polling.log().open().joint.key.hex())
    assert json.loads(json.dumps(value)) == value


def test_a_voter_who_took_paper_twice_is_a_conflict(polling):
    first, second = (card.roll_index for card in polling.issue.cards[:2])
    polling.check_in(0, [first, second])
    assert actions.check_in_conflicts(polling.chain.web3, polling.contract) == []
    polling.check_in(1, [first])
    [conflict] = actions.check_in_conflicts(polling.chain.web3, polling.contract)
    records = polling.log().records
    assert conflict.roll_index == first
    assert [CheckIns.parse(records[p].body).batch for p in (conflict.first, conflict.second)] == [0, 1]
