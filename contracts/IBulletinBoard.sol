// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The public record of one election: an append-only log of typed records, in order, in time, from the right hand.
/// @notice The board does no cryptography on ballots and never learns a result: whether a ballot is valid and what the tally is are pure
/// functions of the record, computed by any observer. The board fixes only what an observer cannot recompute: when, in which order, by whom.
/// @dev Entry: `kind (1) || uint40 block time || uint16 role index || SHA-256(body)`, leaf `SHA-256(0x00 || entry)`, tree of RFC 9162, section 2.1.
/// docs/protocol.md, sections 2, 9 and 10, has every body. There is no owner, no proxy and no upgrade: another election is another board.
interface IBulletinBoard {
    /// @notice The hands that may append. A role index is the place in the constructor's list, and in the manifest's.
    enum RoleKind { None, Authority, Registrar, Cosigner, Trustee, Relayer, Verifier, DataHolder }

    /// @notice Setup until the open record, Open until the close record, Closed until the settlement, Settled until the result.
    enum Phase { Setup, Open, Closed, Settled, Final }

    struct Role { RoleKind kind; address account; }

    /// @notice Times in seconds since 1970-01-01 UTC. Order required by the constructor: openNotBefore < close <= closeNotAfter,
    /// closeNotAfter + appendGrace <= settleNotBefore <= decryptNotBefore, countNotBefore <= revealNotBefore <= decryptNotBefore.
    struct Windows {
        uint40 openNotBefore; uint40 close; uint40 closeNotAfter; uint40 appendGrace;
        uint40 countNotBefore; uint40 revealNotBefore; uint40 settleNotBefore; uint40 decryptNotBefore;
    }

    /// @notice What the constructor takes beside the manifest; the verifier compares each with the manifest.
    /// @dev stationsRoot/stationsCount: RFC 9162 root and number of the station rows. hashMode: ballots come as hashes only.
    /// verifiers: how many registered verifiers must agree for `certified`. dataHolders: how many must sign the settlement in hash mode, where it is not 0.
    /// Neither may exceed the roles of its kind. An account has one role.
    struct Setup {
        Windows windows; bytes32 stationsRoot; uint64 stationsCount; bool hashMode; uint16 verifiers; uint16 dataHolders;
    }

    /// @notice A record other than a ballot. The entry's time is the time of the block that holds this event.
    /// @param index position in the log   @param role signer's role index, 65535 anyone, 65534 station officers
    /// @param number what was signed with the body: the signer's number, the station's batch or revision; 0 where nothing is signed
    /// @param root root of the log with this record as its last   @param signatures 65 bytes each, `r || s || v`; empty where none is needed
    event Record(uint64 indexed index, uint8 indexed kind, uint16 indexed role, uint64 number, bytes32 root, bytes body, bytes signatures);

    /// @notice Ballots (kind 4) were appended at first … first + count − 1; their bodies, or hashes, are the calldata of this transaction.
    /// @param root root of the log with the last of them
    event Ballots(uint64 indexed first, uint16 indexed role, uint64 sequence, uint32 count, bytes32 root);

    /// @notice A part of an attachment was published. It is no record: readers keep what hashes to a name on the record.
    event Attachment(bytes32 indexed file, uint16 indexed role, uint32 part, uint32 parts, bytes data);

    error NotInPhase(Phase phase);                 // the act belongs to another phase, or a record must come first; the present phase is given
    error TooEarly(uint40 notBefore);              // block time is below notBefore
    error TooLate(uint40 notAfter);                // block time is at or above notAfter
    /// @dev The signed number is not sent, so `signer` is the address recovered with number 0 (stations: with the batch or revision): a role's signature
    /// over a number already used shows up here, with an address nobody holds. Zero for a kind nobody signs; the sender, with kind 0, for an attachment.
    error WrongRole(address signer, uint8 kind);   // the recovered signer may not append this kind
    error NotDirect();                             // ballots come straight from a plain account: their bodies are read from its transaction's input
    error WrongSequence(uint64 expected);          // the relayer's next number is `expected`: what came before it has landed
    error WrongNumber(uint64 expected);            // the station's next batch or revision is `expected`
    error BadSignature();                          // malleable, malformed, twice by one signer, or the wrong count of signatures
    error BadInclusion();                          // the station row is not in the manifest's stations
    error BadBody();                               // empty, over 65,535 bytes, or not what the board expects: layout, head, close time, ballot mode
    error BadSetup();                              // constructor arguments contradict each other
    error UnknownHash(bytes32 documentHash);       // a result, or a verifier's reveal, whose hash was never recorded
    error UnrevealedRevision(uint32 station);      // the document being amended must be revealed first
    error AlreadyDone();                           // this exists once, and it exists: the roll, a document's hash, a verifier's commitment

