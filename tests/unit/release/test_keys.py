"""Public keys of releases: one text for each, and every other is refused."""

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key
from hypothesis import given
from hypothesis import strategies as st

from tests.release_signing import public
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.release.keys import PublicKey

ALICE = public(Identity.from_label("alice"))


@given(st.binary(min_size=32, max_size=32))
def test_text_and_back(data: bytes) -> None:
    key = PublicKey(data)
    assert PublicKey.parse(str(key)) == key
    assert PublicKey.from_blob(key.blob) == key


def test_other_programs_read_the_same_key() -> None:
    for found in (load_ssh_public_key(str(ALICE).encode()), load_pem_public_key(ALICE.pem.encode())):
        assert found.public_bytes_raw() == ALICE.data


TEXT = str(ALICE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 ",
        TEXT + " ",
        TEXT + " alice@example",
        TEXT + "\n",
        " " + TEXT,
        TEXT.replace(" ", "  "),
        TEXT.replace(" ", "\t"),
        TEXT[:-1],
        TEXT[:-4],
        TEXT + "AAAA",
        TEXT[:-1] + "=",
        TEXT[:-1] + "-",
        TEXT.upper(),
        TEXT.replace("ssh-ed25519", "ssh-rsa"),
        TEXT.replace("ssh-ed25519", "sk-ssh-ed25519@openssh.com"),
        TEXT.replace("AAAAC3", "AAAAD3"),
        TEXT[:-1] + "é",
        "ssh-ed25519 " + "A" * 68,
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        PublicKey.parse(text)


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        assert str(PublicKey.parse(text)) == text
    except ParseError:
        pass


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ParseError):
        PublicKey(bytes(length))
