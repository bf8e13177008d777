"""A second reader of histories, from protocol/SPEC.md, "Logs", alone: which batches are applied, having seen what.

It imports none of our packages. What is applied is a function of what is held and known: it is worked out from nothing.
"""

from __future__ import annotations

from tests.architecture import _reader as reader
from tests.architecture._reader import Header, Refused
from tests.architecture._reader_operations import CLOCK_BOUND_MS, Body, Document, read_body, to_text

End = tuple[int, bytes, int]  # n, hash, fork
Chain = list[bytes]  # blobs from batch 1 on


class Replica:
    """What a device holds and knows, and what comes of it."""

    def __init__(self, space: bytes, space_keys: list[bytes], control: set[bytes], now_ms: int) -> None:
        self.space, self.control, self.now_ms = space, control, now_ms
        self.key_by_id = {reader.blake(key, 8, "hgw-kid"): key for key in space_keys}
        self.held: dict[int, dict[bytes, bytes]] = {}  # log -> hash -> blob; of a forked log all branches
        self.ends: dict[int, End] = {}
        self.applied: dict[int, Chain] = {}
        self.stamps: dict[int, int] = {}  # the last of each log
        self.deps: dict[int, dict[int, tuple[int, bytes]]] = {}
        self.documents: dict[tuple[str, object], Document] = {}

    def close(self, log: int, n: int, digest: bytes, fork: int) -> None:
        """5: of several closes the least counts, and the least fork point."""
        old = self.ends.get(log, (n, digest, fork))
        self.ends[log] = (*min((n, digest), old[:2]), min(fork, old[2]))

    def take(self, blob: bytes, sign_public: bytes) -> bool:
        """Whether it is held now: it follows a batch that is."""
        header = reader.read_header(blob)
        assert header.space == self.space
        reader.check_signature(blob, sign_public)
        held = self.held.setdefault(header.log, {})
        assert all(reader.read_header(other).device == header.device for other in held.values())
        if header.n > 1 and header.prev not in held:
            return False
        held[reader.batch_hash(blob)] = blob
        return True

    def chain(self, log: int) -> tuple[Chain, bool]:
        """The batches that may count, from the first on; and whether it is known that all of them do, and no others."""
        held = self.held.get(log, {})
        n, digest, fork = self.ends.get(log, (0, b"", 0))
        if log not in self.ends:
            tips = held.keys() - {reader.read_header(blob).prev for blob in held.values()}
            assert len(tips) <= 1, "a fork: which branch is held depends on what came first"
            return self.down_from(log, next(iter(tips), None)), True
        if n == 0 or digest in held:
            return self.down_from(log, digest if n else None), True
        longest = max((self.down_from(log, tip) for tip in held), key=len, default=[])
        return longest[:fork], False

    def down_from(self, log: int, digest: bytes | None) -> Chain:
        """The chain that ends there, batch 1 first."""
        found: Chain = []
        while digest in self.held.get(log, {}):
            blob = self.held[log][digest]
            found.append(blob)
            digest = reader.read_header(blob).prev
        return found[::-1]

    def counts(self, log: int, n: int, short: bytes) -> int | None:
        """3: how far a dependency reaches; None: wait."""
        chain, is_known = self.chain(log)
        is_there = n <= len(chain) and reader.batch_hash(chain[n - 1])[:16] == short
        if log not in self.ends:
            return n if is_there else None
        end, _, fork = self.ends[log]
        if fork < n <= end and not is_known:
            return None
        return n if is_there and n <= end else min(n, fork)

    def drain(self) -> None:
        """Apply whatever can be, from the beginning."""
        while any([self.apply_next(log) for log in self.held]):
            pass

    def apply_next(self, log: int) -> bool:
        done, chain = self.applied.setdefault(log, []), self.chain(log)[0]
        if len(done) == len(chain):
            return False
        blob = chain[len(done)]
        header = reader.read_header(blob)
        if header.kid not in self.key_by_id:
            return False
        try:
            body = read_body(reader.open_body(blob, self.key_by_id[header.kid]), log)
        except Refused:
            return False  # its log ends before it, for ever
        if body.stamps and body.stamps[0] <= self.stamps.get(log, -1):
            return False  # the same
        deps = {other: dep for other, dep in {**self.deps.get(log, {}), **body.deps}.items() if dep[0]}
        seen = self.seen(body, deps)
        if seen is None:
            return False
        for made in body.operations:
            document = self.documents.setdefault((made.collection, made.document), Document())
            document.apply(made, log, header.n, seen)
        self.note(log, header, body)
        self.deps[log] = deps
        done.append(blob)
        return True

    def note(self, log: int, header: Header, body: Body) -> None:
        """A batch without operations has no stamps."""
        assert header.n == len(self.applied[log]) + 1
        if body.stamps:
            self.stamps[log] = body.stamps[-1]

    def seen(self, body: Body, deps: dict[int, tuple[int, bytes]]) -> dict[int, int] | None:
        """What the author had seen of other logs; None: it is not this batch's turn."""
        if body.stamps and body.stamps[-1] >> 16 > self.now_ms + CLOCK_BOUND_MS:
            return None
        if not self.control.issuperset(body.control or ()):
            return None
        found: dict[int, int] = {}
        for other, (n, short) in deps.items():
            reach = self.counts(other, n, short)
            if reach is None or len(self.applied.get(other, [])) < reach:
                return None
            found[other] = reach
        return found


# ---- the golden file -------------------------------------------------------------------------------------------------
def check(vectors: dict) -> None:
    """All of protocol/vectors/logs.json. Raises: AssertionError, Refused."""
    signer = {bytes.fromhex(one["device"]): bytes.fromhex(one["sign_public"]) for one in vectors["devices"]}
    for one in vectors["devices"]:
        log = reader.blake(bytes.fromhex(one["device"] + one["salt"]), 8, "hgw-log")
        assert str(reader.signed64(log)) == one["log"], one["name"]
    for case in vectors["cases"]:
        replica = Replica(
            bytes.fromhex(vectors["space"]), [bytes.fromhex(vectors["space_key"])],
            {bytes.fromhex(head) for head in vectors["control"]}, vectors["now_ms"],
        )  # fmt: skip
        for log, n, digest, fork in case["closes"]:
            replica.close(int(log), n, bytes.fromhex(digest), fork)
        coming = [bytes.fromhex(blob) for blob in case["batches"]]
        while coming:
            blob = coming.pop(0)
            if not replica.take(blob, signer[reader.read_header(blob).device]):
                coming.append(blob)
        replica.drain()
        applied = [[str(log), len(done)] for log, done in sorted(replica.applied.items()) if done]
        assert applied == case["applied"], case["name"]
        documents = [
            {
                "document": to_text(document),
                "shown": held.shown(),
                "conflicts": [conflict["value"] for conflict in held.conflicts()],
            }
            for (_, document), held in sorted(replica.documents.items())
        ]
        assert documents == case["documents"], case["name"]
        digest = sum(held.digest(*place) for place, held in replica.documents.items()) % 2**128
        assert digest.to_bytes(16, "big").hex() == case["digest"], case["name"]
