"""Who gets in: invites, key proofs, membership. A real relay process, real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybridgw_protocol.auth import sign_auth
from hybridgw_protocol.frames import Challenge, Ctl, CtlAck, CtlGet, CtlPut, Push, Welcome, encode_frame
from hybridgw_protocol.ids import SpaceId
from hybridgw_protocol.link import State
from hybridgw_protocol.vectors import Entry, from_entries
from tests.relay_client import MANY_TRIES, Client, Closed, Family, Keys, RelayProcess, Writer


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    folder = tmp_path_factory.mktemp("relay")
    with RelayProcess(folder / "data", "--public-url", "https://relay.example.com", environment=MANY_TRIES) as running:
        yield running


async def refusal(relay: RelayProcess, family: Family, keys: Keys, **options: object) -> Closed:
    """Authenticate, expecting to be refused."""
    async with Client.connect(relay.url) as client:
        with pytest.raises(Closed) as caught:
            await client.authenticate(family, keys, **options)  # type: ignore[arg-type]
        return caught.value


# ---- invites ---------------------------------------------------------------------------------------------------------
async def test_spec_Y7_closed_by_default(relay: RelayProcess) -> None:
    family = Family(100)
    closed = await refusal(relay, family, family.first)
    assert closed.code == "not_admitted"
    assert "invite" in closed.message
    assert (await refusal(relay, family, family.first, enrol=bytes(32))).code == "not_admitted"


async def test_sec_R22_an_invite_admits_one_space_once(relay: RelayProcess) -> None:
    first, second = Family(101), Family(102)
    secret = relay.invite("once")
    async with Client.admitted(relay.url, first, first.first, enrol=secret) as client:
        assert client.welcome is not None
        assert client.welcome.ctl == first.control.short_heads
        assert client.welcome.quota is not None
        assert client.welcome.quota.devices == 32
    assert (await refusal(relay, second, second.first, enrol=secret)).code == "not_admitted"
    # The space itself comes back with the same link, with another one, and with none.
    for enrol in (secret, b"", bytes(32)):
        async with Client.admitted(relay.url, first, first.first, enrol=enrol):
            pass


async def test_sec_R22_an_expired_invite_is_refused(relay: RelayProcess) -> None:
    family = Family(103)
    secret = relay.invite("late", now_ms=1_000, hours=1)
    assert (await refusal(relay, family, family.first, enrol=secret)).code == "not_admitted"


async def test_an_invite_is_not_used_up_by_a_device_that_does_not_belong(relay: RelayProcess) -> None:
    family = Family(104)
    secret = relay.invite("strict")
    stranger = Keys(family.rng)
    assert (await refusal(relay, family, stranger, enrol=secret)).code == "not_admitted"
    async with Client.admitted(relay.url, family, family.first, enrol=secret):
        pass


async def test_control_records_that_do_not_begin_at_the_root_admit_nobody(relay: RelayProcess) -> None:
    family, other = Family(105), Family(106)
    secret = relay.invite("forged")
    closed = await refusal(relay, family, family.first, enrol=secret, records=other.records)
    assert closed.code == "bad_record"
    family.add()
    assert (await refusal(relay, family, family.first, enrol=secret, records=family.records[1:])).code in (
        "not_admitted", "gap", "bad_record",
    )  # fmt: skip
    assert (await refusal(relay, family, family.first, enrol=secret, records=[])).code == "not_admitted"


async def test_paired_devices_need_no_invite(relay: RelayProcess) -> None:
    family = Family(107)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite("pair")) as first:
        second = family.add()
        await first.expect(CtlAck, await first.ask(CtlPut(recs=family.records[-1:])))
        async with Client.admitted(relay.url, family, second) as client:
            assert client.welcome is not None
            assert client.welcome.ctl == family.control.short_heads
    # Paired over the LAN: the relay learns of the third device from itself.
    third = family.add(by=second)
    async with Client.admitted(relay.url, family, third) as client:
        assert client.welcome is not None
        assert client.welcome.ctl == family.control.short_heads


# ---- key proofs ------------------------------------------------------------------------------------------------------
async def test_sec_R11_a_signature_of_another_key_is_refused(relay: RelayProcess) -> None:
    family = Family(110)
    async with Client.connect(relay.url) as client:
        frame = client.auth(family, family.first)
        assert client.challenge is not None
        frame.sig = sign_auth(client.challenge, frame, Keys(family.rng).secret)
        await client.send(frame)
        assert (await client.refused()).code == "auth"


@pytest.mark.parametrize("field", ["nc", "sp", "pk", "ctl", "caps", "enrol", "ep"])
async def test_sec_R11_everything_that_was_said_is_signed(relay: RelayProcess, field: str) -> None:
    family = Family(111)
    async with Client.connect(relay.url) as client:
        frame = client.auth(family, family.first)
        changed = {
            "nc": bytes(32), "sp": SpaceId(bytes(16)), "pk": frame.pk[:32] + bytes(32), "ctl": [bytes(16)],
            "caps": ["x"], "enrol": b"e" * 32, "ep": frame.ep.replace("127.0.0.1", "localhost"),
        }[field]  # fmt: skip
        setattr(frame, field, changed)
        await client.send(frame)
        assert (await client.refused()).code == "auth"


async def test_sec_R11_a_recorded_handshake_does_not_work_again(relay: RelayProcess) -> None:
    family = Family(112)
    async with Client.connect(relay.url) as client:
        recorded = client.auth(family, family.first, enrol=relay.invite("replay"))
        await client.send(recorded)
        await client.send(Ctl(recs=family.records), (await client.receive())[1])
        await client.expect(Welcome)
    async with Client.connect(relay.url) as client:
        await client.send(recorded)
        assert (await client.refused()).code == "auth"


async def test_sec_R11_a_signature_made_for_another_relay_is_refused(relay: RelayProcess) -> None:
    """The device dialled a hostile relay, which dials this one and passes everything on."""
    family = Family(113)
    async with Client.connect(relay.url) as client:
        for name in ("host:evil.example.com", "host:relay.example.com:8443", "relay.example.com", "fp:00", ""):
            async with Client.connect(relay.url) as client:
                await client.send(client.auth(family, family.first, ep=name))
                assert (await client.refused()).code == "auth", name


async def test_configured_and_local_names_are_accepted(relay: RelayProcess) -> None:
    family = Family(114)
    secret = relay.invite("names")
    port = relay.port
    for name in (f"host:localhost:{port}", f"host:127.0.0.1:{port}", f"host:[::1]:{port}", "host:relay.example.com"):
        async with Client.admitted(relay.url, family, family.first, enrol=secret, ep=name):
            pass


async def test_sec_R11_a_reflected_challenge_proves_nothing(relay: RelayProcess) -> None:
    """What one connection signed does not open another, though both stand open at once."""
    family = Family(115)
    async with Client.connect(relay.url) as first, Client.connect(relay.url) as second:
        assert first.challenge is not None
        assert second.challenge is not None
        assert first.challenge.ns != second.challenge.ns
        frame = first.auth(family, family.first)
        await second.send(frame)
        assert (await second.refused()).code == "auth"


@pytest.mark.parametrize("version", [0, 2, -1, 2**40])
async def test_sec_R20_another_version_is_refused(relay: RelayProcess, version: int) -> None:
    family = Family(116)
    async with Client.connect(relay.url) as client:
        frame = client.auth(family, family.first)
        frame.v = version
        assert client.challenge is not None
        frame.sig = sign_auth(client.challenge, frame, family.first.secret)
        await client.send(frame)
        closed = await client.refused()
        assert closed.code == "version"


async def test_sec_R20_an_offered_version_cannot_be_changed_on_the_way(relay: RelayProcess) -> None:
    """A proxy that shows the client a lower version range is found out by the signature."""
    family = Family(117)
    async with Client.connect(relay.url) as client:
        assert client.challenge is not None
        true = client.challenge
        client.challenge = Challenge(v=(0, 1), ns=true.ns, role=true.role, t=true.t)
        await client.send(client.auth(family, family.first))
        assert (await client.refused()).code == "auth"


async def test_nothing_but_auth_and_join_before_admission(relay: RelayProcess) -> None:
    for frame in (Push(b=[]), CtlGet(), CtlPut(recs=[]), Ctl(recs=[])):
        async with Client.connect(relay.url) as client:
            await client.send_raw(encode_frame(frame))
            closed = await client.refused()
            assert closed.code == "bad_frame", frame


async def test_auth_twice_is_refused(relay: RelayProcess) -> None:
    family = Family(118)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite("twice")) as client:
        await client.send_raw(encode_frame(client.auth(family, family.first)))
        assert (await client.refused()).code == "bad_frame"


# ---- strangers and tenants -------------------------------------------------------------------------------------------
async def test_sec_P6_tenants_are_not_seen_by_strangers(relay: RelayProcess) -> None:
    """A space that is here, one that is not, and a device of another space: one answer."""
    here, absent, stranger = Family(120), Family(121), Family(122)
    async with (
        Client.admitted(relay.url, here, here.first, enrol=relay.invite("here")),
        Client.admitted(relay.url, stranger, stranger.first, enrol=relay.invite("stranger")),
    ):
        known = await refusal(relay, here, stranger.first, ctl=[])
        unknown = await refusal(relay, absent, stranger.first, ctl=[])
        assert (known.code, known.message, known.retry) == (unknown.code, unknown.message, unknown.retry)
        assert known.code == "not_admitted"
        guessed = await refusal(relay, here, stranger.first, ctl=[bytes(16)], records=stranger.records)
        assert (guessed.code, guessed.message) == (unknown.code, unknown.message)


async def test_what_a_stranger_uploads_is_not_kept(relay: RelayProcess) -> None:
    family = Family(123)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite("kept")) as first:
        junk = Family(123)  # the same root: records that verify, by a device that is out again
        thief = junk.add()
        junk.remove(thief)
        assert (await refusal(relay, junk, thief)).code in ("revoked", "not_admitted")
        request = await first.ask(CtlGet(heads=[]))
        assert (await first.expect(Ctl, request)).recs == family.records


async def test_spec_D4_a_removed_device_is_refused_by_name(relay: RelayProcess) -> None:
    family = Family(124)
    second = family.add()
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite("removed")) as first:
        await first.expect(CtlAck, await first.ask(CtlPut(recs=[family.remove(second)])))
        closed = await refusal(relay, family, second)
        assert closed.code == "revoked"
        # Also with the heads it had before, and with records of its own that nobody else knows.
        closed = await refusal(relay, family, second, ctl=[])
        assert closed.code == "revoked"


async def test_a_vector_out_of_range_is_refused(relay: RelayProcess) -> None:
    family = Family(125)
    async with Client.connect(relay.url) as client:
        frame = client.auth(family, family.first)
        frame.vv = [Entry(1, 1, bytes(16)), Entry(1, 2, bytes(16))]
        await client.send(frame)
        assert (await client.refused()).code == "bad_frame"


async def test_in_step_after_one_round_trip(relay: RelayProcess) -> None:
    """A reconnect that finds nothing new: auth, welcome, and the empty end of the stream; ten logs."""
    family = Family(126)
    writers = [Writer(family, family.first, seed=seed) for seed in range(10)]
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite("step")) as client:
        await client.push([writer.make() for writer in writers])
    have = {writer.log: writer.head for writer in writers}
    async with Client.connect(relay.url) as client:
        welcome = await client.authenticate(family, family.first, have=have)
        heads = from_entries(welcome.vv)
        assert {log: (head.n, head.short) for log, head in heads.items()} == {
            log: (head.n, head.short) for log, head in have.items()
        }
        assert welcome.ctl == family.control.short_heads
        assert await client.caught_up() == []
        assert client.link.state is State.READY
        assert client.link.bytes_in < 600
        assert client.link.bytes_out < 600


async def test_an_auth_frame_is_not_logged(relay: RelayProcess) -> None:
    family = Family(127)
    secret = relay.invite("logged")
    async with Client.admitted(relay.url, family, family.first, enrol=secret):
        pass
    text = relay.log.read_text()
    assert family.space.hex() in text
    assert secret.hex() not in text
