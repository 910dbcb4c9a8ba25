"""release-keys, channel, SHA256SUMS, MANIFEST and versions: one form each, tables of what is refused."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.release_signing import public
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.release import sums
from wws.release.channel import Channel
from wws.release.errors import OtherRelease, ReleaseMalformed
from wws.release.lines import MAX_STATEMENT, parse_time, time_text
from wws.release.release_keys import MAX_KEYS, MAX_REVOKED, ReleaseKeys
from wws.release.sums import parse_manifest, parse_sums, require_version, write_sums
from wws.release.version import Version

ALICE, BOB, CAROL = (str(public(Identity.from_label(name))) for name in ("alice", "bob", "carol"))
KEYS = f"wws-release-keys 1\nserial 3\nexpires 20271122000000\nkey {ALICE}\nkey {BOB}\nrevoked {CAROL}\n"
CHANNEL = "wws-channel 1\nchannel stable\nversion 1.2.3\nissued 20261122000000\nexpires 20270106000000\n"
HASH, OTHER = "a" * 64, "0" * 64
SUMS = f"{HASH}  install.sh\n{OTHER}  wws-1.2.3-linux-x86_64.tar.gz\n{HASH}  wws-1.2.3.tar.gz\n"
MANIFEST = f"{HASH}  bin/wws\n{OTHER}  bin/lib/Lorem ipsum.txt\n{HASH}  VERSION\n"
NOON = 1_795_262_400

Parse = Callable[[bytes], object]
GOOD: dict[Parse, str] = {
    ReleaseKeys.parse: KEYS,
    Channel.parse: CHANNEL,
    parse_sums: SUMS,
    parse_manifest: MANIFEST,
}
parsers = pytest.mark.parametrize("parse", GOOD, ids=["release-keys", "channel", "SHA256SUMS", "MANIFEST"])


def labels(count: int) -> list[str]:
    return [str(public(Identity.from_label(f"key {number}"))) for number in range(count)]


# --- what holds for all of them -------------------------------------------------------------------


@parsers
@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "\n",
        lambda text: text + "\n",
        lambda text: "\n" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n", 1),
        lambda text: text.removesuffix("\n"),
        lambda text: text + "x",
        lambda text: text + "key value\n",
        lambda text: " " + text,
        lambda text: text.replace(" ", "\t", 1),
        lambda text: text.replace("\n", "\x00\n", 1),
        lambda text: text.replace("\n", "\x0b\n", 1),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("s", "ſ", 1),
        lambda text: "<!DOCTYPE html><html><body>404</body></html>\n",
        lambda text: text + text,
    ],
)
def test_anything_besides_the_one_form_is_refused(parse: Parse, change: Callable[[str], str]) -> None:
    changed = change(GOOD[parse])
    with pytest.raises(ReleaseMalformed):
        parse(changed.encode())


@parsers
def test_every_truncation_inside_a_line_is_refused(parse: Parse) -> None:
    good = GOOD[parse].encode()
    parse(good)
    for end in range(len(good)):
        if good[:end].endswith(b"\n") and parse in (parse_sums, parse_manifest, ReleaseKeys.parse):
            continue  # fewer lines: the signature refuses that
        with pytest.raises(ReleaseMalformed):
            parse(good[:end])


@parsers
@given(st.data())
def test_any_bytes_are_read_or_refused(parse: Parse, data: st.DataObject) -> None:
    lines = GOOD[parse].encode().splitlines(True)
    text = data.draw(
        st.one_of(
            st.binary(max_size=500),
            st.lists(st.sampled_from([*lines, b"\n", b" ", b"key ", b"\r", b"1"]), max_size=12).map(b"".join),
        )
    )
    try:
        parse(text)
    except ReleaseMalformed:
        pass


@parsers
def test_no_file_is_read_beyond_its_bound(parse: Parse) -> None:
    most = {parse_sums: sums.MAX_SUMS, parse_manifest: sums.MAX_MANIFEST}.get(parse, MAX_STATEMENT)
    with pytest.raises(ReleaseMalformed, match="at most"):
        parse(b"a" * (most + 1))


def test_no_file_passes_for_one_of_another_kind() -> None:
    for parse, good in GOOD.items():
        for other in GOOD.keys() - {parse}:
            if {parse, other} == {parse_sums, parse_manifest}:
                continue  # MANIFEST is not signed by itself: it is named in SHA256SUMS by its own name
            with pytest.raises(ReleaseMalformed):
                other(good.encode())


# --- release-keys ---------------------------------------------------------------------------------


def test_release_keys() -> None:
    found = ReleaseKeys.parse(KEYS.encode())
    assert (found.serial, time_text(found.expires_at)) == (3, "20271122000000")
    assert [str(key) for key in found.keys] == [ALICE, BOB]
    assert [str(key) for key in found.revoked] == [CAROL]
    assert found.encode().decode() == KEYS


def test_a_revoked_key_never_counts() -> None:
    found = ReleaseKeys.parse(KEYS.replace(f"revoked {CAROL}", f"revoked {ALICE}").encode())
    assert [str(key) for key in found.usable] == [BOB]


@pytest.mark.parametrize(
    "old, new",
    [
        ("wws-release-keys 1", "wws-release-keys 2"),
        ("wws-release-keys 1", "wws-release-keys 1 "),
        ("serial 3", "serial 0"),
        ("serial 3", "serial 03"),
        ("serial 3", "serial -3"),
        ("serial 3", "serial +3"),
        ("serial 3", "serial 3 "),
        ("serial 3", "serial 1000000000"),
        ("serial 3", "serial ３"),
        ("serial 3\n", ""),
        ("serial 3", "serial 3\nserial 4"),
        ("20271122000000", "20271122"),
        ("20271122000000", "202711220000000"),
        ("20271122000000", "20271322000000"),
        ("20271122000000", "20270230000000"),
        ("20271122000000", "20271122240000"),
        ("20271122000000", "20271122000060"),
        ("20271122000000", "00001122000000"),
        ("20271122000000", "never"),
        (f"key {ALICE}\nkey {BOB}\n", ""),
        (f"key {ALICE}", f"key {BOB}"),
        (f"key {ALICE}", f"key {ALICE} alice"),
        (f"key {ALICE}", f"key  {ALICE}"),
        (f"key {ALICE}", f"Key {ALICE}"),
        (f"key {ALICE}", f"keys {ALICE}"),
        (f"revoked {CAROL}", f"revoked {CAROL}\nrevoked {CAROL}"),
        (f"revoked {CAROL}", f"revoked {CAROL}\nkey {CAROL}"),
        (f"key {ALICE}\nkey {BOB}\nrevoked {CAROL}", f"revoked {CAROL}\nkey {ALICE}\nkey {BOB}"),
        (f"revoked {CAROL}", f"revoked {CAROL}\nowner alice"),
        (f"revoked {CAROL}", "revoked"),
        (f"revoked {CAROL}", "revoked "),
        (f"key {ALICE}", "key " + ALICE[:-1] + "\u00e9"),
    ],
)
def test_release_keys_that_are_refused(old: str, new: str) -> None:
    assert old in KEYS
    with pytest.raises(ReleaseMalformed):
        ReleaseKeys.parse(KEYS.replace(old, new).encode())


@pytest.mark.parametrize(
    "keys, revoked, good",
    [(1, 0, True), (MAX_KEYS, MAX_REVOKED, True), (MAX_KEYS + 1, 0, False), (1, MAX_REVOKED + 1, False)],
)
def test_how_many_keys(keys: int, revoked: int, good: bool) -> None:
    names = labels(keys + revoked)
    text = "wws-release-keys 1\nserial 1\nexpires 20271122000000\n"
    text += "".join(f"key {key}\n" for key in names[:keys])
    text += "".join(f"revoked {key}\n" for key in names[keys:])
    if good:
        assert ReleaseKeys.parse(text.encode()).encode().decode() == text
    else:
        with pytest.raises(ReleaseMalformed):
            ReleaseKeys.parse(text.encode())


# --- channel --------------------------------------------------------------------------------------


def test_channel() -> None:
    found = Channel.parse(CHANNEL.encode())
    assert (found.name, str(found.version)) == ("stable", "1.2.3")
    assert time_text(found.issued_at) == "20261122000000"
    assert found.encode().decode() == CHANNEL


@pytest.mark.parametrize(
    "old, new",
    [
        ("wws-channel 1", "wws-channel 10"),
        ("channel stable", "channel Stable"),
        ("channel stable", "channel ../stable"),
        ("channel stable", "channel sta ble"),
        ("channel stable", "channel " + "a" * 33),
        ("channel stable", "channel "),
        ("channel stable\nversion 1.2.3", "version 1.2.3\nchannel stable"),
        ("version 1.2.3", "version 1.2"),
        ("version 1.2.3", "version v1.2.3"),
        ("version 1.2.3", "version 01.2.3"),
        ("version 1.2.3", "version 1.2.3/../../x"),
        ("version 1.2.3", "version 1.2.3\nversion 1.2.4"),
        ("issued 20261122000000\n", ""),
        ("issued 20261122000000", "issued 20270106000000"),
        ("issued 20261122000000", "issued 20270106000001"),
        ("expires 20270106000000", "expires 20270106000000\nexpires 20990106000000"),
    ],
)
def test_channels_that_are_refused(old: str, new: str) -> None:
    assert old in CHANNEL
    with pytest.raises(ReleaseMalformed):
        Channel.parse(CHANNEL.replace(old, new).encode())


# --- SHA256SUMS and MANIFEST ----------------------------------------------------------------------


def test_sums() -> None:
    found = parse_sums(SUMS.encode())
    assert found["wws-1.2.3-linux-x86_64.tar.gz"] == OTHER
    assert write_sums(found).decode() == SUMS


def test_manifest() -> None:
    assert parse_manifest(MANIFEST.encode()) == {
        "bin/wws": HASH,
        "bin/lib/Lorem ipsum.txt": OTHER,
        "VERSION": HASH,
    }


LINES = [
    f"{HASH} install.sh",
    f"{HASH} *install.sh",
    f"{HASH}   install.sh",
    f"{HASH}\tinstall.sh",
    f"{HASH}  ",
    HASH,
    f"{HASH.upper()}  install.sh",
    f"{HASH[:-1]}  install.sh",
    f"{HASH}a  install.sh",
    f"{'g' * 64}  install.sh",
    f"SHA256 (install.sh) = {HASH}",
    f"\\{HASH}  install.sh",
]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("parse", [parse_sums, parse_manifest], ids=["SHA256SUMS", "MANIFEST"])
def test_lines_that_are_refused(parse: Parse, line: str) -> None:
    with pytest.raises(ReleaseMalformed):
        parse(f"{line}\n".encode())


@pytest.mark.parametrize(
    "name",
    [
        "../install.sh",
        "/etc/passwd",
        "a/b",
        "./a",
        ".",
        "..",
        ".hidden",
        "-rf",
        "a b",
        " a",
        "a ",
        "a;b",
        "$(id)",
        "a\\b",
        "é",
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "release-keys",
        "release-keys.minisig",
        "channel",
        "a" * 129,
    ],
)
def test_names_that_no_release_has(name: str) -> None:
    with pytest.raises(ReleaseMalformed):
        parse_sums(f"{HASH}  {name}\n".encode())
    with pytest.raises(ReleaseMalformed):
        write_sums({name: HASH})


@pytest.mark.parametrize(
    "name",
    [
        "../bin/wws",
        "bin/../../wws",
        "/bin/wws",
        "bin//wws",
        "bin/./wws",
        "bin/wws/",
        "./bin/wws",
        ".",
        "..",
        "bin/..",
        "bin\\wws",
        "bin/wws\x7f",
        "bin/wws\x1b[2J",
        "bin/é",
        "MANIFEST",
        "a" * (sums.MAX_PATH + 1),
    ],
)
def test_paths_that_no_version_has(name: str) -> None:
    with pytest.raises(ReleaseMalformed):
        parse_manifest(f"{HASH}  {name}\n".encode())


def test_sums_are_sorted_and_name_each_file_once() -> None:
    first, second, third = SUMS.splitlines(True)
    for text in (second + first + third, first + first + second, first + second + second):
        with pytest.raises(ReleaseMalformed):
            parse_sums(text.encode())


def test_a_manifest_names_each_file_once() -> None:
    with pytest.raises(ReleaseMalformed, match="twice"):
        parse_manifest((MANIFEST + f"{OTHER}  bin/wws\n").encode())


def test_how_many_files() -> None:
    names = [f"file-{number:04}" for number in range(sums.MAX_FILES + 1)]
    write_sums(dict.fromkeys(names[:-1], HASH))
    with pytest.raises(ReleaseMalformed, match="at most"):
        write_sums(dict.fromkeys(names, HASH))


def test_how_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "MAX_ENTRIES", 3)
    lines = [f"{HASH}  file-{number}\n" for number in range(4)]
    assert len(parse_manifest("".join(lines[:3]).encode())) == 3
    with pytest.raises(ReleaseMalformed, match="at most"):
        parse_manifest("".join(lines).encode())


@pytest.mark.parametrize(
    "asked, good",
    [("1.2.3", True), ("1.2.30", False), ("1.2.2", False), ("1.2.3rc1", False), ("11.2.3", False)],
)
def test_sums_are_of_one_version(asked: str, good: bool) -> None:
    found = parse_sums(SUMS.encode())
    if good:
        require_version(found, Version.parse(asked))
    else:
        with pytest.raises(OtherRelease, match=asked):
            require_version(found, Version.parse(asked))


@pytest.mark.parametrize("name", ["wws-1.2.30.tar.gz", "wws-1.2.3rc1.tar.gz", "wws-1.2.tar.gz", "wws-x"])
def test_sums_of_a_version_hold_no_file_of_another(name: str) -> None:
    mixed = {**parse_sums(SUMS.encode()), name: HASH}
    with pytest.raises(OtherRelease):
        require_version(mixed, Version.parse("1.2.3"))


def test_sums_of_no_version() -> None:
    with pytest.raises(OtherRelease):
        require_version({"install.sh": HASH}, Version.parse("1.2.3"))


# --- versions and times ---------------------------------------------------------------------------

ORDER = ["0.0.1", "0.9.0", "0.10.0a0", "0.10.0a2", "0.10.0a10", "0.10.0b1", "0.10.0rc1", "0.10.0", "1.0.0"]


def test_versions_in_their_order() -> None:
    found = [Version.parse(text) for text in ORDER]
    assert found == sorted(set(found))
    assert [str(version) for version in found] == ORDER


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1.2", "1.2.3.4", "v1.2.3", "1.2.3 ", "1.2.3\n", "01.2.3", "1.2.3rc", "1.2.3rc01"),
        *("1.2.3-rc1", "1.2.3.dev1", "1.2.3+local", "1.2.3c1", "1.2.3alpha1", "1!1.2.3", "1.2.1000000"),
        *("１.2.3", "latest"),
    ],
)
def test_other_versions_are_refused(text: str) -> None:
    with pytest.raises(ReleaseMalformed):
        Version.parse(text)


numbers = st.integers(0, 999_999)
versions = st.builds(
    Version,
    st.tuples(numbers, numbers, numbers),
    st.sampled_from(["a", "b", "rc"]),
    numbers,
) | st.builds(Version, st.tuples(numbers, numbers, numbers))


@given(versions)
def test_a_version_has_one_spelling(version: Version) -> None:
    assert Version.parse(str(version)) == version


@given(st.text(alphabet="0123456789.abrcv-+ ") | st.text())
def test_any_text_is_a_version_or_refused(text: str) -> None:
    try:
        assert str(Version.parse(text)) == text
    except ParseError:
        pass


@given(st.integers(0, 253_402_300_798))
@example(NOON)
def test_times_order_as_their_texts(unix: int) -> None:
    text = time_text(unix)
    assert parse_time(text, "a test") == unix
    assert int(text) < int(time_text(unix + 1))
