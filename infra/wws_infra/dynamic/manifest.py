"""The signed join manifest (`network.json`): domain, publisher keys, pinned peers; for people and for hosts.

It is signed again only when what it says has changed, so a second run changes nothing. Every node waits for
it, so it is where a set of nodes that is too far from the last one is refused (`wws_infra.dynamic.steps`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

import pulumi
from typing_extensions import override

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.network import Network
from wws.discovery.publishers import parse_publisher_key
from wws_infra.dynamic.crud import Crud, DynamicResource, is_unknown, text, texts
from wws_infra.dynamic.signing import signers
from wws_infra.dynamic.steps import step

if TYPE_CHECKING:
    from wws_infra.settings import Json


class ManifestProvider(Crud):
    """Signs."""

    not_compared: ClassVar[tuple[str, ...]] = ("signer_seed", "signer_file", "is_judged", "force_unsafe")

    @override
    def checked(self, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        if news.get("is_judged") is not True:
            return news  # nothing is published here: `wws-dns` judges
        if any(is_unknown(news.get(name)) for name in ("domain", "peers")):
            return news
        return {**news, "witnesses": step(olds, news, int(time.time()))}

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        return text(props, "domain"), {"text": _signed(props)}

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        is_same = all(olds.get(name) == news[name] for name in _SAID)
        return {"text": olds["text"] if is_same else _signed(news)}


_SAID = ("domain", "publishers", "peers")
"""What stands in the file."""


def _signed(props: dict[str, Json]) -> str:
    domain = text(props, "domain")
    publishers = tuple(parse_publisher_key(key) for key in texts(props, "publishers"))
    peers = tuple(Multiaddr.parse(address) for address in texts(props, "peers"))
    who = signers(props)
    if not who:
        return ""  # the keys are elsewhere; hosts find each other by DNS alone
    return Network(domain, domain, publishers, peers, issued_at=int(time.time())).to_file(who).decode()


class Manifest(DynamicResource, module="wws", name="Manifest"):
    """One manifest."""

    text: pulumi.Output[str]
    """The file; empty where the stack has no key to sign it."""

    def __init__(self, name: str, props: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        super().__init__(ManifestProvider(), name, {**props, "text": None}, opts)
