"""`wws-dns manifest`: the signed network file that people and hosts are given (wire.md section 3)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from agent_cli import text
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.network import (
    DEFAULT_SWARM,
    MAX_FILE,
    Network,
    NetworkMalformed,
    parse_network_file,
)
from wws.discovery.publishers import PublisherKey, key_id, valid_signers
from wws.errors import LocalError, ParseError
from wws.identity.keys import Identity
from wws.rpc.codes import Exit
from wws.runtime.whole_files import write_whole
from wws_dns.desired import Desired
from wws_dns.history import History
from wws_dns.looking import look
from wws_dns.planning import NotAPublisher
from wws_dns.workspace import (
    HistoryOption,
    InventoryOption,
    KeyOption,
    RecordsOption,
    open_workspace,
    read_bounded,
)

MODE = 0o644
"""Nothing in the file is secret; it is there to be handed out."""


class OtherNetwork(LocalError):
    """The file that is there is of other publishers, of another domain, or no network file."""

    code = "manifest_of_others"
    exit_code = Exit.REFUSED
    hint = "Write elsewhere (--out FILE); or, where the keys have really changed, add --replace"


class KeysUnvouched(LocalError):
    """Only the history knows a publisher key, and whoever can write that file could have put it there."""

    code = "unvouched"
    exit_code = Exit.REFUSED
    hint = "List all publisher keys in the records file: publishers = […]"


class _NoFile(LocalError):
    """There is none yet."""


def register(app: typer.Typer) -> None:
    command(
        app,
        manifest,
        examples=(
            "wws-dns manifest --key publisher.key",
            "wws-dns manifest --name example --pin 192.0.2.1 --out example.json",
            "wws-dns manifest --key new.key --replace --json",
        ),
    )


def manifest(
    options: Options,
    records: RecordsOption = None,
    inventory: InventoryOption = None,
    key: KeyOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What the network is called (its domain).")
    ] = None,
    swarm: Annotated[
        str, typer.Option("--swarm", metavar="SWARM", help="The swarm that names are claimed in.")
    ] = DEFAULT_SWARM,
    pin: Annotated[
        list[str] | None,
        typer.Option("--pin", metavar="NODE", help="Pin this node alone: PeerId or host; may repeat."),
    ] = None,
    no_pins: Annotated[bool, typer.Option("--no-pins", help="Pin no node: DNS alone leads in.")] = False,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where it goes.")] = "network.json",
    is_replacing: Annotated[
        bool, typer.Option("--replace", help="Overwrite a file with other publishers.")
    ] = False,
    history: HistoryOption = None,
) -> Result:
    """Write the signed network file, which people save with: wws network add FILE

    It names the domain, the publisher keys, and the nodes as pinned peers, which are found with DNS out of
    reach, too. Lists older than the one that is published are refused by whoever joins with it.
    """
    if pin and no_pins:
        raise WrongUsage("--pin and --no-pins contradict.", hint="Without either all nodes are pinned.")
    work = open_workspace(records, inventory=inventory, keys=key, history=history)
    if not work.signers:
        raise WrongUsage("No key is given.", hint="Give the publisher key: --key FILE")
    desired, unix_now = work.desired, int(time.time())
    publishers, signers, min_seq = _known(work.history, desired, work.signers, unix_now)
    network = Network(
        desired.domain if name is None else name,
        desired.domain,
        publishers,
        () if no_pins else _pinned(desired, pin or ()),
        min_seq,
        swarm,
        unix_now,
    )
    path = Path(out).expanduser()
    content, is_written = _write(path, network, signers, is_replacing=is_replacing)
    written = parse_network_file(content)
    data = {
        **written.to_json(),
        "file": str(path),
        "changed": is_written,
        "signed_by": [key_id(signer.public_key) for signer in signers],
    }
    shown = text.pairs(
        [
            ("network", written.name),
            ("domain", written.domain),
            ("publishers", "\n".join(f"{key_id(one)} {one.hex()}" for one in written.publishers)),
            ("pinned peers", "\n".join(map(str, written.peers)) or "none"),
            ("lists from", f"number {min_seq} on" if min_seq else None),
            ("swarm", written.swarm),
            ("signed by", ", ".join(key_id(signer.public_key) for signer in signers)),
            ("file", path if is_written else f"{path}, which said so already"),
        ]
    )
    notes = () if min_seq else ("No list that these keys have signed was published from here: publish one.",)
    others = f"Give it to people over a way that they trust; they type: wws network add {path.name}"
    return Result(data, shown, notes=notes, for_others=(others,))


def _known(
    history: History, desired: Desired, signers: Sequence[Identity], unix_now: int
) -> tuple[tuple[PublisherKey, ...], tuple[Identity, ...], int]:
    """The publisher keys, who of them signs, and the highest number of a list of theirs that was published.

    What only the history says is not signed for. A list of other keys, or one that no client has taken
    because it is ahead of the clock, sets no floor. Raises `NotAPublisher` and `KeysUnvouched`.
    """
    mine = [PublisherKey(signer.public_key) for signer in signers]
    seen = look(history, (), unix_now, declared=desired.keys, signers=mine, trusted=desired.keys or ())
    publishers = desired.keys or seen.known
    who_signs = _publishers_of(signers, publishers)
    unsafe = seen.vouched.judge(None, publishers, ())
    if unsafe:
        raise KeysUnvouched(" ".join(one.message for one in unsafe))
    numbers = [0]
    for bundle in (one.bundle for one in seen.history.published):
        who, bad = valid_signers(bundle.signatures, publishers, bundle.signed_bytes(desired.domain))
        if who and bad is None:
            numbers.append(bundle.seq)
    return publishers, who_signs, max(numbers)


def _publishers_of(signers: Sequence[Identity], publishers: Sequence[PublisherKey]) -> tuple[Identity, ...]:
    """Those of the signers whom readers will know, each once. Raises `NotAPublisher` where there is none."""
    known = {signer.public_key: signer for signer in signers if signer.public_key in publishers}
    if not known:
        names = ", ".join(map(key_id, publishers))
        raise NotAPublisher(
            f"None of the keys given is a publisher of this network ({names}).",
            hint="Give one that is (--key FILE). Where all of them are lost, list the new ones in the "
            "records file: publishers = […]",
        )
    return tuple(known.values())


def _pinned(desired: Desired, chosen: Sequence[str]) -> tuple[Multiaddr, ...]:
    """The addresses of the chosen nodes, of all where none is. Raises `WrongUsage` for one that is none."""
    for word in chosen:
        if not any(word in (str(node.peer_id), node.host) for node in desired.nodes):
            hosts = ", ".join(dict.fromkeys(node.host for node in desired.nodes))
            raise WrongUsage(
                f"There is no node {word[:80]!r}.", hint=f"--pin takes a PeerId, or one of: {hosts}"
            )
    nodes = [
        node for node in desired.nodes if not chosen or node.host in chosen or str(node.peer_id) in chosen
    ]
    return tuple(dict.fromkeys(address for node in nodes for address in node.entry.addresses()))


def _write(
    path: Path, network: Network, signers: Sequence[Identity], *, is_replacing: bool
) -> tuple[bytes, bool]:
    """The content of the file, and whether it had to be written: one that says the same stays as it is.

    Raises `OtherNetwork`, `WrongUsage` for a name or swarm that is none, and `MachineError`.
    """
    content = _signed(network, signers)
    try:
        there = read_bounded(path, _NoFile, most=MAX_FILE)
    except _NoFile:
        there = None
    if there is not None:
        before = _parsed(there)
        if before is not None and there == _signed(replace(network, issued_at=before.issued_at), signers):
            return there, False
        if not is_replacing:
            _refuse_others(path, before, network)
    write_whole(path, content)
    path.chmod(MODE)
    return content, True


def _refuse_others(path: Path, before: Network | None, network: Network) -> None:
    if before is None:
        raise OtherNetwork(f"{path} is there, and it is no network file that anybody has signed.")
    if before.domain != network.domain:
        raise OtherNetwork(f"{path} is of {before.domain}, not of {network.domain}.")
    if set(before.publishers) != set(network.publishers):
        were = ", ".join(map(key_id, before.publishers)) or "none"
        now = ", ".join(map(key_id, network.publishers))
        raise OtherNetwork(f"{path} has other publishers: {were}; they would be {now}.")


def _parsed(data: bytes) -> Network | None:
    try:
        return parse_network_file(data)
    except ParseError:
        return None


def _signed(network: Network, signers: Sequence[Identity]) -> bytes:
    try:
        return network.to_file(signers)
    except NetworkMalformed as error:
        raise WrongUsage(
            f"That makes no network file: {error}.",
            hint="A name has lower-case letters, digits, '.', '-' and '_'; a swarm 3 to 32 of a-z, 0-9, '-'.",
        ) from None
