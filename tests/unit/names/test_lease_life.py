"""Any life of a lease among witnesses that say anything: what it signs is always in order.

The machine gets events in any order that its table allows, answers that are right, late, forged or lies, a
clock that jumps, other witnesses, and restarts from what it saved last.
"""

from __future__ import annotations

import json
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.names.test_lease import check
from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.identity.proof_of_work import LEAST_BITS, solve
from wws.machine import Command, Event
from wws.names.errors import RecordRefused, TransferImpossible
from wws.names.events import (
    Accept,
    AddressesChanged,
    AskWitnesses,
    Claim,
    LookedUp,
    LookUp,
    LookUpFailed,
    ProofSolved,
    Release,
    Renew,
    SaveState,
    SolveProofOfWork,
    Stored,
    StoreFailed,
    StoreRecord,
    TimerFired,
    Transfer,
    WitnessesAnswered,
    WitnessesChanged,
)
from wws.names.kinds import NameRecords
from wws.names.lease import ACCEPTED, Lease, State
from wws.names.lease_state import LeaseState
from wws.names.receipts import Receipt, majority
from wws.names.record import NameRecord, work_context
from wws.names.rules import MAX_LEASE
from wws.names.witness.messages import Dropped, Op, Why, WitnessAnswer, WitnessRefusal, WitnessRequest
from wws.testing.names import ADDRESS, NOW, name_record, person, solved_work, transfer

ALICE = person("alice").peer_id
NEW_ADDRESS = Multiaddr.parse("/ip4/198.51.100.1/tcp/9000")
PANELS = [("w1", "w2", "w3"), ("w1",), ("w2", "w3", "w4"), ()]
OTHERS = [
    name_record("bob").value,
    name_record("bob", witnesses=["w1", "w2"]).value,
    name_record("bob", registered_at=NOW - 50).value,
    name_record("bob", issued_at=NOW + 9, transfers=[transfer("alice", "bob")]).value,
    name_record("alice", registered_at=NOW - 90, issued_at=NOW, witnesses=["w1", "w2"]).value,
    name_record("alice", registered_at=NOW - 90, issued_at=NOW + 5, seq=NOW + 70_000, released=True).value,
    b"garbage",
    None,
]
OFFERS = [transfer("bob", "alice"), transfer("alice", "bob"), transfer("carol", "alice", seq=NOW + 60)]
WORDS = [*Why, "another_word"]
ANSWERS = [
    "yes",
    "yes",
    "yes",
    "no",
    "silent",
    "old",
    "forged",
    "short",
    "stranger",
    "strange_clock",
    "dropped",
]
ACTIONS = [
    *("time", "time", "time", "answer", "answer", "answer", "answer", "answer", "answer", "fail", "other"),
    *("move", "claim", "claim", "renew", "renew", "release", "transfer", "accept", "witnesses", "restart"),
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.integers(0, len(WORDS) - 1),
        st.sampled_from([0, 1, 6, 61, 400, 4_000, 30_000, 90_000, -5_000]),
        st.lists(st.sampled_from(ANSWERS), min_size=4, max_size=4),
    ),
    max_size=40,
)


