"""Keys of devices, root and spaces: boxes that libsodium opens, and whole spaces kept by honest devices."""

from __future__ import annotations

import random

import pytest
from nacl.bindings import crypto_box_seal, crypto_box_seal_open, crypto_scalarmult, crypto_sign, crypto_sign_open

from hybridgw_daemon.core.key_wraps import carry_key, commitment, open_carried, open_key, seal_key
from hybridgw_daemon.core.keys import (
    MAX_WRAPS,
    DeviceKeys,
    Hand,
    KeyRing,
    RootKeys,
    admit,
    begin_space,
    decrypt_name,
    encrypt_name,
    rotate,
    tend,
)
from hybridgw_protocol.errors import CannotOpen
from hybridgw_protocol.ids import Digest, KeyId, device_id, key_id, space_id
from hybridgw_protocol.membership import ControlLog, Inserted, Status
from hybridgw_protocol.records import (
    MAX_PREVS,
    ROOT,
    Add,
    Epoch,
    Expel,
    Leave,
    Remove,
    Restore,
    Wrap,
    joiner_digest,
    read_record,
    sign_record,
)


def entropy_of(seed: int):
    return random.Random(seed).randbytes


def epoch_for(space_key: bytes, kid: bytes | None = None, commits: bytes | None = None) -> Epoch:
    return Epoch(
        space=bytes(16), prevs=(Digest(bytes(32)),), by=ROOT, ts=0, wraps=(), root_wrap=bytes(80),
        kid=KeyId(kid or key_id(space_key)), commitment=commits or commitment(space_key),
    )  # fmt: skip


# ---- boxes -----------------------------------------------------------------------------------------------------------
def test_key_pairs_come_from_their_seeds_alone():
    keys = DeviceKeys.from_seed(bytes(range(64)))
    assert keys == DeviceKeys.from_seed(bytes(range(64)))
    assert crypto_sign_open(crypto_sign(b"x", keys.sign_secret), keys.sign_public) == b"x"
    assert keys.device == device_id(keys.sign_public, keys.exchange_public)
    root = RootKeys.from_seed(bytes(32))
    assert root.space == space_id(root.sign_public)
    other = DeviceKeys.from_seed(bytes(64))
    secret = crypto_scalarmult(keys.exchange_secret, other.exchange_public)
    assert secret == crypto_scalarmult(other.exchange_secret, keys.exchange_public)
    assert root.exchange_public != other.exchange_public
    for wrong in (b"", bytes(63)):
        with pytest.raises(ValueError, match="seed"):
            DeviceKeys.from_seed(wrong)
        with pytest.raises(ValueError, match="seed"):
            RootKeys.from_seed(wrong)


def test_sec_L33_secrets_do_not_show_when_printed():
    keys, root = DeviceKeys.from_seed(bytes(range(64))), RootKeys.from_seed(bytes(32))
    ring = KeyRing.of_device(keys)
    ring.keys[KeyId(b"k" * 8)] = b"secret" * 5 + b"!!"
    hand = Hand(ControlLog(root.space), ROOT, root.sign_secret, ring, entropy_of(1), 1)
    shown = repr([keys, root, ring, hand])
    secrets = (keys.sign_secret, keys.exchange_secret, root.sign_secret, root.exchange_secret, b"secret" * 5)
    assert not any(s.hex() in shown or repr(s)[2:20] in shown for s in secrets)


def test_spec_S8_a_sealed_key_opens_with_libsodium_and_back():
    keys = DeviceKeys.from_seed(bytes(range(64)))
    space_key = bytes(range(32))
    box = seal_key(space_key, keys.exchange_public, bytes(range(100, 132)))
    assert box == seal_key(space_key, keys.exchange_public, bytes(range(100, 132)))
    assert len(box) == 80
    assert crypto_box_seal_open(box, keys.exchange_public, keys.exchange_secret) == space_key
    theirs = crypto_box_seal(space_key, keys.exchange_public)
    for one in (box, theirs):
        assert open_key(one, keys.exchange_public, keys.exchange_secret, epoch_for(space_key)) == space_key


