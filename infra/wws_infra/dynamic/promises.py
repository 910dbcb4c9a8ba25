"""Remembers whether a witness has lost its disk: the one thing about a host that must outlive the host.

A witness that forgets its promises must make no first claims for a while. Whoever installs a new machine
cannot see that there was an old one; this resource belongs to the identity, and can.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, ClassVar, cast

import pulumi
from typing_extensions import override

from wws.names.record import KEPT_AFTER_EXPIRY
from wws.names.rules import MAX_LEASE
from wws_dns.plan import day
from wws_infra.dynamic.crud import Crud, DynamicResource, text

if TYPE_CHECKING:
    from wws_infra.settings import Json


def tell_of_lost(name: str) -> None:
    """Warn that a node was started with its promises lost; the engine shows it beside the resource."""
    until = day(int(time.time()) + MAX_LEASE + KEPT_AFTER_EXPIRY)
    print(
        f"warning: {name} has lost its promises as a witness, and makes no first claims until {until}. "
        "While most nodes wait like this, new names are not witnessed; names that were are renewed.",
        flush=True,
    )


class PromisesProvider(Crud):
    """Once the identity has run on one machine, every other one begins without its promises.

    One with a past before this stack begins without them everywhere: a machine that has them keeps them.
    """

    not_compared: ClassVar[tuple[str, ...]] = ("has_a_past",)

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        return text(props, "peer_id"), {"lost": props.get("has_a_past") is True}

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        is_new = olds["peer_id"] != news["peer_id"]
        return {"lost": not is_new}


class Promises(DynamicResource, module="wws", name="Promises"):
    """What is known about the promises of one identity."""

    lost: pulumi.Output[bool]

    def __init__(
        self,
        name: str,
        peer_id: pulumi.Input[str],
        machine: pulumi.Output[str],
        opts: pulumi.ResourceOptions,
        *,
        has_a_past: bool = False,
    ) -> None:
        # It knows the machine and does not depend on it: a machine that goes must not take this with it.
        future = cast("Awaitable[str]", machine.future(with_unknowns=True))
        alone = pulumi.Output[str](set(), future, machine.is_known())
        props: dict[str, pulumi.Input[str | bool] | None]
        props = {"peer_id": peer_id, "machine": alone, "lost": None}
        if has_a_past:
            props["has_a_past"] = True
        keep = pulumi.ResourceOptions(protect=True)
        super().__init__(PromisesProvider(), name, props, pulumi.ResourceOptions.merge(opts, keep))
