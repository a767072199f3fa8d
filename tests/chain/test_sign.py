"""EIP-712 signatures of records: the same bytes as eth-account's, and the contract's rules. That the contract agrees is tested by every append."""

from __future__ import annotations

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import BadSignature
from chain.sign import HALF_ORDER, recover_record, sign_record
from tests.chain.world import HANDS, address

ORDER = 2 * HALF_ORDER + 1
SIGNER = HANDS["trustee"]
CHAIN_ID, BOARD, KIND, BODY_HASH, NUMBER = 31_337, bytes(range(20)), 10, bytes(range(32)), 7
STATEMENT = (CHAIN_ID, BOARD, KIND, BODY_HASH, NUMBER)
SIGNATURE = sign_record(SIGNER, *STATEMENT)


@given(
    st.integers(1, 2**64 - 1),
    st.binary(min_size=20, max_size=20),
    st.integers(0, 255),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**64 - 1),
)
def test_a_signature_is_that_of_eth_accounts_typed_data_and_recovers_to_its_signer(
    chain_id, board, kind, body_hash, number
):
    signature = sign_record(bytes(SIGNER.key), chain_id, board, kind, body_hash, number)
    domain = {"name": "Ballotboard", "version": "1", "chainId": chain_id, "verifyingContract": "0x" + board.hex()}
    types = {
        "Record": [
            {"name": "kind", "type": "uint8"},
            {"name": "bodyHash", "type": "bytes32"},
            {"name": "number", "type": "uint64"},
        ]
    }
    message = {"kind": kind, "bodyHash": body_hash, "number": number}
    assert signature == bytes(Account.sign_typed_data(SIGNER.key, domain, types, message).signature)
    assert recover_record(chain_id, board, kind, body_hash, number, signature) == address(SIGNER)


@pytest.mark.parametrize(
    "other",
    [
        (CHAIN_ID + 1, BOARD, KIND, BODY_HASH, NUMBER),
        (CHAIN_ID, bytes(20), KIND, BODY_HASH, NUMBER),
        (CHAIN_ID, BOARD, KIND + 1, BODY_HASH, NUMBER),
        (CHAIN_ID, BOARD, KIND, bytes(32), NUMBER),
        (CHAIN_ID, BOARD, KIND, BODY_HASH, NUMBER + 1),
    ],
    ids=["chain id", "board", "kind", "body", "number"],
)
def test_a_signature_is_good_for_one_statement_only(other):
    assert recover_record(*STATEMENT, SIGNATURE) == address(SIGNER)
    assert recover_record(*other, SIGNATURE) != address(SIGNER)


def test_the_second_form_of_a_signature_with_high_s_is_refused():
    r, s, v = SIGNATURE[:32], int.from_bytes(SIGNATURE[32:64], "big"), SIGNATURE[64]
    twin = r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    with pytest.raises(BadSignature, match="upper half"):
        recover_record(*STATEMENT, twin)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_v_is_27_or_28(v):
    with pytest.raises(BadSignature, match="27 or 28"):
        recover_record(*STATEMENT, SIGNATURE[:64] + bytes([v]))


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:64], SIGNATURE + b"\x00"])
def test_a_signature_has_65_bytes(signature):
    with pytest.raises(BadSignature, match="65 bytes"):
        recover_record(*STATEMENT, signature)


@pytest.mark.parametrize("r", [bytes(32), b"\xff" * 32], ids=["zero", "above the order"])
def test_an_r_that_no_key_makes_is_refused(r):
    with pytest.raises(BadSignature, match="no key"):
        recover_record(*STATEMENT, r + SIGNATURE[32:])