def test_a_key_that_is_not_the_one_of_its_epoch_is_refused():
    keys, other = DeviceKeys.from_seed(bytes(range(64))), DeviceKeys.from_seed(bytes(64))
    space_key = bytes(range(32))
    box = seal_key(space_key, keys.exchange_public, bytes(range(32)))
    mine = (keys.exchange_public, keys.exchange_secret)
    for epoch in (epoch_for(space_key, kid=b"x" * 8), epoch_for(space_key, commits=b"x" * 32)):
        with pytest.raises(CannotOpen, match="commits"):
            open_key(box, *mine, epoch)
    for bad in (box[:-1], box + b"\0", b"", bytes([box[0] ^ 1]) + box[1:], box[:-1] + bytes([box[-1] ^ 1])):
        with pytest.raises(CannotOpen):
            open_key(bad, *mine, epoch_for(space_key))
    with pytest.raises(CannotOpen):
        open_key(box, other.exchange_public, other.exchange_secret, epoch_for(space_key))


def test_a_carried_key_opens_under_its_own_pair_of_epochs_only():
    old, new, older = b"o" * 32, b"n" * 32, Digest(b"e" * 32)
    carried = carry_key(old, older, new, b"1" * 24)
    assert len(carried) == 72
    assert open_carried(carried, older, epoch_for(old), new) == old
    wrong = [
        (carried, Digest(b"f" * 32), epoch_for(old), new),
        (carried, older, epoch_for(old), b"m" * 32),
        (carried, older, epoch_for(b"p" * 32), new),
        (carried[:-1], older, epoch_for(old), new),
        (bytes(72), older, epoch_for(old), new),
    ]
    for arguments in wrong:
        with pytest.raises(CannotOpen):
            open_carried(*arguments)


def test_names_are_sealed_under_the_space_key():
    keys = DeviceKeys.from_seed(bytes(64))
    space_key = b"k" * 32
    ring = {key_id(space_key): space_key}
    sealed = encrypt_name(space_key, keys.device, "Küche", "linux", b"n" * 24)
    assert decrypt_name(ring, keys.device, sealed) == ("Küche", "linux")
    assert b"linux" not in sealed
    lengths = {len(encrypt_name(space_key, keys.device, "n" * k, "linux", b"n" * 24)) for k in range(65)}
    assert len(lengths) == 2
    assert decrypt_name({}, keys.device, sealed) is None
    assert decrypt_name(ring, DeviceKeys.from_seed(bytes(range(64))).device, sealed) is None
    for bad in (b"", sealed[:8], sealed[:40], sealed[:-1], sealed[:-1] + b"\0", key_id(space_key) + bytes(60)):
        assert decrypt_name(ring, keys.device, bad) is None
    assert decrypt_name({key_id(space_key): b"m" * 32}, keys.device, sealed) is None


# ---- whole spaces ----------------------------------------------------------------------------------------------------
class Member:
    """An honest device with its own control log."""

    def __init__(self, seed: int, log: ControlLog) -> None:
        self.entropy = entropy_of(seed)
        self.keys = DeviceKeys.from_seed(self.entropy(64))
        self.ring = KeyRing.of_device(self.keys)
        self.log = log
        self.in_use: set[KeyId] | None = None

    @property
    def seat(self) -> Digest:
        info = self.log.device(self.keys.device)
        assert info
        return info.seat

    def hand(self) -> Hand:
        return Hand(self.log, self.seat, self.keys.sign_secret, self.ring, self.entropy, 1_000, self.in_use)

    def take(self, raws) -> None:
        _, error = self.log.update(raws)
        assert error is None
        self.ring.follow(self.log)

    def hear(self, other: Member) -> None:
        missing = other.log.missing_from(self.log.heads)
        if missing:
            self.take(missing)
        self.settle()

    def settle(self) -> int:
        steps = 0
        while raws := tend(self.hand()):
            self.take(raws)
            steps += 1
            assert steps < 20, "an honest device never stops signing"
        return steps

    def sign(self, kind, **fields) -> Digest:
        payload = kind(space=self.log.space, prevs=tuple(self.log.signing_heads), by=self.seat, ts=1, **fields)
        raw = sign_record(payload, self.keys.sign_secret)
        self.take([raw])
        return read_record(raw, self.log.space).hash

    def add(self, seed: int, label=("second", "linux"), prevs=None) -> Member:
        other = Member(seed, ControlLog(self.log.space))
        prevs = tuple(prevs or self.log.signing_heads)
        digest = joiner_digest(self.log.space, self.seat, prevs, other.keys.device)
        raw = admit(
            self.hand(), prevs=prevs, sign_public=other.keys.sign_public, exchange_public=other.keys.exchange_public,
            joiner_sig=crypto_sign(digest, other.keys.sign_secret)[:64], label=label,
        )  # fmt: skip
        self.take([raw])
        other.take(self.log.missing_from([]))
        return other

    def sealing_key(self) -> bytes | None:
        epoch = self.log.sealing_epoch(self.seat, self.ring.epochs)
        return None if epoch is None else self.ring.epochs[epoch]


