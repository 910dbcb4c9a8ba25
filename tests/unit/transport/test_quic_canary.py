"""aioquic is pinned because its private parts are used: whoever moves the pin learns here what changed."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import aioquic
import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import Limit, QuicConnection
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.stream import QuicStream, QuicStreamReceiver, QuicStreamSender

import wws.transport.quic
from wws.testing.quic_link import QuicLink
from wws.transport.quic.private_names import PRIVATE

PINNED = "1.7.2"
OBJECT = "(?:sender|receiver|tls|_loss|builder|connection|context)"
SOURCES = sorted(Path(next(iter(wws.transport.quic.__path__))).glob("*.py"))


def advice(what: str) -> str:
    return (
        f"aioquic {version('aioquic')} has changed: {what}. wws.transport.quic.engine relies on it "
        f"(written for {PINNED}): read aioquic's source, mend the engine, then move the pin."
    )


def test_the_pin_and_this_test_speak_of_the_same_release() -> None:
    assert version("aioquic") == PINNED, advice("its version")
    assert aioquic.__version__ == PINNED
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert f'"aioquic=={PINNED}"' in project, "pyproject.toml pins another aioquic than this test knows"


@pytest.fixture
def parts() -> dict[str, object]:
    link = QuicLink.between()
    link.run_until(lambda: link.bob is not None and link.alice.remote_peer is not None)
    engine = link.alice._engine
    stream = engine.create_stream()
    return {
        "connection": engine,
        "tls": QuicLink.between().alice._engine.tls,
        "recovery": engine._loss,
        "keys": CryptoContext(),
        "sender": stream.sender,
        "receiver": stream.receiver,
        "packet_builder": QuicPacketBuilder(
            host_cid=b"", peer_cid=b"", version=1, is_client=True, max_datagram_size=1200
        ),
    }


@pytest.mark.parametrize("owner, name", [(owner, name) for owner in PRIVATE for name in PRIVATE[owner]])
def test_every_private_name_exists(owner: str, name: str, parts: dict[str, object]) -> None:
    assert hasattr(parts[owner], name), advice(f"{owner} lost {name}")


def test_every_private_name_in_use_is_listed() -> None:
    """Looks for names of aioquic's objects behind `self.` in the engine, and behind its parts elsewhere."""
    plain = QuicConnection(configuration=QuicConfiguration(is_client=True))
    theirs = {name for name in (*vars(plain), *vars(QuicConnection)) if re.match(r"_[a-z]", name)}
    used: set[str] = set()
    for source in SOURCES:
        text = source.read_text()
        used |= set(re.findall(OBJECT + r"\.(_[a-z]\w*)", text))
        if source.name == "engine.py":
            used |= theirs & {name for pair in re.findall(r"self\.(_\w+)|def (_\w+)", text) for name in pair}
        used |= set(re.findall(r'"(_QuicConnection__\w+)"', text))
    listed = {name for names in PRIVATE.values() for name in names}
    assert used <= listed, "list these in PRIVATE: " + ", ".join(sorted(used - listed))
    assert listed <= used, "nobody uses these any more: " + ", ".join(sorted(listed - used))


@pytest.mark.parametrize(
    "method, parameters",
    [
        (QuicConnection._initialize, ["self", "peer_cid"]),
        (QuicConnection._write_connection_limits, ["self", "builder", "space"]),
        (QuicConnection._write_stream_limits, ["self", "builder", "space", "stream"]),
        (QuicConnection._write_application, ["self", "builder", "network_path", "now"]),
        (QuicConnection._write_ack_frame, ["self", "builder", "space", "now"]),
        (QuicConnection._write_ping_frame, ["self", "builder", "uids", "comment"]),
        (QuicConnection._write_reset_stream_frame, ["self", "builder", "stream"]),
        (QuicConnection._write_stop_sending_frame, ["self", "builder", "stream"]),
        (QuicStreamSender.get_frame, ["self", "max_size", "max_offset"]),
        (QuicConnection._handle_crypto_frame, ["self", "context", "frame_type", "buf"]),
        (QuicConnection._replenish_connection_ids, ["self"]),
        (QuicConnection._get_or_create_stream_for_send, ["self", "stream_id"]),
        (QuicConnection._on_connection_limit_delivery, ["self", "delivery", "limit"]),
        (QuicConnection._on_max_stream_data_delivery, ["self", "delivery", "stream"]),
        (QuicStreamSender.write, ["self", "data", "end_stream"]),
        (QuicStreamSender.reset, ["self", "error_code"]),
        (QuicStreamReceiver.stop, ["self", "error_code"]),
        (Limit.__init__, ["self", "frame_type", "name", "value"]),
    ],
)
def test_methods_take_what_they_are_given(method: object, parameters: list[str]) -> None:
    assert callable(method)
    found = list(inspect.signature(method).parameters)
    assert found == parameters, advice(f"{method.__qualname__}{tuple(found)}")


def test_our_versions_of_the_methods_are_called() -> None:
    """A rename would leave ours behind, unused and without an error."""
    source = inspect.getsource(QuicConnection)
    for call in (
        "self._initialize(",
        "self._write_connection_limits(",
        "self._write_stream_limits(",
        "self._write_application(",
        "self._replenish_connection_ids()",
        "self._probe_preferred_address()",
        "self._streams.pop(stream.stream_id)",
    ):
        assert call in source, advice(f"nobody calls {call} any more")


def test_fields_mean_what_they_meant() -> None:
    stream = QuicStream(stream_id=0, max_stream_data_local=10, max_stream_data_remote=10)
    stream.sender.write(b"hello")
    assert len(stream.sender._buffer) == 5, advice("where unacknowledged bytes are kept")
    assert stream.sender._buffer_fin is None
    stream.sender.write(b"", end_stream=True)
    assert stream.sender._buffer_fin == 5, advice("how the end of a stream is kept")
    assert stream.sender._reset_error_code is None
    stream.sender.reset(7)
    assert stream.sender._reset_error_code == 7, advice("how a reset is kept")
    assert stream.receiver.highest_offset == 0
    assert (stream.max_stream_data_local, stream.max_stream_data_local_sent) == (10, 10)


def test_a_server_asks_for_a_certificate_by_the_private_switch() -> None:
    link = QuicLink.between()
    link.run_until(lambda: link.both is not None)
    # Both certificates were judged: without the switch bob's side would have ended in `certificate_invalid`.
    assert (
        link.answering().remote_peer == link.alice._expected_peer or link.answering().remote_peer is not None
    )
