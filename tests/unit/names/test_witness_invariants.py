"""Whatever is asked in whatever order: an honest witness never contradicts itself."""

from __future__ import annotations

from itertools import combinations
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wws.names.receipts import Receipt
from wws.names.transfers import Transfer
from wws.names.witness.log import Kind, LogEntry, conflicts, contradict, is_superseded, replay
from wws.names.witness.messages import Op, WitnessAnswer
from wws.testing.names import NOW, person, receipt, transfer
from wws.testing.scale import scale
from wws.testing.witnesses import THREE, WitnessGroup, receipts_in

OWNERS = ("alice", "bob", "carol")
NAMES = ("alice", "bob")
GAPS = (0, 1, 5, 299, 601, 28_800, 86_399, 86_400, 87_000, 173_400, 200_000)


class Witnesses(RuleBasedStateMachine):
    """Owners ask as the protocol has it, and as it does not; clocks jump; disks are lost."""

    def __init__(self) -> None:
        super().__init__()
        self.group = WitnessGroup()
        self.seq = 0
        self.claims: dict[tuple[str, str], int] = {}
        self.seen: list[Receipt] = []
        self.chains: dict[str, tuple[Transfer, ...]] = dict.fromkeys(NAMES, ())
        self.lost: set[str] = set()

    owners = st.sampled_from(OWNERS)
    names = st.sampled_from(NAMES)
    some = st.lists(st.sampled_from(THREE), min_size=1, max_size=3, unique=True)

    def _keep(self, answers: dict[str, WitnessAnswer]) -> None:
        self.seen = (self.seen + list(receipts_in(answers).values()))[-24:]

    @rule(owner=owners, name=names, only=some, off=st.sampled_from((0, 0, 0, 299, -299, 400)))
    def claim(self, owner: str, name: str, only: list[str], off: int) -> None:
        at = self.group.unix_now + off
        self.claims[owner, name] = at
        self._keep(self.group.ask(Op.CLAIM, owner, name=name, registered_at=at, only=only))

    @rule(owner=owners, name=names, only=some)
    def renew(self, owner: str, name: str, only: list[str]) -> None:
        known = [one for one in self.seen if one.owner == person(owner).peer_id and one.name == name]
        at = known[-1].registered_at if known else self.claims.get((owner, name), NOW)
        answers = self.group.ask(Op.RENEW, owner, name=name, registered_at=at, receipts=known[-8:], only=only)
        self._keep(answers)

    @rule(owner=owners, name=names)
    def claim_and_renew(self, owner: str, name: str) -> None:
        self.claim(owner, name, list(THREE), 0)
        self.renew(owner, name, list(THREE))

    @rule(giver=owners, taker=owners, name=names, only=some, grows=st.booleans())
    def give(self, giver: str, taker: str, name: str, only: list[str], grows: bool) -> None:
        self.seq += 1
        chain = (*self.chains[name], transfer(giver, taker, name=name, seq=NOW + self.seq))[-8:]
        if grows:
            self.chains[name] = chain
        known = [one for one in self.seen if one.name == name]
        at = known[-1].registered_at if known else NOW
        answers = self.group.ask(
            Op.TRANSFER, taker, name=name, registered_at=at, transfers=chain, receipts=known[-8:], only=only
        )
        self._keep(answers)

    @rule(owner=owners, name=names, only=some)
    def drop(self, owner: str, name: str, only: list[str]) -> None:
        at = self.claims.get((owner, name), NOW)
        self.group.ask(Op.DROP, owner, name=name, registered_at=at, only=only)

    @rule(name=names)
    def start_a_chain_anew(self, name: str) -> None:
        self.chains[name] = ()

    @rule(seconds=st.sampled_from(GAPS))
    def wait(self, seconds: int) -> None:
        self.group.advance(seconds)

    @rule(jump=st.sampled_from((86_400, -86_400)))
    def clock_is_off_for_a_while(self, jump: int) -> None:
        self.group.unix_now += jump
        self.claim_and_renew("bob", "alice")
        self.sweep()
        self.group.unix_now -= jump

    @rule()
    def sweep(self) -> None:
        for book in self.group.books.values():
            book.sweep(self.group.now, self.group.unix_now)

    @rule(label=st.sampled_from(THREE))
    def restart(self, label: str) -> None:
        """What is in the file is what is in the book."""
        entries = list(self.group.books[label].entries.values())
        self.group.forget(label)
        self.group.books[label].restore(entries, ())

    @invariant()
    def no_witness_contradicts_itself(self) -> None:
        for label, log in self.group.log.items():
            assert conflicts(log) == [], label
            for book in (self.group.books[label],):
                assert book.provisional == sum(entry.provisional for entry in book.entries.values())

    @invariant()
    def the_log_tells_what_is_held(self) -> None:
        for label, log in self.group.log.items():
            told = replay(log)
            for key, entry in self.group.books[label].entries.items():
                if not entry.provisional:
                    same = told[key]
                    assert (same.owner, same.registered_at, same.first_seen, same.via) == (
                        entry.owner, entry.registered_at, entry.first_seen, entry.via
                    )  # fmt: skip
                    assert same.expires_at == entry.expires_at
                    assert same.chain == entry.chain