class Life:
    """One lease, what it wants from its driver, and what it has signed so far."""

    def __init__(self) -> None:
        self.panel: tuple[str, ...] = PANELS[0]
        self.before: tuple[str, ...] = ()
        self.kind = NameRecords(self.sets)
        self.saved: LeaseState | None = None
        self.lease = self.new_lease()
        self.pending: Command | None = None
        self.signed: dict[int, bytes] = {}
        self.seq = 0
        self.now = 0.0
        self.unix_now = NOW

    def sets(self) -> tuple[frozenset[PeerId], frozenset[PeerId]]:
        now, before = (
            frozenset(person(label).peer_id for label in panel) for panel in (self.panel, self.before)
        )
        return now, before

    def new_lease(self) -> Lease:
        state = None
        if self.saved is not None:
            state = LeaseState.from_json(json.loads(json.dumps(self.saved.to_json())))
            assert state == self.saved
        return Lease(
            person("alice"),
            "alice",
            "public",
            kind=self.kind,
            rng=Random(3),
            state=state,
            addresses=(ADDRESS,),
            witnesses=self.sets,
        )

    def step(self, action: str, choice: int, jump: int, words: list[str]) -> None:
        self.now += max(0, jump)
        self.unix_now += jump
        if action == "restart":
            self.lease, self.pending = self.new_lease(), None
            # Who has nothing to remember begins anew, by the clock.
            self.seq = 0 if self.saved is None else self.seq
            self.signed = {} if self.saved is None else self.signed
        event = self.event(action, choice, words)
        if self.lease.state not in ACCEPTED[type(event)]:
            event = TimerFired()
        if isinstance(event, Release) and self.lease.state is State.IDLE:
            event = Claim()
        try:
            commands = self.lease.handle(event, self.now, self.unix_now)
        except (TransferImpossible, RecordRefused):
            assert isinstance(event, Transfer | Accept)
            return
        check(self.lease, commands)
        for command in commands:
            self.carry_out(command)

    def event(self, action: str, choice: int, words: list[str]) -> Event:
        simple: dict[str, Event] = {
            "claim": Claim(),
            "restart": Claim(),
            "renew": Renew(),
            "release": Release(),
            "transfer": Transfer(person(["bob", "carol", "alice"][choice % 3]).peer_id),
            "accept": Accept(OFFERS[choice % 3]),
            "move": AddressesChanged((NEW_ADDRESS, ADDRESS)[: choice % 3]),
        }
        if action == "witnesses":
            self.before, self.panel = self.panel, PANELS[choice % len(PANELS)]
            return WitnessesChanged()
        if action in ("answer", "fail", "other") and self.pending is not None:
            pending, self.pending = self.pending, None
            return self.answer(pending, action, choice, words)
        return simple.get(action, TimerFired())

    def answer(self, pending: Command, action: str, choice: int, words: list[str]) -> Event:
        match pending:
            case LookUp():
                ours = self.lease.record.value if self.lease.record else None
                return (
                    LookUpFailed()
                    if action == "fail"
                    else LookedUp(ours if action == "answer" else OTHERS[choice % len(OTHERS)])
                )
            case StoreRecord():
                return StoreFailed() if action == "fail" else Stored(choice)
            case SolveProofOfWork(bits=bits):
                return ProofSolved(solved(bits))
            case AskWitnesses(request=request):
                members = sorted({*self.panel, *self.before})
                asked = zip(members, words, strict=False)
                return WitnessesAnswered(
                    tuple(
                        (person(label).peer_id, self.said(label, word, request, choice))
                        for label, word in asked
                    )
                )
            case _:
                raise AssertionError(pending)

    def said(self, label: str, word: str, request: WitnessRequest, choice: int) -> WitnessAnswer | None:
        """What a witness may say, rightly or not."""
        signer = person("w9" if word == "stranger" else label)
        registered_at = request.registered_at - (777 if word == "old" else 0)
        receipt = Receipt.sign(
            signer,
            swarm="public",
            name="alice",
            owner=ALICE,
            registered_at=registered_at,
            first_seen=registered_at + (700 if word == "strange_clock" else 1),
            expires_at=self.unix_now + (30 if word == "short" else MAX_LEASE),
            provisional=request.op is Op.CLAIM and word == "yes",
            via=request.transfers[-1].digest if request.transfers else None,
        )
        match word:
            case "no":
                holder = person("bob").peer_id
                return WitnessRefusal(WORDS[choice], holder, choice, LEAST_BITS + choice % 4)
            case "silent":
                return None
            case "dropped":
                return Dropped()
            case "forged":
                members = receipt.to_members()
                return Receipt.parse({**members, "expires_at": self.unix_now + 10 * MAX_LEASE})
            case _:
                return receipt

    def carry_out(self, command: Command) -> None:
        match command:
            case LookUp() | StoreRecord() | SolveProofOfWork() | AskWitnesses():
                assert self.pending is None
                self.pending = command
            case SaveState(state=state):
                self.saved = state
        if isinstance(command, StoreRecord):
            self.judge(NameRecord.parse(command.value))

    def judge(self, record: NameRecord) -> None:
        """It was saved before it leaves, its number is new, and receipts in it cover it to the end."""
        assert self.saved is not None
        assert (self.saved.seq, self.saved.expires_at) == (record.seq, record.expires_at)
        assert record.seq >= self.seq
        self.seq = record.seq
        if record.seq in self.signed:
            assert self.signed[record.seq] == record.value
            return
        self.signed[record.seq] = record.value
        if record.receipts:
            ends = sorted((receipt.expires_at for receipt in record.receipts), reverse=True)
            needed = min(majority(group) for group in self.sets() if group)
            assert record.expires_at <= ends[needed - 1]
            assert self.kind.is_witnessed(record)


def solved(bits: int) -> int:
    nonce = _SOLVED.get(bits)
    if nonce is None:
        nonce = _SOLVED[bits] = solve(work_context("alice", "public"), ALICE.did, bits)
    return nonce


_SOLVED = {LEAST_BITS: solved_work("alice")}


@given(STEPS, st.integers(0, 7))
def test_any_life(steps: list[tuple[str, int, int, list[str]]], honest: int) -> None:
    life = Life()
    life.step("claim", 0, 0, [])
    for _ in range(honest):
        life.step("answer", 0, 1, ["yes"] * 4)
    for step in steps:
        life.step(*step)
