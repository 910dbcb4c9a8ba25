"""The TXT records of a network as one resource, over `wws_dns`: planned, refused when unsafe, published.

Its inputs are the nodes, so a preview shows which come and go. What was published before is an output: the
history that the rules of safety need lies in the stack's state. A list that comes near its end is a change
too, so that `pulumi up` signs it anew.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pulumi
from pulumi.dynamic import DiffResult
from typing_extensions import override

from wws.discovery.bundle import Bundle
from wws.discovery.publishers import parse_publisher_key
from wws.identity.peer_id import PeerId
from wws.runtime.homes import Home
from wws_dns.desired import Desired, Node, txt_sets
from wws_dns.history import History, parse_history
from wws_dns.plan import Plan
from wws_dns.planning import PlanningConfig, renewal_margin
from wws_dns.publishing import Publisher
from wws_infra.dynamic.crud import Crud, DynamicResource, number, text, texts
from wws_infra.dynamic.processes import NODE, Running
from wws_infra.dynamic.signing import signers
from wws_infra.dynamic.steps import ForceSpent, UnsafeChange
from wws_infra.dynamic.zones import open_zone, writing

if TYPE_CHECKING:
    from wws_infra.settings import Json


class DiscoveryProvider(Crud):
    """Publishes."""

    replaced_by: ClassVar[tuple[str, ...]] = ("domain",)
    not_compared: ClassVar[tuple[str, ...]] = (
        "signer_seed",
        "signer_file",
        "force_unsafe",
        "local_homes",
    )

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        domain = text(props, "domain")
        keys = [parse_publisher_key(key) for key in texts(props, "publishers")]
        return domain, _published(props, History(domain, publishers=keys))

    @override
    def refuse(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> None:
        plan = _plan(_publisher(news, _history(olds)), news)
        # The engine shows it beside the resource. What `wws-dns` has a switch for, is a setting here.
        print(plan.render().replace("--prepare before", "a smaller wws:ttl before"), flush=True)
        _check(plan, news, was_forced=olds.get("forced") is True)

    @override
    def postponed(self, olds: dict[str, Json], news: dict[str, Json]) -> None:
        print("Nodes come and go; the records are planned when the addresses are known.", flush=True)

    @override
    def diff(self, _id: str, _olds: dict[str, Json], _news: dict[str, Json]) -> DiffResult:
        found = super().diff(_id, _olds, _news)
        if _olds.get("forced") is True and _news.get("force_unsafe") is not True:
            found.changes = True  # the switch has been taken out: that is to be remembered
        return found

    @override
    def has_drifted(self, olds: dict[str, Json]) -> bool:
        margin = renewal_margin(number(olds, "lifetime_days") * 86_400, PlanningConfig())
        return olds.get("served") is not True or time.time() >= number(olds, "expires_at") - margin

    @override
    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        found = open_zone(props).fetch(txt_sets(text(props, "domain")))
        served = sorted(f"{record.name} {record.kind} {record.value}" for record in found)
        return {"served": served == texts(props, "records")}

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        return _published(news, _history(olds), was_forced=olds.get("forced") is True)

    @override
    def removed(self, id_: str, props: dict[str, Json]) -> None:
        with writing:
            _publisher(props, _history(props)).retire(text(props, "domain"))


def _check(plan: Plan, props: Mapping[str, Json], *, was_forced: bool) -> None:
    """Raises `UnsafeChange`; and `ForceSpent` for a switch that has been left in since it was used."""
    if plan.unsafe and props.get("force_unsafe") is not True:
        raise UnsafeChange(plan.unsafe)
    if plan.unsafe and was_forced:
        raise ForceSpent(" ".join(one.message for one in plan.unsafe))


def _published(props: Mapping[str, Json], history: History, *, was_forced: bool = False) -> dict[str, Json]:
    publisher = _publisher(props, history)
    with writing:
        plan = _plan(publisher, props)
        _check(plan, props, was_forced=was_forced)
        is_forced = props.get("force_unsafe") is True
        published = publisher.publish(plan, force_unsafe=is_forced)
    for home in texts(props, "local_homes"):
        _look_again(Path(home))
    records = sorted(f"{one.name} {one.kind} {one.value}" for one in published.records)
    return {
        "seq": published.seq,
        "expires_at": published.expires_at,
        "bundle": published.text,
        "records": [*records],
        "served": True,
        "forced": is_forced and (was_forced or bool(plan.unsafe)),
        "history": publisher.history.to_text(),
    }


def _publisher(props: Mapping[str, Json], history: History) -> Publisher:
    trusted = [parse_publisher_key(key) for key in texts(props, "publishers")]
    return Publisher(open_zone(props), history, trusted=trusted)


def _plan(publisher: Publisher, props: Mapping[str, Json]) -> Plan:
    desired = Desired(
        text(props, "domain"),
        tuple(_node(entry) for entry in texts(props, "entries")),
        number(props, "ttl"),
        number(props, "lifetime_days"),
    )  # keys stay as clients know them: changing those is `wws-dns rotate`
    signed = props.get("signed")
    elsewhere = Bundle.parse(signed) if isinstance(signed, str) and signed else None
    return publisher.plan(desired, signers(props), signed=elsewhere)


def _node(entry: str) -> Node:
    """`<PeerId>@<host>:<port>`, as it stands in a list."""
    peer_id, _, place = entry.partition("@")
    host, _, port = place.rpartition(":")
    return Node(PeerId.parse(peer_id), host.strip("[]"), int(port))


def _history(props: Mapping[str, Json]) -> History:
    return parse_history(text(props, "history"))


def _look_again(home: Path) -> None:
    """Let a node of this machine look at DNS now; others do within the hour."""
    ready = Home(home).node(NODE).read_ready()
    if ready is not None:
        Running(ready.pid, ready.started).send(signal.SIGHUP)


class Discovery(DynamicResource, module="wws", name="Discovery"):
    """What DNS says of a network."""

    seq: pulumi.Output[int]
    expires_at: pulumi.Output[int]
    bundle: pulumi.Output[str]
    """The signed list."""
    records: pulumi.Output[list[str]]
    history: pulumi.Output[str]

    def __init__(self, name: str, props: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        outputs = dict.fromkeys(("seq", "expires_at", "bundle", "records", "served", "history"))
        super().__init__(DiscoveryProvider(), name, {**props, **outputs}, opts)
