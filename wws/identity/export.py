"""An identity under a passphrase, as text: for backups and for moving to another machine.

    wws-identity-export-v1
    peer_id 12D3KooW…
    kdf argon2id passes=3 memory=67108864 salt=<base64, 16 bytes>
    box <base64: nonce of 24 bytes, then the 32-byte seed by XSalsa20-Poly1305>

Four lines, each ended by a line feed, single spaces, nothing else. The key of the box is 32 bytes of Argon2id
over the UTF-8 passphrase. The PeerId is there for people; it is checked against the seed that comes out.
"""

from __future__ import annotations

import re

from wws.codec import base64
from wws.errors import LocalError, ParseError
from wws.identity.keys import SALT_LENGTH, SEED_LENGTH, Identity, random_salt, seal, stretch, unseal

HEADER = "wws-identity-export-v1"
PASSES = 3
MEMORY = 64 * 1024 * 1024
"""Cost of one guess, the second recommendation of RFC 9106 section 4."""
MAX_PASSES = 16
MAX_MEMORY = 1024 * 1024 * 1024
MIN_MEMORY = 8192
"""What libsodium takes at least."""
MAX_TEXT = 1024

_BOX_LENGTH = 24 + 16 + SEED_LENGTH
_FORM = re.compile(
    HEADER + r"\npeer_id ([1-9A-HJ-NP-Za-km-z]{40,64})"
    r"\nkdf argon2id passes=([1-9][0-9]{0,2}) memory=([1-9][0-9]{0,10}) salt=([A-Za-z0-9+/=]{24})"
    r"\nbox ([A-Za-z0-9+/=]{96})\n\Z"
)


class ExportMalformed(LocalError):
    """The text is not an exported identity, or it was damaged."""

    code = "export_malformed"
    exit_code = 8


class WrongPassphrase(LocalError):
    """The passphrase does not open this export."""

    code = "wrong_passphrase"
    exit_code = 8


class WeakPassphrase(LocalError):
    """An export without a passphrase would be the bare key."""

    code = "weak_passphrase"
    exit_code = 2


def export_identity(
    identity: Identity, passphrase: str, *, passes: int = PASSES, memory: int = MEMORY
) -> str:
    """The identity as text that only the passphrase opens. Raises `WeakPassphrase` for an empty one."""
    if not passphrase:
        raise WeakPassphrase(
            hint="Give a passphrase; a long one, for whoever finds the file can try them all."
        )
    salt = random_salt()
    box = seal(identity.seed, stretch(passphrase, salt, passes=passes, memory=memory))
    return (
        f"{HEADER}\npeer_id {identity.peer_id}\n"
        f"kdf argon2id passes={passes} memory={memory} salt={base64.encode(salt)}\n"
        f"box {base64.encode(box)}\n"
    )


def import_identity(text: str, passphrase: str) -> Identity:
    """The identity that `export_identity` put into `text`. Raises `ExportMalformed`, `WrongPassphrase`."""
    # Files that went through a mail or another system's editor come with other line ends.
    lines = text.replace("\r\n", "\n").strip() + "\n"
    match = _FORM.match(lines) if len(lines) <= MAX_TEXT else None
    if match is None:
        raise ExportMalformed(hint=f"The first line of an export is {HEADER}.")
    passes, memory = int(match[2]), int(match[3])
    if passes > MAX_PASSES or not MIN_MEMORY <= memory <= MAX_MEMORY:
        raise ExportMalformed("The export asks for more work than any that WWS writes.")
    try:
        salt, box = base64.decode(match[4]), base64.decode(match[5])
    except ParseError:
        raise ExportMalformed("The export is damaged: its base64 does not decode.") from None
    if len(salt) != SALT_LENGTH or len(box) != _BOX_LENGTH:
        raise ExportMalformed("The export is damaged: its parts have other lengths.")
    seed = unseal(box, stretch(passphrase, salt, passes=passes, memory=memory))
    if seed is None:
        raise WrongPassphrase(hint="Try again; if you are sure of it, the file was changed.")
    identity = Identity(seed)
    if str(identity.peer_id) != match[1]:
        raise ExportMalformed("The export holds the key of another PeerId than it says.")
    return identity
