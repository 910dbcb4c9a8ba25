"""Routers with NAT, as people have them at home, made of nftables. Needs root, nft and conntrack.

    with Internet() as internet:
        home = Router(internet, "home", Kind.PORT_RESTRICTED, "198.18.2.2")
        alice = home.host("alice")                                  # 192.168.1.11
        carrier = Router(internet, "carrier", Kind.SYMMETRIC, "198.18.3.2", lan="100.64.0")
        inner = Router(carrier, "inner", Kind.FULL_CONE)            # a NAT behind a NAT
        home.change(kind=Kind.SYMMETRIC)                            # while all of it runs

What a kind means, in the words of RFC 4787 (mapping: does one inner port get one outer port for all
destinations; filtering: who may answer), for UDP and TCP alike:

    kind                 mapping                      filtering
    FULL_CONE            endpoint-independent         endpoint-independent
    ADDRESS_RESTRICTED   endpoint-independent         address-dependent
    PORT_RESTRICTED      endpoint-independent         address-and-port-dependent
    SYMMETRIC            address-and-port-dependent   address-and-port-dependent

All homes have the same network inside, 192.168.1.0/24, unless told otherwise. So it is in the world, and
a node that takes a private address of another home for one of its own finds a stranger there, or itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from typing import TypedDict

from typing_extensions import Unpack

from tests.lab.internet import NEAR, Internet, Uplink
from tests.lab.namespaces import Namespace, connect
from tests.lab.slow_links import LinkSpec


class Kind(Enum):
    """The value is what matrices print."""

    FULL_CONE = "full-cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"
    SYMMETRIC = "symmetric"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a router does with what comes along."""

    kind: Kind
    hairpin: bool = False
    """Whether hosts inside reach each other by outer addresses. Not for PORT_RESTRICTED and SYMMETRIC."""
    udp: bool = True
    only_tcp_ports: tuple[int, ...] = ()
    """When not empty, nothing leaves but TCP to these ports."""
    outer_ports: Mapping[int, int] = field(default_factory=dict)
    """Inner port → outer port, where it is not the same number. Not for SYMMETRIC."""


class RuleChanges(TypedDict, total=False):
    """Members of `Rules` that are to be other."""

    kind: Kind
    hairpin: bool
    udp: bool
    only_tcp_ports: tuple[int, ...]
    outer_ports: Mapping[int, int]


