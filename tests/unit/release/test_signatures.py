"""The three forms of a signature, against the real tools in both directions, and against forgers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.release_signing import public
from tests.unit.release.tools import signed_by_tool, verifies
from wws.identity.keys import Identity
from wws.release.errors import ReleaseMalformed, ReleaseRefused, SignatureWrong
from wws.release.signatures import (
    MAX_SIGNATURE,
    Form,
    Purpose,
    parse_minisig,
    parse_sshsig,
    sign,
    verify_signature,
)

ALICE, BOB = Identity.from_label("alice"), Identity.from_label("bob")
DATA = b"0" * 64 + b"  wws-1.2.3.tar.gz\n"
forms = pytest.mark.parametrize("form", Form)
purposes = pytest.mark.parametrize("purpose", Purpose)


@forms
@purposes
def test_the_tool_takes_what_we_sign(tmp_path: Path, purpose: Purpose, form: Form) -> None:
    file = tmp_path / purpose.file
    file.write_bytes(DATA)
    (tmp_path / f"{purpose.file}{form}").write_bytes(sign(ALICE, DATA, purpose, form))
    assert verifies(tmp_path, public(ALICE), file, purpose, form)
    assert not verifies(tmp_path, public(BOB), file, purpose, form)
    file.write_bytes(DATA.replace(b"1.2.3", b"1.2.4"))
    assert not verifies(tmp_path, public(ALICE), file, purpose, form)


@forms
@purposes
def test_we_take_what_the_tool_signs(tmp_path: Path, purpose: Purpose, form: Form) -> None:
    signature = signed_by_tool(tmp_path, ALICE, DATA, purpose, form)
    assert verify_signature([public(ALICE)], DATA, signature, purpose, form) == public(ALICE)
    with pytest.raises(SignatureWrong):
        verify_signature([public(BOB)], DATA, signature, purpose, form)


@pytest.mark.parametrize("form", [Form.RAW, Form.SSH])
def test_the_tool_writes_the_very_same_bytes(tmp_path: Path, form: Form) -> None:
    assert signed_by_tool(tmp_path, ALICE, DATA, Purpose.SUMS, form) == sign(ALICE, DATA, Purpose.SUMS, form)


def test_minisign_signs_the_same(tmp_path: Path) -> None:
    theirs = signed_by_tool(tmp_path, ALICE, DATA, Purpose.SUMS, Form.MINISIGN)
    assert parse_minisig(theirs) == parse_minisig(sign(ALICE, DATA, Purpose.SUMS, Form.MINISIGN))


@forms
def test_one_of_several_keys_signed(form: Form) -> None:
    signature = sign(BOB, DATA, Purpose.SUMS, form)
    assert verify_signature(map(public, [ALICE, BOB]), DATA, signature, Purpose.SUMS, form) == public(BOB)


@forms
def test_without_keys_nothing_holds(form: Form) -> None:
    with pytest.raises(SignatureWrong):
        verify_signature([], DATA, sign(ALICE, DATA, Purpose.SUMS, form), Purpose.SUMS, form)


@forms
def test_every_bit_of_a_signature_and_of_what_is_signed_counts(form: Form) -> None:
    good = sign(ALICE, DATA, Purpose.SUMS, form)
    key = [public(ALICE)]
    untrusted = good.find(b"\n") if form is Form.MINISIGN else 0  # the one line that nobody signs
    for at in range(untrusted, len(good)):
        for bit in range(8):
            broken = bytearray(good)
            broken[at] ^= 1 << bit
            with pytest.raises(ReleaseRefused):
                verify_signature(key, DATA, bytes(broken), Purpose.SUMS, form)
    for at in range(len(DATA)):
        changed = bytearray(DATA)
        changed[at] ^= 1
        with pytest.raises(SignatureWrong):
            verify_signature(key, bytes(changed), good, Purpose.SUMS, form)


@forms
def test_every_truncation_and_anything_after_is_refused(form: Form) -> None:
    good = sign(ALICE, DATA, Purpose.SUMS, form)
    for broken in [*(good[:end] for end in range(len(good))), good + b"\n", good + b"x", b"\n" + good]:
        with pytest.raises(ReleaseMalformed):
            verify_signature([public(ALICE)], DATA, broken, Purpose.SUMS, form)


@pytest.mark.parametrize("form", [Form.SSH, Form.MINISIGN])
def test_carriage_returns_are_refused(form: Form) -> None:
    broken = sign(ALICE, DATA, Purpose.SUMS, form).replace(b"\n", b"\r\n")
    with pytest.raises(ReleaseMalformed):
        verify_signature([public(ALICE)], DATA, broken, Purpose.SUMS, form)


@forms
def test_a_signature_for_another_purpose(form: Form) -> None:
    signature = sign(ALICE, DATA, Purpose.CHANNEL, form)
    if form is Form.SSH:
        with pytest.raises(SignatureWrong):
            verify_signature([public(ALICE)], DATA, signature, Purpose.SUMS, form)
    else:  # these have no namespace: see test_chain.py::test_no_file_passes_for_one_of_another_purpose
        verify_signature([public(ALICE)], DATA, signature, Purpose.SUMS, form)


def test_a_signature_of_one_form_is_none_of_another() -> None:
    for made in Form:
        for form in set(Form) - {made}:
            with pytest.raises(ReleaseMalformed):
                verify_signature(
                    [public(ALICE)], DATA, sign(ALICE, DATA, Purpose.SUMS, made), Purpose.SUMS, form
                )


def test_what_names_our_key_and_is_signed_by_another() -> None:
    """The key inside an SSHSIG, and the key id inside a minisign file, are claims."""
    ours = sign(ALICE, DATA, Purpose.SUMS, Form.SSH)
    theirs = sign(BOB, DATA, Purpose.SUMS, Form.SSH)
    assert parse_sshsig(ours)[0] == public(ALICE)
    lines = list(zip(ours.splitlines(True), theirs.splitlines(True), strict=True))
    mixed = b"".join(mine if at < 2 else other for at, (mine, other) in enumerate(lines))
    with pytest.raises(ReleaseRefused):
        verify_signature([public(ALICE), public(BOB)], DATA, mixed, Purpose.SUMS, Form.SSH)


def test_minisign_over_the_file_itself_is_not_taken(tmp_path: Path) -> None:
    good = sign(ALICE, DATA, Purpose.SUMS, Form.MINISIGN).replace(b"\nRU", b"\nRW")
    assert b"\nRW" in good
    with pytest.raises(ReleaseRefused):
        verify_signature([public(ALICE)], DATA, good, Purpose.SUMS, Form.MINISIGN)


@forms
def test_a_huge_signature_is_not_read(form: Form) -> None:
    with pytest.raises(ReleaseMalformed):
        verify_signature([public(ALICE)], DATA, b"A" * (MAX_SIGNATURE + 1), Purpose.SUMS, form)


@forms
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(form: Form, data: bytes) -> None:
    with pytest.raises(ReleaseRefused):
        verify_signature([public(ALICE)], DATA, data, Purpose.SUMS, form)


SMALL_ORDER = bytes([1]) + bytes(31)


def test_a_key_of_small_order_signs_nothing() -> None:
    """Under such a key one signature holds for every file, where a verifier does not look."""
    from wws.release.keys import PublicKey

    with pytest.raises(SignatureWrong):
        verify_signature([PublicKey(SMALL_ORDER)], DATA, SMALL_ORDER + bytes(32), Purpose.SUMS, Form.RAW)
