"""Commands on other machines, over SSH: the one place that knows fabric.

Who is at the other end is decided by the inventory alone: a host whose key is not in it, or that shows
another one, is not talked to. No settings of SSH or fabric of this user are read, so nothing can switch that
off; no agent is forwarded; no password is asked for. Everything is bounded: the time for each step, the time
of a command (at both ends), and what is kept of its output.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import select
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import paramiko  # type: ignore[import-untyped]  # has no types
from fabric import Config, Connection  # type: ignore[import-untyped]  # has no types

from agent_cli.ops.inventory import HostEntry
from wws.errors import LocalError
from wws.rpc.codes import Exit

# What a host says would reach the terminal through the log of last resort, as it is.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_READ: Final = 32 * 1024
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    connect_timeout: float = 10.0
    """Seconds each for the connection, the server's first words, and the login."""
    command_timeout: float = 60.0
    """Seconds of a command for which nothing else was said."""
    timeout_grace: float = 5.0
    """Seconds behind its time-out that a command has to end, and that we wait for that."""
    max_output: int = 1024 * 1024
    """Bytes that are kept of each of a command's two outputs; over it the command is ended."""
    max_line: int = 64 * 1024
    """Longest line that is handed on while a command runs; longer ones are cut into several."""
    keepalive: int = 10
    """Seconds between two signs of life on a quiet connection."""


class RemoteError(LocalError):
    """A host could not be worked with."""

    code = "host_failed"
    exit_code = Exit.UNREACHABLE

    def __init__(self, host: HostEntry, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{host.name}: {message}", hint=hint)
        self.host = host.name


class HostUnreachable(RemoteError):
    """Nobody answers there, or not in time."""

    code = "host_unreachable"


class LoginRefused(RemoteError):
    """The host does not let this user in."""

    code = "login_refused"
    exit_code = Exit.REFUSED


class HostKeyUnknown(RemoteError):
    """The inventory does not say which key the host has, so nobody can be believed to be it."""

    code = "host_key_unknown"
    exit_code = Exit.INTEGRITY


class HostKeyWrong(RemoteError):
    """Who answers has another key than the host: it was set up anew, or it is somebody else."""

    code = "host_key_changed"
    exit_code = Exit.INTEGRITY
    hint = (
        "Nothing was sent. If the host was set up anew, look at its key on its console "
        "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), and put it into the stack or the inventory."
    )


class CommandTimedOut(RemoteError):
    """A command did not end in time; it was ended."""

    code = "timeout"


class OutputTooLarge(RemoteError):
    """A command said more than is kept; it was ended."""

    code = "output_too_large"
    exit_code = Exit.REFUSED

    def __init__(self, host: HostEntry, message: str, *, output: str) -> None:
        super().__init__(host, message, hint="Let it say less: head, tail, grep.")
        self.output = output
        """What it said until then."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    exit_code: int
    output: str
    errors: str = ""


@dataclass(slots=True)
class _Output:
    """What was read of one of a command's outputs."""

    limit: int
    data: bytearray = field(default_factory=bytearray)

    @property
    def is_over(self) -> bool:
        return len(self.data) > self.limit

    @property
    def text(self) -> str:
        return bytes(self.data[: self.limit]).decode("utf-8", "replace")


class Remote:
    """A host that we are logged in to. Made by `connected`."""

    def __init__(self, host: HostEntry, connection: Connection, config: RemoteConfig) -> None:
        self.host = host
        self._connection = connection
        self._config = config

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = None,
        as_root: bool = False,
        given: bytes = b"",
    ) -> Ran:
        """Run a command to its end, with `given` as its input.

        The words reach the host as they are. `as_root`: through sudo where the login is another user.
        Raises `CommandTimedOut`, `OutputTooLarge`, `HostUnreachable`.
        """
        seconds = timeout or self._config.command_timeout
        # Also at the other end: a command that hangs would outlive the connection.
        grace = self._config.timeout_grace
        words = ["timeout", f"--kill-after={grace:g}", f"{seconds:g}", *command]
        limit = self._config.max_output
        output, errors = _Output(limit), _Output(limit)
        deadline = time.monotonic() + seconds + 2 * grace
        with self._session(self._line(words, as_root)) as channel:
            self._send(channel, given, deadline)
            for is_error, data in self._chunks(channel, deadline):
                (errors if is_error else output).data += data
                if output.is_over or errors.is_over:
                    raise OutputTooLarge(
                        self.host, f"it said more than {limit} bytes, and was ended", output=output.text
                    )
            code = int(channel.exit_status)
        # `timeout` says 124; when it had to kill, 137 or nothing, for it dies with the command.
        if code == 124 or (code in (-1, 137) and time.monotonic() >= deadline - 2 * grace):
            raise CommandTimedOut(self.host, f"{shlex.join(command)[:80]}: not done within {seconds:g} s")
        return Ran(code, output.text, errors.text)

    def follow(self, command: Sequence[str], on_line: Callable[[str], None], *, as_root: bool = False) -> int:
        """Run a command and hand its lines on as they come, for as long as it runs; its exit code.

        It has a terminal, so that it ends when the connection does.
        """
        pending = b""
        with self._session(self._line(list(command), as_root), terminal=True) as channel:
            for _, data in self._chunks(channel, None):
                *lines, pending = (pending + data).split(b"\n")
                if len(pending) > self._config.max_line:
                    lines, pending = [*lines, pending], b""
                for line in lines:
                    on_line(line.decode("utf-8", "replace").rstrip("\r"))
            if pending:
                on_line(pending.decode("utf-8", "replace"))
            return int(channel.exit_status)  # -1 where we hung up: waiting for it would be for ever

    def close(self) -> None:
        """Hang up; whoever reads is told that nothing more comes."""
        self._connection.close()

    def _line(self, words: list[str], as_root: bool) -> str:
        if as_root and self.host.ssh_user != "root":
            words = ["sudo", "--non-interactive", "--", *words]
        return shlex.join(words)

    @contextmanager
    def _session(self, line: str, *, terminal: bool = False) -> Iterator[paramiko.Channel]:
        try:
            channel: paramiko.Channel = self._connection.create_session()
        except Exception as error:  # as in _log_in
            raise HostUnreachable(self.host, f"the connection is gone: {_why(error)}") from error
        try:
            channel.settimeout(self._config.connect_timeout)
            if terminal:
                channel.get_pty(width=500)
            channel.exec_command(line)
            yield channel
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise HostUnreachable(self.host, f"the connection broke: {_why(error)}") from error
        finally:
            channel.close()

    def _send(self, channel: paramiko.Channel, given: bytes, deadline: float) -> None:
        channel.settimeout(max(0.1, deadline - time.monotonic()))
        if given:
            channel.sendall(given)
        channel.shutdown_write()

    def _chunks(self, channel: paramiko.Channel, deadline: float | None) -> Iterator[tuple[bool, bytes]]:
        """What the command says, as (is it an error, bytes), until it has said all."""
        while True:
            left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
            if left <= 0:
                raise CommandTimedOut(self.host, "a command did not end in time")
            select.select([channel], [], [], left)
            idle = True
            while channel.recv_ready():
                idle = False
                yield False, channel.recv(_READ)
            while channel.recv_stderr_ready():
                idle = False
                yield True, channel.recv_stderr(_READ)
            if idle and (channel.eof_received or channel.closed) and channel.exit_status_ready():
                return