    /// @notice Ballots with their bodies. Only an account of role Relayer, without code and calling directly; open, before close + appendGrace.
    /// @param sequence the sender's next number, from 0; a repeat reverts with the value expected
    /// @param packed `uint16(length) || body`, one after the other; at least one; each 1 … 65,535 bytes
    function appendBallots(uint64 sequence, bytes calldata packed) external;

    /// @notice The same in hash mode: 32-byte ballot hashes one after the other.
    function appendBallotHashes(uint64 sequence, bytes calldata hashes) external;

    /// @notice A signed record: kinds 1, 2, 3, 10, 11, 12, 13, 14 with one signature, 15 and 16 with two (role, then cosigner).
    /// @dev Anyone may send it; the EIP-712 signer of `Record(uint8 kind,bytes32 bodyHash,uint64 number)` is what counts, number = `numbers(signer)`.
    /// Reports (12): a commitment is taken once, from whoever makes it first, and replaces the verifier's open one; a reveal needs the verifier's own open
    /// commitment, and at least `verifiers` verifiers that have committed.
    function append(uint8 kind, bytes calldata body, bytes calldata signatures) external;

    /// @notice Check-ins (5) and result hashes (6), one or many, of one or many stations. Anyone may send it.
    /// @dev items, one after the other: `uint8 kind || uint16 length || station row || uint8 n || n · 32 bytes inclusion proof || uint16 length || body
    /// || two signatures of distinct officers of that row (130)`. An item whose body is already recorded is passed over at any time, unread: syncing twice changes nothing.
    /// A document's hash is taken once, by the station that records it first.
    function appendStations(bytes calldata items) external;

    /// @notice Result documents (7), `uint16(length) || document`, one after the other. Anyone who holds one may send it; a revealed one is passed over.
    function reveal(bytes calldata documents) external;

    /// @notice The close record (8): `uint64 size || bytes32 root` of the log. Anyone, once, from close + appendGrace.
    function close() external;

    /// @notice The settlement (9): `uint64 size || bytes32 root`, in hash mode followed by the SHA-256 of the bitmap attachment. Anyone, once, closed, from settleNotBefore.
    /// @param bitmap SHA-256 of the bitmap in hash mode, else zero
    /// @param signatures empty, or in hash mode of at least `dataHolders` distinct data holders in growing order of role index, over `Record(9, SHA-256(body), number)`
    function settle(bytes32 bitmap, bytes calldata signatures) external;

    /// @notice Publish part `part` of `parts` of the file with this SHA-256. The sender must hold any role.
    function attach(bytes32 file, uint32 part, uint32 parts, bytes calldata data) external;

    /// @notice Size and root of the log. The empty root never occurs: the manifest is record 0.
    function head() external view returns (uint64 size, bytes32 root);
    function phase() external view returns (Phase);
    function windows() external view returns (Windows memory);
    /// @notice The current close time: the manifest's, or that of the last extension.
    function closeTime() external view returns (uint40);
    function electionId() external view returns (bytes32);
    function roleCount() external view returns (uint256);
    function roleAt(uint16 index) external view returns (Role memory);
    /// @notice The next number of a signer of records.
    function numbers(address signer) external view returns (uint64);
    /// @notice The next sequence number of a relayer's ballot transactions.
    function sequences(address relayer) external view returns (uint64);
    /// @notice Per station: next check-in batch, latest revision (0 if none), whether the latest is revealed.
    function station(uint32 id) external view returns (uint64 nextBatch, uint32 revision, bool revealed);
    /// @notice Position of the hash record plus one of a result document, 0 if never recorded; whether it was revealed.
    function document(bytes32 documentHash) external view returns (uint64 indexPlusOne, bool revealed);
    /// @notice True when at least `verifiers` registered verifiers committed, then revealed "good" on one and the same state, those commits coming before
    /// the first reveal, and no registered verifier's last revealed verdict is "bad". No station may be unrevealed unless a decision excludes it: the verifier checks that.
    /// @dev Only a verifier's last verdict counts; one that replaces an earlier one was committed after the first reveal, so it can lift a "bad" but not certify.
    /// Never true with `verifiers` = 0, nor while two states are both agreed on.
    function certified() external view returns (bool);
}
