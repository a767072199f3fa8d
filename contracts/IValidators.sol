// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Who validates a permissioned network: its operators add and remove validators by votes.
/// @notice There is one on every network, in the genesis at a fixed address, with the first set in its storage (chain/network/genesis.py). What it says
/// in block h the validators tell CometBFT at height h + 1 (chain/validator/app), which lets it take force at height h + 3 (docs/network.md).
/// @dev No owner, no ether, no upgrade. Operators are trusted to be distinct people: power, not accounts, is what counts.
interface IValidators {
    /// @param key Ed25519 key of the validator   @param account of its operator, who votes   @param power of its votes, here and in CometBFT
    /// @param operator the operator's public file (operator.json): node ids and addresses, by which the others find it
    struct Member { bytes32 key; address account; uint64 power; bytes operator; }

    /// @notice An operator agreed to a change; `agreed` of `total` power have, and more than 2/3 make it.
    event Vote(uint64 indexed round, bytes32 indexed key, address indexed account, uint64 power, uint64 agreed, uint64 total);

    /// @notice The change was made: `key` has `power` from now on, 0 for a validator that leaves. At most one in three blocks.
    event Changed(uint64 indexed round, bytes32 indexed key, uint64 power);

    error NotMember(address account);        // only accounts of present validators vote
    error AlreadyVoted();                    // by this account, for this change, of this set
    error AlreadyMember();                   // a validator has this key, or an operator this account; to change a power, remove and add
    error UnknownKey();                      // no validator to remove has this key
    error TooMuch(uint64 total);             // a change moves at most a third of the total power, and the total stays below 2^53
    error TooSoon(uint256 block);            // the change before is not in force yet: vote again in this block or later
    error BadChange();                       // a removal names a key alone; an addition an account and 1 to 4,096 bytes about its operator

    /// @notice Agrees to give `key` the power `power`: 0 removes it, and then `account` and `operator` are empty.
    /// @dev Votes count for the present set only: a change made by whatever other votes voids them.
    function vote(bytes32 key, uint64 power, address account, bytes calldata operator) external;

    /// @notice The present set, in no order.
    function members() external view returns (Member[] memory);

    /// @notice How much power has agreed to a change, and of how much.
    function agreement(bytes32 key, uint64 power, address account, bytes calldata operator) external view returns (uint64 agreed, uint64 total);

    /// @notice Changes made so far.
    function round() external view returns (uint64);
}