ROOT_KEYS = RootKeys.from_seed(bytes(range(32)))


@pytest.fixture
def first() -> Member:
    member = Member(1, ControlLog(ROOT_KEYS.space))
    member.take(begin_space(ROOT_KEYS, member.keys, ("desk", "linux"), member.entropy, 500))
    return member


def test_spec_D4_two_devices_end_to_end(first):
    """Begin, add, unwrap on the second, both seal under one key; remove; the removed one reads nothing newer."""
    assert first.log.root_public == ROOT_KEYS.sign_public
    assert first.settle() == 0
    key = first.sealing_key()
    assert key
    second = first.add(2)
    assert second.settle() == 0
    assert second.sealing_key() == key
    assert second.ring.keys == first.ring.keys == {key_id(key): key}
    labels = [decrypt_name(second.ring.keys, info.device, info.name) for info in second.log.devices()]
    assert labels == [("desk", "linux"), ("second", "linux")]

    first.sign(Remove, target=second.seat)
    assert first.sealing_key() is None
    assert first.log.needs_rotation(first.seat)
    assert first.settle() == 1
    newer = first.sealing_key()
    assert newer
    assert newer != key
    second.take(first.log.missing_from(second.log.heads))
    assert tend(second.hand()) == []
    assert second.sealing_key() is None
    assert set(second.ring.epochs.values()) == {key}
    assert second.log.device(second.keys.device).status is Status.REMOVED

    remove = first.log.standing_removes(second.keys.device, by=first.seat)
    first.sign(Restore, ends=tuple(remove))
    first.settle()
    second.take(first.log.missing_from(second.log.heads))
    assert set(second.ring.epochs.values()) == {key, newer}
    assert second.sealing_key() == first.sealing_key()


def test_a_new_device_reads_everything_older(first):
    """Thirty epochs, then a new device: one box opens the newest, each carries the one before."""
    for _ in range(30):
        first.take([rotate(first.hand())])
    second = first.add(2)
    add = second.log.records[second.seat].payload
    assert isinstance(add, Add)
    assert len(add.wraps) == 1
    assert second.ring.epochs == first.ring.epochs
    assert len(second.ring.epochs) == 31


def test_both_branches_of_concurrent_rotations_reach_everybody(first):
    second = first.add(2)
    for member in (first, second):
        member.take([rotate(member.hand())])
    assert first.ring.epochs != second.ring.epochs
    second.hear(first)
    first.hear(second)
    assert first.sealing_key() == second.sealing_key()
    third = second.add(3)
    assert third.ring.epochs == second.ring.epochs == first.ring.epochs
    assert len(third.ring.epochs) == 3


def test_an_add_beside_a_rotation_gets_the_other_key(first):
    second = first.add(2)
    third = first.add(3)
    second.take([rotate(second.hand())])
    first.hear(second)
    third.hear(first)
    assert third.ring.epochs == second.ring.epochs
    assert third.settle() == 0


def test_an_offer_that_is_older_than_the_newest_epoch(first):
    """Pairing offers heads, then a key is made, then the device is added on top of the offered heads."""
    offered = first.log.signing_heads
    first.take([rotate(first.hand())])
    second = first.add(2, prevs=offered)
    assert len(second.ring.epochs) == 1
    first.settle()
    second.hear(first)
    assert second.ring.epochs == first.ring.epochs


