// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TraceLog} from "../solidity/TraceLog.sol";

interface Vm {
    function prank(address) external;
    function warp(uint256) external;
    function expectRevert(bytes4) external;
    function expectRevert(bytes calldata) external;
}

/// RFC 6962 §2.1 and RFC 9162 §2.1.3.1, §2.1.4.1 as recursions: nothing shared with the contract.
library Tree {
    function leaf(uint256 number) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x00), sha256(abi.encode(number))));
    }

    function split(uint256 width) internal pure returns (uint256 k) {
        k = 1;
        while (k * 2 < width) k *= 2;
    }

    function root(uint256 low, uint256 high) internal pure returns (bytes32) {
        if (high - low == 1) return leaf(low);
        uint256 middle = low + split(high - low);
        return sha256(abi.encodePacked(bytes1(0x01), root(low, middle), root(middle, high)));
    }

    function consistency(uint256 oldSize, uint256 newSize) internal pure returns (bytes32[] memory) {
        bytes32[] memory proof = new bytes32[](64);
        uint256 count = sub(proof, 0, oldSize, 0, newSize, true);
        return cut(proof, count);
    }

    function sub(bytes32[] memory proof, uint256 count, uint256 m, uint256 low, uint256 high, bool whole)
        private
        pure
        returns (uint256)
    {
        if (m == high - low) {
            if (whole) return count;
            proof[count] = root(low, high);
            return count + 1;
        }
        uint256 k = split(high - low);
        if (m <= k) {
            count = sub(proof, count, m, low, low + k, whole);
            proof[count] = root(low + k, high);
        } else {
            count = sub(proof, count, m - k, low + k, high, false);
            proof[count] = root(low, low + k);
        }
        return count + 1;
    }

    function inclusion(uint256 index, uint256 size) internal pure returns (bytes32[] memory) {
        bytes32[] memory proof = new bytes32[](64);
        uint256 count = path(proof, 0, index, 0, size);
        return cut(proof, count);
    }

    function path(bytes32[] memory proof, uint256 count, uint256 index, uint256 low, uint256 high)
        private
        pure
        returns (uint256)
    {
        if (high - low == 1) return count;
        uint256 middle = low + split(high - low);
        if (index < middle) {
            count = path(proof, count, index, low, middle);
            proof[count] = root(middle, high);
        } else {
            count = path(proof, count, index, middle, high);
            proof[count] = root(low, middle);
        }
        return count + 1;
    }

    function cut(bytes32[] memory from, uint256 count) private pure returns (bytes32[] memory to) {
        to = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) to[i] = from[i];
    }
}

