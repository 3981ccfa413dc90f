"""Framing, and noticing that the other end is gone."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_server.stdio import Frames, Writer, read_messages, wait_for_death


def framed(body: bytes, header: bytes = b"Content-Length: %d\r\n\r\n") -> bytes:
    return header % len(body) + body


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: %d\r\n\r\n",
        b"content-length:%d\r\n\r\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: %d\r\n\r\n",
        b"CONTENT-LENGTH: %d \r\nX: y\r\n\r\n",
        b"Content-Length: %d\n\n",
    ],
)
def test_headers_are_read_in_any_case_and_order(header) -> None:
    assert Frames().feed(framed(b"{}", header)) == [b"{}"]


@given(st.lists(st.binary(max_size=20), max_size=4), st.integers(1, 30))
def test_messages_come_whole_however_the_bytes_arrive(bodies, size) -> None:
    stream = b"".join(map(framed, bodies))
    frames = Frames()
    assert [body for i in range(0, len(stream), size) for body in frames.feed(stream[i : i + size])] == bodies


@pytest.mark.parametrize(
    "broken",
    [b"Content-Length: x\r\n\r\n", b"Nonsense\r\n\r\n", b"Content-Length: 99999999999\r\n\r\n", b"Content-Length: -1\r\n\r\n"],
)
def test_a_broken_header_is_skipped(broken, caplog) -> None:
    assert Frames().feed(broken + framed(b"{}")) == [b"{}"]
    assert "without a usable Content-Length" in caplog.text


def test_endless_bytes_without_a_header_are_not_kept() -> None:
    frames = Frames()
    for _ in range(100):
        frames.feed(b"x" * 4096)
    assert frames.feed(b"\r\n\r\n" + framed(b"{}")) == [b"{}"]


async def test_messages_are_read_until_the_other_end_closes() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, framed(b"one") + framed(b"two"))
    os.close(write_fd)
    assert [body async for body in read_messages(read_fd)] == [b"one", b"two"]
    os.close(read_fd)


async def test_messages_are_read_from_a_file_too_which_no_loop_can_watch(tmp_path) -> None:
    path = tmp_path / "session"
    path.write_bytes(framed(b"one") + framed(b"two"))
    with path.open("rb") as file:
        assert [body async for body in read_messages(file.fileno())] == [b"one", b"two"]


async def test_who_stops_reading_leaves_the_rest_to_others() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, framed(b"one"))
    async with aclosing(read_messages(read_fd)) as messages:
        assert await anext(messages) == b"one"
    os.write(write_fd, framed(b"two"))
    await asyncio.sleep(0)
    assert os.read(read_fd, 100) == framed(b"two")
    os.close(read_fd)
    os.close(write_fd)


def test_a_broken_pipe_is_reported_and_never_raised() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    broken: list[bool] = []
    stream = os.fdopen(write_fd, "wb", buffering=0)
    Writer(stream, lambda: broken.append(True)).write(b"x")
    stream.close()
    assert broken == [True]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX can ask whether a process lives")
async def test_the_death_of_a_process_is_noticed() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    watching = asyncio.create_task(wait_for_death(process.pid, poll_s=0.01))
    await asyncio.sleep(0)  # lets it see the process alive
    await process.communicate(b"\n")
    await asyncio.wait_for(watching, 10)


async def test_a_process_that_can_t_be_seen_never_dies() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait_for_death(1 << 30, poll_s=0.0), 0)
