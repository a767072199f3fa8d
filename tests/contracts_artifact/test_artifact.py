"""The shipped artifact is what the sources compile to, and docs/contracts.md tells its layout and its gas as they are."""

import json
import os
import re
from pathlib import Path

import pytest
from eth_utils import keccak

import contracts
from scripts import gas

ROOT = Path(contracts.__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("name", contracts.NAMES)
def test_the_artifact_is_byte_for_byte_what_the_sources_compile_to(monkeypatch, name):
    if "SOLCX_BINARY_PATH" not in os.environ:
        if not (ROOT / ".solcx").is_dir():
            pytest.skip("no compiler: `make setup` puts it into .solcx")
        monkeypatch.setenv("SOLCX_BINARY_PATH", str(ROOT / ".solcx"))
    compiled = contracts.compile(name)
    assert compiled == contracts.artifact(name)
    assert contracts.to_json(compiled) == (ROOT / "contracts" / f"{name}.json").read_text()


@pytest.mark.parametrize("name", contracts.NAMES)
def test_the_code_hash_is_that_of_the_run_time_code(name):
    artifact = contracts.artifact(name)
    assert artifact.code_hash == keccak(artifact.runtime_code)


@pytest.mark.parametrize("name", contracts.NAMES)
def test_the_run_time_code_is_a_constant_of_the_creation_code(name):
    """No immutables and no link references: what is created, or set by a genesis, is there as it will be."""
    artifact = contracts.artifact(name)
    assert artifact.creation_code.count(artifact.runtime_code) == 1


def test_the_code_is_within_the_limits_and_docs_contracts_md_says_by_how_much():
    artifact, text = contracts.artifact(), (ROOT / gas.DOCUMENT).read_text()
    assert len(artifact.runtime_code) <= 24_576 and f"{len(artifact.runtime_code):,} of the 24,576 bytes" in text
    assert f"With {len(artifact.creation_code):,} bytes of code" in text
    room = 49_152 - len(artifact.creation_code) - 17 * 32 - 40 * 64  # offsets, setup and lengths; 40 roles
    promised = int(re.search(r"manifest of about ([\d,]+) bytes with 40 roles", text)[1].replace(",", ""))
    assert promised <= room < promised + 100


@pytest.mark.parametrize("name", contracts.NAMES)
def test_no_function_is_payable(name):
    """Neither contract holds ether."""
    assert not [entry for entry in contracts.artifact(name).abi if entry.get("stateMutability") == "payable"]


def test_docs_contracts_md_tells_the_storage_layout():
    text = (ROOT / gas.DOCUMENT).read_text().split("<!-- layout -->")[1].split("## ")[0]
    told = {
        name: [int(slot), int(byte)] for slot, byte, name in re.findall(r"^\| (\d+) \| (\d+) \| `(\w+)`", text, re.M)
    }
    assert told == contracts.artifact().storage


@pytest.mark.e2e
def test_docs_contracts_md_has_the_present_gas_table_and_batches_keep_their_bound(monkeypatch):
    monkeypatch.chdir(ROOT)
    table = gas.table()
    assert gas.written() == table, "run `python -m scripts.gas`"
    bounded = re.findall(
        r"^\| batch of [\d,]+ (?:ballots of (?:349|877) bytes|ballot hashes).* ([\d,]+) \|$", table, re.M
    )
    assert len(bounded) == 4 and all(int(b.replace(",", "")) <= 2_200 for b in bounded), bounded


@pytest.mark.parametrize("name", contracts.NAMES)
def test_the_interface_is_the_abi(name):
    """Everything a contract offers is declared, and so documented, in its interface."""
    text = (ROOT / "contracts" / f"I{name}.sol").read_text()
    declared = set(re.findall(r"^\s+(?:function|event|error) (\w+)\(", text, re.M))
    abi = json.loads((ROOT / "contracts" / f"{name}.json").read_text())["abi"]
    assert {entry["name"] for entry in abi if "name" in entry} == declared
