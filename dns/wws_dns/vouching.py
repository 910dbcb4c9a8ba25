"""Which keys and lists may be signed because the past says so, when somebody may have written that past.

The history is a file, in version control or in the stack's state, and no secret guards it. Yet lists are
signed again from it without a look: by `renew` in a timer, by `rollback` in a hurry. So it is believed only
as far as somebody vouches for it who is no part of it:

    keys at hand, keys that the records file lists ──sign──► a bundle ──lists──► further keys ──sign──► …
    what the authority of DNS serves ──is──────────────────► a bundle ──lists──► …

Whoever wrote the history alone has none of these. Whoever can write DNS too, and the history, gets his own
list past the second line; the first is for operators who list their keys (`publishers`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from wws.discovery.bundle import Bundle
from wws.discovery.publishers import PublisherKey, key_id, valid_signers
from wws_dns.history import History
from wws_dns.plan import Unsafe


class Vouched:
    """What is vouched for of one history."""

    def __init__(self, history: History, served: Collection[str], trusted: Iterable[PublisherKey]) -> None:
        """`served` are the texts at the bundle's name in DNS; `trusted` keys come from elsewhere.

        Without any of those nobody signs here: then the keys with which the history begins have to do, and
        whoever signs elsewhere looks at what he signs.
        """
        self._domain = history.domain
        self._served = frozenset(served)
        self.keys: frozenset[PublisherKey] = frozenset(trusted) or frozenset(history.publishers)
        bundles = [one.bundle for one in history.published]
        while bundles:
            known = [bundle for bundle in bundles if self.knows(bundle)]
            self.keys |= {key for bundle in known for key in bundle.keys or ()}
            bundles = [bundle for bundle in bundles if bundle not in known]
            if not known:
                return

    def knows(self, bundle: Bundle) -> bool:
        """Whether the bundle is served, or signed by a key that is vouched for."""
        if bundle.text in self._served:
            return True
        signers, _ = valid_signers(bundle.signatures, self.keys, bundle.signed_bytes(self._domain))
        return bool(signers)

    def judge(
        self, source: Bundle | None, listed: Iterable[PublisherKey], introduced: Iterable[PublisherKey]
    ) -> list[Unsafe]:
        """What is unsafe about signing the content of `source` with the keys `listed`.

        Keys that the operator introduces with this very plan are his own word.
        """
        if source is not None and not self.knows(source):
            message = (
                f"Only the history knows bundle {source.seq}: DNS does not serve it, and no key given here "
                "has signed it, nor one that the records file lists. Has somebody written into the history? "
                "Where another operator's key is missing, list all in the records file: publishers = […]"
            )
            return [Unsafe("unvouched", message)]
        strange = set(listed) - self.keys - set(introduced)
        if strange:
            message = (
                f"Key {', '.join(sorted(map(key_id, strange)))} would be signed for, and only the history "
                "knows it. Has somebody written into the history? Where it is another operator's, list all "
                "keys in the records file: publishers = […]"
            )
            return [Unsafe("unvouched", message)]
        return []
