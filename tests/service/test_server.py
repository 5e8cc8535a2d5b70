"""Connections of the service send at once what is written to them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from odmt_fast.service.server import listener


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_answer_does_not_wait_for_its_first_part_to_be_acknowledged(host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    seen: list[int] = []

    def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def connect() -> None:
        with listener(host, 0) as listening:
            async with await asyncio.start_server(accepted, sock=listening):
                reader, writer = await asyncio.open_connection(*listening.getsockname()[:2])
                assert await reader.read() == b""
                writer.close()

    asyncio.run(connect())
    assert len(seen) == 1 and seen[0]


def test_a_taken_port_is_refused_by_name() -> None:
    with listener("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"--port {port}: .*in use.*; choose another"):
            listener("127.0.0.1", port)
