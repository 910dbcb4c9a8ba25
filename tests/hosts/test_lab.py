"""The hosts of the lab are what they are said to be, and nothing of them is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.full_scale import only_in_full
from tests.lab.hosts import Hosts
from tests.lab.operator import REPOSITORY
from tests.lab.probing import eventually

KILLED = """
import os, signal, sys
from tests.lab.hosts import Hosts
from tests.lab.internet import Internet
with Internet() as internet, Hosts(internet) as hosts:
    hosts.up(["eu"])
    print("up", flush=True)
    signal.pause()
"""
CGROUPS = Path("/sys/fs/cgroup")


def test_three_hosts_run_systemd_and_know_the_operator(hosts: Hosts) -> None:
    for host in hosts.up():
        said = host.ssh("cat /proc/1/comm /etc/hostname && systemctl is-system-running").stdout.split()
        assert said == ["systemd", host.name, "running"]


@only_in_full
def test_a_renewed_host_has_forgotten_everything_but_its_host_key(hosts: Hosts) -> None:
    (eu,) = hosts.up(["eu"])
    eu.write("/etc/mark", "here")
    eu.renew()
    eu.wait_up()
    assert eu.ssh("ls /etc/mark || :").stdout == ""


@only_in_full
def test_a_host_that_was_switched_off_keeps_its_disk(hosts: Hosts) -> None:
    (eu,) = hosts.up(["eu"])
    eu.write("/etc/mark", "here")
    eu.kill()
    assert hosts.operator.run("ping", "-c1", "-W1", eu.address).returncode == 0, "the line is still there"
    eu.start()
    eu.wait_up()
    assert eu.read("/etc/mark") == "here"


def test_nothing_is_left_of_a_run_that_was_killed() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "up\n"
    machine = f"wws-hosts-{run.pid}-eu"
    (group,) = (*CGROUPS.glob(f"unified/{machine}"), *CGROUPS.glob(machine))
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    eventually(lambda: "populated 0" in (group / "cgroup.events").read_text(), within=20)
    assert machine not in Path("/proc/mounts").read_text()
    Hosts.remove_leftovers()
    assert not group.exists()
    assert not list(Path("/tmp").glob(f"wws-hosts-{run.pid}-*"))
