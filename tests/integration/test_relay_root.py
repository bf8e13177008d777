"""The recovery words at a relay: whoever proves the root key may read the control records, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybridgw_protocol.frames import (
    Ctl,
    CtlGet,
    CtlPut,
    Frame,
    PairOpen,
    Push,
    Want,
)
from hybridgw_protocol.membership import ControlLog
from tests.relay_client import MANY_TRIES, Client, Closed, Family, Keys, RelayProcess, Writer


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    with RelayProcess(tmp_path_factory.mktemp("relay") / "data", environment=MANY_TRIES) as running:
        yield running


class RootKeys(Keys):
    """Root, as if it were a device."""

    def __init__(self, family: Family) -> None:
        self.public, self.secret, self.exchange = family.root_public, family.root_secret, bytes(32)


async def admitted(relay: RelayProcess, seed: int) -> Family:
    """A space with two devices and a batch, at the relay."""
    family = Family(seed)
    family.add()
    secret = relay.invite(f"root {seed}", max_devices=2)
    async with Client.admitted(relay.url, family, family.first, enrol=secret) as client:
        await client.push([Writer(family, family.first).make()])
    return family


async def test_spec_D6_root_reads_the_control_records(relay: RelayProcess) -> None:
    family = await admitted(relay, 700)
    async with Client.admitted(relay.url, family, RootKeys(family), ctl=[]) as client:
        assert client.welcome is not None
        assert client.welcome.ctl == family.control.short_heads
        assert (client.welcome.vv, client.welcome.quota) == ([], None)
        told = await client.expect(Ctl, await client.ask(CtlGet(heads=[])))
        assert not told.more
        control = ControlLog(family.space)
        assert control.update(told.recs)[1] is None
        assert control.heads == family.control.heads
        assert client.received == []
    # It is no device: of the two that the account may have both are still let in.
    for keys in family.devices:
        async with Client.admitted(relay.url, family, keys):
            pass


@pytest.mark.parametrize("kind", ["push", "want", "put", "mailbox"])
async def test_spec_D6_root_may_do_nothing_else(relay: RelayProcess, kind: str) -> None:
    family = await admitted(relay, 710 + len(kind))
    tries: dict[str, Frame] = {
        "push": Push(b=[Writer(family, family.first, seed=9).make()]),
        "want": Want(vv=[]),
        "put": CtlPut(recs=[family.expel(family.devices[1])]),
        "mailbox": PairOpen(),
    }
    before = family.control.short_heads
    async with Client.admitted(relay.url, family, RootKeys(family), ctl=[]) as client:
        await client.ask(tries[kind])
        assert (await client.refused()).code == "not_admitted"
        assert client.received == []
    if kind != "put":
        async with Client.admitted(relay.url, family, family.first) as client:
            assert client.welcome is not None
            assert client.welcome.ctl == before


async def test_spec_D6_less_than_the_root_key_reads_nothing(relay: RelayProcess) -> None:
    """Not the space id alone, not a device that was put out, not root of another space; all strangers hear the same."""
    family, other = await admitted(relay, 720), Family(721)
    out = family.devices[1]
    family.expel(out)
    async with Client.admitted(relay.url, family, family.first):
        pass  # tells the relay
    said = []
    for keys, space in ((Keys(other.rng), family), (RootKeys(other), family), (RootKeys(other), other)):
        async with Client.connect(relay.url) as client:
            with pytest.raises(Closed) as caught:
                await client.authenticate(space, keys, ctl=[])
            said.append((caught.value.code, str(caught.value)))
    assert {code for code, _ in said} == {"not_admitted"}
    assert len({text for _, text in said}) == 1
    async with Client.connect(relay.url) as client:
        with pytest.raises(Closed) as caught:
            await client.authenticate(family, out, ctl=[])
        assert caught.value.code == "revoked"


async def test_spec_D6_root_must_prove_its_key(relay: RelayProcess) -> None:
    """A signature by another key, one for another relay, and one made for another nonce."""
    family = await admitted(relay, 730)
    root = RootKeys(family)
    async with Client.connect(relay.url) as client:
        forged = client.auth(family, root, ctl=[])
        forged.sig = client.auth(family, family.first, ctl=[]).sig
        await client.send(forged)
        assert (await client.refused()).code == "auth"
    async with Client.connect(relay.url) as client:
        await client.send(client.auth(family, root, ctl=[], ep="host:another.example.com"))
        assert (await client.refused()).code == "auth"
    async with Client.connect(relay.url) as first, Client.connect(relay.url) as second:
        await second.send(first.auth(family, root, ctl=[]))
        assert (await second.refused()).code == "auth"
