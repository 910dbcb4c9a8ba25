"""Speaks Pulumi's provider protocol for `pulumi_hcloud`, over the cloud in a file (`$WWS_TEST_CLOUD`).

Started by the engine as `pulumi-resource-hcloud`: prints its port, ends when the engine does. It behaves as
the bridged provider does where that shows: unknown properties are refused, a diff names each property and
whether it means another thing, and what was made halfway is reported with its id.
"""

# ruff: noqa: N802 -- the protocol names the methods

from __future__ import annotations

import inspect
import os
import re
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pulumi_hcloud
from google.protobuf import any_pb2, empty_pb2, json_format, struct_pb2
from google.rpc import status_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.infra.stand_in import cloud as api
from tests.infra.stand_in.cloud import ADDRESS, FIREWALL, FORCE_NEW, SERVER, SSH_KEY, Props, Refused

CLOUD = Path(os.environ["WWS_TEST_CLOUD"])
ARGS = {
    SERVER: pulumi_hcloud.ServerArgs,
    ADDRESS: pulumi_hcloud.PrimaryIpArgs,
    FIREWALL: pulumi_hcloud.FirewallArgs,
    SSH_KEY: pulumi_hcloud.SshKeyArgs,
}


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


KNOWN = {kind: {_camel(name) for name in inspect.signature(args).parameters} for kind, args in ARGS.items()}


def _plain(struct: struct_pb2.Struct) -> Props:
    return json_format.MessageToDict(struct)


def _struct(props: Props) -> struct_pb2.Struct:
    return json_format.ParseDict(props, struct_pb2.Struct())


def _kind(urn: str) -> str:
    return urn.split("::")[2].split("$")[-1]


class Plugin(provider_pb2_grpc.ResourceProviderServicer):
    """One method for each thing that the engine asks."""

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="1.43.3")

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Check(self, request: Any, context: Any) -> Any:
        kind, news = _kind(request.urn), _plain(request.news)
        if kind not in ARGS:
            reason = f"the stand-in has no {kind}"
            return provider_pb2.CheckResponse(failures=[provider_pb2.CheckFailure(reason=reason)])
        unknown = sorted(set(news) - KNOWN[kind])
        failures = [provider_pb2.CheckFailure(property=name, reason="unknown property") for name in unknown]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def Diff(self, request: Any, context: Any) -> Any:
        old, new = _plain(request.old_inputs), _plain(request.news)
        ignored = set(request.ignoreChanges)
        detailed, replaces = {}, []
        for name in sorted((set(old) | set(new)) - ignored):
            if old.get(name) == new.get(name):
                continue
            force = name in FORCE_NEW[_kind(request.urn)]
            if force:
                replaces.append(name)
            for path in _paths(name, old.get(name), new.get(name)):
                detailed[path] = provider_pb2.PropertyDiff(kind=_change(force), inputDiff=True)
        some = provider_pb2.DiffResponse.DIFF_SOME
        return provider_pb2.DiffResponse(
            changes=some if detailed else provider_pb2.DiffResponse.DIFF_NONE,
            replaces=replaces,
            diffs=[re.split(r"[.\[]", path)[0] for path in detailed],
            detailedDiff=detailed,
            hasDetailedDiff=True,
        )

    def Create(self, request: Any, context: Any) -> Any:
        props, kind = _plain(request.properties), _kind(request.urn)
        if request.preview:
            return provider_pb2.CreateResponse(id="", properties=request.properties)
        label = api.label(kind, props["name"])
        with _told(context), api.opened(CLOUD) as account:
            id_, props = api.create(account, kind, props)
            half, stalls = label in account.half, label in account.stall
            if half:
                account.half.remove(label)
            if stalls:
                account.stall.remove(label)
                account.stalled.append(label)
        while stalls:
            time.sleep(1)
        if half:
            _made_halfway(context, id_, props, "action create_server failed")
        return provider_pb2.CreateResponse(id=id_, properties=_struct(props))

    def Read(self, request: Any, context: Any) -> Any:
        with api.opened(CLOUD) as account:
            thing = account.things.get(request.id)
        if thing is None:
            return provider_pb2.ReadResponse(id="")
        props = dict(thing.props)
        known = _plain(request.inputs)
        if not known:  # an import: what a server was told at its birth cannot be read back
            props = {name: value for name, value in props.items() if name not in ("userData", "sshKeys")}
            known = dict.fromkeys(KNOWN[thing.kind])
        inputs = {name: props[name] for name in known if name in props}
        return provider_pb2.ReadResponse(id=request.id, properties=_struct(props), inputs=_struct(inputs))

    def Update(self, request: Any, context: Any) -> Any:
        props = _plain(request.news)
        if not request.preview:
            with _told(context), api.opened(CLOUD) as account:
                props = api.update(account, _kind(request.urn), request.id, props)
        return provider_pb2.UpdateResponse(properties=_struct(_plain(request.olds) | props))

    def Delete(self, request: Any, context: Any) -> Any:
        with _told(context), api.opened(CLOUD) as account:
            api.delete(account, request.id)
        return empty_pb2.Empty()


class _told:  # noqa: N801 - reads as a word in `with _told(context):`
    """Says what the API refused, as the engine expects it."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Refused):
            self._context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _made_halfway(context: Any, id_: str, props: Props, reason: str) -> None:
    """It is there and the engine must remember it, but it is not as it should be."""
    failed = provider_pb2.ErrorResourceInitFailed(id=id_, properties=_struct(props), reasons=[reason])
    detail = any_pb2.Any()
    detail.Pack(failed)
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=reason, details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, reason)


def _paths(name: str, old: object, new: object) -> list[str]:
    """A map's changed members one by one, as the bridge names them; else the property."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            f"{name}.{key}" if re.fullmatch(r"\w+", key) else f'{name}["{key}"]'
            for key in sorted(set(old) | set(new))
            if old.get(key) != new.get(key)
        ]
    return [name]


def _change(force: bool) -> int:
    kinds = provider_pb2.PropertyDiff
    return int(kinds.UPDATE_REPLACE if force else kinds.UPDATE)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def main() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Plugin(), server)
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
