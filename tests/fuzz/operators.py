"""What operators' programs read: records.toml, the stack's inventory, histories, requests, keys, zones."""

from __future__ import annotations

import base64
import json
from functools import cache

from tests.fuzz.codecs import texts
from tests.fuzz.networks import DOMAIN, PUBLISHER, bundles
from tests.fuzz.target import Form, Target, text_of
from wws.discovery.bundle import Bundle, BundleError
from wws.testing.names import NOW, person
from wws_dns import history, records_file, signing, stack_outputs, tsig, zone_file
from wws_dns.desired import DesiredMalformed
from wws_dns.history import History, HistoryMalformed, Publication
from wws_dns.signing import RequestMalformed, SigningRequest
from wws_dns.tsig import TsigMalformed
from wws_dns.zone_file import ZoneFileMalformed

_RECORDS = f"""domain = "{DOMAIN}"
publishers = ["{PUBLISHER.public_key.hex()}"]
ttl = 300
lifetime_days = 30
key_files = ["publisher.key"]
[[node]]
peer_id = "{person("alice").peer_id}"
host = "alice.{DOMAIN}"
port = 443
transport = "tcp"
addresses = ["192.0.2.1", "2001:db8::1"]
[[node]]
peer_id = "{person("bob").peer_id}"
host = "192.0.2.2"
[provider]
kind = "rfc2136"
server = "192.0.2.53"
"""
_INVENTORY = {
    "schema": 1,
    "domain": DOMAIN,
    "network": f"{DOMAIN}#{PUBLISHER.public_key.hex()}",
    "hosts": [
        {
            "name": name,
            "peer_id": str(person(name).peer_id),
            "multiaddrs": ["/ip4/192.0.2.1/tcp/9000", "/ip4/192.0.2.1/udp/9000/quic-v1"],
        }
        for name in ("alice", "bob")
    ],
}
_SECRET = base64.b64encode(bytes(32)).decode()


@cache
def _histories() -> list[bytes]:
    kept = History(DOMAIN)
    for text in bundles()[:2]:
        kept.add(Publication(Bundle.parse(text.decode()), NOW, (("alice.example.org", "192.0.2.1"),)))
    return [kept.to_text().encode(), json.dumps(kept.to_json() | {"schema": 2}).encode()]


def _history(data: bytes) -> None:
    found = history.parse_history(data)
    again = history.parse_history(found.to_text())
    assert (again.published, again.publishers) == (found.published, found.publishers)


@cache
def _requests() -> list[bytes]:
    signed = SigningRequest(DOMAIN, Bundle.parse(bundles()[0].decode()))
    unsigned = signed.to_json() | {"bundle": signed.bundle.body}
    return [signed.to_text().encode(), json.dumps(unsigned).encode()]


def _request(data: bytes) -> None:
    found = signing.parse_request(data)
    assert signing.parse_request(found.to_text()) == found


def _tsig(data: bytes) -> None:
    found = tsig.parse_tsig(text_of(data))
    assert len(found.secret) >= tsig.MIN_SECRET


def _records(data: bytes) -> None:
    found = records_file.parse_records(text_of(data))
    assert len(found.desired.nodes) <= 16


OPERATORS: tuple[Target, ...] = (
    Target(
        "records.toml",
        texts(_RECORDS, _RECORDS.partition("[[node]]")[0]),
        _records,
        (DesiredMalformed,),
        (records_file.parse_records, records_file.parse_keys),
        Form.TEXT,
        largest=records_file.MAX_FILE,
        share=0.3,
    ),
    Target(
        "inventory for DNS",
        texts(json.dumps(_INVENTORY)),
        stack_outputs.parse_inventory,
        (DesiredMalformed,),
        (stack_outputs.parse_inventory,),
        Form.JSON,
        largest=stack_outputs.MAX_FILE,
        share=0.3,
    ),
    Target(
        "DNS history",
        _histories,
        _history,
        (HistoryMalformed,),
        (history.parse_history,),
        Form.JSON,
        largest=history.MAX_FILE,
        share=0.3,
    ),
    Target(
        "signing request",
        _requests,
        _request,
        (RequestMalformed, BundleError),
        (signing.parse_request, signing.parse_bundle),
        Form.JSON,
        largest=signing.MAX_FILE,
        share=0.3,
    ),
    Target(
        "TSIG key",
        texts(
            f"hmac-sha256:deploy:{_SECRET}",
            f'key "deploy" {{ algorithm hmac-sha512; secret "{_SECRET}"; }};',
        ),
        _tsig,
        (TsigMalformed,),
        (tsig.parse_tsig,),
        Form.TEXT,
        largest=tsig.MAX_FILE,
        share=0.3,
    ),
    Target(
        "zone file",
        texts(json.dumps({f"_dnsaddr.{DOMAIN}": {"TXT": ["dnsaddr=/ip4/192.0.2.1"], "TTL": ["60"]}})),
        zone_file.parse_zone,
        (ZoneFileMalformed,),
        (zone_file.parse_zone,),
        Form.JSON,
        largest=zone_file.MAX_FILE,
        share=0.3,
    ),
)
