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
        return consistencyFrom(0, oldSize, newSize);
    }

    /// Of the tree whose first leaf is number `low`.
    function consistencyFrom(uint256 low, uint256 oldSize, uint256 newSize) internal pure returns (bytes32[] memory) {
        bytes32[] memory proof = new bytes32[](64);
        uint256 count = sub(proof, 0, oldSize, low, low + newSize, true);
        return resized(proof, count);
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
        return inclusionFrom(0, index, size);
    }

    function inclusionFrom(uint256 low, uint256 index, uint256 size) internal pure returns (bytes32[] memory) {
        bytes32[] memory proof = new bytes32[](64);
        uint256 count = path(proof, 0, low + index, low, low + size);
        return resized(proof, count);
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

    function resized(bytes32[] memory from, uint256 count) internal pure returns (bytes32[] memory to) {
        to = new bytes32[](count);
        for (uint256 i = 0; i < count && i < from.length; ++i) to[i] = from[i];
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

    function testFuzz_no_changed_proof_or_root_is_taken(uint8 a, uint8 b, uint8 which, uint256 flip) public {
        uint64 oldSize = uint64(a) % 40 + 1;
        uint64 newSize = oldSize + uint64(b) % 40 + 1;
        if (flip == 0) flip = 1;
        first(oldSize);
        bytes32[] memory proof = Tree.consistency(oldSize, newSize);
        bytes32 root = Tree.root(0, newSize);
        uint256 where = uint256(which) % (proof.length + 1);
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
        bytes32[] memory other = Tree.resized(proof, longer ? proof.length + 1 : proof.length - 1);
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

/// Everybody who may act, and what the contract must make of each act: a second account of its rules.
contract Actors {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint64 constant DELAY = 1 days;
    uint64 constant SIZE_MAX = 150;
    uint256 constant ORIGINS = 3;
    uint256 constant PEOPLE = 7;

    struct Expected {
        address administrator;
        uint64 size;
        uint64 heads;
        bool closed;
    }

    TraceLog public immutable log;
    /// The first thing that was not as expected; empty while all is well.
    string public wrong;
    mapping(uint256 => Expected) public expected;
    mapping(uint256 => mapping(address => uint64)) from;
    mapping(address => bool) public regulates;
    uint256 public regulators;
    /// How often something was tried, and was right to be taken.
    uint256 public taken;

    constructor() {
        address[] memory first = new address[](2);
        (first[0], first[1]) = (person(5), person(6));
        (regulates[first[0]], regulates[first[1]], regulators) = (true, true, 2);
        log = new TraceLog(DELAY, first);
        for (uint256 which = 0; which < ORIGINS - 1; ++which) {
            log.register(origin(which), person(which));
            expected[which].administrator = person(which);
        }
    }

    function origin(uint256 which) public pure returns (bytes32) {
        return sha256(abi.encode("origin", which));
    }

    /// 0 to 2 administer, 3 and 4 publish or try to, 5 and 6 regulate.
    function person(uint256 which) public pure returns (address) {
        return address(uint160(0xA0 + which % PEOPLE));
    }

    /// Each origin has leaves of its own.
    function base(uint256 which) public pure returns (uint256) {
        return which * 1_000_000;
    }

    function mayAnchor(uint256 which, address who) private view returns (bool) {
        Expected memory known = expected[which];
        if (known.administrator == address(0) || known.closed) return false;
        if (who == known.administrator) return true;
        uint64 since = from[which][who];
        return known.size != 0 && since != 0 && block.timestamp >= since;
    }

    /// Calls as `who`, and notes where the outcome is not the expected one.
    function act(address who, bytes memory call, bool expectedOutcome, string memory what) private returns (bool done) {
        vm.prank(who);
        (done,) = address(log).call(call);
        if (done != expectedOutcome && bytes(wrong).length == 0) wrong = what;
        if (done) ++taken;
    }

    function anchorAs(address who, uint256 which, uint64 size, bytes32 root, bytes32[] memory proof, bool good, string memory what)
        private
    {
        if (act(who, abi.encodeCall(TraceLog.anchor, (origin(which), size, root, proof)), good, what)) {
            expected[which].size = size;
            ++expected[which].heads;
        }
    }

    function honest(uint8 w, uint8 p, uint8 more) external {
        uint256 which = w % ORIGINS;
        uint64 known = expected[which].size;
        uint64 next = known + more % 9 + 1;
        if (next > SIZE_MAX) return;
        bytes32[] memory proof = known == 0 ? new bytes32[](0) : Tree.consistencyFrom(base(which), known, next);
        bytes32 root = Tree.root(base(which), base(which) + next);
        // Half the time by who surely may, so that there are heads to attack.
        address who = p < 128 ? expected[which].administrator : person(p);
        anchorAs(who, which, next, root, proof, mayAnchor(which, who), "an honest head");
    }

    /// A tree that differs in one old leaf, with the proof that would be right for it.
    function rewritten(uint8 w, uint8 more) external {
        uint256 which = w % ORIGINS;
        uint64 known = expected[which].size;
        uint64 next = known + more % 9 + 1;
        if (known == 0 || next > SIZE_MAX) return;
        // Beginning one leaf later: every leaf is another.
        bytes32[] memory proof = Tree.consistencyFrom(base(which) + 1, known, next);
        bytes32 root = Tree.root(base(which) + 1, base(which) + 1 + next);
        anchorAs(expected[which].administrator, which, next, root, proof, false, "a rewritten log");
    }

    /// The honest proof with another root, another hash, or a hash too many or too few.
    function damaged(uint8 w, uint8 more, uint8 where, uint8 how, bytes32 change) external {
        uint256 which = w % ORIGINS;
        uint64 known = expected[which].size;
        uint64 next = known + more % 9 + 1;
        if (known == 0 || next > SIZE_MAX || change == 0) return;
        bytes32[] memory proof = Tree.consistencyFrom(base(which), known, next);
        bytes32 root = Tree.root(base(which), base(which) + next);
        if (how % 3 == 0) root ^= change;
        else if (how % 3 == 1) proof[where % proof.length] ^= change;
        else proof = Tree.resized(proof, where % 2 == 0 ? proof.length + 1 : proof.length - 1);
        anchorAs(expected[which].administrator, which, next, root, proof, false, "a damaged proof");
    }

    /// A head of the same size or a smaller one, and the head of another origin.
    function backwards(uint8 w, uint64 less) external {
        uint256 which = w % ORIGINS;
        uint64 known = expected[which].size;
        if (known == 0) return;
        uint64 size = known - less % known;
        bytes32[] memory proof = new bytes32[](0);
        bytes32 root = Tree.root(base(which), base(which) + size);
        anchorAs(expected[which].administrator, which, size, root, proof, false, "a head that does not grow");
    }

    function ofAnother(uint8 w, uint8 more) external {
        uint256 which = w % ORIGINS;
        uint256 other = (which + 1) % ORIGINS;
        uint64 known = expected[which].size;
        uint64 next = known + more % 9 + 1;
        if (known == 0 || next > SIZE_MAX) return;
        bytes32[] memory proof = Tree.consistencyFrom(base(other), known, next);
        bytes32 root = Tree.root(base(other), base(other) + next);
        anchorAs(expected[which].administrator, which, next, root, proof, false, "another log's head");
    }

    function register(uint8 w, uint8 p) external {
        uint256 which = w % ORIGINS;
        // This contract is the owner.
        bool isFree = expected[which].administrator == address(0);
        act(person(p), abi.encodeCall(TraceLog.register, (origin(which), person(p))), false, "registered by a stranger");
        if (act(address(this), abi.encodeCall(TraceLog.register, (origin(which), person(p))), isFree, "registered")) {
            expected[which].administrator = person(p);
        }
    }

    function handOver(uint8 w, uint8 p, uint8 q) external {
        uint256 which = w % ORIGINS;
        bytes memory call = abi.encodeCall(TraceLog.changeAdministrator, (origin(which), person(q)));
        if (act(person(p), call, person(p) == expected[which].administrator, "handed over")) {
            expected[which].administrator = person(q);
        }
    }

    function addPublisher(uint8 w, uint8 p, uint8 q) external {
        uint256 which = w % ORIGINS;
        bytes memory call = abi.encodeCall(TraceLog.addPublisher, (origin(which), person(q)));
        if (act(person(p), call, person(p) == expected[which].administrator, "publisher added")) {
            from[which][person(q)] = uint64(block.timestamp) + DELAY;
        }
    }

    function removePublisher(uint8 w, uint8 p, uint8 q) external {
        uint256 which = w % ORIGINS;
        bytes memory call = abi.encodeCall(TraceLog.removePublisher, (origin(which), person(q)));
        if (act(person(p), call, person(p) == expected[which].administrator, "publisher removed")) {
            from[which][person(q)] = 0;
        }
    }

    /// Seldom by the administrator, or every run would end with all closed.
    function close(uint8 w, uint8 p, uint8 chance) external {
        uint256 which = w % ORIGINS;
        bool isAdministrator = person(p) == expected[which].administrator;
        if (isAdministrator && chance % 8 != 0) return;
        bytes memory call = abi.encodeCall(TraceLog.close, (origin(which)));
        if (act(person(p), call, isAdministrator && !expected[which].closed, "closed")) {
            expected[which].closed = true;
        }
    }

    function notify(uint8 p, uint8 kind, bytes32 subject, uint16 length) external {
        bool good = regulates[person(p)] && length % 600 <= 512;
        string memory uri = string(new bytes(length % 600));
        act(person(p), abi.encodeCall(TraceLog.notice, (kind, subject, uri, subject)), good, "a notice");
        act(address(this), abi.encodeCall(TraceLog.notice, (kind, subject, uri, subject)), false, "the owner's notice");
    }

    function addRegulator(uint8 p, uint8 q) external {
        if (act(person(p), abi.encodeCall(TraceLog.addRegulator, (person(q))), regulates[person(p)], "regulator added")) {
            if (!regulates[person(q)]) ++regulators;
            regulates[person(q)] = true;
        }
        act(address(this), abi.encodeCall(TraceLog.addRegulator, (person(q))), false, "a regulator by the owner");
    }

    function removeRegulator(uint8 p, uint8 q) external {
        bool good = regulates[person(p)] && regulates[person(q)] && regulators > 1;
        if (act(person(p), abi.encodeCall(TraceLog.removeRegulator, (person(q))), good, "regulator removed")) {
            regulates[person(q)] = false;
            --regulators;
        }
    }

    function wait_(uint32 time) external {
        vm.warp(block.timestamp + time % 2 days);
    }
}

contract TraceLogInvariant {
    Actors actors;
    uint64[3] sizes;
    uint64[3] heads;

    function setUp() public {
        actors = new Actors();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    /// Nobody did what they may not, and everybody could do what they may.
    function invariant_the_contract_takes_what_its_rules_say_and_nothing_else() public view {
        require(bytes(actors.wrong()).length == 0, actors.wrong());
    }

    /// Whatever anybody tried, each head is that origin's honest log, of the size that the last accepted act gave it.
    function invariant_each_head_is_its_honest_log() public view {
        TraceLog log = actors.log();
        for (uint256 which = 0; which < 3; ++which) {
            (bytes32 root, uint64 size,, bool closed) = log.headOf(actors.origin(which));
            (address administrator, uint64 known,, bool isClosed) = actors.expected(which);
            require(size == known && closed == isClosed, "size or end");
            require(log.administratorOf(actors.origin(which)) == administrator, "administrator");
            uint256 base = actors.base(which);
            require(size == 0 || root == Tree.root(base, base + size), "another root");
            if (size > 0) {
                uint64 index = uint64(uint256(root) % size);
                bytes32 entry = sha256(abi.encode(base + index));
                bytes32[] memory proof = Tree.inclusionFrom(base, index, size);
                require(log.verifyInclusion(actors.origin(which), size, entry, index, proof), "inclusion");
            }
        }
    }

    /// A head never shrinks, and changes only by growing.
    function invariant_sizes_only_grow() public {
        for (uint256 which = 0; which < 3; ++which) {
            (, uint64 size,,) = actors.log().headOf(actors.origin(which));
            (,, uint64 count,) = actors.expected(which);
            require(size >= sizes[which], "it shrank");
            require((size > sizes[which]) == (count > heads[which]), "a head without growth");
            (sizes[which], heads[which]) = (size, count);
        }
    }

    function invariant_regulators_choose_each_other_and_never_end() public view {
        require(actors.log().regulators() == actors.regulators() && actors.regulators() > 0);
        for (uint256 who = 0; who < 7; ++who) {
            address person = actors.person(who);
            require(actors.log().isRegulator(person) == actors.regulates(person));
        }
    }
}
