"""What programs send before the devices are known keeps its place before what they send after it."""

from __future__ import annotations

import os
from pathlib import Path

from hybridgw_daemon.services.addressing import Members, Place
from hybridgw_daemon.services.messages import MessageService
from hybridgw_daemon.services.ports import OWNER
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.localapi_messages import SendMessage
from hybridgw_storage.database import InlineDatabase
from hybridgw_storage.migrations import prepare_file

PHONE = DeviceId(b"p" * 16)


class Opening(Members):
    """The keys open between two looks, as they do on another thread. unknown: so many more looks find nothing."""

    unknown = 10**6

    def others(self) -> list[Place] | None:
        self.unknown -= 1
        return None if self.unknown >= 0 else [Place(PHONE, "phone", "0" * 16)]


async def test_spec_R4_keys_that_open_at_any_moment_change_no_order(tmp_path: Path) -> None:
    for looks in range(8):
        path = tmp_path / f"{looks}.db"
        prepare_file(path, MIGRATIONS, stamp="x")
        database = InlineDatabase(path)
        messages = MessageService(database, clock=lambda: 1_000, entropy=os.urandom)
        members = messages.addressing.members = Opening()
        await messages.send(OWNER, SendMessage(type="note", to="all", body=0))
        members.unknown = looks
        for body in range(1, 6):
            await messages.send(OWNER, SendMessage(type="note", to=("all", "device:phone")[body % 2], body=body))
        await messages.resolve()
        rows = database.peek(
            lambda c: c.execute(
                "SELECT CAST(body AS TEXT) FROM delivery JOIN message USING(rid) WHERE recipient = ? ORDER BY seq",
                (PHONE,),
            ).fetchall()
        )
        assert [int(body) for (body,) in rows] == list(range(6)), f"known after {looks} looks"
        assert database.peek(
            lambda c: c.execute("SELECT count(*) FROM delivery WHERE seq = 0 AND recipient <> x''").fetchone()
        ) == (0,)
        await database.close()
