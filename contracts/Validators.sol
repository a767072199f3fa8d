// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IValidators} from "./IValidators.sol";

/// @title Who validates a permissioned network. IValidators documents every function, event and error.
/// @dev There is no constructor: the genesis sets code and storage, so the layout is part of the network's format (chain/network/genesis.py).
contract Validators is IValidators {
    uint256 private constant FORCE = 3;            // blocks from a change until CometBFT's set has it
    uint256 private constant MAX_POWER = 2 ** 53;  // of all together: exact in JSON, and below CometBFT's limit of 2^60
    uint256 private constant MAX_OPERATOR = 4096;  // bytes about an operator: eight times what one takes

    Member[] private _members;
    uint64 public round;
    uint64 private _changedIn;  // block of the last change
    mapping(bytes32 => mapping(address => bool)) private _votes;  // change (with its round), account

    function vote(bytes32 key, uint64 power, address account, bytes calldata operator) external {
        uint256 place = _check(key, power, account, operator.length);
        bytes32 change = _change(key, power, account, operator);
        if (_votes[change][msg.sender]) revert AlreadyVoted();
        _votes[change][msg.sender] = true;
        (uint64 agreed, uint64 total) = _count(change);
        emit Vote(round, key, msg.sender, power, agreed, total);
        if (3 * uint256(agreed) <= 2 * uint256(total)) return;

        if (block.number < _changedIn + FORCE) revert TooSoon(_changedIn + FORCE);
        if (power != 0) {
            _members.push(Member(key, account, power, operator));
        } else {
            _members[place] = _members[_members.length - 1];
            _members.pop();
        }
        emit Changed(round, key, power);
        ++round;
        _changedIn = uint64(block.number);
    }

    function members() external view returns (Member[] memory) {
        return _members;
    }

    function agreement(bytes32 key, uint64 power, address account, bytes calldata operator) external view returns (uint64 agreed, uint64 total) {
        return _count(_change(key, power, account, operator));
    }

    /// The place of `key`, or the number of members if it is new. That one validator stays follows from the limit of a third.
    function _check(bytes32 key, uint64 power, address account, uint256 length) private view returns (uint256 place) {
        uint256 count = _members.length;
        uint256 total = 0;
        bool votes = false;
        place = count;
        for (uint256 i; i < count; ++i) {
            Member storage m = _members[i];
            total += m.power;
            if (m.account == msg.sender) votes = true;
            if (m.key == key) place = i;
            else if (m.account == account) revert AlreadyMember();
        }
        if (!votes) revert NotMember(msg.sender);
        uint256 moved = power;
        if (power != 0) {
            if (place != count) revert AlreadyMember();
            if (account == address(0) || length == 0 || length > MAX_OPERATOR) revert BadChange();
            if (total + power > MAX_POWER) revert TooMuch(uint64(total));
        } else {
            if (place == count) revert UnknownKey();
            if (account != address(0) || length != 0) revert BadChange();
            moved = _members[place].power;
        }
        if (3 * moved > total) revert TooMuch(uint64(total));
    }

    function _change(bytes32 key, uint64 power, address account, bytes calldata operator) private view returns (bytes32) {
        return keccak256(abi.encode(round, key, power, account, operator));
    }

    /// Power of the members that voted for a change, and of all.
    function _count(bytes32 change) private view returns (uint64 agreed, uint64 total) {
        uint256 count = _members.length;
        for (uint256 i; i < count; ++i) {
            Member storage m = _members[i];
            total += m.power;
            if (_votes[change][m.account]) agreed += m.power;
        }
    }
}
