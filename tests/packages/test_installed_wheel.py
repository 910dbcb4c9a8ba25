"""The installed wheel, where no checkout is near: tests run against it, and its programs work."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import uv

from tests.full_scale import only_in_full
from tests.packages.__main__ import command, environment_on
from tests.packages.conftest import VERSION, Packages
from tests.packages.environments import (
    REPOSITORY,
    TEST_TOOLS,
    Environment,
    clean,
    ground_of,
    run,
    with_wheel,
)

pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(300)]

OTHER_PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short path; what was started below it and still runs is ended after the test."""
    folder = Path(tempfile.mkdtemp(prefix="wws-wheel-", dir="/tmp"))
    yield folder
    left = [process for process in psutil.process_iter() if _started_in(process, folder)]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    shutil.rmtree(folder)


def _started_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("HOME") == str(folder)
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def environment(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, what an agent needs, and what tests need."""
    return with_wheel(packages.wheel, tmp_path_factory.mktemp("wheel") / "environment", tools=TEST_TOOLS)


def test_tests_pass_against_the_installed_wheel(
    packages: Packages, environment: Environment, tmp_path: Path
) -> None:
    ground = ground_of(packages.sdist, tmp_path / "ground")
    where = environment.run(
        "-c",
        "import wws, agent_cli, bootstrap_node, wws_dns; print(wws.__file__, wws.__version__)",
        cwd=ground,
    )
    assert where.returncode == 0, where.stderr
    assert re.fullmatch(
        rf"{environment.folder}/lib/.*/site-packages/wws/__init__.py {VERSION}\n", where.stdout
    )
    done = subprocess.run(
        command(environment, []),
        cwd=ground,
        env=environment_on(ground),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    assert re.search(r"\b[1-9][0-9]{2,} passed", done.stdout), done.stdout[-500:]


@only_in_full
def test_sources_in_the_way_are_noticed(packages: Packages, environment: Environment, tmp_path: Path) -> None:
    """The guard itself: with one package of the checkout in reach the run fails."""
    ground = ground_of(packages.sdist, tmp_path / "ground")
    shutil.copytree(REPOSITORY / "bootstrap_node", ground / "bootstrap_node")
    test = ground / "tests" / "test_import.py"
    test.write_text("import bootstrap_node\ndef test_nothing() -> None: ...\n")
    done = run(*command(environment, [str(test)]), cwd=ground)
    assert done.returncode == 1, done.stdout
    assert "1 passed" in done.stdout
    assert "not the installed wheel: bootstrap_node from " in done.stderr


@only_in_full
def test_an_agent_joins_with_the_installed_programs(environment: Environment, home: Path) -> None:
    own = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    node = subprocess.Popen(
        [
            *(str(environment.program("wws-bootstrap")), "--home", str(home / "node")),
            *("--listen", "/ip4/127.0.0.1/tcp/0", "--rpc", "", "--http", ""),
        ],
        cwd=home,
        env={**clean({"PATH": "/usr/bin:/bin"}), **own, "NOTIFY_SOCKET": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert node.stdout is not None
    address = next(
        found[1] for line in node.stdout if (found := re.search(r'"dnsaddr=(/ip4/[^"]+/tcp/[^"]+)"', line))
    )

    def wws(*arguments: str) -> dict[str, object]:
        done = run(str(environment.program("wws")), "--json", *arguments, cwd=home, **own)
        assert done.returncode == 0, done.stdout + done.stderr
        data: dict[str, object] = json.loads(done.stdout)["data"]
        return data

    joined = wws("join", "--name", "alice", "--bootstrap", address)
    assert joined["joined"] is True
    assert wws("status")["node"] == "alice"
    wws("leave")
    node.send_signal(signal.SIGTERM)
    node.communicate(timeout=30)
    assert node.returncode == 0


AGENT, OPERATOR = (
    f"pip install 'wws[{extra}] @ file:///…/wws-VERSION-py3-none-any.whl' (see docs/packages.md)"
    for extra in ("agent", "operator")
)
WITHOUT_EXTRA = [
    ("wws", ["join"], AGENT),
    ("wws", ["--help"], AGENT),
    ("wws-dns", ["--help"], OPERATOR),
    ("wws-ops", ["--help"], OPERATOR),
]
WITHOUT_OPERATOR = [
    ("wws-ops", ["--help"], OPERATOR),
    ("wws-ops", ["status", "--inventory", "inventory.json"], OPERATOR),
    ("wws-dns", ["plan"], OPERATOR),
]


def test_a_program_without_its_extra_says_which(
    packages: Packages, environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "records.toml").write_text(
        'domain = "example.org"\n[[node]]\npeer_id = "12D3KooWCVonavqAbvaoHkAwsEvT8s6eF5FcX3GHLoK3E8BuoyzH"\n'
        'host = "192.0.2.1"\n[provider]\nkind = "cloudflare"\n'
    )
    bare = with_wheel(packages.wheel, tmp_path / "runtime", extras=("runtime",))
    for installed, table in ((bare, WITHOUT_EXTRA), (environment, WITHOUT_OPERATOR)):
        for program, arguments, said in table:
            done = run(str(installed.program(program)), *arguments, cwd=tmp_path, HOME=str(tmp_path))
            assert done.returncode == 10, (program, arguments, done)
            assert done.stderr.endswith(f"needs the extra: {said}\n")
        assert run(str(installed.program("wws")), "--version", cwd=tmp_path).stdout == f"wws {VERSION}\n"
        for program in ("wws-connector", "wws-bootstrap", "wws-control"):
            done = run(str(installed.program(program)), "--version", cwd=tmp_path)
            assert done.stdout == f"{program} {VERSION}\n", done


@only_in_full
def test_an_operator_without_a_checkout_is_told_where_playbooks_are(
    packages: Packages, tmp_path: Path
) -> None:
    """The wheel has no playbooks: `WWS_ANSIBLE` says where they are, or an editable installation knows."""
    environment = with_wheel(packages.wheel, tmp_path / "environment", extras=("operator",))
    code = (
        "from agent_cli.ops.playbooks import PlaybookMissing, playbook_folder\n"
        "try: print(playbook_folder())\n"
        "except PlaybookMissing as error: print(error.code, error.hint)\n"
    )
    done = environment.run("-c", code, cwd=tmp_path)
    assert done.stdout.startswith("playbook_missing ")
    assert "pip install --editable '.[operator]'" in done.stdout
    ground = ground_of(packages.sdist, tmp_path / "ground")
    done = environment.run("-c", code, cwd=tmp_path, WWS_ANSIBLE=str(ground / "ansible"))
    assert done.stdout == f"{ground / 'ansible'}\n", done


@only_in_full
@pytest.mark.timeout(1_200)
def test_everything_passes_against_the_installed_wheel() -> None:
    _runs("--everything", "-n", "logical", "tests/unit", "tests/contract", "tests/e2e")


@only_in_full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_other_pythons(version: str) -> None:
    """What the classifiers name, where it is here."""
    if version == "{}.{}".format(*sys.version_info):
        pytest.skip("the one that all the other tests run on")
    found = run(uv.find_uv_bin(), "python", "find", "--no-python-downloads", version, cwd=REPOSITORY)
    if found.returncode:
        pytest.skip(f"there is no Python {version} here")
    _runs("--everything", "--python", found.stdout.strip(), "-n", "logical", "tests/unit", "tests/contract")


def _runs(*arguments: str) -> None:
    """At a tenth of the figures: the wheel is what is tested, the code has been by then."""
    env = {**clean(os.environ), "WWS_TEST_SCALE": "0.1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.packages", *arguments],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        timeout=1_100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
