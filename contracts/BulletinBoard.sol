// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBulletinBoard} from "./IBulletinBoard.sol";

/// @title The public record of one election. IBulletinBoard documents every function, event and error.
/// @dev Reads top to bottom: state, creation, the functions anyone calls, then the rules of single kinds, signatures, bytes, and the tree.
/// Functions have one order: requires, effects, event. The only calls out are to the precompiles ecrecover and SHA-256, so nothing can re-enter.
/// docs/contracts.md argues what is left out, the storage layout, and each piece of assembly.
contract BulletinBoard is IBulletinBoard {
    uint8 private constant MANIFEST = 0;
    uint8 private constant CEREMONY = 1;
    uint8 private constant ROLL = 2;
    uint8 private constant OPEN = 3;
    uint8 private constant BALLOT = 4;
    uint8 private constant CHECK_IN = 5;
    uint8 private constant RESULT_HASH = 6;
    uint8 private constant STATION_RESULT = 7;
    uint8 private constant CLOSE = 8;
    uint8 private constant SETTLEMENT = 9;
    uint8 private constant PARTIAL_DECRYPTION = 10;
    uint8 private constant RESULT = 11;
    uint8 private constant REPORT = 12;
    uint8 private constant COMPLAINT = 13;
    uint8 private constant EXTENSION = 14;
    uint8 private constant ROLL_CHANGE = 15;
    uint8 private constant DECISION = 16;

    uint16 private constant ANYONE = 65535;
    uint16 private constant OFFICERS = 65534;

    uint256 private constant MAX_BODY = 65535;     // what fits the u16 length of a packed ballot
    uint256 private constant SIGNATURE = 65;       // r || s || v
    uint256 private constant CHECK_IN_ENTRY = 9;   // u32 roll index || u40 station time
    uint256 private constant MAX_CHECK_INS = 1000;
    uint256 private constant ROW_HEADER = 9;       // u32 station || u32 unit || u8 officers
    uint256 private constant ROOM = 0x860;         // in front of leaves in memory: a node for each of 64 levels, and a few bytes

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant RECORD_TYPE = keccak256("Record(uint8 kind,bytes32 bodyHash,uint64 number)");
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0; // of secp256k1

    struct Account { RoleKind kind; uint16 index; uint64 sequence; uint64 number; }
    struct Station { uint64 nextBatch; uint32 revision; bool revealed; }
    struct Document { uint64 indexPlusOne; uint32 station; uint32 revision; bool revealed; }
    enum Verdict { None, Good, Bad }
    /// A verifier's open commitment, and what it said last. `early`: committed before anybody revealed.
    struct Report { bytes32 commitment; bytes32 state; Verdict verdict; bool early; bool commitmentEarly; bool committed; }

    // The head comes first so that two storage proofs, of slots 0 and 1, show it.
    bytes32 private _root;
    uint64 private _size;
    uint40 public closeTime;
    Phase public phase;
    bool private _hashMode;
    bool private _rollRecorded;
    bool private _decryptionBegun;
    bool private _verdictRevealed;
    uint16 private _verifiers;    // as in Setup
    uint16 private _dataHolders;  // as in Setup
    uint16 private _committed;    // verifiers that ever committed
    uint16 private _bad;          // verifiers whose last verdict is bad
    uint16 private _agreed;       // states that at least `_verifiers` early verdicts call good
    bytes32 public electionId;
    bytes32 private _stationsRoot;
    uint64 private _stationsCount;
    Windows private _windows;
    Role[] private _roles;
    mapping(address => Account) private _accounts;
    mapping(uint32 => Station) private _stations;
    mapping(uint32 => mapping(uint32 => bytes32)) private _batches;  // station, batch: body hash
    mapping(bytes32 => Document) private _documents;
    mapping(address => Report) private _reports;
    mapping(bytes32 => bool) private _commitments;                   // ever made, by anybody
    mapping(bytes32 => uint16) private _good;                        // state: early verdicts that call it good
    bytes32[64] private _frontier;  // at level l the root of the last full subtree of 2^l leaves; read only where bit l of the size is set

    // ---- creation ----

    constructor(bytes memory manifest, Role[] memory roles, Setup memory setup) {
        Windows memory w = setup.windows;
        (uint256 verifiers, uint256 dataHolders) = (0, 0);
        if (
            w.openNotBefore >= w.close || w.close > w.closeNotAfter
                || uint256(w.closeNotAfter) + w.appendGrace > w.settleNotBefore || w.settleNotBefore > w.decryptNotBefore
                || w.countNotBefore > w.revealNotBefore || w.revealNotBefore > w.decryptNotBefore || roles.length > OFFICERS
        ) revert BadSetup();
        for (uint256 i; i < roles.length; ++i) {
            (RoleKind kind, address account) = (roles[i].kind, roles[i].account);
            if (kind == RoleKind.None || account == address(0) || _accounts[account].kind != RoleKind.None) revert BadSetup();
            _accounts[account] = Account(kind, uint16(i), 0, 0);
            _roles.push(roles[i]);
            if (kind == RoleKind.Verifier) ++verifiers;
            if (kind == RoleKind.DataHolder) ++dataHolders;
        }
        if (setup.verifiers > verifiers || setup.dataHolders > dataHolders || (setup.hashMode && setup.dataHolders == 0)) revert BadSetup();
        closeTime = w.close;
        _windows = w;
        (_stationsRoot, _stationsCount) = (setup.stationsRoot, setup.stationsCount);
        (_hashMode, _verifiers, _dataHolders) = (setup.hashMode, setup.verifiers, setup.dataHolders);
        _checkLength(manifest.length);
        electionId = sha256(manifest);
        _record(MANIFEST, ANYONE, 0, electionId, manifest, "");
    }

    // ---- ballots ----

    function appendBallots(uint64 sequence, bytes calldata packed) external {
        if (_hashMode) revert BadBody();
        uint16 role = _relay(sequence);
        (uint256 leaves, uint256 count) = _leavesOfBodies(_header(BALLOT, role), packed);
        (uint64 first, bytes32 root) = _appendLeaves(leaves, count);
        emit Ballots(first, role, sequence, uint32(count), root);
    }

    function appendBallotHashes(uint64 sequence, bytes calldata hashes) external {
        if (!_hashMode) revert BadBody();
        uint16 role = _relay(sequence);
        (uint256 leaves, uint256 count) = _leavesOfHashes(_header(BALLOT, role), hashes);
        (uint64 first, bytes32 root) = _appendLeaves(leaves, count);
        emit Ballots(first, role, sequence, uint32(count), root);
    }

    // ---- records signed by roles ----

    function append(uint8 kind, bytes calldata body, bytes calldata signatures) external {
        _checkLength(body.length);
        bool two = kind == ROLL_CHANGE || kind == DECISION;
        if (signatures.length != (two ? 2 * SIGNATURE : SIGNATURE)) revert BadSignature();
        bytes32 bodyHash = sha256(body);
        (uint16 role, uint64 number) = _signer(kind, _mayAppend(kind), bodyHash, signatures[:SIGNATURE]);
        if (two) _signer(kind, RoleKind.Cosigner, bodyHash, signatures[SIGNATURE:]);

        if (kind == CEREMONY) {
            _in(Phase.Setup);
        } else if (kind == ROLL) {
            _in(Phase.Setup);
            if (_rollRecorded) revert AlreadyDone();
            _rollRecorded = true;
        } else if (kind == OPEN) {
            _in(Phase.Setup);
            if (!_rollRecorded) revert NotInPhase(phase);
            _notBefore(_windows.openNotBefore);
            _before(closeTime);
            if (bodyHash != sha256(_headBody())) revert BadBody();
            phase = Phase.Open;
        } else if (kind == PARTIAL_DECRYPTION) {
            _in(Phase.Settled);
            _notBefore(_windows.decryptNotBefore);
            _decryptionBegun = true;
        } else if (kind == RESULT) {
            _in(Phase.Settled);
            if (!_decryptionBegun) revert NotInPhase(phase);
            phase = Phase.Final;
        } else if (kind == REPORT) {
            _in(Phase.Final);
            _report(_roles[role].account, body, bodyHash);
        } else if (kind == EXTENSION) {
            _in(Phase.Open);
            _before(closeTime);
            _extendPoll(body);
        } else if (kind == ROLL_CHANGE) {
            _in(Phase.Open);
            _before(closeTime);
        } else if (kind == DECISION) {
            if (phase != Phase.Closed) _in(Phase.Open);
        } // a complaint has no window
        _record(kind, role, number, bodyHash, body, signatures);
    }

    // ---- polling stations ----

    function appendStations(bytes calldata items) external {
        if (items.length == 0) revert BadBody();
        for (uint256 offset; offset < items.length;) {
            uint8 kind = uint8(items[offset]);
            bytes calldata row;
            bytes calldata proof;
            bytes calldata body;
            bytes calldata signatures;
            (row, offset) = _takeSized(items, offset + 1);
            (proof, offset) = _take(items, offset, 1);
            (proof, offset) = _take(items, offset, 32 * uint256(uint8(proof[0])));
            (body, offset) = _takeSized(items, offset);
            (signatures, offset) = _take(items, offset, 2 * SIGNATURE);
            _appendStation(kind, row, proof, body, signatures);
        }
    }

    function reveal(bytes calldata documents) external {
        if (documents.length == 0) revert BadBody();
        for (uint256 offset; offset < documents.length;) {
            bytes calldata body;
            (body, offset) = _takeSized(documents, offset);
            bytes32 hash = sha256(body);
            Document storage d = _documents[hash];
            if (d.indexPlusOne == 0) revert UnknownHash(hash);
            if (d.revealed) continue;
            _notBefore(_windows.revealNotBefore);
            if (phase == Phase.Final) revert NotInPhase(phase);
            d.revealed = true;
            if (d.revision == _stations[d.station].revision) _stations[d.station].revealed = true;
            _record(STATION_RESULT, ANYONE, 0, hash, body, "");
        }
    }

    // ---- the end of the poll ----

    function close() external {
        _in(Phase.Open);
        _notBefore(closeTime + _windows.appendGrace);
        phase = Phase.Closed;
        bytes memory body = _headBody();
        _record(CLOSE, ANYONE, 0, sha256(body), body, "");
    }

    function settle(bytes32 bitmap, bytes calldata signatures) external {
        _in(Phase.Closed);
        _notBefore(_windows.settleNotBefore);
        bytes memory body = _headBody();
        if (_hashMode) body = bytes.concat(body, bitmap);
        else if (bitmap != 0) revert BadBody();
        bytes32 bodyHash = sha256(body);
        _checkDataHolders(bodyHash, signatures);
        phase = Phase.Settled;
        _record(SETTLEMENT, ANYONE, 0, bodyHash, body, signatures);
    }

    function attach(bytes32 file, uint32 part, uint32 parts, bytes calldata data) external {
        Account storage account = _accounts[msg.sender];
        if (account.kind == RoleKind.None) revert WrongRole(msg.sender, 0);
        if (part >= parts || data.length == 0) revert BadBody();
        emit Attachment(file, account.index, part, parts, data);
    }

    // ---- views ----

    function head() external view returns (uint64 size, bytes32 root) {
        return (_size, _root);
    }

    function windows() external view returns (Windows memory) {
        return _windows;
    }

    function roleCount() external view returns (uint256) {
        return _roles.length;
    }

    function roleAt(uint16 index) external view returns (Role memory) {
        return _roles[index];
    }

    function numbers(address signer) external view returns (uint64) {
        return _accounts[signer].number;
    }

    function sequences(address relayer) external view returns (uint64) {
        return _accounts[relayer].sequence;
    }

    function station(uint32 id) external view returns (uint64 nextBatch, uint32 revision, bool revealed) {
        Station storage s = _stations[id];
        return (s.nextBatch, s.revision, s.revealed);
    }

    function document(bytes32 documentHash) external view returns (uint64 indexPlusOne, bool revealed) {
        Document storage d = _documents[documentHash];
        return (d.indexPlusOne, d.revealed);
    }

    function certified() external view returns (bool) {
        return _verifiers != 0 && _agreed == 1 && _bad == 0;
    }

    // ---- rules of single kinds ----

    /// The sender's role index, if it may append ballots now and this is its next transaction.
    /// Readers take ballots from the transaction's input, so nothing may stand between it and this call: no contract, none that is still
    /// running its constructor and so has no code, and no code that a plain account delegates to (EIP-7702). Not authentication: the role is.
    function _relay(uint64 sequence) private returns (uint16 role) {
        if (msg.sender != tx.origin || msg.sender.code.length != 0) revert NotDirect(); // solhint-disable-line avoid-tx-origin
        Account storage account = _accounts[msg.sender];
        if (account.kind != RoleKind.Relayer) revert WrongRole(msg.sender, BALLOT);
        if (account.sequence != sequence) revert WrongSequence(account.sequence);
        _in(Phase.Open);
        _before(closeTime + _windows.appendGrace);
        account.sequence = sequence + 1;
        return account.index;
    }

    /// The role that signs records of this kind first; None stands for any.
    function _mayAppend(uint8 kind) private pure returns (RoleKind) {
        if (kind == CEREMONY || kind == PARTIAL_DECRYPTION) return RoleKind.Trustee;
        if (kind == ROLL || kind == ROLL_CHANGE) return RoleKind.Registrar;
        if (kind == OPEN || kind == RESULT || kind == EXTENSION || kind == DECISION) return RoleKind.Authority;
        if (kind == REPORT) return RoleKind.Verifier;
        if (kind == COMPLAINT) return RoleKind.None;
        revert WrongRole(address(0), kind);
    }

    function _extendPoll(bytes calldata body) private {
        if (body.length < 5) revert BadBody();
        uint40 later = uint40(bytes5(body));
        if (later <= closeTime || later > _windows.closeNotAfter) revert BadBody();
        closeTime = later;
    }

    /// Commit, then reveal. A commitment is good for one verifier only, since a reveal does not name it; a new one replaces the open one, so nobody holds
    /// two verdicts in hand. Nobody reveals before enough have committed, and only commitments older than the first reveal can certify.
    function _report(address verifier, bytes calldata body, bytes32 bodyHash) private {
        Report storage r = _reports[verifier];
        if (body.length == 33 && body[0] == 0x00) {
            bytes32 commitment = bytes32(body[1:]);
            if (_commitments[commitment]) revert AlreadyDone();
            _commitments[commitment] = true;
            if (!r.committed) ++_committed;
            (r.committed, r.commitment, r.commitmentEarly) = (true, commitment, !_verdictRevealed);
        } else if (body.length == 98 && body[0] == 0x01 && uint8(body[1]) <= 1) {
            if (r.commitment != bodyHash) revert UnknownHash(bodyHash);
            if (_committed < _verifiers) revert NotInPhase(phase);
            if (r.verdict == Verdict.Bad) --_bad;
            if (r.verdict == Verdict.Good && r.early && _good[r.state]-- == _verifiers) --_agreed;
            (r.commitment, r.state, r.early) = (0, bytes32(body[2:34]), r.commitmentEarly);
            r.verdict = body[1] == 0x01 ? Verdict.Good : Verdict.Bad;
            if (r.verdict == Verdict.Bad) ++_bad;
            if (r.verdict == Verdict.Good && r.early && ++_good[r.state] == _verifiers) ++_agreed;
            _verdictRevealed = true;
        } else {
            revert BadBody();
        }
    }

    /// One check-in or result hash; one that is recorded already is passed over, whatever the time.
    function _appendStation(uint8 kind, bytes calldata row, bytes calldata proof, bytes calldata body, bytes calldata signatures) private {
        bool wellFormed = kind == CHECK_IN
            ? body.length > 8 && (body.length - 8) % CHECK_IN_ENTRY == 0 && body.length <= 8 + CHECK_IN_ENTRY * MAX_CHECK_INS
            : kind == RESULT_HASH && body.length == 40;
        if (!wellFormed) revert BadBody();
        (uint32 id, uint32 number) = (uint32(bytes4(body)), uint32(bytes4(body[4:])));
        bytes32 bodyHash = sha256(body);
        if (!(kind == CHECK_IN ? _checkIn(id, number, bodyHash) : _resultHash(id, number, bytes32(body[8:])))) return;
        _checkOfficers(kind, row, proof, id, number, bodyHash, signatures);
        _record(kind, OFFICERS, number, bodyHash, body, signatures);
    }

    function _checkIn(uint32 id, uint32 batch, bytes32 bodyHash) private returns (bool isNew) {
        Station storage s = _stations[id];
        if (_batches[id][batch] == bodyHash) return false;
        if (batch != s.nextBatch) revert WrongNumber(s.nextBatch);
        if (phase != Phase.Closed) _in(Phase.Open);
        _before(_windows.settleNotBefore);
        ++s.nextBatch;
        _batches[id][batch] = bodyHash;
        return true;
    }

    function _resultHash(uint32 id, uint32 revision, bytes32 hash) private returns (bool isNew) {
        Station storage s = _stations[id];
        Document storage d = _documents[hash];
        if (d.indexPlusOne != 0 && d.station == id && d.revision == revision) return false;
        if (revision != uint256(s.revision) + 1) revert WrongNumber(uint64(s.revision) + 1);
        if (d.indexPlusOne != 0) revert AlreadyDone();
        _notBefore(_windows.countNotBefore);
        if (phase == Phase.Final) revert NotInPhase(phase);
        if (block.timestamp >= _windows.revealNotBefore && s.revision != 0 && !s.revealed) revert UnrevealedRevision(id);
        (s.revision, s.revealed) = (revision, false);
        _documents[hash] = Document(_size + 1, id, revision, false);
        return true;
    }

    // ---- who signed ----

    /// The role, of kind `wanted` or any if None, that signed with its next number; the number is used up.
    /// The number is signed but not sent, so every candidate's is tried. Roles are few and fixed at creation.
    function _signer(uint8 kind, RoleKind wanted, bytes32 bodyHash, bytes calldata signature)
        private
        returns (uint16 role, uint64 number)
    {
        uint256 count = _roles.length;
        for (uint256 i; i < count; ++i) {
            Role memory candidate = _roles[i];
            if (wanted != RoleKind.None && candidate.kind != wanted) continue;
            number = _accounts[candidate.account].number;
            if (_recover(kind, bodyHash, number, signature) != candidate.account) continue;
            _accounts[candidate.account].number = number + 1;
            return (uint16(i), number);
        }
        revert WrongRole(_recover(kind, bodyHash, 0, signature), kind);
    }

    /// In hash mode at least `_dataHolders` data holders, in the order of the roles, with nothing left over; else no signature at all.
    function _checkDataHolders(bytes32 bodyHash, bytes calldata signatures) private {
        uint256 offset = 0;
        uint256 count = _hashMode ? _roles.length : 0;
        for (uint256 i; i < count && offset + SIGNATURE <= signatures.length; ++i) {
            Role memory candidate = _roles[i];
            if (candidate.kind != RoleKind.DataHolder) continue;
            Account storage account = _accounts[candidate.account];
            if (_recover(SETTLEMENT, bodyHash, account.number, signatures[offset:offset + SIGNATURE]) != candidate.account) continue;
            ++account.number;
            offset += SIGNATURE;
        }
        if (offset != signatures.length || (_hashMode && offset < _dataHolders * SIGNATURE)) revert BadSignature();
    }

    /// Two distinct officers of the station row signed, and the row is number `id` of the manifest's stations.
    function _checkOfficers(
        uint8 kind,
        bytes calldata row,
        bytes calldata proof,
        uint32 id,
        uint32 number,
        bytes32 bodyHash,
        bytes calldata signatures
    ) private view {
        if (row.length < ROW_HEADER || uint32(bytes4(row)) != id) revert BadInclusion();
        uint256 officers = uint8(row[8]);
        if (row.length < ROW_HEADER + 20 * officers || !_included(id, row, proof)) revert BadInclusion();
        address first = _recover(kind, bodyHash, number, signatures[:SIGNATURE]);
        address second = _recover(kind, bodyHash, number, signatures[SIGNATURE:]);
        if (first == second) revert BadSignature();
        (bool foundFirst, bool foundSecond) = (false, false);
        for (uint256 i; i < officers; ++i) {
            address officer = address(bytes20(row[ROW_HEADER + 20 * i:]));
            if (officer == first) foundFirst = true;
            if (officer == second) foundSecond = true;
        }
        if (!foundFirst) revert WrongRole(first, kind);
        if (!foundSecond) revert WrongRole(second, kind);
    }

    /// EIP-712 over `Record`; refuses what has a second form: s in the upper half, v other than 27 and 28, no signer.
    function _recover(uint8 kind, bytes32 bodyHash, uint64 number, bytes calldata signature) private view returns (address signer) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN_TYPE, keccak256("Ballotboard"), keccak256("1"), block.chainid, address(this)));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, keccak256(abi.encode(RECORD_TYPE, kind, bodyHash, number))));
        (bytes32 r, bytes32 s, uint8 v) = (bytes32(signature), bytes32(signature[32:]), uint8(signature[64]));
        if (uint256(s) > HALF_ORDER || (v != 27 && v != 28)) revert BadSignature();
        signer = ecrecover(digest, v, r, s);
        if (signer == address(0)) revert BadSignature();
    }

    // ---- when ----

    function _in(Phase wanted) private view {
        if (phase != wanted) revert NotInPhase(phase);
    }

    function _notBefore(uint40 time) private view {
        if (block.timestamp < time) revert TooEarly(time);
    }

    function _before(uint40 time) private view {
        if (block.timestamp >= time) revert TooLate(time);
    }

    // ---- bytes ----

    function _checkLength(uint256 length) private pure {
        if (length == 0 || length > MAX_BODY) revert BadBody();
    }

    /// `length` bytes of `data` from `offset`, and where they end.
    function _take(bytes calldata data, uint256 offset, uint256 length) private pure returns (bytes calldata part, uint256 end) {
        end = offset + length;
        if (end > data.length) revert BadBody();
        return (data[offset:end], end);
    }

    /// The same with a u16 length in front, which may not be 0.
    function _takeSized(bytes calldata data, uint256 offset) private pure returns (bytes calldata part, uint256 end) {
        (part, offset) = _take(data, offset, 2);
        (part, end) = _take(data, offset, uint16(bytes2(part)));
        if (part.length == 0) revert BadBody();
    }

    function _headBody() private view returns (bytes memory) {
        return abi.encodePacked(_size, _root);
    }

    // ---- the tree of RFC 9162, section 2.1 ----

    /// What comes before the body hash in the input of a leaf: `0x00 || kind || u40(time) || u16(role)`, 9 bytes, left-aligned.
    function _header(uint8 kind, uint16 role) private view returns (bytes32) {
        return bytes32(abi.encodePacked(uint8(0), kind, uint40(block.timestamp), role));
    }

    function _record(uint8 kind, uint16 role, uint64 number, bytes32 bodyHash, bytes memory body, bytes memory signatures) private {
        uint64 index = _size;
        bytes32 node = sha256(abi.encodePacked(bytes9(_header(kind, role)), bodyHash));
        uint256 level = 0;
        for (; (index >> level) & 1 == 1; ++level) node = _node(_frontier[level], node);
        _frontier[level] = node;
        bytes32 root = _seal(index + 1);
        emit Record(index, kind, role, number, root, body, signatures);
    }

    /// The log now has `size` entries and the frontier is up to date: the root is the fold of its full subtrees from the right.
    function _seal(uint64 size) private returns (bytes32 root) {
        uint256 level = 0;
        while ((size >> level) & 1 == 0) ++level;
        root = _frontier[level];
        while (size >> ++level != 0) {
            if ((size >> level) & 1 == 1) root = _node(_frontier[level], root);
        }
        (_size, _root) = (size, root);
    }

    /// Appends the `count` leaves at memory `leaves`, level by level, every node hashed once and in place: the full subtree to the left, if there is one,
    /// comes first; an odd last node stays behind as the frontier of its level; pairs become the nodes of the next level.
    function _appendLeaves(uint256 leaves, uint256 count) private returns (uint64 first, bytes32 root) {
        if (count == 0) revert BadBody();
        first = _size;
        assembly ("memory-safe") {
            let ok := 1
            let n := count
            let slot := _frontier.slot
            for { let start := first } n { start := shr(1, start) slot := add(slot, 1) } {
                if and(start, 1) {
                    leaves := sub(leaves, 32)
                    mstore(leaves, sload(slot))
                    n := add(n, 1)
                }
                if and(n, 1) { sstore(slot, mload(add(leaves, shl(5, sub(n, 1))))) }
                n := shr(1, n)
                let to := leaves
                let end := add(leaves, shl(6, n))
                for { let from := leaves } lt(from, end) { from := add(from, 64) to := add(to, 32) } {
                    mstore8(sub(from, 1), 1) // the byte before a pair belongs to a node already used, or to the room in front
                    ok := and(ok, staticcall(gas(), 2, sub(from, 1), 65, to, 32))
                }
            }
            if iszero(ok) { revert(0, 0) } // out of gas in the precompile: no other way to fail
        }
        root = _seal(first + uint64(count));
    }

    /// Leaves of `u16 length || body` items, in memory after room for a node of each of 64 levels; no leaf if the lengths do not add up.
    function _leavesOfBodies(bytes32 header, bytes calldata packed) private view returns (uint256 leaves, uint256 count) {
        assembly ("memory-safe") {
            let entry := mload(0x40)
            leaves := add(entry, ROOM)
            mstore(entry, header)
            let end := add(packed.offset, packed.length)
            let wellFormed := 1
            let ok := 1
            let to := leaves
            for { let from := packed.offset } lt(from, end) {} {
                let length := shr(240, calldataload(from))
                from := add(from, 2)
                calldatacopy(to, from, length) // its leaf takes its place
                ok := and(ok, staticcall(gas(), 2, to, length, add(entry, 9), 32))
                ok := and(ok, staticcall(gas(), 2, entry, 41, to, 32))
                from := add(from, length)
                to := add(to, 32)
                wellFormed := and(wellFormed, and(gt(length, 0), iszero(gt(from, end))))
            }
            if iszero(ok) { revert(0, 0) }
            count := mul(wellFormed, shr(5, sub(to, leaves)))
            mstore(0x40, to)
        }
    }

    /// The same of 32-byte body hashes.
    function _leavesOfHashes(bytes32 header, bytes calldata hashes) private view returns (uint256 leaves, uint256 count) {
        assembly ("memory-safe") {
            let entry := mload(0x40)
            leaves := add(entry, ROOM)
            mstore(entry, header)
            let end := add(hashes.offset, hashes.length)
            let ok := 1
            let to := leaves
            for { let from := hashes.offset } lt(from, end) { from := add(from, 32) } {
                calldatacopy(add(entry, 9), from, 32)
                ok := and(ok, staticcall(gas(), 2, entry, 41, to, 32))
                to := add(to, 32)
            }
            if iszero(ok) { revert(0, 0) }
            count := mul(iszero(and(hashes.length, 31)), shr(5, sub(to, leaves)))
            mstore(0x40, to)
        }
    }

    /// In assembly since Solidity would leave 128 bytes of memory behind for each.
    function _node(bytes32 left, bytes32 right) private view returns (bytes32 node) {
        assembly ("memory-safe") {
            let pair := mload(0x40)
            mstore8(pair, 1)
            mstore(add(pair, 1), left)
            mstore(add(pair, 33), right)
            if iszero(staticcall(gas(), 2, pair, 65, 0, 32)) { revert(0, 0) }
            node := mload(0)
        }
    }

    /// RFC 9162, section 2.1.3.2: whether `row` is leaf `index` of the manifest's stations.
    function _included(uint256 index, bytes calldata row, bytes calldata proof) private view returns (bool) {
        if (index >= _stationsCount) return false;
        uint256 last = _stationsCount - 1;
        bytes32 node = sha256(bytes.concat(hex"00", row));
        for (uint256 offset; offset < proof.length; offset += 32) {
            if (last == 0) return false;
            bytes32 sibling = bytes32(proof[offset:]);
            if (index & 1 == 1 || index == last) {
                node = _node(sibling, node);
                for (; index & 1 == 0 && index != 0; last >>= 1) index >>= 1;
            } else {
                node = _node(node, sibling);
            }
            (index, last) = (index >> 1, last >> 1);
        }
        return last == 0 && node == _stationsRoot;
    }
}