@contextmanager
def connected(
    host: HostEntry, *, key_file: str | None = None, config: RemoteConfig | None = None
) -> Iterator[Remote]:
    """Logged in to the host for as long as the block runs.

    With `key_file` by that key and no other; else by those that the agent and `~/.ssh` have. Raises
    `HostKeyUnknown`, `HostKeyWrong`, `LoginRefused`, `HostUnreachable`.
    """
    config = config or RemoteConfig()
    if not host.host_key:
        raise HostKeyUnknown(
            host, "the inventory has no host key", hint="Put it there: `host_key`, as `ssh-ed25519 AAAA…`."
        )
    connection = Connection(
        host.address,
        user=host.ssh_user,
        port=host.ssh_port,
        # An SSH configuration that is given keeps fabric from looking for one; `lazy` for its own files.
        config=Config(lazy=True, ssh_config=paramiko.SSHConfig()),
        gateway=False,
        forward_agent=False,
        connect_timeout=int(config.connect_timeout),
        connect_kwargs={
            "banner_timeout": config.connect_timeout,
            "auth_timeout": config.connect_timeout,
            "key_filename": [] if key_file is None else [key_file],
            "allow_agent": key_file is None,
            "look_for_keys": key_file is None,
        },
    )
    # fabric's own client would believe everybody.
    connection.client = _client(host)
    try:
        _log_in(host, connection)
        connection.transport.set_keepalive(config.keepalive)
        yield Remote(host, connection, config)
    finally:
        connection.close()
        connection.client.close()


def _log_in(host: HostEntry, connection: Connection) -> None:
    try:
        connection.open()
    except paramiko.BadHostKeyException as error:
        raise HostKeyWrong(host, _other_key(host, error.key)) from None
    except FileNotFoundError as error:
        raise LoginRefused(host, f"the key to log in with is not there: {error.filename}") from None
    except Exception as error:  # noqa: BLE001 - what a peer breaks in paramiko's thread comes as it is
        transport = connection.client.get_transport()
        if isinstance(error, paramiko.SSHException) and transport is not None and transport.is_active():
            # The host has proven itself: what failed is the login, for want of a key too.
            raise LoginRefused(
                host,
                f"{host.ssh_user} is not let in: {_why(error)}",
                hint="ssh_key_file of the inventory says with which key; without it the agent's and ~/.ssh.",
            ) from None
        where = f"{host.address}:{host.ssh_port}"
        raise HostUnreachable(host, f"no connection to {where}: {_why(error)}") from None


def _client(host: HostEntry) -> paramiko.SSHClient:
    """One that knows this host's key, and no other."""
    client = paramiko.SSHClient()
    kind, _, blob = host.host_key.partition(" ")
    known = paramiko.HostKeys()
    place = host.address if host.ssh_port == 22 else f"[{host.address}]:{host.ssh_port}"
    known.add(place, kind, paramiko.PKey.from_type_string(kind, base64.b64decode(blob)))
    client.get_host_keys().update(known)
    client.set_missing_host_key_policy(_Refuse(host))
    return client


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # its base has no types
    """The server has none of the kind of key that we know of it."""

    def __init__(self, host: HostEntry) -> None:
        self._host = host

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise HostKeyWrong(self._host, _other_key(self._host, key))


def _other_key(host: HostEntry, shown: paramiko.PKey) -> str:
    known = base64.b64decode(host.host_key.partition(" ")[2])
    return (
        f"the inventory knows the key {_fingerprint(known)}, and {host.address}:{host.ssh_port} has "
        f"{_fingerprint(shown.asbytes())}"
    )


def _fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError | socket.timeout):
        return "no answer in time"
    if isinstance(error, EOFError):
        return "it hung up"
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        return "; ".join(dict.fromkeys(str(one.strerror or one) for one in error.errors.values()))
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
