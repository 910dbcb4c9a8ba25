"""Tokens: their secrets, methods, life and bounds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import WwsError
from wws.rpc.methods import POLICIES
from wws.rpc.policy import OWNER, Role
from wws.rpc.tokens import ID_BYTES, PRESETS, SECRET_BYTES, TokenBook, TokensConfig

NOW = 1_790_000_000


def create(
    book: TokenBook, *methods: str, label: str = "", seed: int = 1, expires_in: int = 3600, at: int = NOW
):
    return book.create(
        label,
        methods or ("read",),
        600,
        expires_in,
        table=POLICIES,
        entropy=bytes([seed]) * (ID_BYTES + SECRET_BYTES),
        unix_now=at,
    )


def test_a_secret_opens_and_is_not_kept() -> None:
    book = TokenBook(TokensConfig())
    made = create(book, "swarm.peers", label="for bob's script")
    assert made.secret.startswith("wwst_")
    assert len(made.secret) == len("wwst_") + 43
    assert book.find(made.secret, NOW) == made.token
    assert made.secret not in json.dumps(book.to_json())
    assert made.secret not in repr(book.shown())
    assert made.token.methods == ("swarm.peers",)


@pytest.mark.parametrize("shown", ["", "wwst_", "wwst_" + "A" * 43, "\ud800", "cookie", "x" * 10_000])
def test_another_secret_opens_nothing(shown: str) -> None:
    book = TokenBook(TokensConfig())
    made = create(book)
    assert book.find(shown, NOW) is None
    assert book.find(made.secret + " ", NOW) is None
    assert book.find(made.secret.lower(), NOW) is None
    assert book.find(made.token.id, NOW) is None


def test_it_expires_and_can_be_revoked() -> None:
    book = TokenBook(TokensConfig())
    made = create(book)
    assert book.find(made.secret, NOW + 3599) is not None
    with pytest.raises(WwsError) as caught:
        book.find(made.secret, NOW + 3600)
    assert caught.value.code == "token_expired"
    assert book.revoke(made.token.id).revoked is True
    assert book.find(made.secret, NOW) is None
    assert book.revoke(made.token.id).revoked is False


@pytest.mark.parametrize(
    "method", [name for name, policy in POLICIES.items() if Role.TOKEN not in policy.who]
)
def test_what_no_token_may_open_cannot_be_given(method: str) -> None:
    book = TokenBook(TokensConfig())
    with pytest.raises(WwsError) as caught:
        create(book, "read", method)
    assert caught.value.code == "invalid_params"
    assert book.shown() == ()


def test_tokens_stopping_and_trust_are_among_what_no_token_opens() -> None:
    closed = {name for name, policy in POLICIES.items() if Role.TOKEN not in policy.who}
    assert {"swarm.create_token", "swarm.list_tokens", "swarm.revoke_token", "swarm.stop"} <= closed
    assert {"swarm.trust_name", "swarm.unban"} <= closed


def test_presets_give_methods_of_today_and_never_a_name_away() -> None:
    book = TokenBook(TokensConfig())
    for seed, (word, methods) in enumerate(PRESETS.items()):
        token = create(book, word, seed=seed).token
        assert set(token.methods) == set(methods)
        assert "swarm.transfer_name" not in methods
        assert all(POLICIES[method].who & OWNER for method in methods)
    both = create(book, "read", "names", "swarm.peers", seed=9).token
    assert both.methods == tuple(name for name in POLICIES if name in {*PRESETS["read"], *PRESETS["names"]})


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(WwsError, match=r"swarm\.pears"):
        create(TokenBook(TokensConfig()), "swarm.pears")


def test_the_book_is_bounded_and_lapsed_ones_make_room() -> None:
    book = TokenBook(TokensConfig(max_tokens=2))
    create(book, seed=1)
    create(book, seed=2, expires_in=7200)
    with pytest.raises(WwsError) as caught:
        create(book, seed=3)
    assert caught.value.code == "too_many_tokens"
    create(book, seed=3, at=NOW + 3600)
    assert [token.id for token in book.shown()] == ["02" * 6, "03" * 6]


def test_kept_over_a_restart_with_its_last_use() -> None:
    book = TokenBook(TokensConfig())
    made = create(book, label="x")
    book.used(made.token.id, NOW + 7)
    again = TokenBook(TokensConfig())
    again.load(json.loads(json.dumps(book.to_json())))
    found = again.find(made.secret, NOW + 8)
    assert found is not None
    assert found.last_used == NOW + 7
    assert again.shown() == book.shown()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=70),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "label", "methods", "rate", "created_at", "expires_at", "last_used", "sha256"]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_the_file_holds_gives_a_book(value: object) -> None:
    book = TokenBook(TokensConfig())
    book.load(value)  # type: ignore[arg-type]
    assert len(book.shown()) <= 3
