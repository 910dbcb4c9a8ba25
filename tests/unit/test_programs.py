"""Which command starts a program of ours."""

import subprocess
import sys

import pytest

from wws.programs import PROGRAMS, command_of, command_of_module, is_frozen


def test_from_the_sources_it_is_this_python() -> None:
    assert not is_frozen()
    assert command_of("wws-connector") == [sys.executable, "-m", "wws.runtime"]
    assert command_of_module("wws.testing.dns_server") == [sys.executable, "-m", "wws.testing.dns_server"]


def test_in_the_artefact_it_is_the_program_beside_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/wws/releases/1.2.3/bin/wws")
    assert is_frozen()
    assert command_of("wws-connector") == ["/opt/wws/releases/1.2.3/bin/wws-connector"]
    assert command_of_module("wws.testing.dns_server") == [
        *("/opt/wws/releases/1.2.3/bin/wws", "--run-module", "wws.testing.dns_server")
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_is_there(program: str) -> None:
    done = subprocess.run([*command_of(program), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == program


def test_another_name_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        command_of("wws-ops")
