"""The ledger of what peers make us keep: every sum right at any time, everything free at the end."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.mesh.memory import Account, MemoryConfig, MemoryLedger
from wws.testing.scale import scale

ALICE, BOB, CAROL = (Identity.from_label(label).peer_id for label in ("alice", "bob", "carol"))
CONFIG = MemoryConfig(total=1000, per_peer=400, per_group=600, connection=10)
PREFIX, OTHER = "203.0.113.0/24", "198.51.100.0/24"


class Node:
    """A ledger, and what is really kept."""

    def __init__(self, config: MemoryConfig = CONFIG) -> None:
        self.ledger = MemoryLedger(config)
        self.kept: dict[int, int] = {}
        self.accounts: dict[int, Account] = {}
        self._keys = count(1)

    def open(self, peer=None, group=None, held=0) -> Account:
        account = self.ledger.open(next(self._keys), group)
        self.accounts[account.key] = account
        if peer is not None:
            self.ledger.belongs(account, peer)
        if held:
            self.fill(account, held)
        return account

    def fill(self, account: Account, held: int, *, spared=()) -> list[int]:
        """Keep so much for a connection; which connections were closed for it."""
        if account.key is None:
            assert not self.ledger.charge(account, held)
            return []
        self.kept[account.key] = held
        if not self.ledger.charge(account, held):
            return []
        doomed = self.ledger.shed(account, weigh=self.kept.get, is_spared=spared.__contains__)
        for key in doomed:
            self.kept.pop(key, None)
            del self.accounts[key]
        return doomed

    def close(self, account: Account) -> None:
        self.kept.pop(account.key, None)
        self.accounts.pop(account.key, None)
        self.ledger.close(account)


def test_one_byte_over_a_bound_is_too_much():
    node = Node()
    alice = node.open(ALICE)
    assert not node.ledger.charge(alice, 390)
    assert node.ledger.of_peer(ALICE) == node.ledger.total == 400
    assert node.ledger.charge(alice, 391)


def test_an_idle_connection_counts_from_its_first_moment():
    node = Node()
    for number in range(100):
        node.open(group=PREFIX if number < 60 else OTHER)
    assert node.ledger.total == 1000
    assert node.ledger.of_group(PREFIX) == 600
    one_more = node.open(group=PREFIX)
    assert node.ledger.is_over(one_more)


def test_over_its_bound_the_heaviest_connection_of_a_peer_goes_and_nobody_elses():
    node = Node()
    node.open(BOB, held=300)
    light, heavy = node.open(ALICE, held=100), node.open(ALICE, held=200)
    key = heavy.key
    assert node.fill(light, 190) == [key]
    assert node.ledger.of_peer(ALICE) == 200
    assert node.ledger.of_peer(BOB) == 310


def test_over_its_bound_the_heaviest_of_a_group_go():
    node = Node()
    node.open(CAROL, OTHER, held=50)
    alice, bob = node.open(ALICE, PREFIX, held=300), node.open(BOB, PREFIX, held=100)
    key = alice.key
    assert node.fill(bob, 281) == [key]
    assert node.ledger.of_group(PREFIX) == 291


def test_over_the_total_the_heaviest_party_goes_first():
    """A prefix of many small identities weighs more than one peer with much."""
    node = Node()
    honest = node.open(ALICE, OTHER, held=380)
    sybils = [node.open(Identity.from_label(str(n)).peer_id, PREFIX, held=89) for n in range(6)]
    bob = node.open(BOB)
    doomed = node.fill(bob, 10)
    assert set(doomed) < {1 + number for number in range(1, 7)}
    assert len(doomed) == 2  # down to seven eighths
    assert honest.key is not None
    assert sum(sybil.key is None for sybil in sybils) == 2


def test_all_who_have_not_proven_who_they_are_weigh_as_one():
    node = Node()
    alice = node.open(ALICE, OTHER, held=300)
    strangers = [node.open(group=f"{number}", held=55) for number in range(10)]
    doomed = node.fill(node.open(BOB), 50)
    assert len(doomed) == sum(stranger.key is None for stranger in strangers) == 3
    assert alice.key is not None


def test_whom_we_cannot_do_without_goes_last():
    node = Node(MemoryConfig(total=1000, per_peer=600, per_group=600, connection=10))
    relay = node.open(ALICE, held=500)
    bob = node.open(BOB, held=300)
    carol = node.open(CAROL)
    key = bob.key
    assert node.fill(carol, 200, spared={ALICE}) == [key]
    assert relay.key is not None
    # Nobody else is left: then it is the turn of those, too, the heaviest first.
    node.close(carol)
    key = relay.key
    assert node.fill(node.open(CAROL, held=100), 590, spared={ALICE, CAROL}) == [4]
    assert relay.key == key
    assert node.fill(node.open(CAROL), 590, spared={ALICE, CAROL}) == [5]


def test_sockets_that_drained_without_a_word_are_weighed_again_first():
    node = Node()
    alice, bob, carol = node.open(ALICE, held=380), node.open(BOB, held=380), node.open(CAROL)
    node.kept[alice.key] = 0
    assert node.fill(carol, 220) == []
    assert (alice.held, bob.held, carol.held) == (10, 390, 230)


def test_windows_grow_while_half_is_free():
    node = Node()
    alice, bob = node.open(ALICE, held=380), node.open(BOB, held=89)
    assert node.ledger.has_room()
    node.fill(bob, 100)
    assert not node.ledger.has_room()
    node.close(alice)
    assert node.ledger.has_room()


def test_connections_have_what_other_layers_leave():
    node = Node()
    alice, bob = node.open(ALICE, held=380), node.open(BOB, held=280)
    ledger = node.ledger
    ledger.set_standing(200)
    assert ledger.bound == 800
    assert not ledger.has_room()
    ledger.set_standing(400)
    assert ledger.shed(None, weigh=node.kept.get, is_spared=lambda peer: False) == [1]
    assert (alice.key, bob.held) == (None, 290)
    ledger.set_standing(900)  # a quarter is theirs whatever happens
    assert ledger.bound == 250


def test_who_moves_takes_what_it_holds_along():
    node = Node()
    alice = node.open(ALICE, PREFIX, held=90)
    node.ledger.move(alice, OTHER)
    assert (node.ledger.of_group(PREFIX), node.ledger.of_group(OTHER)) == (0, 100)
    node.ledger.move(alice, None)
    assert node.ledger.of_group(OTHER) == 0
    node.close(alice)
    assert node.ledger.total == 0


def test_what_would_break_the_sums_is_refused():
    ledger = MemoryLedger(CONFIG)
    alice = ledger.open(1)
    with pytest.raises(LocalProtocolError):
        ledger.open(1)
    ledger.belongs(alice, ALICE)
    ledger.belongs(alice, ALICE)
    with pytest.raises(LocalProtocolError):
        ledger.belongs(alice, BOB)
    ledger.close(alice)
    ledger.close(alice)
    ledger.move(alice, PREFIX)
    ledger.belongs(alice, BOB)
    assert not ledger.charge(alice, 10_000)
    assert (ledger.total, len(ledger), ledger.of_peer(BOB)) == (0, 0, 0)


def test_lowered_bounds_hold_from_the_next_charge_on():
    node = Node()
    alice, bob = node.open(ALICE, held=300), node.open(BOB, held=100)
    node.ledger.reconfigure(MemoryConfig(total=300, per_peer=300, per_group=300, connection=10))
    assert node.fill(bob, 101) == [1]
    assert alice.key is None


class Accounts(RuleBasedStateMachine):
    """Any order of coming, filling, moving, being identified and going."""

    accounts = Bundle("accounts")

    def __init__(self) -> None:
        super().__init__()
        self.node = Node()

    @rule(target=accounts, group=st.sampled_from([None, PREFIX, OTHER]))
    def opens(self, group):
        return self.node.open(None, group)

    @rule(account=accounts, peer=st.sampled_from([ALICE, BOB, CAROL]))
    def is_identified(self, account, peer):
        if account.peer_id is None:
            self.node.ledger.belongs(account, peer)

    @rule(account=accounts, group=st.sampled_from([None, PREFIX, OTHER]))
    def moves(self, account, group):
        self.node.ledger.move(account, group)

    @rule(account=accounts, held=st.integers(0, 700))
    def fills(self, account, held):
        doomed = self.node.fill(account, held, spared={CAROL})
        assert len(doomed) == len(set(doomed))
        if account.key is not None:
            assert account.held == held + CONFIG.connection

    @rule(account=accounts, part=st.integers(0, 100))
    def drains(self, account, part):
        if (kept := self.node.kept.get(account.key)) is not None:
            self.node.kept[account.key] = kept * part // 100

    @rule(account=consumes(accounts))
    def closes(self, account):
        self.node.close(account)

    @invariant()
    def all_sums_are_right(self):
        ledger, accounts = self.node.ledger, list(self.node.accounts.values())
        assert len(ledger) == len(accounts)
        assert ledger.total == sum(account.held for account in accounts) <= CONFIG.total + 10 * len(accounts)
        for peer in (ALICE, BOB, CAROL):
            assert ledger.of_peer(peer) == sum(one.held for one in accounts if one.peer_id == peer)
        for name in (PREFIX, OTHER):
            assert ledger.of_group(name) == sum(one.held for one in accounts if one.group_name == name)

    def teardown(self):
        for account in list(self.node.accounts.values()):
            self.node.close(account)
        ledger = self.node.ledger
        assert (ledger.total, len(ledger), ledger._peers, ledger._groups) == (0, 0, {}, {})


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=scale(1_000, least=20), stateful_step_count=50)
