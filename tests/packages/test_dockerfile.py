"""The Dockerfile, as our builder reads it: the forms that are understood, and all others refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packages.environments import REPOSITORY, builder

dockerfile = builder("container/dockerfile")
TEXT = (REPOSITORY / "Dockerfile").read_text("utf-8")
START = 'FROM scratch\nCOPY root/ /\nUSER 1:2\nENTRYPOINT ["wws"]\n'


def test_ours_is_understood() -> None:
    image = dockerfile.parse(TEXT)
    assert [(copy.source, copy.target, copy.uid) for copy in image.copies] == [
        ("root", "/", 0),
        ("wws", "/opt/wws/", 0),
        ("data", "/data/", 65_532),
    ]
    assert image.env["PATH"] == "/opt/wws/bin"
    assert image.health == {
        "Test": ["CMD", "wws-control", "health", "--live"],
        "Interval": 30_000_000_000,
        "Timeout": 6_000_000_000,
        "StartPeriod": 10_000_000_000,
        "Retries": 3,
    }


def test_lines_go_on_and_comments_do_not_count() -> None:
    image = dockerfile.parse(START + "# no\nENV A=1 \\\n    # neither\n    B='two words'\n\nLABEL x.y=z\n")
    assert image.env == {"A": "1", "B": "two words"}
    assert image.labels == {"x.y": "z"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FROM scratch\n",
        "FROM debian\nCOPY root/ /\nUSER 1:2\n",
        f"{START}FROM scratch\n",
        START.replace("FROM scratch\n", ""),
        START.replace("USER 1:2", "USER root"),
        START.replace('["wws"]', "wws"),
        START.replace('["wws"]', "[]"),
        START.replace('["wws"]', "[1]"),
        f"{START}RUN true\n",
        f"{START}ADD x /\n",
        f'{START}SHELL ["sh"]\n',
        f"{START}from scratch\n",
        f"{START}COPY a/ b/ /c/\n",
        f"{START}COPY a/ /c\n",
        f"{START}COPY ../ /c/\n",
        f"{START}COPY --from=other a/ /c/\n",
        f"{START}COPY --chown=me a/ /c/\n",
        f"{START}COPY --chown=1:1 --link a/ /c/\n",
        f"{START}ENV A\n",
        f"{START}ENV A=$B\n",
        f'{START}ENV A="open\n',
        f"{START}ENV A=\\",
        f"{START}EXPOSE 9000\n",
        f"{START}VOLUME /data\n",
        f"{START}WORKDIR data\n",
        f"{START}STOPSIGNAL 15\n",
        f"{START}HEALTHCHECK NONE\n",
        f'{START}HEALTHCHECK --interval=1m CMD ["a"]\n',
        f"{START}HEALTHCHECK --interval=1s CMD a\n",
    ],
)
def test_what_needs_a_shell_or_an_engine_is_refused(text: str) -> None:
    with pytest.raises(dockerfile.NotUnderstood):
        dockerfile.parse(text)


WORDS = st.sampled_from(
    [
        *"ABC =\\\"'[]$#\n",
        "FROM scratch\n",
        "COPY ",
        "--chown=",
        "ENV ",
        "USER ",
        "HEALTHCHECK ",
        " CMD ",
        "1:1",
        "a/",
    ]
)


@given(st.lists(WORDS).map("".join))
def test_any_text_is_an_image_or_refused(text: str) -> None:
    for candidate in (text, START + text):
        try:
            dockerfile.parse(candidate).to_config()
        except dockerfile.NotUnderstood:
            pass
