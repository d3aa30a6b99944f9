"""A TCP link to the provider that refuses new connections for a while, as an overloaded machine's does.

What was under way goes on to its end, so that both ends agree on what arrived: while the link is down its
port is closed, and connections that carry nothing are closed as a server closes idle ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class WeakLink:
    """Forwards a port on loopback to another; ``down()`` and ``up()`` may be called from any thread."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.unheard = 0  # answers that were lost, which no client can know of
        self._server: asyncio.Server | None = None
        self._idle: set[asyncio.StreamWriter] = set()
        self._asked: set[asyncio.StreamWriter] = set()
        self._ended: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def _call(self, what: object) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)  # type: ignore[arg-type]

    def start(self) -> None:
        self._thread.start()
        self.up()

    def up(self) -> None:
        self._call(self._up())

    def down(self) -> None:
        self._call(self._down())

    def stop(self) -> None:
        self.down()
        self._call(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _up(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._idle):
            self._end(writer)

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        from_target, to_target = await asyncio.open_connection("127.0.0.1", self.target)
        answers = asyncio.create_task(self._answers(from_target, writer))
        try:
            while part := await reader.read(65536):
                self._idle.discard(writer)
                self._asked.add(writer)
                to_target.write(part)
                await to_target.drain()
            to_target.write_eof()
            await answers
        except OSError:
            pass
        finally:
            answers.cancel()
            self.unheard += writer in self._asked  # asked just as the link went down
            self._asked.discard(writer)
            self._idle.discard(writer)
            self._ended.discard(writer)
            for each in (writer, to_target):
                each.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65536):
            if writer in self._ended:
                continue
            writer.write(part)
            await writer.drain()
            if part.endswith((b"}", b"]", b"0\r\n\r\n")):  # the end of an answer
                self._asked.discard(writer)
                self._idle.add(writer)
                if self._server is None:
                    self._end(writer)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        # A client sees it before it uses the connection again.
        if writer not in self._ended and not writer.is_closing():
            self._ended.add(writer)
            writer.write_eof()


@contextlib.contextmanager
def weak_link(port: int, target: int) -> Iterator[WeakLink]:
    """A link that is up, until the block ends."""
    link = WeakLink(port, target)
    link.start()
    try:
        yield link
    finally:
        link.stop()