def test_root_opens_every_space_key_and_gives_them_to_a_new_device(first):
    """All devices are lost: the words and one copy of the control log bring the space back."""
    first.take([rotate(first.hand())])
    ring = KeyRing.of_root(ROOT_KEYS)
    assert ring.follow(first.log) == 2
    assert ring.epochs == first.ring.epochs
    fresh = Member(9, ControlLog(ROOT_KEYS.space))
    prevs = tuple(first.log.signing_heads)
    digest = joiner_digest(first.log.space, ROOT, prevs, fresh.keys.device)
    hand = Hand(first.log, ROOT, ROOT_KEYS.sign_secret, ring, entropy_of(5), 1)
    raw = admit(
        hand, prevs=prevs, sign_public=fresh.keys.sign_public, exchange_public=fresh.keys.exchange_public,
        joiner_sig=crypto_sign(digest, fresh.keys.sign_secret)[:64], label=("new", "linux"),
    )  # fmt: skip
    fresh.take([*first.log.missing_from([]), raw])
    assert fresh.ring.epochs == first.ring.epochs
    info = fresh.log.device(fresh.keys.device)
    assert info.added_by == ROOT
    assert decrypt_name(fresh.ring.keys, info.device, info.name) == ("new", "linux")


def test_spec_5706_the_key_of_a_void_epoch_is_not_given_on(first):
    """docs/adr/0005: what an expelled device wrote unseen, under its own key, stays closed to who it had put out."""
    second, third = first.add(2), first.add(3)
    for member in (second, third):
        member.hear(first)
    keep = tuple(first.log.heads)
    second.sign(Remove, target=third.seat)
    second.settle()
    secret = second.sealing_key()
    assert secret
    first.take(second.log.missing_from(first.log.heads))
    assert secret in first.ring.epochs.values()

    def expelled(in_use) -> Member:
        witness = Member(1, ControlLog(first.log.space))
        witness.take([r.raw for r in first.log.since(0)])
        witness.in_use = in_use
        expel = Expel(
            space=first.log.space, prevs=tuple(witness.log.heads), by=ROOT, ts=1, target=second.seat, keep=keep
        )
        witness.take([sign_record(expel, ROOT_KEYS.sign_secret)])
        witness.settle()
        witness.take([rotate(witness.hand())])
        witness.settle()
        return witness

    assert first.log.void_epochs() == []
    for in_use, opens in (({key_id(b"other key")}, False), ({key_id(secret)}, True), (None, True)):
        witness = expelled(in_use)
        assert witness.log.is_active(third.keys.device)
        assert [witness.ring.epochs[e] for e in witness.log.void_epochs()] == [secret]
        back = Member(3, ControlLog(first.log.space))
        back.take([r.raw for r in witness.log.since(0)])
        assert back.sealing_key() == witness.sealing_key()
        assert (secret in back.ring.epochs.values()) is opens


def test_rubbish_from_a_hostile_maker_is_told_and_mended(first):
    """A member seals rubbish to another and says that it has the key: that one makes a new key to seal under, and
    opens the old one once somebody gives it."""
    second = first.add(2)
    rubbish = Epoch(
        space=first.log.space, prevs=tuple(first.log.heads), by=first.seat, ts=1,
        kid=KeyId(b"k" * 8), commitment=b"c" * 32,
        wraps=tuple(sorted([(first.seat, bytes(80)), (second.seat, bytes(80))])), root_wrap=bytes(80),
    )  # fmt: skip
    first.take([sign_record(rubbish, first.keys.sign_secret)])
    second.take(first.log.missing_from(second.log.heads))
    assert second.ring.broken == {second.log.heads[0]}
    assert second.sealing_key() == first.sealing_key() is not None
    second.sign(Remove, target=first.seat)
    assert second.settle() == 1
    assert second.sealing_key()

    one, two = Member(1, ControlLog(first.log.space)), Member(2, ControlLog(first.log.space))
    raws = [r.raw for r in first.log.since(0)][:3]
    one.take(raws)
    key = b"K" * 32
    epoch = Epoch(
        space=one.log.space, prevs=tuple(one.log.heads), by=one.seat, ts=1, kid=key_id(key), commitment=commitment(key),
        wraps=tuple(sorted([(one.seat, seal_key(key, one.keys.exchange_public, bytes(32))), (second.seat, bytes(80))])),
        root_wrap=bytes(80),
    )  # fmt: skip
    one.take([sign_record(epoch, one.keys.sign_secret)])
    two.take([r.raw for r in one.log.since(0)])
    assert len(two.ring.broken) == 1
    broken = next(iter(two.ring.broken))
    one.sign(Wrap, target=second.seat, wraps=((broken, seal_key(key, two.keys.exchange_public, bytes(32))),))
    two.take(one.log.missing_from(two.log.heads))
    assert two.ring.broken == set()
    assert two.ring.epochs[broken] == key


