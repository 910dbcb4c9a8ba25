"""A language host for Python programs: what the Pulumi CLI starts as `pulumi-language-python`.

The real one is written in Go and comes with every ordinary CLI; its module cannot be had where these tests
build theirs. The engine talks to it over gRPC (pulumi/language.proto): it asks which plugins a program needs,
and to run the program, which then talks to the engine itself. This one does that and nothing more.

    pulumi-language-python [-options] ENGINE_ADDRESS        prints the port that it listens on
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path

import grpc
from google.protobuf import json_format
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

BAIL = 32
"""Exit code of a program that has told the user everything itself."""
MAX_MESSAGE = 64 * 1024 * 1024


class Host(language_pb2_grpc.LanguageRuntimeServicer):
    """Answers the engine."""

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def GetPluginInfo(self, request: object, context: object) -> plugin_pb2.PluginInfo:  # noqa: N802
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def Handshake(  # noqa: N802
        self, request: object, context: object
    ) -> language_pb2.LanguageHandshakeResponse:
        return language_pb2.LanguageHandshakeResponse()

    def GetRequiredPlugins(  # noqa: N802
        self, request: object, context: object
    ) -> language_pb2.GetRequiredPluginsResponse:
        plugins = [plugin_pb2.PluginDependency(**plugin) for plugin in installed_plugins()]
        return language_pb2.GetRequiredPluginsResponse(plugins=plugins)

    def GetRequiredPackages(  # noqa: N802
        self, request: object, context: object
    ) -> language_pb2.GetRequiredPackagesResponse:
        packages = [plugin_pb2.PackageDependency(**plugin) for plugin in installed_plugins()]
        return language_pb2.GetRequiredPackagesResponse(packages=packages)

    def RuntimeOptionsPrompts(  # noqa: N802
        self, request: object, context: object
    ) -> language_pb2.RuntimeOptionsResponse:
        return language_pb2.RuntimeOptionsResponse()

    def Run(self, request: language_pb2.RunRequest, context: object) -> language_pb2.RunResponse:  # noqa: N802
        """Run the program to its end. The words of the command line are those of the exec shim."""
        info = request.info
        python, environment = chosen_python(
            Path(info.root_directory), json_format.MessageToDict(info.options)
        )
        shim = shutil.which("pulumi-language-python-exec")
        if shim is None:
            return language_pb2.RunResponse(error="pulumi-language-python-exec is not on the PATH")
        command = [python, "-u", shim]
        command += ["--monitor", request.monitor_address, "--engine", self._engine]
        command += ["--project", request.project, "--stack", request.stack]
        command += ["--root_directory", info.root_directory, "--pwd", request.pwd or info.program_directory]
        command += ["--dry_run", "true" if request.dryRun else "false", "--parallel", str(request.parallel)]
        command += ["--organization", request.organization or "organization", info.entry_point or "."]
        environment["PULUMI_CONFIG"] = json.dumps(dict(request.config))
        environment["PULUMI_CONFIG_SECRET_KEYS"] = json.dumps(list(request.configSecretKeys))
        ended = subprocess.run(command, env=environment, cwd=info.program_directory, check=False)
        if ended.returncode == BAIL:
            return language_pb2.RunResponse(bail=True)
        if ended.returncode:
            return language_pb2.RunResponse(error=f"the program ended with exit code {ended.returncode}")
        return language_pb2.RunResponse()


def chosen_python(root: Path, options: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    """The interpreter that Pulumi.yaml chooses, and the environment for it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    virtualenv = options.get("virtualenv")
    if not virtualenv:
        return environment.get("PULUMI_PYTHON_CMD") or sys.executable, environment
    folder = root / str(virtualenv)
    python = folder / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"`virtualenv` of Pulumi.yaml is {virtualenv!r}, and there is no {python}")
    environment["VIRTUAL_ENV"] = str(folder)
    environment["PATH"] = os.pathsep.join([str(folder / "bin"), environment.get("PATH", "")])
    return str(python), environment


def installed_plugins() -> Iterator[dict[str, str]]:
    """The plugins of the SDKs that are installed: each says so in a `pulumi-plugin.json`."""
    for distribution in importlib.metadata.distributions():
        for file in distribution.files or []:
            if file.name != "pulumi-plugin.json":
                continue
            plugin = json.loads(Path(str(distribution.locate_file(file))).read_text())
            if plugin.get("resource", True):
                version = str(plugin.get("version", distribution.version)).removeprefix("v")
                yield {"name": plugin["name"], "kind": "resource", "version": f"v{version}"}


def end_with(parent: int) -> None:
    """End this and the program that it runs when the CLI is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.killpg(0, signal.SIGTERM)  # the CLI gives each plugin a process group of its own


def main() -> None:
    """Serve until the CLI ends this."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    options = [("grpc.max_receive_message_length", MAX_MESSAGE)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=options)
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(sys.argv[-1]), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
