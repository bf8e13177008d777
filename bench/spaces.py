"""Spaces with real keys, real records and real batches, made here: what many devices would send to a relay."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nacl.bindings import crypto_scalarmult_base, crypto_sign, crypto_sign_seed_keypair

from hybridgw_daemon.core.body import encode_body
from hybridgw_daemon.core.operations import CREATE, Operation
from hybridgw_daemon.core.sealing import seal_batch
from hybridgw_protocol.ids import KeyId, device_id, key_id, log_id, space_id
from hybridgw_protocol.membership import ControlLog
from hybridgw_protocol.records import ROOT, Add, AnyPayload, Genesis, joiner_digest, sign_record

from .documents import COLLECTION, START_MS

STAMP = START_MS << 16


class BenchDevice:
    """Keys and one log of a device."""

    def __init__(self) -> None:
        self.public, self.secret = crypto_sign_seed_keypair(os.urandom(32))
        self.exchange = crypto_scalarmult_base(os.urandom(32))
        self.id = device_id(self.public, self.exchange)
        self._salt = os.urandom(32)
        self.log = log_id(self.id, self._salt)

    def batches(self, space: BenchSpace, count: int) -> list[bytes]:
        """The first batches of its log, one small document each."""
        blobs: list[bytes] = []
        prev = self._salt
        for n in range(1, count + 1):
            operation = Operation(CREATE, COLLECTION, os.urandom(16), 1, STAMP + n, {"done": True, "minutes": n})
            batch = seal_batch(
                encode_body([operation], {}, None), space_key=space.key, kid=space.kid, sign_secret=self.secret,
                space=space.id, device=self.id, log=self.log, n=n, prev=prev, nonce=os.urandom(24),
            )  # fmt: skip
            prev = batch.hash
            blobs.append(batch.blob)
        return blobs


class BenchSpace:
    """A space with so many devices, at most 32; the first one is seated by genesis and admits the others."""

    def __init__(self, devices: int) -> None:
        self._root_public, self._root_secret = crypto_sign_seed_keypair(os.urandom(32))
        self.id = space_id(self._root_public)
        self.key = os.urandom(32)
        self.kid = KeyId(key_id(self.key))
        self.control = ControlLog(self.id)
        self.records: list[bytes] = []
        self.devices: Sequence[BenchDevice] = [BenchDevice() for _ in range(devices)]
        first = self.devices[0]
        self._sign(
            Genesis(
                space=self.id, prevs=(), by=ROOT, ts=START_MS, root_public=self._root_public,
                root_exchange=crypto_scalarmult_base(os.urandom(32)), sign_public=first.public,
                exchange_public=first.exchange,
            ),
            self._root_secret,
        )  # fmt: skip
        seated = self.control.device(first.id)
        assert seated is not None
        for joiner in self.devices[1:]:
            prevs = tuple(self.control.signing_heads)
            digest = joiner_digest(self.id, seated.seat, prevs, joiner.id)
            self._sign(
                Add(
                    space=self.id, prevs=prevs, by=seated.seat, ts=START_MS, sign_public=joiner.public,
                    exchange_public=joiner.exchange, joiner_sig=crypto_sign(digest, joiner.secret)[:64],
                ),
                first.secret,
            )  # fmt: skip

    def _sign(self, payload: AnyPayload, secret: bytes) -> None:
        raw = sign_record(payload, secret)
        self.control.insert(raw)
        self.records.append(raw)
