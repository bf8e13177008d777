"""The product's merge against the reference model, on the same histories.

Three sources of histories: those of the model's own checks, a Hypothesis state machine that shrinks what it finds, and
seeded faults of the product, each of which the first must catch.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.models import merge_checks, merge_model, merge_product_mutants
from tests.models.merge_product import ProductReplica

HISTORIES = 60  # per mode
FAULT_HISTORIES = 40  # per mode, for a fault that no fixed case catches


@pytest.fixture(autouse=True)
def product():
    """Histories run on replicas that carry the product along."""
    merge_checks.use(replica=ProductReplica)
    yield
    merge_checks.use()


@pytest.mark.parametrize("case", merge_checks.CASES)
def test_spec_S2_case(case: str) -> None:
    merge_checks.m.trace.clear()
    merge_checks.CASES[case]()


@pytest.mark.parametrize("mode", merge_checks.MODES)
def test_spec_S2_histories(mode: str) -> None:
    hits = sum(bool(merge_checks.run(merge_checks.MODES[mode], seed)) for seed in range(HISTORIES))
    assert hits > HISTORIES // 20


@pytest.mark.soak
@pytest.mark.parametrize("mode", merge_checks.MODES)
def test_spec_S2_many_histories(mode: str, scale: int) -> None:
    for seed in range(HISTORIES, HISTORIES * (1 + 3 * scale)):
        merge_checks.run(merge_checks.MODES[mode], seed)


@pytest.mark.parametrize("fault", merge_product_mutants.MUTANTS)
def test_spec_S2_fault_of_the_product_is_caught(fault: str) -> None:
    assert merge_product_mutants.caught_by(fault, FAULT_HISTORIES) is not None


# ---- a state machine ---------------------------------------------------------------------------------------------
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ELEMENTS = st.sampled_from([0, 1, 1.0, True, "a", "é", ["a"], {"k": 1}]) | SCALARS
DOCS = [
    merge_model.Doc("tasks", "d1"),
    merge_model.Doc("tasks", merge_checks.timed_id(merge_checks.START - 3 * merge_checks.DAY_MS)),
    merge_model.Doc("settings", "theme"),
]
FIELDS = st.sampled_from(["a", "b", "c"])
CONTENT = st.lists(
    st.tuples(st.just("put"), FIELDS, VALUES) | st.tuples(st.just("add"), st.sampled_from(["s", "t"]), ELEMENTS),
    max_size=4,
)
DOC = st.sampled_from(DOCS)
REQUEST = (
    st.tuples(st.just("put"), DOC, FIELDS, VALUES)
    | st.tuples(st.sampled_from(["add", "remove"]), DOC, st.sampled_from(["s", "t"]), ELEMENTS)
    | st.tuples(st.just("create"), DOC, CONTENT)
    | st.tuples(st.just("delete"), DOC)
    | st.tuples(st.just("floor"), st.just("tasks"), st.integers(0, merge_checks.START))
)
REPLICA = st.integers(0, 2)


class Histories(RuleBasedStateMachine):
    """Three devices with clocks of their own; batches travel in any order, more than once, or not yet."""

    @initialize(logs=st.permutations([-5, 3, 2**62]))
    def begin(self, logs: list[int]) -> None:
        merge_model.trace.clear()
        self.now = merge_checks.START
        self.replicas = [merge_checks.new_replica(log, self.now) for log in logs]
        self.closes: list[merge_model.Close] = []
        self.next_log = 100

    @rule(ms=st.sampled_from([0, 1, 1000, merge_checks.HOUR]), skews=st.tuples(*[st.integers(-1, 1)] * 3))
    def pass_time(self, ms: int, skews: tuple[int, ...]) -> None:
        self.now += ms
        for replica, skew in zip(self.replicas, skews, strict=True):
            replica.now = self.now + 60_000 * skew

    @rule(at=REPLICA, requests=st.lists(REQUEST, min_size=1, max_size=4))
    def write(self, at: int, requests: list) -> None:
        try:
            self.replicas[at].write(requests)
        except merge_model.ApiError:
            return

    @rule(at=REPLICA, doc=DOC, name=FIELDS, value=VALUES)
    def put_or_create(self, at: int, doc: merge_model.Doc, name: str, value: object) -> None:
        alive = self.is_alive(at, doc)
        self.write(at, [("put", doc, name, value) if alive else ("create", doc, [("put", name, value)])])

    @rule(at=REPLICA, doc=DOC, element=st.integers(0, 2))
    def add_or_restore(self, at: int, doc: merge_model.Doc, element: int) -> None:
        alive = self.is_alive(at, doc)
        self.write(at, [("add", doc, "s", element) if alive else ("create", doc, [("add", "s", element)])])

    @rule(at=REPLICA, doc=DOC)
    def delete(self, at: int, doc: merge_model.Doc) -> None:
        self.write(at, [("delete", doc)])

    def is_alive(self, at: int, doc: merge_model.Doc) -> bool:
        stored = self.replicas[at].state.docs.get(doc)
        return stored is not None and stored.cl % 2 == 1

    @rule(at=REPLICA)
    def seal(self, at: int) -> None:
        self.replicas[at].seal()

    @rule(source=REPLICA, to=REPLICA, order=st.randoms(use_true_random=False))
    def deliver(self, source: int, to: int, order: random.Random) -> None:
        if source != to:
            merge_checks.ship(order, self.replicas[source], self.replicas[to])

    @rule(source=REPLICA, to=REPLICA)
    def deliver_all_to_one(self, source: int, to: int) -> None:
        self.replicas[source].seal()
        merge_checks.ship_all(self.replicas[source], self.replicas[to])

    @rule(at=REPLICA)
    def rebuild(self, at: int) -> None:
        self.replicas[at].rebuild()

    @rule(by=REPLICA, of=REPLICA)
    def cut(self, by: int, of: int) -> None:
        """One device ends the log of another where it holds it; every device learns of it, in its own time."""
        log = self.replicas[of].log
        if by != of and not any(close.log == log for close in self.closes):
            self.closes.append(merge_model.Close(log, self.replicas[by].head(log)))

    @rule(at=REPLICA)
    def learn(self, at: int) -> None:
        """A device whose own log was ended goes on in a new one."""
        replica = self.replicas[at]
        for close in self.closes:
            replica.learn(close)
        if replica.end_of(replica.log) is not None:
            self.next_log += 1
            replica.repair(self.next_log)

    @invariant()
    def rows_say_what_the_model_says(self) -> None:
        for replica in getattr(self, "replicas", ()):
            for name in replica.rows:
                replica.check_row(name)

    def teardown(self) -> None:
        """Everything delivered: equal states, equal bytes, equal digests."""
        if not hasattr(self, "replicas"):
            return
        for at, replica in enumerate(self.replicas):
            replica.now = self.now + merge_checks.HOUR
            self.learn(at)
        merge_checks.both(*self.replicas)
        for replica in self.replicas[1:]:
            merge_checks.same(self.replicas[0], replica, "state machine", None)


TestHistories = Histories.TestCase
TestHistories.settings = settings(stateful_step_count=40)


@pytest.mark.parametrize(
    "fault", ["all_counts_as_seen", "short_cut_ignores_seen", "unseen_dropped_on_delete", "generation_may_fall",
              "buried_elements_not_kept", "fresh_set_is_a_register"],
)  # fmt: skip
def test_spec_S2_the_state_machine_catches_a_fault(fault: str) -> None:
    merge_checks.use(replica=merge_product_mutants.faulty_replica(fault))
    quick = settings(
        max_examples=300, stateful_step_count=40, derandomize=True, database=None, phases=[Phase.generate],
        report_multiple_bugs=False,
    )  # fmt: skip
    with pytest.raises(Exception):  # noqa: B017  whatever the fault makes of it
        run_state_machine_as_test(Histories, settings=quick)
