"""One process that takes whatever every variant exports, and counts the bytes.

``python -m benchmarks.agent.sink PORT...``: one port a variant; ``GET /count`` answers its bytes.
"""

from __future__ import annotations

import asyncio
import sys


async def serve(port: int) -> None:
    received = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
                }
                if "content-length" in headers:
                    received += len(await reader.readexactly(int(headers["content-length"])))
                elif headers.get("transfer-encoding") == "chunked":
                    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                        received += len(await reader.readexactly(size + 2)) - 2
                    await reader.readuntil(b"\r\n")
                body = str(received).encode() if first.startswith("GET /count ") else b"{}"
                kind = "application/json" if body == b"{}" else "text/plain"
                if "protobuf" in headers.get("content-type", ""):
                    body, kind = b"", "application/x-protobuf"
                writer.write(
                    f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, limit=1 << 20)
    await server.serve_forever()


async def main() -> None:
    await asyncio.gather(*(serve(int(port)) for port in sys.argv[1:]))


if __name__ == "__main__":
    asyncio.run(main())
