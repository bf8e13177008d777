"""A daemon with a leak: it keeps the record of every call, and a kilobyte beside it, as if it were to show the frame
later. What watches memory under load must see it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import uvloop

from hybridgw_daemon import instance, logs
from hybridgw_daemon.__main__ import _parser, _prepare
from hybridgw_daemon.app import Daemon
from hybridgw_daemon.clocks import clock
from hybridgw_daemon.services.metrics import Metrics
from hybridgw_daemon.transports.local.calls import Call

FRAME_BYTES = 1024


class Leaking(Daemon):
    """Composed as the real one, but for what is done with a call that was answered."""

    def _called(self, metrics: Metrics) -> Callable[[Call], None]:
        write_down = super()._called(metrics)
        kept: list[tuple[Call, bytes]] = []

        def called(call: Call) -> None:
            write_down(call)
            kept.append((call, bytes(FRAME_BYTES)))

        return called


def main() -> None:
    """Serve until stopped."""
    paths, config = _prepare(_parser().parse_args())
    with instance.lock(paths, clock()):
        logging_ = logs.setup(paths.log_file, level=config.log.level, debug=False, readable=False, terminal=False)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Leaking(paths, config, logging_, clock(), None).run())
        logging_.close()


if __name__ == "__main__":
    sys.exit(main())