class Router:
    """One side is to `upstream` (the internet, or the inside of another router), hosts are on the other."""

    def __init__(
        self,
        upstream: Internet | Router,
        label: str,
        rules: Kind | Rules,
        *addresses: str,
        lan: str = "192.168.1",
        lan6: str | None = None,
        link: LinkSpec = NEAR,
    ) -> None:
        """`lan` is the /24 inside by its first three numbers, `lan6` a routed /64 (`2001:db8:9:1::/64`).

        IPv6 is not translated; its connections can be begun from inside only, as home routers have it.
        """
        self._internet: Internet = upstream if isinstance(upstream, Internet) else upstream._internet
        self._lan = lan
        self._lan6 = lan6.removesuffix("/64") if lan6 else None
        self._hosts = count(11)
        self.namespace = self._internet.namespace(label)
        self.uplink: Uplink | None = None
        if isinstance(upstream, Internet):
            self.uplink = upstream.attach(self.namespace, *addresses, link=link)
            self.outer = next((address for address in addresses if ":" not in address), "")
        else:
            self.outer = upstream.plug(self.namespace, "wan")
        self.namespace.set_kernel(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        self.namespace.ip("link add lan type bridge", "link set lan up", f"addr add {lan}.1/24 dev lan")
        if self._lan6 is not None and self.uplink is not None:
            self.namespace.ip(f"addr add {self._lan6}1/64 dev lan nodad")
            self.uplink.route(f"{self._lan6}/64")
        self.rules = rules if isinstance(rules, Rules) else Rules(rules)
        self._apply()

    def host(self, label: str) -> Namespace:
        """A further host inside: .11, .12 and so on, interface `eth0`."""
        made = self._internet.namespace(label)
        self.plug(made, "eth0")
        return made

    def plug(self, namespace: Namespace, interface: str) -> str:
        """Join a machine to the network inside; its address there."""
        number = next(self._hosts)
        port = f"host{number}"
        connect(self.namespace, port, namespace, interface)
        self.namespace.ip(f"link set {port} master lan")
        address = f"{self._lan}.{number}"
        namespace.ip(f"addr add {address}/24 dev {interface}", f"route add default via {self._lan}.1")
        if self._lan6 is not None:
            namespace.ip(
                f"addr add {self._lan6}{number}/64 dev {interface} nodad",
                f"route add default via {self._lan6}1 dev {interface}",
            )
        return address

    def change(self, *, forget: bool = True, **rules: Unpack[RuleChanges]) -> None:
        """Other rules from now on; `forget` what was mapped, as after a restart."""
        self.rules = replace(self.rules, **rules)
        self._apply()
        if forget:
            self.forget()

    def forget(self) -> None:
        """Lose all mappings and connections."""
        self.namespace.run("conntrack", "-F")
        self._apply()

    def renumber(self, *addresses: str) -> None:
        """The provider gives other addresses."""
        if self.uplink is None:
            raise ValueError(f"{self.namespace.label} has no addresses of a provider")
        self.uplink.renumber(*addresses)
        self.outer = next((address for address in addresses if ":" not in address), "")
        if self._lan6 is not None:
            self.uplink.route(f"{self._lan6}/64")
        self.forget()

    def _apply(self) -> None:
        self.namespace.run("nft", "-f", "-", given=ruleset(self.rules, self.outer))
        # Home routers forget UDP sooner than a server does.
        self.namespace.set_kernel(
            netfilter__nf_conntrack_udp_timeout=30, netfilter__nf_conntrack_udp_timeout_stream=60
        )


_BOTH = "meta l4proto { tcp, udp }"

_KEYS = {
    Kind.FULL_CONE: ("", "", ""),
    Kind.ADDRESS_RESTRICTED: ("ipv4_addr . ", "ip daddr . ", "ip saddr . "),
}
"""What besides protocol and outer port a mapping is found by: its type, on the way out, on the way in."""


def ruleset(rules: Rules, outer: str) -> str:
    """The rules for `nft -f`; they replace all others. `outer` is the router's address on `wan`.

    Masquerading keeps the inner port where it is free, so one inner port has one outer port: an
    endpoint-independent mapping, filtered by what connection tracking knows. For milder filters the
    rules note what was sent out, and let others in by these notes.
    """
    plain = "masquerade fully-random" if rules.kind is Kind.SYMMETRIC else "masquerade"
    ports = "\n".join(
        f'    oifname "wan" {_BOTH} th sport {inner} masquerade to :{outside}'
        for inner, outside in rules.outer_ports.items()
    )
    mapped = note = back = hairpin = ""
    if rules.kind in _KEYS:
        key_type, sent, received = _KEYS[rules.kind]
        mapped = f"""  map mapped {{
    type {key_type}inet_proto . inet_service : ipv4_addr . inet_service
    flags dynamic, timeout; timeout 5m; size 65535
  }}"""
        let_in = f"dnat ip to {received}meta l4proto . th dport map @mapped"
        value = f"{sent}meta l4proto . th sport : ct original ip saddr . ct original proto-src"
        note = f'    oifname "wan" {_BOTH} update @mapped {{ {value} }}'
        back = f'    iifname "wan" {_BOTH} {let_in}'
        if rules.hairpin and outer:
            back += f'\n    iifname "lan" ip daddr {outer} {_BOTH} {let_in}'
            hairpin = f'    iifname "lan" oifname "lan" ct status dnat snat ip to {outer}'
            note += f'\n    oifname "lan" ip saddr {outer} {_BOTH} update @mapped {{ {value} }}'
    blocked = "" if rules.udp else "    meta l4proto udp drop"
    allowed = "accept"
    if rules.only_tcp_ports:
        allowed = f"tcp dport {{ {', '.join(map(str, rules.only_tcp_ports))} }} accept"
    return f"""
flush ruleset
table ip nat {{
{mapped}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
{back}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
{hairpin}
{ports}
    oifname "wan" {plain}
  }}
  chain note {{
    type filter hook postrouting priority 200; policy accept;
{note}
  }}
}}
table inet filter {{
  # The router answers strangers with silence. An answer of its own to the first packet of a hole punch
  # would be a connection that stands in the way of the inner host's packet, which then gets another port.
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname {{ "lo", "lan" }} accept
    ct state established,related accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
{blocked}
    ct state established,related accept
    iifname "lan" oifname "lan" accept comment "the switch inside, where bridges are filtered too"
    iifname "lan" oifname "wan" {allowed}
    ct status dnat accept
  }}
}}
"""
