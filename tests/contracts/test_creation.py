"""Creation: the manifest is record 0, and what contradicts itself makes no board."""

from dataclasses import replace

import pytest
from eth_utils import keccak

import contracts
from tests.contracts import model as m
from tests.contracts.world import account, deploy, windows_from


def test_the_manifest_is_record_0(make):
    manifest = b'{"format":"ballotboard/manifest/v1"}'
    world = make(manifest=manifest)  # compares the event with the model's
    assert world.view("electionId") == m.sha256(manifest)
    assert world.view("head")[0] == 1
    entry = world.model.entries[0]
    assert entry[0] == 0 and entry[6:8] == b"\xff\xff" and entry[8:] == m.sha256(manifest)
    assert world.view("phase") == m.SETUP


def test_the_board_says_what_it_was_made_with(world):
    assert world.view("windows") == tuple(vars(world.windows).values())
    assert world.view("closeTime") == world.windows.close
    assert world.view("roleCount") == len(world.roles)
    for i, (kind, address) in enumerate(world.roles):
        assert world.view("roleAt", i) == (kind, address.lower())
        assert world.view("numbers", address) == world.view("sequences", address) == 0


def test_the_code_on_the_chain_is_the_artifact_s(world):
    code = bytes(world.web3.eth.get_code(world.address))
    assert code == contracts.artifact().runtime_code
    assert keccak(code) == contracts.artifact().code_hash


def test_ape_compiles_the_same_run_time_code(project):
    """ape cannot be told to leave out the metadata, so it is at the end of its code."""
    settings, artifact = contracts.SETTINGS, contracts.artifact()
    told = {
        "version": contracts.SOLC,
        "via_ir": settings["viaIR"],
        "evm_version": settings["evmVersion"],
        "optimize": settings["optimizer"]["enabled"],
        "optimization_runs": settings["optimizer"]["runs"],
    }
    with project.temp_config(solidity=told):
        compiled = bytes.fromhex(project.BulletinBoard.contract_type.runtime_bytecode.bytecode.removeprefix("0x"))
    assert compiled[: len(artifact.runtime_code)] == artifact.runtime_code
    assert b"ipfs" in compiled[len(artifact.runtime_code) :][:16]


@pytest.fixture
def create(web3, senders):
    """Deploys with these arguments; each is right unless it is given."""
    start = web3.eth.get_block("latest")["timestamp"] + 10
    roles = [
        (m.AUTHORITY, account("a").address),
        (m.VERIFIER, account("v").address),
        (m.DATA_HOLDER, account("d").address),
    ]

    def create(manifest=b"{}", roles=roles, windows=windows_from(start), **setup):
        return deploy(web3, senders[0], manifest, roles, m.Setup(windows=windows, **setup), start)

    create.roles, create.windows = roles, windows_from(start)
    return create


def refused(create, **different):
    name = different.pop("error", "BadSetup")
    with pytest.raises(m.Revert) as caught:
        create(**different)
    assert caught.value.args == (name,)


W = windows_from(0)


@pytest.mark.parametrize(
    "change",
    [
        {"open_not_before": W.close},
        {"close": W.close_not_after + 1},
        {"append_grace": W.settle_not_before - W.close_not_after + 1},
        {"append_grace": 2**40 - 1},
        {"settle_not_before": W.decrypt_not_before + 1},
        {"count_not_before": W.reveal_not_before + 1},
        {"reveal_not_before": W.decrypt_not_before + 1},
    ],
    ids=lambda c: next(iter(c)),
)
def test_windows_out_of_order_are_refused(create, change):
    start = create.windows.close - W.close
    (field, value), at = next(iter(change.items())), start
    refused(create, windows=replace(create.windows, **{field: value if field == "append_grace" else value + at}))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: replace(w, close=w.open_not_before + 1, close_not_after=w.open_not_before + 1),
        lambda w: replace(w, append_grace=w.settle_not_before - w.close_not_after),
        lambda w: replace(w, decrypt_not_before=w.settle_not_before),
        lambda w: replace(w, count_not_before=w.reveal_not_before),
        lambda w: replace(w, reveal_not_before=w.decrypt_not_before),
        lambda w: replace(w, count_not_before=0, reveal_not_before=0),
    ],
)
def test_windows_that_just_touch_are_fine(create, change):
    create(windows=change(create.windows))


def test_an_account_has_one_role(create):
    refused(create, roles=[*create.roles, (m.TRUSTEE, create.roles[0][1])])
    refused(create, roles=[*create.roles, create.roles[0]])


def test_a_role_has_a_kind_and_an_account(create):
    refused(create, roles=[*create.roles, (m.TRUSTEE, m.NOBODY)])
    refused(create, roles=[*create.roles, (0, account("x").address)])


def test_thresholds_do_not_exceed_the_roles(create):
    create(verifiers=1, data_holders=1)
    refused(create, verifiers=2)
    refused(create, data_holders=2)


def test_hash_mode_needs_a_data_holder(create):
    create(hash_mode=True, data_holders=1)
    refused(create, hash_mode=True, data_holders=0)


def test_a_manifest_has_a_body(create):
    refused(create, manifest=b"", error="BadBody")


def test_the_largest_manifest_that_docs_contracts_md_promises_fits(create):
    """EIP-3860 bounds code and arguments together."""
    create(manifest=bytes(30_000), roles=[(m.RELAYER, account(f"r{i}").address) for i in range(40)])
