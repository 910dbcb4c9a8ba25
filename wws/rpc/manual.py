"""docs/rpc.md, made of the method table and the tables beside it.

    python -m wws.rpc.manual > docs/rpc.md

A test compares the page with what this module makes, so it cannot lag behind. `{…}` in the text below is
filled in from the code that enforces it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable

from wws.rpc import codes
from wws.rpc.access import AccessConfig
from wws.rpc.audit import AuditConfig
from wws.rpc.methods import METHODS, Method
from wws.rpc.openrpc import COMMON_ERRORS, result_text
from wws.rpc.params import is_required, rule_of
from wws.rpc.policy import role_words
from wws.rpc.tokens import PRESETS

_INTRODUCTION = """\
# The local RPC

<!-- Made by `python -m wws.rpc.manual`; edit that module, not this page. -->

JSON-RPC 2.0, one JSON value a line, on the unix socket `run/<node>/rpc.sock` and on 127.0.0.1:9370. The
node tells where it listens in `run/<node>/ready.json`. `rpc.discover` answers this page as an OpenRPC
document.

A line has at most 2 MiB and 50,000 values, a batch 100 calls, a value 64 levels. On TCP a line over 16 KiB
shows a token within its first or last 4 KiB, unless an earlier one on the connection did. A line that is no
JSON-RPC value ends the connection, so nothing that a browser can send is ever a call.

## Who may call

| caller | how it shows who it is |
| --- | --- |
| socket | a process of the node's own user, says the kernel, and of no other, root included |
| cookie | on TCP, the content of `run/<node>/rpc.cookie` (0600, new at each start) as the member `token` |
| token | on TCP, the secret of a token as the member `token`: it opens the methods it was made for |
| node | a request signed with the node's own key |
| agent | a request signed by a registered agent |
| newcomer | a request signed by the key that it registers |

A request has either a token or a signature; one with both is refused (`two_credentials`). What a row of
the table below does not open to a caller is closed to it (`not_allowed`). Where a row asks for a tier, a
caller whose tier is not known is refused (`tier_too_low`).

"""

_SIGNED = """
## Signed requests

Beside the members of JSON-RPC, and nothing else: `agent_id` (a DID), `timestamp` (Unix time in
milliseconds, 13 digits), `nonce` (8 to 64 lower-case hex digits) and `signature`, the base64 of an
Ed25519 signature over

    method || JCS(params) || timestamp || nonce

`params` is an object (absent: `{{}}`) of texts, integers within ±(2^53−1), arrays and objects. An agent
that uses one key at several nodes puts `node`, the PeerId of the node that is meant, into `params`.

A request is accepted once, within {tolerance} minutes of its timestamp, and not when it was signed before
the node's start. A nonce is remembered until no clock could make its request acceptable again, also when
the clock is set back; {nonces:,} are kept of an agent. A full window refuses (`nonce_window_full`, with
`retry_after`) and forgets nothing.

An agent registers with `swarm.register_agent`: signed by the key that it brings, or for it by the owner
or with a token. `pow` is a nonce with the proof of work of the protocol, for the context `agent:<swarm>`;
`work_too_weak` says `required_bits`. A registration holds for {lifetime} hours; {agents} agents fit. Of
those that nobody vouched for {newcomers} new ones an hour are let in, so that strangers cannot take every
place: when they try, the owner's word or a token is the way in. Agents read, and change nothing: names
belong to the node's own identity. They are told no path of this machine. Like a token that does not open
`swarm.connect`, they ping names, DIDs and PeerIds, and no address.

## Tokens

`swarm.create_token` takes methods by name and these words for sets of them:

{presets}

A preset means the methods of the day it was used: later ones are not opened by it. Making and listing
tokens, and stopping the node, no token can open.

## Rates

A token has its own rate (600 calls a minute unless made with another), an agent {agent_rate} calls a
minute, the owner {owner_rate:,}. On top come those of the table. Over a rate: −32004 `rate_limited` with
`retry_after` in seconds. Of new names, malformed, refused and already owned ones do not count, and the
day's count survives a restart.

## The audit log

`state/<node>/audit.log` (0600, {files} files of {megabytes} MiB): one JSON object for each call of a
method marked *audited*, and for each call that was refused: time, who, method, the one parameter that
says what it was about, and the outcome. No secret and no other parameter. So that nobody else can push out
what the log holds, lines about calls that the owner did not make are thinned when they repeat: a hundred,
then one a minute; `left_out` counts what is missing.

## Errors

`data.code` is the word; programs match on it. These any method may give:

{errors}
"""


def manual(methods: Iterable[Method]) -> str:
    """The page, as it stands in docs/rpc.md."""
    listed = list(methods)
    config, audit = AccessConfig(), AuditConfig()
    closing = _SIGNED.format(
        tolerance=config.signed.tolerance_ms // 60_000,
        nonces=config.signed.max_nonces,
        lifetime=config.agents.lifetime // 3600,
        agents=config.agents.max_agents,
        newcomers=config.agents.newcomers.times,
        agent_rate=config.limits.agent.times,
        owner_rate=config.limits.owner.times,
        files=audit.files,
        megabytes=audit.file_bytes // (1024 * 1024),
        presets="\n".join(f"- `{word}`: {_code(names)}" for word, names in PRESETS.items()),
        errors="\n".join(f"- {codes.rpc_number(word)} `{word}`" for word in COMMON_ERRORS),
    )
    table = "## Methods\n\n| method | who | rate | tier | audited |\n| --- | --- | --- | --- | --- |\n"
    table += "".join(map(_policy_row, listed))
    return _INTRODUCTION + table + "\n" + "\n".join(map(_section, listed)) + closing


def _policy_row(method: Method) -> str:
    policy = method.policy
    who = ", ".join(role_words(policy.who))
    tier = "–" if policy.tier is None else policy.tier.name.lower()
    audited = "yes" if policy.audited else "–"
    return f"| `{method.name}` | {who} | {policy.rate or '–'} | {tier} | {audited} |\n"


def _section(method: Method) -> str:
    lines = [f"### `{method.name}`", "", method.summary, ""]
    for field in dataclasses.fields(method.params):
        optional = "" if is_required(field) else f", optional{_default(field)}"
        lines.append(f"- `{field.name}`{optional}: {rule_of(field).description}")
    lines += [f"- answers {result_text(method.result)}"]
    if method.errors:
        words = ", ".join(f"{codes.rpc_number(word)} `{word}`" for word in method.errors)
        lines.append(f"- errors: {words}")
    return "\n".join(lines) + "\n"


def _default(field: dataclasses.Field[object]) -> str:
    value = field.default
    if value is None or value == "":
        return ""
    shown = " ".join(value) if isinstance(value, tuple) else str(value).lower()
    return f" ({shown})"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.stdout.write(manual(METHODS.values()))
