"""A and AAAA records of one host, written through `wws_dns`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pulumi
from typing_extensions import override

from wws.errors import LocalError
from wws_dns.desired import address_sets
from wws_dns.planning import difference
from wws_dns.provider import Provider, Record
from wws_infra.dynamic.crud import Crud, DynamicResource, number, text, texts
from wws_infra.dynamic.zones import open_zone, writing

if TYPE_CHECKING:
    from wws_infra.settings import Json


class NameTaken(LocalError):
    """The name of a host has other addresses already, which this stack has not written."""

    code = "dns_name_taken"
    exit_code = 7
    hint = "is another machine called so? Remove its records, or call the node differently (wws:nodes)"


class AddressesProvider(Crud):
    """Owns the A and AAAA records of a name, all of them."""

    replaced_by: ClassVar[tuple[str, ...]] = ("host", "dns", "options")

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        zone, wanted = open_zone(props), _records(props)
        odd = [record for record in _served(zone, props) if record.value not in texts(props, "addresses")]
        if odd:
            raise NameTaken(f"{text(props, 'host')} has {', '.join(record.value for record in odd)} in DNS.")
        _write(zone, props, wanted)
        return text(props, "host"), {"served": True}

    @override
    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        served = {record.content for record in _served(open_zone(props), props)}
        return {"served": served == {record.content for record in _records(props)}}

    @override
    def has_drifted(self, olds: dict[str, Json]) -> bool:
        return olds.get("served") is not True

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        _write(open_zone(news), news, _records(news))
        return {"served": True}

    @override
    def removed(self, id_: str, props: dict[str, Json]) -> None:
        ours = {record.content for record in _records(props)}
        zone = open_zone(props)
        kept = [record for record in _served(zone, props) if record.content not in ours]
        _write(zone, props, kept)


def _records(props: dict[str, Json]) -> list[Record]:
    return [
        Record(text(props, "host"), "AAAA" if ":" in address else "A", address, number(props, "ttl"))
        for address in texts(props, "addresses")
    ]


def _served(zone: Provider, props: dict[str, Json]) -> tuple[Record, ...]:
    return zone.fetch(address_sets([text(props, "host")]))


def _write(zone: Provider, props: dict[str, Json], wanted: list[Record]) -> None:
    with writing:
        changes = difference(_served(zone, props), wanted)
        if not changes.is_empty:
            zone.apply(changes)


class Addresses(DynamicResource, module="wws", name="Addresses"):
    """The addresses of one name."""

    served: pulumi.Output[bool]

    def __init__(self, name: str, props: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        super().__init__(AddressesProvider(), name, {**props, "served": None}, opts)