def test_many_devices_and_many_keys_fit_into_records(first):
    """A hostile device makes more seats and epochs than one record can name: `tend` goes on in steps."""
    base = tuple(first.log.heads)
    members = [first.add(100 + i, prevs=base) for i in range(70)]
    assert len(first.log.active_seats()) == 71
    for i in range(90):
        epoch = Epoch(
            space=first.log.space, prevs=base, by=first.seat, ts=i, kid=key_id(bytes([i] * 32)),
            commitment=commitment(bytes([i] * 32)), root_wrap=bytes(80),
            wraps=((first.seat, seal_key(bytes([i] * 32), first.keys.exchange_public, bytes([i] * 32))),),
        )  # fmt: skip
        first.take([sign_record(epoch, first.keys.sign_secret)])
    assert len(first.log.heads) > MAX_PREVS
    assert len(first.ring.epochs) == 91 > MAX_WRAPS
    first.sign(Remove, target=members[0].seat)
    assert first.settle() > 2
    assert len(first.log.heads) <= MAX_PREVS
    late = members[-1]
    late.take(first.log.missing_from(late.log.heads))
    assert late.ring.epochs == first.ring.epochs
    assert late.sealing_key() == first.sealing_key()
    assert len(members[0].log.records) < len(first.log.records)
    assert members[0].settle() >= 0


def test_an_inactive_device_signs_nothing(first):
    second = first.add(2)
    second.sign(Leave)
    assert tend(second.hand()) == []
    assert second.sealing_key() is None
    first.hear(second)
    assert first.sealing_key() not in second.ring.epochs.values()


def test_random_spaces_come_to_rest_and_agree(first, scale):
    """Honest devices add, remove, restore, rotate and exchange at random; at rest all active ones open the same."""
    for seed in range(10 * scale):
        rng = random.Random(seed)
        start = Member(seed, ControlLog(ROOT_KEYS.space))
        start.take(begin_space(ROOT_KEYS, start.keys, ("desk", "linux"), start.entropy, 500))
        members = [start]
        for step in range(25):
            one, other = rng.choice(members), rng.choice(members)
            if not one.log.is_active(one.keys.device) or rng.random() < 0.5:
                one.hear(other)
            elif rng.random() < 0.3 and len(members) < 6:
                members.append(one.add(1_000 * seed + step + 1))
            elif rng.random() < 0.3:
                one.take([rotate(one.hand())])
            elif other is not one and other.keys.device in {i.device for i in one.log.devices()}:
                removes = one.log.standing_removes(other.keys.device, by=one.seat)
                if removes:
                    one.sign(Restore, ends=tuple(removes))
                elif rng.random() < 0.4:
                    one.sign(Remove, target=other.seat)
            one.settle()
        for _ in range(6):
            for one in members:
                for other in members:
                    one.hear(other)
        active = [m for m in members if m.log.is_active(m.keys.device)]
        assert len({tuple(m.log.heads) for m in members}) == 1
        assert len({m.sealing_key() for m in active}) <= 1
        for one in active:
            assert one.sealing_key()
            assert one.ring.epochs == active[0].ring.epochs
            assert not one.ring.broken
            assert {one.log.records[e].hash for e in one.ring.epochs} == one.log.known_epochs(one.seat)
        for out in members:
            if out not in active and active:
                assert active[0].sealing_key() not in out.ring.epochs.values()


def test_the_same_seeds_make_the_same_records():
    def records() -> list[bytes]:
        member = Member(4, ControlLog(ROOT_KEYS.space))
        member.take(begin_space(ROOT_KEYS, member.keys, ("desk", "linux"), member.entropy, 500))
        member.add(5)
        member.take([rotate(member.hand())])
        assert member.log.insert(member.log.since(0)[0].raw) is Inserted.KNOWN
        return [r.raw for r in member.log.since(0)]

    assert records() == records()