TestWitnesses = Witnesses.TestCase
TestWitnesses.settings = settings(max_examples=scale(1_000, least=20), stateful_step_count=30)


def test_long_random_histories_hold_no_contradiction() -> None:
    """Every pair of full receipts of one witness: overlapping ones for two owners are explained."""
    for seed in range(scale(200, least=3)):
        rng, machine = Random(seed), Witnesses()
        for _ in range(300):
            some = rng.sample(THREE, rng.randint(1, 3))
            owner, name = rng.choice(OWNERS), rng.choice(NAMES)
            match rng.randrange(7):
                case 0:
                    machine.claim(owner, name, some, rng.choice((0, 0, 200)))
                case 1 | 2:
                    machine.renew(owner, name, some)
                case 3:
                    machine.claim_and_renew(owner, name)
                case 4:
                    machine.give(owner, rng.choice(OWNERS), name, some, rng.random() < 0.3)
                case 5:
                    machine.drop(owner, name, some)
                case 6:
                    machine.wait(rng.choice(GAPS))
        for log in machine.group.log.values():
            explained = {
                (logged.receipt.owner, logged.receipt.registered_at)
                for logged in log
                if logged.kind is Kind.TAKEN_OVER or logged.receipts
            }
            for one, other in combinations(log, 2):
                if contradict(one.receipt, other.receipt):
                    assert (other.receipt.owner, other.receipt.registered_at) in explained
            assert conflicts(log) == []


# The proof against a witness that lies


def logged(owner: str, kind: Kind = Kind.CLAIMED, **facts: object) -> LogEntry:
    return LogEntry(NOW, kind, receipt("first witness", owner, **facts))  # type: ignore[arg-type]


def test_two_owners_for_one_time_are_a_contradiction() -> None:
    lie = [logged("alice"), logged("bob", registered_at=NOW + 100)]
    (found,) = conflicts(lie)
    assert {found.one.owner, found.other.owner} == {person("alice").peer_id, person("bob").peer_id}
    for log in (
        [logged("alice"), logged("bob", registered_at=NOW + 86_402)],  # after it had expired
        [logged("alice"), logged("alice", registered_at=NOW + 100)],
        [logged("alice"), logged("bob", name="bob")],
        [logged("alice"), logged("bob", swarm="lab")],
        [logged("alice"), logged("bob", via="0f" * 32)],
        [logged("alice"), logged("bob", provisional=True)],
        [logged("alice"), logged("bob", Kind.TAKEN_OVER)],
        [logged("alice"), LogEntry(NOW, Kind.CLAIMED, receipt("second witness", "bob"))],
    ):
        assert conflicts(log) == []


def test_renewals_make_a_contradiction_too() -> None:
    renewed = logged("alice", Kind.RENEWED, expires_at=NOW + 200_000)
    assert len(conflicts([logged("alice"), renewed, logged("bob", registered_at=NOW + 100_000)])) == 1


def test_a_forged_receipt_proves_nothing() -> None:
    one, other = receipt("first witness", "alice"), receipt("first witness", "bob")
    assert contradict(one, other)
    forged = Receipt.parse({**other.to_members(), "first_seen": NOW + 5})
    assert not contradict(one, forged)


def test_only_renewals_are_superseded() -> None:
    first, second = (logged("alice", Kind.RENEWED, expires_at=NOW + end) for end in (100, 200))
    assert is_superseded(first, second)
    assert not is_superseded(second, first)
    for other in (
        logged("alice", Kind.CLAIMED, expires_at=NOW + 200),
        logged("bob", Kind.RENEWED, expires_at=NOW + 200),
        logged("alice", Kind.RENEWED, registered_at=NOW + 1, expires_at=NOW + 200),
    ):
        assert not is_superseded(first, other)
