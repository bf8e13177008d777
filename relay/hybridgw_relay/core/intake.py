"""Reading a push: every batch parsed and its signature checked, before anything of it is stored. Pure, slow (60 us a
batch): runs outside the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybridgw_protocol.batch import Batch, parse_batch, verify_batch
from hybridgw_protocol.errors import BadFrame, Gap, HybridGWError
from hybridgw_protocol.ids import DeviceId, SpaceId


def read_batches(
    blobs: Sequence[bytes], space: SpaceId, sign_keys: Mapping[DeviceId, bytes]
) -> tuple[list[Batch], HybridGWError | None]:
    """The batches up to the first bad one, and what is wrong with that (None: all are good).

    Args: sign_keys: Ed25519 public keys of every device that is or was a member. A removed device's batches may still
    come from a device that had them before the removal: later batches depend on them.
    """
    good: list[Batch] = []
    for index, blob in enumerate(blobs):
        log: int | None = None
        try:
            batch = parse_batch(blob)
            log = batch.log
            if batch.space != space:
                raise BadFrame(f"Batch {batch.n} of log {batch.log} belongs to another space.")
            key = sign_keys.get(batch.device)
            if key is None:
                raise Gap(
                    f"Batch {batch.n} of log {batch.log} is by device {batch.device.hex()[:8]}, which no control "
                    "record here admits. Send the records first."
                )
            verify_batch(batch, key)
        except HybridGWError as error:
            error.detail.update(index=index, log=log)
            return good, error
        good.append(batch)
    return good, None
