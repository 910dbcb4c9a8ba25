"""What ships names nobody: no PeerId, no key, no host of a network. A release stamps them in."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from wws.stamp import FILE

REPOSITORY = Path(__file__).parents[2]
SHIPPED = (
    *(
        "wws",
        "agent_cli",
        "bootstrap_node",
        "dns/wws_dns",
        "infra",
        "ansible",
        "packaging",
        "scripts",
        "config",
    ),
    *("install.sh", "Dockerfile"),
)
EXAMPLES = {
    "dns/records.example.toml",
    "wws/config/deny_file.py",  # in its docstring: what a line of the file looks like
}

PEER_ID = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")
PLACEHOLDER = re.compile(
    r"12D3KooWX|PeerID_\d|bootstrap\d\.openswarm|openswarm\.org|CHANGE_?ME", re.IGNORECASE
)
ROOT_KEY = re.compile(r"ssh-ed25519 AAAA[A-Za-z0-9+/]{60,}")


def shipped() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SHIPPED],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return sorted(name for name in listed.stdout.split("\0") if name)


def texts(name: str) -> Iterator[str]:
    path = REPOSITORY / name
    if not path.is_file() or path.is_symlink():
        return
    try:
        yield path.read_text("utf-8")
    except UnicodeDecodeError:
        return


@pytest.mark.parametrize("form", [PEER_ID, PLACEHOLDER], ids=["PeerId", "placeholder"])
def test_nothing_that_ships_names_a_node(form: re.Pattern[str]) -> None:
    """`packaging/network.json` is the exception by its nature: reviewed, signed, checked before a release."""
    found = [
        f"{name}: {match[0]}"
        for name in shipped()
        if name not in EXAMPLES and name != "packaging/network.json"
        for text in texts(name)
        for match in form.finditer(text)
    ]
    assert found == []


def test_an_example_stays_in_a_docstring() -> None:
    """A PeerId in a file of the library is read by people alone."""
    for name in (name for name in EXAMPLES if name.endswith(".py")):
        tree = ast.parse((REPOSITORY / name).read_text())
        docstrings = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and PEER_ID.search(node.value):
                assert node.value in docstrings, f"{name}: {node.value[:60]}"


def test_the_sources_have_no_stamp_and_no_root_key() -> None:
    """The reviewed root keys are in `packaging/trust`, from where a release takes them."""
    assert not (REPOSITORY / "wws" / FILE).exists()
    for name in shipped():
        if not name.startswith("packaging/trust/"):
            for text in texts(name):
                assert not ROOT_KEY.search(text), name


def test_the_installer_is_not_stamped() -> None:
    installer = REPOSITORY / "install.sh"
    assert re.findall(r"^(RELEASES|ROOTS|GLIBC)=(.*)$", installer.read_text(), re.MULTILINE) == [
        ("RELEASES", "''"),
        ("ROOTS", "''"),
        ("GLIBC", "''"),
    ]
