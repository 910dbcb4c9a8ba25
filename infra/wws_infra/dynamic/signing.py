"""The publisher's key as a dynamic resource gets it: from the stack's own secrets, or from a file."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wws.identity.keys import Identity
from wws.runtime import keyfile

if TYPE_CHECKING:
    from wws_infra.settings import Json


def signers(props: Mapping[str, Json]) -> list[Identity]:
    """Who signs: `signer_seed` (base64, secret), or the key in `signer_file`; nobody for keys kept elsewhere.

    Raises what `wws.runtime.keyfile.load` raises.
    """
    seed, file = props.get("signer_seed"), props.get("signer_file")
    if isinstance(seed, str) and seed:
        return [Identity(base64.b64decode(seed))]
    if isinstance(file, str) and file:
        return [keyfile.load(Path(file), os.environ)]
    return []
