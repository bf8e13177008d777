"""Rules that say where messages without a target go, and a dry run that explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hybridgw_protocol.errors import BadValue, NotFound
from hybridgw_protocol.ids import check_topic
from hybridgw_protocol.localapi_messages import (
    ExplainMessage,
    ListRules,
    PutRules,
    RouteDevice,
    RouteReport,
    RouteRule,
    RouteStep,
    RuleList,
)
from hybridgw_storage.database import Connection, Database

from ..core.envelopes import Here
from ..core.targets import HERE, PERSON, Listener, Rule, Target, check_rule, decide, parse_target
from ..stores import copies
from ..stores.messages import THIS
from .addressing import Addressing, Place
from .ports import Principal

Known = tuple[bool | None, list[Here]]


class RoutingService:
    """One per daemon."""

    def __init__(
        self, database: Database, addressing: Addressing, fixed: Sequence[Rule], presence: Callable[[bytes], Known]
    ) -> None:
        """Args: fixed: rules of the configuration: asked first, and not changed by the API; presence: what is known of
        another device."""
        self._database, self._addressing, self._fixed, self._presence = database, addressing, tuple(fixed), presence

    def _all(self, connection: Connection) -> list[Rule]:
        return [*self._fixed, *copies.rules(connection)]

    def targets(self, connection: Connection, type: str) -> list[Target]:
        """Where messages of a type go. Raises: NotFound: no rule is for it."""
        found = decide(self._all(connection), type)
        if not found:
            raise NotFound(
                f"No rule says where messages of the type {type!r} go. Name a target, or add a rule.", field="to"
            )
        return [parse_target(text) for rule in found for text in rule.to]

    async def rules(self, _: Principal, _command: ListRules) -> RuleList:
        """In their order."""
        return self._listed(self._database.peek(copies.rules))

    async def put_rules(self, _: Principal, command: PutRules) -> RuleList:
        """Replace all but those of the configuration. Raises: BadValue."""
        given = [Rule(r.name, r.type, tuple(r.to), r.go_on) for r in command.rules if not r.fixed]
        for rule in given:
            check_rule(rule)
        names = [rule.name for rule in (*self._fixed, *given)]
        if len(set(names)) != len(names):
            raise BadValue("Two rules have one name.", field="rules")
        await self._database.write(lambda tx: copies.put_rules(tx, given))
        return self._listed(given)

    def _listed(self, given: Iterable[Rule]) -> RuleList:
        both = [(rule, True) for rule in self._fixed] + [(rule, False) for rule in given]
        return RuleList(
            items=[
                RouteRule(name=r.name, type=r.pattern, to=list(r.to), go_on=r.go_on, fixed=is_fixed)
                for r, is_fixed in both
            ]
        )

    async def explain(self, _: Principal, command: ExplainMessage) -> RouteReport:
        """Where a message would go. Raises: BadValue."""
        check_topic(command.type, "type")
        if command.to is None:
            found = decide(self._database.peek(self._all), command.type)
            wanted = [(text, f"rule {rule.name!r}") for rule in found for text in rule.to]
        else:
            wanted = [(text, "named") for text in ([command.to] if isinstance(command.to, str) else command.to)]
        return RouteReport(type=command.type, steps=[self._step(text, why) for text, why in wanted])

    def _step(self, text: str, why: str) -> RouteStep:
        target, devices, problem = parse_target(text), [], None
        if target.kind == PERSON:
            return RouteStep(to=text, why=why, devices=[], problem=self._addressing.others.problem(target))
        if self._addressing.is_here(target):
            known = self._database.peek(copies.read_listeners)
            programs = [x.client for x, _ in known if x.is_meant(target.kind, target.name)]
            name = self._addressing.device_name(THIS)
            devices.append(RouteDevice(device=name, here=True, programs=programs, online=True))
            if not programs:
                problem = "no program here listens for it yet; it waits for one"
        if target.place != HERE and (target.place == "" or not devices):
            others = self._addressing.members.others()
            if others is None:
                problem = "the keys of this device are not open, so other devices are not known yet; it waits for that"
            meant = [o for o in others or () if target.place == "" or o.is_meant(target.place)]
            devices += [self._other(other, target) for other in meant]
            if others is not None and not devices:
                problem = f"there is no device {target.place!r}"
        return RouteStep(to=text, why=why, devices=devices, problem=problem)

    def _other(self, other: Place, target: Target) -> RouteDevice:
        online, programs = self._presence(other.device)
        meant = [x.client for x in programs if _listener(x).is_meant(target.kind, target.name)]
        return RouteDevice(device=other.name, here=False, programs=meant, online=online)


def _listener(told: Here) -> Listener:
    mode, _, client_id = told.client.partition("/")
    return Listener(0, "", mode, client_id, told.app, frozenset(told.topics))
