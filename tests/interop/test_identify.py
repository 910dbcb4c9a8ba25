"""Our node and the foreign peers: what each learns of the other by identify and identify push."""

import pytest

from tests.interop.conftest import Link
from tests.interop.ours import echo, until
from tests.interop.peer import ECHO
from wws import __version__
from wws.addresses.multiaddr import Multiaddr
from wws.mesh.identify import PROTOCOL

pytestmark = [
    pytest.mark.interop,
    pytest.mark.net,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]


async def test_it_learns_who_we_are(link: Link) -> None:
    said = await link.foreign.identified(link.us)
    assert said.agent == f"wws/{__version__}"
    assert said.protocol_version == "/wws/1.0.0"
    assert said.protocols == frozenset(link.ours.host.protocols)
    assert [Multiaddr.parse(address).without_peer() for address in said.addresses] == [
        address.without_peer() for address in link.ours.host.listen_addresses
    ]
    assert said.signed_record
    (seen,) = [one for one in await link.foreign.connections() if one.peer_id == link.us]
    if not link.connection.outbound:
        assert Multiaddr.parse(said.observed) == link.connection.remote_address.without_peer()
    assert Multiaddr.parse(said.observed).transport == link.transport
    assert said.observed.startswith("/ip4/127.0.0.1/")
    assert seen.peer_id == link.us


async def test_we_learn_who_it_is(link: Link) -> None:
    said = await link.connection.wait_identified()
    assert said is not None
    assert said.agent_version == f"{link.foreign.implementation}/1"
    assert {PROTOCOL, ECHO, "/wws/kad/1.0.0"} <= set(said.protocols or ())
    listening = {Multiaddr.parse(address).without_peer() for address in link.foreign.addresses}
    assert {address.without_peer() for address in said.addresses or ()} == listening
    assert said.record is not None
    assert {address.without_peer() for address in said.record.addresses} == listening
    assert said.observed is not None
    assert said.observed.without_peer() == link.connection.local_address  # js puts our PeerId behind it
    known = link.ours.host.peers.addresses(link.connection.peer_id)
    assert {address.without_peer() for address in known} == listening


async def test_it_takes_our_push(link: Link) -> None:
    before = await link.foreign.identified(link.us)
    await link.connection.wait_identified()
    link.ours.host.serve("/test/late/1", echo)
    await link.ours.identify.push_all()
    after = await link.foreign.identified(link.us, count=before.count + 1)
    assert after.protocols == before.protocols | {"/test/late/1"}
    assert (after.agent, after.addresses) == (before.agent, before.addresses)
    assert after.signed_record
    assert await link.foreign.echo(link.us, b"hello", protocol="/test/late/1") == b"hello"
    assert link.ours.host.refusals.total() == 0


async def test_we_take_its_push(link: Link) -> None:
    """js pushes neither key nor observed address: what is absent stays as it was."""
    before = await link.connection.wait_identified()
    assert before is not None
    late = f"/test/late/{link.us}"
    await link.foreign.serve_echo(late)
    await until(lambda: late in (link.connection.identification.protocols or ()))  # type: ignore[union-attr]
    after = link.connection.identification
    assert after is not None
    assert set(after.protocols or ()) == {*(before.protocols or ()), late}
    assert (after.agent_version, after.observed, after.peer_id) == (
        before.agent_version, before.observed, before.peer_id,
    )  # fmt: skip
    assert after.addresses == before.addresses
    assert after.record is not None
    assert await link.ours.half_close(link.connection, b"hello", protocol=late) == b"hello"


async def test_no_stream_is_left(link: Link) -> None:
    await link.connection.wait_identified()
    await link.foreign.identified(link.us)
    own = {ECHO}
    await until(
        lambda: not {stream.protocol for stream in link.connection.streams.values()} & (own | {PROTOCOL})
    )
