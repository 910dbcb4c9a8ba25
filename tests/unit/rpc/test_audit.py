"""The lines of the audit log: complete, bounded, free of secrets, and never two."""

import json

from hypothesis import given
from hypothesis import strategies as st

from wws.rpc.audit import Audit, AuditConfig
from wws.rpc.methods import METHODS
from wws.rpc.policy import Rate, Role
from wws.testing.rpc import NOW_MS

REGISTER = METHODS["swarm.register_name"]


def line(
    audit: Audit, who: str | None, outcome: str, params: object = None, now: float = 0.0, method=REGISTER
):
    about = method.about(params)
    role = None
    if who is not None:
        words = {"owner": Role.SOCKET, "token": Role.TOKEN, "did": Role.AGENT}
        role = words[who.partition(":")[0]]
    written = audit.line(who, method.name, about, outcome, role=role, now=now, unix_ms=NOW_MS)
    return None if written is None else json.loads(written)


def test_a_line_says_who_what_about_what_and_how_it_ended() -> None:
    assert line(Audit(AuditConfig()), "owner", "ok", {"name": "alice", "more": "no"}) == {
        "time": NOW_MS / 1000,
        "who": "owner",
        "method": "swarm.register_name",
        "about": "alice",
        "outcome": "ok",
    }


def test_only_the_parameter_that_the_row_names_is_shown() -> None:
    audit = Audit(AuditConfig())
    shown = line(
        audit,
        "owner",
        "ok",
        {"entry": {"signature": "s3cret"}, "name": ["s3cret"]},
        method=METHODS["swarm.accept_name"],
    )
    assert "s3cret" not in json.dumps(shown)
    assert line(audit, "owner", "ok", ["alice"])["about"] == "alice", "by position as by name"
    assert "about" not in line(audit, "owner", "ok", [])
    assert "about" not in line(audit, "owner", "ok", "alice")
    assert "about" not in line(audit, "owner", "ok", {"name": {"s3cret": 1}})
    assert "about" not in line(audit, "owner", "ok", {"name": "x"}, method=METHODS["swarm.my_names"])


@given(st.text(), st.text(), st.text())
def test_whatever_a_caller_says_stays_one_line_of_printable_ascii(method: str, about: str, who: str) -> None:
    written = Audit(AuditConfig()).line(
        who, method, about, "refused", role=Role.TOKEN, now=0.0, unix_ms=NOW_MS
    )
    assert written is not None
    assert written.endswith(b"\n")
    assert all(32 <= byte < 127 for byte in written[:-1])
    for cut in (json.loads(written)["about"], json.loads(written)["method"]):
        assert len(json.dumps(cut)) <= 130
    assert json.loads(written)["about"] == about[: len(json.loads(written)["about"])]
    assert len(written) <= 350 + len(json.dumps(who))


def test_strangers_are_thinned_and_counted_and_push_nobody_out() -> None:
    audit = Audit(AuditConfig(strangers=Rate(3, 30.0)))
    assert [line(audit, None, "unauthorised") is not None for _ in range(100)] == [True] * 3 + [False] * 97
    known = line(audit, "owner", "ok", {"name": "alice"})
    assert known is not None
    assert known["left_out"] == 97
    assert "left_out" not in line(audit, None, "unauthorised", now=10)


def test_refused_calls_of_a_known_caller_are_thinned_by_themselves() -> None:
    audit = Audit(AuditConfig(refused=Rate(2, 60.0)))
    found = [line(audit, "token:aa", "not_allowed") for _ in range(3)]
    assert [entry is not None for entry in found] == [True, True, False]
    assert line(audit, "token:bb", "not_allowed") is not None
    assert line(audit, "token:aa", "ok") is not None, "what was done is told apart"


def test_what_the_owner_does_is_always_told() -> None:
    audit = Audit(AuditConfig())
    assert all(line(audit, "owner", "ok") is not None for _ in range(10_000))


def test_nobody_else_pushes_out_what_the_log_holds() -> None:
    """A token, and as many agents as there can be, call as often as they like for a day."""
    config = AuditConfig()
    audit, written = Audit(config), 0
    name = "\N{PILE OF POO}" * 1024
    connect, renew = METHODS["swarm.connect"], METHODS["swarm.renew_name"]
    for second in range(0, 86_400, 20):
        for who, outcome, method in [
            ("token:aa", "ok", connect),
            ("token:aa", "ok", renew),
            ("token:aa", "not_allowed", renew),
            (f"did:swarm:{second:064x}", "not_allowed", renew),
            (None, "unauthorised", renew),
        ]:
            about = {"name": name, "addr": name}
            entry = line(audit, who, outcome, about, now=float(second), method=method)
            written += 0 if entry is None else len(json.dumps(entry))
    assert written < config.file_bytes * config.files / 2


def test_what_a_token_does_is_told_by_method() -> None:
    """Whoever does one thing a thousand times does not hide another by it."""
    audit = Audit(AuditConfig(done=Rate(2, 60.0)))
    found = [line(audit, "token:aa", "ok", method=METHODS["swarm.renew_name"]) for _ in range(1000)]
    assert sum(entry is not None for entry in found) == 2
    shown = line(audit, "token:aa", "ok", {"name": "alice"}, method=METHODS["swarm.transfer_name"])
    assert shown is not None
    assert shown["left_out"] == 998


def test_a_number_is_shown_as_text() -> None:
    written = Audit(AuditConfig()).line(
        None, "connect", 65534, "unauthorised", role=None, now=0.0, unix_ms=NOW_MS
    )
    assert written is not None
    assert json.loads(written)["about"] == "65534"
