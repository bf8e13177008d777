"""Whose a log is, told by somebody else than its device: an operation without effect on documents.

A log id is a hash of the device and a salt, so whoever knows both can prove it, and whoever is told needs no trust. It
is told of logs of which nothing counts: their batches are sent to nobody any more, so who has never had one could not
tell whose such a log is, and would wait for ever for what depends on it. Source: protocol/SPEC.md, "Control log".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from hybridgw_protocol.batch import Head
from hybridgw_protocol.ids import DeviceId, LogId

from .body import Body

OWNER: Final = 6  # kind of the operation
DEVICE_BYTES: Final = 16
PROOF_BYTES: Final = 48  # device id and salt

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, int, bytes]).decode


def encode_owners(
    proofs: Sequence[bytes], stamp: int, deps: Mapping[LogId, Head], control: Sequence[bytes] | None
) -> bytes:
    """The body of a batch that tells of these logs.

    Args: proofs: device id and salt of each; stamp: of the first; deps, control: what changed since the batch before,
    as in `encode_body`.
    """
    entries = [[log, head.n, head.hash or bytes(16)] for log, head in deps.items()]
    body: dict[str, object] = {"d": entries} if entries else {}
    if control is not None:
        body["c"] = list(control)
    body["t"] = stamp
    body["x"] = [[OWNER, min(number, 1), proof] for number, proof in enumerate(proofs)]
    return _encode(body)


def owners(body: Body) -> Iterator[tuple[DeviceId, bytes]]:
    """(device, salt) of the logs that a batch tells of."""
    for operation in body.unknown:
        if operation.kind == OWNER:
            try:
                _, _, proof = _decode(operation.raw)
            except msgspec.MsgspecError:  # of another form it says nothing
                continue
            if len(proof) == PROOF_BYTES:
                yield DeviceId(proof[:DEVICE_BYTES]), proof[DEVICE_BYTES:]
