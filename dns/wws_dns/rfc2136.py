"""Dynamic updates (RFC 2136) with TSIG (RFC 8945): Knot, BIND, PowerDNS and most others take them.

    TXT, A, AAAA queries over TCP ─► records          one UPDATE message ─► all of the changes, or none

The message carries what the plan saw as its prerequisites, record set by record set, so that the server
itself refuses when anything has changed: of two operators who publish at once, one is told so. Each record
set is replaced whole, in the same message: into what strings somebody has cut a text then does not matter.

All goes over TCP and signed, queries too: an answer is the authority's, and a wrong key is noticed by `plan`.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.tsig
import dns.update

from wws_dns.provider import (
    AuthFailed,
    Changes,
    Conflict,
    ProviderError,
    Record,
    RecordKind,
    RecordSet,
    Refused,
    Unavailable,
    ZoneLocked,
)
from wws_dns.tsig import TsigKey


@dataclass(frozen=True, slots=True)
class Rfc2136Config:
    """The bounds of speaking to a name server."""

    timeout: float = 10.0
    """Seconds for one message and its answer."""
    max_records: int = 1_000
    """Most records of one record set that are looked at."""


_CONFLICTS: Final = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)


class Rfc2136Provider:
    """A zone on a name server that takes updates."""

    def __init__(
        self, zone: str, host: str, port: int = 53, *, key: TsigKey, config: Rfc2136Config | None = None
    ) -> None:
        self.zone = zone.lower().removesuffix(".")
        self.name = f"rfc2136 {host}" + ("" if port == 53 else f":{port}")
        self._host, self._port = host, port
        self._config = config or Rfc2136Config()
        self._key = dns.tsig.Key(key.name, key.secret, dns.name.from_text(key.algorithm))

    def fetch(self, wanted: Collection[RecordSet]) -> tuple[Record, ...]:
        """All records of the wanted sets, sorted. Raises `ProviderError`."""
        found: list[Record] = []
        for name, kind in dict.fromkeys(wanted):
            found += _records(name, kind, self._rdataset(name, kind))
        return tuple(sorted(found))

    def apply(self, changes: Changes) -> None:
        """All of the changes in one message, or none. Raises `Conflict` and other `ProviderError`s."""
        if changes.is_empty:
            return
        update = dns.update.UpdateMessage(self.zone)
        found: list[Record] = []
        for name, kind in changes.touched:
            stands = self._rdataset(name, kind)
            found += _records(name, kind, stands)
            owner = dns.name.from_text(name)
            if stands:
                update.present(owner, _with_ttl(stands, 0))
            else:
                update.absent(owner, dns.rdatatype.from_text(kind))
        if not changes.expects(found):
            raise Conflict(f"{self.zone} on {self.name} is not as it was when the change was planned.")
        after = changes.after(found)
        for name, kind in changes.touched:
            update.delete(dns.name.from_text(name), dns.rdatatype.from_text(kind))
            for record in after:
                if record.set == (name, kind):
                    update.add(dns.name.from_text(name), record.ttl, _rdata(record))
        update.use_tsig(self._key)
        try:
            self._exchange(update, "update")
        except Unavailable:
            self._tell_locked()
            raise

    def _tell_locked(self) -> None:
        """Raises `ZoneLocked` when the server answers queries while an update gets no answer.

        Knot lets updates wait while somebody has a transaction open, and makes them afterwards.
        """
        try:
            self._rdataset(self.zone, "TXT")
        except ProviderError:
            return
        raise ZoneLocked(
            f"{self.name} answers queries for {self.zone}, but not the update: a transaction is open there.",
            hint="Let them finish. The update may be made then by itself; plan again to see.",
        )

    def _takes_updates(self) -> bool:
        """Whether the key may send updates and the zone is not frozen: one that changes nothing is taken."""
        probe = dns.update.UpdateMessage(self.zone)
        probe.use_tsig(self._key)
        try:
            answer = dns.query.tcp(probe, self._address(), self._config.timeout, self._port)
        except (dns.exception.DNSException, OSError, EOFError):
            return False
        return answer.rcode() == dns.rcode.NOERROR

    def _rdataset(self, name: str, kind: RecordKind) -> dns.rdataset.Rdataset | None:
        owner = dns.name.from_text(name)
        query = dns.message.make_query(owner, kind)
        query.flags &= ~dns.flags.RD
        query.use_tsig(self._key)
        answer = self._exchange(query, "query")
        if not answer.flags & dns.flags.AA:
            raise Unavailable(
                f"{self.name} is no authority for {self.zone}.",
                hint="Name the server that the zone is changed on (its primary), not a resolver.",
            )
        rrset = answer.get_rrset(answer.answer, owner, dns.rdataclass.IN, dns.rdatatype.from_text(kind))
        if rrset is not None and len(rrset) > self._config.max_records:
            raise Refused(f"{len(rrset)} {kind} records at {name}: more than are looked at.", hint="")
        return rrset

    def _exchange(self, message: dns.message.Message, what: str) -> dns.message.Message:
        """The answer, signed and without an error. Raises `ProviderError`."""
        try:
            answer = dns.query.tcp(message, self._address(), self._config.timeout, self._port)
        except (dns.tsig.PeerBadTime, dns.tsig.BadTime):
            raise AuthFailed(
                f"{self.name} and this machine disagree about the time.",
                hint="Set the clock that is off (chronyc tracking); they may differ by 5 minutes.",
            ) from None
        except (dns.tsig.PeerBadKey, dns.tsig.BadKey):
            if what == "update":  # the same key has just been good enough to ask with: so says Knot "may not"
                raise self._refusal(dns.rcode.REFUSED, what) from None
            raise AuthFailed(f"{self.name} does not know the TSIG key {self._key_name}.") from None
        except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadAlgorithm):
            raise AuthFailed(f"{self.name} has another secret for the TSIG key {self._key_name}.") from None
        except (dns.message.UnknownTSIGKey, dns.exception.FormError) as error:
            raise Unavailable(f"{self.name} gives no proper answer: {error}.") from None
        except dns.exception.Timeout:
            raise Unavailable(
                f"{self.name} does not answer.",
                hint="An update may have been made all the same; the next plan shows it.",
            ) from None
        except (OSError, EOFError) as error:
            raise Unavailable(f"{self.name} cannot be reached: {error}.") from None
        except dns.exception.TooBig:
            raise Refused(
                f"What stands in {self.zone} and is to be changed does not fit into one message.",
                hint="Somebody has put very much there. Remove it on the server, then publish again.",
            ) from None
        except dns.exception.DNSException as error:
            raise Unavailable(f"{self.name} gives no proper answer: {type(error).__name__}.") from None
        rcode = answer.rcode()
        if rcode == dns.rcode.NOERROR or (rcode == dns.rcode.NXDOMAIN and what == "query"):
            if not answer.had_tsig:
                raise AuthFailed(f"{self.name} does not sign its answers with the TSIG key {self._key_name}.")
            return answer
        raise self._refusal(rcode, what)

    def _refusal(self, rcode: dns.rcode.Rcode, what: str) -> ProviderError:
        word = dns.rcode.to_text(rcode)
        said = f"{self.name} answers {word} to the {what} for {self.zone}"
        if what == "update" and rcode in _CONFLICTS:
            return Conflict(f"{self.zone} on {self.name} has changed since the plan was made ({word}).")
        if rcode == dns.rcode.NOTAUTH:
            return AuthFailed(
                f"{said}: it does not serve that zone, or not to this key.",
                hint="Check the zone, the server (the primary), and the key's grant there.",
            )
        if rcode == dns.rcode.REFUSED:
            if what == "update" and not self._takes_updates():
                return ZoneLocked(
                    f"{said}, and to any other: the zone is frozen, or the TSIG key {self._key_name} may "
                    "update nothing there.",
                    hint="Thaw it (knotc zone-thaw, rndc thaw) when it is free again; or grant the key.",
                )
            return Refused(
                f"{said}: the TSIG key {self._key_name} may not do that.",
                hint="Let the key update TXT, A and AAAA at the names that the plan shows.",
            )
        if rcode == dns.rcode.NOTZONE:
            return Refused(f"{said}: a name lies outside of the zone.", hint="Check zone in records.toml.")
        if rcode == dns.rcode.NOTIMP:
            return Refused(f"{said}: it takes no updates.", hint="Allow dynamic updates for the zone there.")
        if rcode == dns.rcode.SERVFAIL and what == "update":
            return ZoneLocked(f"{said}: it cannot change the zone just now.")
        return Unavailable(f"{said}.")

    @property
    def _key_name(self) -> str:
        return self._key.name.to_text(omit_final_dot=True)

    def _address(self) -> str:
        """The IP address of the server. Raises `OSError`."""
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return str(found[0][4][0])


def _records(name: str, kind: RecordKind, rdataset: dns.rdataset.Rdataset | None) -> list[Record]:
    if rdataset is None:
        return []
    return [Record(name, kind, _value(rdata), rdataset.ttl) for rdata in rdataset]


def _value(rdata: dns.rdata.Rdata) -> str:
    if isinstance(rdata, dns.rdtypes.ANY.TXT.TXT):
        return b"".join(rdata.strings).decode("utf-8", "surrogateescape")
    return rdata.to_text()


def _rdata(record: Record) -> dns.rdata.Rdata:
    rdtype = dns.rdatatype.from_text(record.kind)
    if record.kind != "TXT":
        return dns.rdata.from_text(dns.rdataclass.IN, rdtype, record.value)
    data = record.value.encode("utf-8", "surrogateescape")
    strings: Sequence[bytes] = [data[at : at + 255] for at in range(0, len(data), 255)] or [b""]
    return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, rdtype, strings)


def _with_ttl(rdataset: dns.rdataset.Rdataset, ttl: int) -> dns.rdataset.Rdataset:
    return dns.rdataset.from_rdata_list(ttl, list(rdataset))
