"""Signing where the keys are, which need not be where DNS is changed.

    plan --request FILE ─► FILE ─► sign FILE --key K (on other machines) ─► publish --signed FILE

The file holds a domain and the text of a bundle, with or without signatures so far:

    {"schema": 1, "domain": "example.org", "bundle": "v=wws1;seq=…;peers=…[;sig=…]"}

Nothing in it is secret. The first to sign sets its times anew, so that the number is the time of signing; who
signs after him leaves the text as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from wws.codec.canonical import JsonObject
from wws.discovery.bundle import MAX_LIFETIME, MAX_TEXT, PREFIX, Bundle
from wws.discovery.publishers import PublisherKey, key_id, parse_domain, valid_signers
from wws.errors import LocalError, ParseError, WwsError
from wws.identity.keys import Identity, verify
from wws.rpc.codes import Exit
from wws_dns.looking import SEQ_AHEAD
from wws_dns.plan import day

SCHEMA: Final = 1
MAX_FILE: Final = 64 * 1024
"""Largest request that is read, in bytes."""
_PLACEHOLDER: Final = f"{Bundle.SIGNATURE_MARK}00000000:{'A' * 86}"
"""What stands in for the signatures while an unsigned text is parsed."""


class RequestMalformed(LocalError):
    """That is no bundle to sign or to publish."""

    code = "request_malformed"
    exit_code = Exit.USAGE
    hint = "It is what wws-dns plan --request FILE writes and wws-dns sign FILE signs."


class RequestUnsafe(WwsError):
    """Signed now, it would count at another time: for years, or when nobody thinks of it any more."""

    code = "request_unsafe"
    exit_code = Exit.REFUSED
    hint = "Check this machine's clock. If it is right, ask who made this file, and for another one."


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A bundle on its way to being signed."""

    domain: str
    bundle: Bundle

    @property
    def is_signed(self) -> bool:
        return bool(self.bundle.signatures)

    def to_json(self) -> JsonObject:
        text = self.bundle.text if self.is_signed else self.bundle.body
        return {"schema": SCHEMA, "domain": self.domain, "bundle": text}

    def to_text(self) -> str:
        """The content of its file."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    def sign(self, signers: Sequence[Identity], unix_now: int, *, backdate: int = 3_600) -> SigningRequest:
        """With the signatures of `signers` beside those that it has. The same key twice is once.

        Without a signature so far, its times begin now: it then holds as long as it was meant to.
        What would begin later than now, or end later than a list signed now may, is not signed: kept until
        then, it would be the newest list of all. Signatures of keys that neither it nor `signers` name
        cannot be checked here; they count for nobody who does not know these keys.

        Raises `RequestUnsafe`, `BundleError`, and `RequestMalformed` for a signature in it that its signer
        did not make.
        """
        bundle = self.bundle
        self._check_times(unix_now)
        known = {PublisherKey(signer.public_key) for signer in signers} | set(bundle.keys or ())
        _, bad = valid_signers(bundle.signatures, known, bundle.signed_bytes(self.domain))
        if bad is not None:
            raise RequestMalformed(f"Key {bad} has not made the signature that bears its name.")
        if not bundle.signatures:
            lasts = bundle.expires_at - bundle.not_before
            not_before = max(unix_now - backdate, bundle.not_before)
            bundle = replace(
                bundle,
                seq=max(unix_now, bundle.seq),
                not_before=not_before,
                expires_at=not_before + min(lasts, MAX_LIFETIME),
            )
        fresh = bundle.sign(self.domain, signers)
        mine = {name for name, _ in fresh.signatures}
        kept = tuple(one for one in bundle.signatures if one[0] not in mine)
        both = replace(fresh, signatures=(*kept, *fresh.signatures))
        Bundle.parse(both.text)
        return SigningRequest(self.domain, both)

    def _check_times(self, unix_now: int) -> None:
        bundle = self.bundle
        if bundle.seq > unix_now + SEQ_AHEAD:
            raise RequestUnsafe(
                f"Its number {bundle.seq} is more than a day ahead of this clock ({day(unix_now)})."
            )
        if bundle.not_before > unix_now:
            raise RequestUnsafe(
                f"It begins to hold at {day(bundle.not_before)}; it is {day(unix_now)} by this clock."
            )
        if bundle.signatures and bundle.expires_at <= unix_now:
            raise RequestUnsafe(f"It has ended at {day(bundle.expires_at)} by this clock.")

    def signed_by(self, signer: Identity) -> bool:
        """Whether this key has signed it."""
        data = self.bundle.signed_bytes(self.domain)
        wanted = key_id(signer.public_key)
        return any(
            name == wanted and verify(signer.public_key, data, signature)
            for name, signature in self.bundle.signatures
        )


def parse_request(data: bytes | str) -> SigningRequest:
    """A request from its file. Raises `RequestMalformed`."""
    if len(data) > MAX_FILE:
        raise RequestMalformed(f"The file is larger than {MAX_FILE} bytes.")
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestMalformed(f"The file is no JSON: {error}.") from None
    if not isinstance(value, dict) or value.get("schema") not in (SCHEMA, SCHEMA + 1):
        raise RequestMalformed(f"The file has not the schema {SCHEMA}.")
    domain, text = value.get("domain"), value.get("bundle")
    if not isinstance(domain, str) or not isinstance(text, str):
        raise RequestMalformed("The file lacks its domain or its bundle.")
    try:
        if parse_domain(domain) != domain:
            raise RequestMalformed(f"The domain {domain[:80]!r} is not in lower case without a final dot.")
        return SigningRequest(domain, parse_bundle(text))
    except ParseError as error:
        raise RequestMalformed(f"The file: {error}.") from None


def parse_bundle(text: str) -> Bundle:
    """A bundle, signed or not yet. Raises `BundleError`."""
    if Bundle.SIGNATURE_MARK in text or not text.startswith(PREFIX) or len(text) > MAX_TEXT:
        return Bundle.parse(text)
    return replace(Bundle.parse(text + _PLACEHOLDER), signatures=())