contract TraceLogTest {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    TraceLog log;
    bytes32 constant ORIGIN = keccak256("origin");
    address constant ADMIN = address(0xA);
    address constant PUBLISHER = address(0xB);
    address constant REGULATOR = address(0xC);
    address constant THIEF = address(0xD);

    function setUp() public {
        address[] memory first = new address[](1);
        first[0] = REGULATOR;
        log = new TraceLog(1 days, first);
        log.register(ORIGIN, ADMIN);
    }

    function none() private pure returns (bytes32[] memory) {
        return new bytes32[](0);
    }

    /// Roots are computed before the prank: the hash precompile would be its "next call".
    function first(uint64 size_) private {
        bytes32 root = Tree.root(0, size_);
        vm.prank(ADMIN);
        log.anchor(ORIGIN, size_, root, none());
    }

    function size() private view returns (uint64 anchored) {
        (, anchored,,) = log.headOf(ORIGIN);
    }

    function test_the_first_head_comes_from_the_administrator_and_is_not_empty() public {
        bytes32 root = Tree.root(0, 3);
        vm.prank(THIEF);
        vm.expectRevert(TraceLog.NotAdministrator.selector);
        log.anchor(ORIGIN, 3, root, none());
        vm.prank(ADMIN);
        vm.expectRevert(abi.encodeWithSelector(TraceLog.NotGrowing.selector, uint64(0), uint64(0)));
        log.anchor(ORIGIN, 0, bytes32(0), none());
        first(3);
        require(size() == 3);
    }

    function test_an_origin_that_nobody_registered_is_unknown() public {
        bytes32 leaf = Tree.leaf(0);
        vm.expectRevert(TraceLog.UnknownOrigin.selector);
        log.anchor(keccak256("other"), 1, leaf, none());
        vm.prank(THIEF);
        vm.expectRevert(TraceLog.NotOwner.selector);
        log.register(keccak256("other"), THIEF);
        vm.expectRevert(TraceLog.AlreadyRegistered.selector);
        log.register(ORIGIN, THIEF);
    }

    function test_a_publisher_waits_a_day_and_is_removed_at_once() public {
        first(3);
        vm.prank(ADMIN);
        log.addPublisher(ORIGIN, PUBLISHER);
        bytes32[] memory proof = Tree.consistency(3, 7);
        bytes32 root = Tree.root(0, 7);
        vm.prank(PUBLISHER);
        vm.expectRevert(TraceLog.NotPublisher.selector);
        log.anchor(ORIGIN, 7, root, proof);
        vm.warp(block.timestamp + 1 days);
        vm.prank(PUBLISHER);
        log.anchor(ORIGIN, 7, root, proof);
        require(size() == 7);
        vm.prank(ADMIN);
        log.removePublisher(ORIGIN, PUBLISHER);
        proof = Tree.consistency(7, 8);
        root = Tree.root(0, 8);
        vm.prank(PUBLISHER);
        vm.expectRevert(TraceLog.NotPublisher.selector);
        log.anchor(ORIGIN, 8, root, proof);
    }

    function test_a_closed_origin_takes_no_head_ever_again() public {
        first(3);
        vm.prank(THIEF);
        vm.expectRevert(TraceLog.NotAdministrator.selector);
        log.close(ORIGIN);
        vm.prank(ADMIN);
        log.close(ORIGIN);
        bytes32[] memory proof = Tree.consistency(3, 7);
        bytes32 root = Tree.root(0, 7);
        vm.prank(ADMIN);
        vm.expectRevert(TraceLog.OriginClosed.selector);
        log.anchor(ORIGIN, 7, root, proof);
    }

    function test_regulators_alone_give_notice_and_choose_each_other() public {
        vm.expectRevert(TraceLog.NotRegulator.selector);
        log.notice(1, keccak256("lot"), "https://regulator.example/1", bytes32(0));
        vm.expectRevert(TraceLog.NotRegulator.selector);
        log.addRegulator(THIEF);
        vm.prank(REGULATOR);
        log.notice(1, keccak256("lot"), "https://regulator.example/1", bytes32(0));
        vm.prank(REGULATOR);
        vm.expectRevert(TraceLog.LastRegulator.selector);
        log.removeRegulator(REGULATOR);
    }

    function testFuzz_every_honest_growth_is_taken(uint8 a, uint8 b) public {
        uint64 oldSize = uint64(a) % 40 + 1;
        uint64 newSize = oldSize + uint64(b) % 40 + 1;
        first(oldSize);
        bytes32[] memory proof = Tree.consistency(oldSize, newSize);
        bytes32 root = Tree.root(0, newSize);
        vm.prank(ADMIN);
        log.anchor(ORIGIN, newSize, root, proof);
        require(size() == newSize);
    }

    function testFuzz_no_changed_proof_or_root_is_taken(uint8 a, uint8 b, uint8 at, uint256 flip) public {
        uint64 oldSize = uint64(a) % 40 + 1;
        uint64 newSize = oldSize + uint64(b) % 40 + 1;
        if (flip == 0) flip = 1;
        first(oldSize);
        bytes32[] memory proof = Tree.consistency(oldSize, newSize);
        bytes32 root = Tree.root(0, newSize);
        uint256 where = uint256(at) % (proof.length + 1);
        if (where == proof.length) root ^= bytes32(flip);
        else proof[where] ^= bytes32(flip);
        vm.prank(ADMIN);
        vm.expectRevert(TraceLog.NotConsistent.selector);
        log.anchor(ORIGIN, newSize, root, proof);
        require(size() == oldSize);
    }

    function testFuzz_no_shortened_or_lengthened_proof_is_taken(uint8 a, uint8 b, bool longer) public {
        uint64 oldSize = uint64(a) % 40 + 1;
        uint64 newSize = oldSize + uint64(b) % 40 + 1;
        first(oldSize);
        bytes32[] memory proof = Tree.consistency(oldSize, newSize);
        bytes32[] memory other = new bytes32[](longer ? proof.length + 1 : proof.length - 1);
        for (uint256 i = 0; i < other.length && i < proof.length; ++i) other[i] = proof[i];
        bytes32 root = Tree.root(0, newSize);
        vm.prank(ADMIN);
        (bool taken,) = address(log).call(abi.encodeCall(TraceLog.anchor, (ORIGIN, newSize, root, other)));
        require(!taken && size() == oldSize);
    }

    function testFuzz_inclusion_is_told_for_every_entry_and_no_other(uint8 a, uint8 b) public {
        uint64 treeSize = uint64(a) % 40 + 1;
        uint64 index = uint64(b) % treeSize;
        first(treeSize);
        bytes32[] memory proof = Tree.inclusion(index, treeSize);
        bytes32 entry = sha256(abi.encode(uint256(index)));
        require(log.verifyInclusion(ORIGIN, treeSize, entry, index, proof));
        require(!log.verifyInclusion(ORIGIN, treeSize, ~entry, index, proof));
        require(!log.verifyInclusion(ORIGIN, treeSize + 1, entry, index, proof));
    }
}

/// Honest and dishonest publishers take turns at random.
contract Publishers {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    TraceLog public log;
    bytes32 public constant ORIGIN = keccak256("origin");
    address constant ADMIN = address(0xA);
    uint64 public known;

    constructor() {
        address[] memory regulators = new address[](1);
        regulators[0] = address(0xC);
        log = new TraceLog(0, regulators);
        log.register(ORIGIN, ADMIN);
    }

    function honest(uint8 more) external {
        uint64 next = known + uint64(more) % 9 + 1;
        if (next > 120) return;
        bytes32[] memory proof = known == 0 ? new bytes32[](0) : Tree.consistency(known, next);
        bytes32 root = Tree.root(0, next);
        vm.prank(ADMIN);
        log.anchor(ORIGIN, next, root, proof);
        known = next;
    }

    function forked(uint8 more, bytes32 root, bytes32[] calldata proof) external {
        if (known == 0 || root == Tree.root(0, known)) return;
        vm.prank(ADMIN);
        log.anchor(ORIGIN, known + uint64(more) % 9, root, proof);
    }

    function stranger(address who, uint64 at, bytes32 root, bytes32[] calldata proof) external {
        if (who == ADMIN) return;
        vm.prank(who);
        log.anchor(ORIGIN, at, root, proof);
    }
}

contract TraceLogInvariant {
    Publishers publishers;

    function setUp() public {
        publishers = new Publishers();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(publishers);
    }

    /// Whatever anybody tried, the head is the honest log's.
    function invariant_the_head_is_always_the_honest_log() public view {
        (bytes32 root, uint64 size,,) = publishers.log().headOf(publishers.ORIGIN());
        require(size == publishers.known());
        require(size == 0 || root == Tree.root(0, size));
    }
}
