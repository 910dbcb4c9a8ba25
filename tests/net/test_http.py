"""The HTTP server on the loopback: what it serves, and all that it refuses."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap_node import health
from wws.runtime.http_server import Answer, HttpConfig, HttpServer
from wws.runtime.machine_errors import PortTaken
from wws.runtime.metrics import Metrics
from wws.runtime.status_pages import Readiness, make_pages, render_status
from wws.testing import scale


class Running:
    """A server on a free port, and what it refused."""

    def __init__(self, config: HttpConfig) -> None:
        self.refused: Counter[str] = Counter()
        self.readiness = Readiness("listening", "joined")
        self.metrics = Metrics()

        async def facts() -> dict[str, object]:
            return {"name": "<script>alert(1)</script>", "addresses": ["/ip4/203.0.113.4/tcp/9000"]}

        async def broken() -> Answer:
            raise ValueError("a bug")

        pages = {**make_pages(self.metrics, self.readiness, facts), "/broken": broken}
        self.server = HttpServer(pages, config, lambda reason: self.refused.update([reason]))
        self.port = 0

    async def ask(self, request: bytes) -> bytes:
        """Send `request`, and return all that comes until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def get(self, path: str, *headers: str, method: str = "GET", host: str = "localhost") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
        return await self.ask("\r\n".join(lines).encode() + b"\r\n\r\n")


@asynccontextmanager
async def running(config: HttpConfig | None = None) -> AsyncIterator[Running]:
    node = Running(config or HttpConfig())
    _, node.port = await node.server.start("127.0.0.1", 0)
    try:
        yield node
    finally:
        await node.server.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def test_serves_health_readiness_metrics_and_status():
    async with running() as node:
        assert (await node.get("/healthz")).endswith(b"\r\n\r\nok\n")
        answer = await node.get("/readyz")
        assert status(answer) == 503
        assert b'"missing": ["listening", "joined"]' in answer
        node.readiness.set("listening", True)
        node.readiness.set("joined", True)
        assert status(await node.get("/readyz")) == 200
        node.readiness.drain()
        assert b'"missing": ["draining"]' in await node.get("/readyz?verbose=1")
        node.metrics.refused("kad", "wrong_network")
        assert b'wws_refused_total{protocol="kad",reason="wrong_network"} 1.0' in await node.get("/metrics")
        page = await node.get("/")
        assert b"<script>" not in page
        assert b"&lt;script&gt;" in page
        assert not node.refused


async def test_a_node_on_all_interfaces_is_healthy_by_the_address_that_it_gives():
    async with running() as node:
        answers = await asyncio.to_thread(health.check, f"0.0.0.0:{node.port}", "/healthz")
    assert answers == (True, "ok")


async def test_every_answer_carries_the_security_headers():
    async with running() as node:
        for path in ("/", "/healthz", "/readyz", "/metrics", "/nothing"):
            head = (await node.get(path)).partition(b"\r\n\r\n")[0].lower()
            assert b"x-content-type-options: nosniff" in head
            assert b"content-security-policy: default-src 'none'" in head
            assert b"cross-origin-resource-policy: same-origin" in head
            assert b"cache-control: no-store" in head
            assert b"connection: close" in head
            assert b"access-control" not in head
            assert b"server:" not in head


async def test_head_has_the_length_and_no_body():
    async with running() as node:
        answer = await node.get("/healthz", method="HEAD")
        assert b"content-length: 3" in answer.lower()
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9371", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:9371", "node.example:9371"],
)
async def test_accepts_the_names_of_the_loopback_and_those_allowed(host):
    async with running(HttpConfig(hosts=("node.example",))) as node:
        assert status(await node.get("/healthz", host=host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "localhost.evil.example", "localhost.", "127.0.0.1.evil.example", "128.0.0.1",
        "0.0.0.0", "[::]", "::1", "[127.0.0.1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f000001",
        "localhost:99999", "localhost:", "localhost:80:80", "user@localhost", "localhost/x",
        "localhost, evil.example",
    ],
)  # fmt: skip
async def test_refuses_every_other_host(host):
    async with running() as node:
        answer = await node.get("/healthz", host=host)
        assert status(answer) in (400, 421)
        assert b"ok" not in answer.partition(b"\r\n\r\n")[2]
        assert sum(node.refused.values()) == 1


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "https://localhost", "http://localhost:1", "http://localhost/", ""],
)
async def test_refuses_every_origin_but_its_own(origin):
    async with running() as node:
        answer = await node.get("/metrics", f"Origin: {origin}")
        assert status(answer) == 403
        assert node.refused == {"origin": 1}
        assert status(await node.get("/metrics", "Origin: http://localhost")) == 200
        both = await node.get("/metrics", "Origin: http://localhost", "Origin: null")
        assert status(both) == 403


