// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A witness of transparency logs: heads are taken only with a proof that the later extends the earlier.
/// @notice Origins are keyed by the SHA-256 of their origin line. Hashing and proofs follow RFC 6962 and RFC 9162 §2.1.
/// No proxy, no upgrade in place; nothing loops over storage without a bound.
contract TraceLog {
    struct Head {
        bytes32 root;
        uint64 size;
        uint64 blockNumber;
        bool closed;
    }

    address public immutable owner;
    /// Seconds between the naming of a publisher and its first anchor.
    uint64 public immutable publisherDelay;
    /// Where a search through this contract's events may end.
    uint64 public immutable firstBlock;

    mapping(bytes32 origin => address) public administratorOf;
    mapping(bytes32 origin => Head) public headOf;
    /// 0: no publisher; else the moment from which it may anchor.
    mapping(bytes32 origin => mapping(address => uint64)) public publisherFrom;
    mapping(address => bool) public isRegulator;
    uint256 public regulators;

    event OriginRegistered(bytes32 indexed origin, address indexed administrator);
    event AdministratorChanged(bytes32 indexed origin, address indexed administrator);
    event PublisherAdded(bytes32 indexed origin, address indexed publisher, uint64 from);
    event PublisherRemoved(bytes32 indexed origin, address indexed publisher);
    event Anchored(bytes32 indexed origin, uint64 indexed size, bytes32 root);
    event Closed(bytes32 indexed origin, uint64 size, bytes32 root);
    event RegulatorAdded(address indexed regulator);
    event RegulatorRemoved(address indexed regulator);
    event Notice(address indexed regulator, uint8 indexed kind, bytes32 indexed subject, string uri, bytes32 hash);

    error NotOwner();
    error NotAdministrator();
    error NotPublisher();
    error NotRegulator();
    error AlreadyRegistered();
    error UnknownOrigin();
    error OriginClosed();
    error ZeroAddress();
    error NotGrowing(uint64 known, uint64 given);
    error WrongProofLength();
    error NotConsistent();
    error LastRegulator();
    error UriTooLong();

    uint256 private constant URI_BYTES_MAX = 512;

    constructor(uint64 delay, address[] memory firstRegulators) {
        owner = msg.sender;
        publisherDelay = delay;
        firstBlock = uint64(block.number);
        if (firstRegulators.length == 0 || firstRegulators.length > 64) revert LastRegulator();
        for (uint256 i = 0; i < firstRegulators.length; ++i) _addRegulator(firstRegulators[i]);
    }

    modifier onlyAdministrator(bytes32 origin) {
        _checkAdministrator(origin);
        _;
    }

    modifier onlyRegulator() {
        if (!isRegulator[msg.sender]) revert NotRegulator();
        _;
    }

    // Origins and who may speak for them

    function register(bytes32 origin, address administrator) external {
        if (msg.sender != owner) revert NotOwner();
        if (administrator == address(0)) revert ZeroAddress();
        if (administratorOf[origin] != address(0)) revert AlreadyRegistered();
        administratorOf[origin] = administrator;
        emit OriginRegistered(origin, administrator);
    }

    function changeAdministrator(bytes32 origin, address administrator) external onlyAdministrator(origin) {
        if (administrator == address(0)) revert ZeroAddress();
        administratorOf[origin] = administrator;
        emit AdministratorChanged(origin, administrator);
    }

    /// A thief of the administrator's attention gains nothing for a day; naming again does not shorten the wait.
    function addPublisher(bytes32 origin, address publisher) external onlyAdministrator(origin) {
        if (publisher == address(0)) revert ZeroAddress();
        uint64 from = uint64(block.timestamp) + publisherDelay;
        publisherFrom[origin][publisher] = from;
        emit PublisherAdded(origin, publisher, from);
    }

    /// At once.
    function removePublisher(bytes32 origin, address publisher) external onlyAdministrator(origin) {
        delete publisherFrom[origin][publisher];
        emit PublisherRemoved(origin, publisher);
    }

    // Heads

    /// @notice Takes a later head with the consistency proof from the last one. The first head, of size 1 at least, needs no
    /// proof, because every tree extends the empty one, and so must come from the administrator.
    function anchor(bytes32 origin, uint64 size, bytes32 root, bytes32[] calldata proof) external {
        Head memory head = headOf[origin];
        address administrator = administratorOf[origin];
        if (administrator == address(0)) revert UnknownOrigin();
        if (head.closed) revert OriginClosed();
        if (size <= head.size) revert NotGrowing(head.size, size);
        if (head.size == 0) {
            if (msg.sender != administrator) revert NotAdministrator();
            if (proof.length != 0) revert WrongProofLength();
        } else {
            uint64 from = publisherFrom[origin][msg.sender];
            if (msg.sender != administrator && (from == 0 || block.timestamp < from)) revert NotPublisher();
            _checkConsistency(head.size, head.root, size, root, proof);
        }
        headOf[origin] = Head(root, size, uint64(block.number), false);
        emit Anchored(origin, size, root);
    }

    /// @notice Ends an origin for good: after a stolen publisher key, the log goes on under a new one.
    function close(bytes32 origin) external onlyAdministrator(origin) {
        Head storage head = headOf[origin];
        if (head.closed) revert OriginClosed();
        head.closed = true;
        emit Closed(origin, head.size, head.root);
    }

    /// @notice Whether `entry` stands at `index` under the anchored head of this very size: for other contracts.
    function verifyInclusion(bytes32 origin, uint64 size, bytes32 entry, uint64 index, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        Head memory head = headOf[origin];
        if (head.size != size || index >= size) return false;
        bytes32 hash = sha256(abi.encodePacked(bytes1(0x00), entry));
        uint256 fn = index;
        uint256 sn = size - 1;
        for (uint256 i = 0; i < proof.length; ++i) {
            if (sn == 0) return false;
            if (fn & 1 == 1 || fn == sn) {
                hash = _node(proof[i], hash);
                while (fn & 1 == 0 && fn != 0) {
                    fn >>= 1;
                    sn >>= 1;
                }
            } else {
                hash = _node(hash, proof[i]);
            }
            fn >>= 1;
            sn >>= 1;
        }
        return sn == 0 && hash == head.root;
    }

    // What a platform can neither hide nor undo

    function notice(uint8 kind, bytes32 subject, string calldata uri, bytes32 hash) external onlyRegulator {
        if (bytes(uri).length > URI_BYTES_MAX) revert UriTooLong();
        emit Notice(msg.sender, kind, subject, uri, hash);
    }

    function addRegulator(address regulator) external onlyRegulator {
        _addRegulator(regulator);
    }

    function removeRegulator(address regulator) external onlyRegulator {
        if (!isRegulator[regulator]) revert NotRegulator();
        if (regulators == 1) revert LastRegulator();
        delete isRegulator[regulator];
        --regulators;
        emit RegulatorRemoved(regulator);
    }

    function _checkAdministrator(bytes32 origin) private view {
        address administrator = administratorOf[origin];
        if (administrator == address(0)) revert UnknownOrigin();
        if (msg.sender != administrator) revert NotAdministrator();
    }

    function _addRegulator(address regulator) private {
        if (regulator == address(0)) revert ZeroAddress();
        if (isRegulator[regulator]) return;
        isRegulator[regulator] = true;
        ++regulators;
        emit RegulatorAdded(regulator);
    }

    /// RFC 9162 §2.1.4.2, for 0 < oldSize < newSize.
    function _checkConsistency(
        uint64 oldSize,
        bytes32 oldRoot,
        uint64 newSize,
        bytes32 newRoot,
        bytes32[] calldata proof
    ) private view {
        uint256 fn = oldSize - 1;
        uint256 sn = newSize - 1;
        while (fn & 1 == 1) {
            fn >>= 1;
            sn >>= 1;
        }
        uint256 next = 0;
        bytes32 seed = oldRoot;
        // A complete old tree is not repeated in the proof.
        if (oldSize & (oldSize - 1) != 0) {
            if (proof.length == 0) revert WrongProofLength();
            seed = proof[0];
            next = 1;
        }
        bytes32 fr = seed;
        bytes32 sr = seed;
        for (; next < proof.length; ++next) {
            if (sn == 0) revert WrongProofLength();
            bytes32 other = proof[next];
            if (fn & 1 == 1 || fn == sn) {
                fr = _node(other, fr);
                sr = _node(other, sr);
                while (fn & 1 == 0 && fn != 0) {
                    fn >>= 1;
                    sn >>= 1;
                }
            } else {
                sr = _node(sr, other);
            }
            fn >>= 1;
            sn >>= 1;
        }
        if (sn != 0) revert WrongProofLength();
        if (fr != oldRoot || sr != newRoot) revert NotConsistent();
    }

    /// SHA-256(0x01 ‖ left ‖ right) by the precompile, in memory that is free before and after.
    function _node(bytes32 left, bytes32 right) private view returns (bytes32 hash) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore8(free, 1)
            mstore(add(free, 1), left)
            mstore(add(free, 33), right)
            if iszero(staticcall(gas(), 2, free, 65, 0, 32)) { revert(0, 0) }
            hash := mload(0)
        }
    }
}
