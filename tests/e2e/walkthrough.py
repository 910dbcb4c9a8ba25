"""Runs the commands that the documents show, each as the person or host that the document gives them to.

    ```console alice          what alice types; `$ ` begins a command, the rest is what it shows
    ```python who.py          a file that everybody has from here on; also `toml`

A shown line must be there up to its first digit: identifiers, times and counts are others each time. What the
test needs and the reader does not is in the environment: a DNS server, loopback, no mDNS.
"""

import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent_cli.demo.records import Place, choose_places
from tests.e2e.programs import MODULES, Programs
from tests.lab.knot import Knot, Tsig

HOSTS = ("one", "two", "three", "lone")
ADDRESSES = {"one": "192.0.2.1", "two": "198.51.100.1", "three": "203.0.113.1", "lone": "203.0.113.7"}
"""Host → its address in the documents; all are on port 9000 there."""
DOMAIN = "example.org"
PRIMARY = "192.0.2.53"
"""The primary of the zone in the documents."""
FILES = {"python", "toml"}
"""Kinds of blocks that are files, not what somebody types."""
TIMEOUT = 60

_BLOCK = re.compile(r"^```(?P<kind>\w+) (?P<who>[\w.]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: what somebody types, or a file."""

    kind: str
    who: str
    text: str

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Each command with the lines that it shows."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, shown


def blocks_of(document: Path) -> list[Block]:
    """The blocks of a document that are run."""
    return [Block(**found.groupdict()) for found in _BLOCK.finditer(document.read_text())]


@dataclass
class World:
    """The people and hosts of the documents, on this machine."""

    programs: Programs
    knot: Knot
    places: dict[str, Place]
    values: dict[str, str] = field(default_factory=dict)
    """Placeholder → what stands for it here."""
    files: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)

    @classmethod
    def make(cls, programs: Programs, rng: random.Random) -> "World":
        places = dict(zip(HOSTS, choose_places(len(HOSTS), rng), strict=True))
        bin_folder = programs.folder / "bin"
        bin_folder.mkdir()
        for name, arguments in {**MODULES, "python": []}.items():
            script = bin_folder / name
            script.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n')
            script.chmod(0o755)
        tsig = Tsig()
        knot = Knot(programs.folder / "knot", DOMAIN, tsig=tsig).__enter__()
        return cls(programs, knot, places, files={"tsig.key": f"{tsig.line}\n"})

    def run(self, document: Path) -> None:
        """Run a whole document, from its first block to its last."""
        for block in blocks_of(document):
            if block.kind in FILES:
                self.files[block.who] = self._typed(block.text)
                continue
            for command, shown in block.commands():
                if command.startswith("wws-bootstrap"):
                    output = self._start_host(block.who, command)
                else:
                    output = self.type(block.who, command)
                self._learn(block.who, command, output)
                self._compare(block.who, command, shown, output)

    def type(self, who: str, command: str) -> str:
        """Run a command as somebody; all that it prints. It must end with exit code 0."""
        done = subprocess.run(
            ["sh", "-c", self._typed(command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self._folder(who),
            env=self._environment(who),
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, (
            f"{who}: {command}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout + done.stderr

    def end(self) -> None:
        """Stop the hosts and the DNS server."""
        for process in self.hosts.values():
            process.terminate()
        for process in self.hosts.values():
            process.wait(TIMEOUT)
        self.knot.__exit__(None, None, None)

    def _folder(self, who: str) -> Path:
        folder = self.programs.folder / who
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        return folder

    def _environment(self, who: str) -> dict[str, str]:
        place = self.places.get(who)
        return {
            **self.programs.env,
            "HOME": str(self._folder(who)),
            "PATH": f"{self.programs.folder / 'bin'}:{self.programs.env['PATH']}",
            "WWS_NETWORK_DNS_SERVERS": self.knot.address,
            "WWS_NETWORK_ENABLE_MDNS": "false",
            "WWS_NETWORK_LISTEN": place.multiaddr if place is not None else "/ip4/127.0.0.1/tcp/0",
        }

    def _typed(self, command: str) -> str:
        """The command or file with this machine's values for the placeholders of the document."""
        for host, address in ADDRESSES.items():
            place = self.places[host]
            command = command.replace(f"{address}/tcp/9000", f"{place.ip}/tcp/{place.port}")
            command = command.replace(f'host = "{address}"', f'host = "{place.ip}"\nport = {place.port}')
        command = command.replace(PRIMARY, self.knot.address)
        for placeholder, value in self.values.items():
            command = command.replace(f"<{placeholder}>", value)
        assert not re.search(r"<\w[\w ]*>", command), f"no value for a placeholder of: {command}"
        return command

    def _start_host(self, who: str, command: str) -> str:
        """Start a bootstrap node, after stopping the one that this host runs; what it prints at its start."""
        before = self.hosts.pop(who, None)
        if before is not None:
            before.send_signal(signal.SIGINT)
            assert before.wait(TIMEOUT) == 0
        log = self._folder(who) / "output"
        with log.open("w") as output:
            self.hosts[who] = subprocess.Popen(
                ["sh", "-c", f"exec {self._typed(command)}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self._folder(who),
                env=self._environment(who),
            )
        deadline = time.monotonic() + TIMEOUT
        while "_dnsaddr." not in (said := log.read_text()):
            assert self.hosts[who].poll() is None, f"{who}: {command}\n{said}"
            assert time.monotonic() < deadline, f"{who}: {command}\n{said}"
            time.sleep(0.02)
        return said

    def _learn(self, who: str, command: str, output: str) -> None:
        """Take what later commands need from what this one has printed, as the reader would."""
        if command.startswith("wws-bootstrap"):
            match = re.search(r"^PeerId: (\w+)$", output, re.MULTILINE)
            assert match is not None
            self.values[f"PeerId of {who}"] = match[1]
        if command.startswith("wws-dns keygen"):
            match = re.search(r"^public key +([0-9a-f]{64})$", output, re.MULTILINE)
            assert match is not None
            self.values["publisher key"] = match[1]
        if command.endswith("> entry"):  # who gets it has it as a file
            self.files["entry"] = (self._folder(who) / "entry").read_text()

    def _compare(self, who: str, command: str, shown: list[str], output: str) -> None:
        for line in shown:
            beginning = re.split(r"\d", line.replace("~", str(self._folder(who))), maxsplit=1)[0]
            found = any(said.startswith(beginning) for said in output.splitlines())
            assert found, f"{who}: {command}\nshows no line that begins with {beginning!r}:\n{output}"