@pytest.mark.parametrize(
    "request_bytes, expected, reason",
    [
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method"),
        (b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method"),
        (b"GET /etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "path"),
        (b"GET /../metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "path"),
        (b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "path"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "malformed"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 421, "host"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 400, "body"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "body"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\nX y: z\r\n\r\n", 400, "malformed"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n", 400, "malformed"),
        (b'{"jsonrpc":"2.0","id":1,"method":"swarm.get_status"}\n\n', 400, "malformed"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431, "too_large"),
    ],
)
async def test_refuses_what_is_not_a_plain_request(request_bytes, expected, reason):
    async with running() as node:
        assert status(await node.ask(request_bytes)) == expected
        assert node.refused == {reason: 1}


async def test_a_silent_client_is_gone_at_the_deadline():
    async with running(HttpConfig(timeout=0.05)) as node:
        assert await node.ask(b"") == b""
        assert await node.ask(b"GET /healthz HTTP/1.1\r\nHost: loc") == b""
        assert node.refused == {"timeout": 2}


async def test_one_client_too_many_closes_the_oldest_and_slots_come_back():
    """Whoever holds every place and says nothing must not make a health check fail."""
    async with running(HttpConfig(clients=2)) as node:
        waiting = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(2)]
        while len(node.server._clients) < 2:
            await asyncio.sleep(0)
        assert status(await node.get("/healthz")) == 200
        assert node.refused == {"clients": 1}
        assert await waiting[0][0].read() == b""
        for _, writer in waiting:
            writer.close()
        while node.server._clients:
            await asyncio.sleep(0)
        assert status(await node.get("/healthz")) == 200
        assert node.refused == {"clients": 1}


async def test_a_bug_in_a_page_closes_that_client_only():
    async with running() as node:
        assert await node.get("/broken") == b""
        assert status(await node.get("/healthz")) == 200


async def test_a_taken_port_is_a_typed_error():
    async with running() as node:
        other = HttpServer({}, HttpConfig(), lambda _: None)
        with pytest.raises(PortTaken):
            await other.start("127.0.0.1", node.port)
        await other.close()


async def test_close_drops_clients_and_is_repeatable():
    async with running() as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        while not node.server._clients:
            await asyncio.sleep(0)
        await node.server.close()
        await node.server.close()
        assert await reader.read() == b""
        writer.close()


async def test_the_health_check_asks_the_node():
    async with running() as node:
        where = f"127.0.0.1:{node.port}"
        assert await asyncio.to_thread(health.main, ["--live", where]) == 0
        assert await asyncio.to_thread(health.main, [where]) == 1
        node.readiness.set("listening", True)
        node.readiness.set("joined", True)
        assert await asyncio.to_thread(health.main, [where]) == 0
    assert await asyncio.to_thread(health.main, [where]) == 1


def test_unknown_conditions_are_a_bug():
    with pytest.raises(KeyError):
        Readiness("listening").set("lisening", True)


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.lists(st.text()), st.none())))
def test_the_status_page_escapes_whatever_it_shows(facts):
    body = render_status(facts).body.decode("utf-8", "surrogatepass")
    table = body.partition("<table>")[2].partition("</table>")[0]
    assert table.count("<") == table.count("<tr>") * 6 + table.count("<br>")


GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda head: b"GET /healthz HTTP/1.1\r\n" + head + b"\r\n\r\n", st.binary(max_size=100)),
)


@settings(max_examples=scale(100, least=10))
@given(st.lists(GARBAGE, min_size=1, max_size=10))
def test_arbitrary_bytes_never_break_the_server(requests):
    async def converse() -> None:
        async with running() as node:
            for data in requests:
                reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
                writer.write(data)
                writer.write_eof()
                answer = await reader.read()
                assert status(answer) in (0, 400, 404, 405, 421, 431, 501, 505)
                writer.close()
            assert status(await node.get("/healthz")) == 200

    asyncio.run(converse())
