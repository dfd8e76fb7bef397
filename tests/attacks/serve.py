"""An API server in memory, as a process of its own: ``python -m tests.attacks.serve``."""

from __future__ import annotations

import asyncio
import json

from taskctl.embedded.server.main import EmbeddedServer, ServerOptions, tune_collector


async def main() -> None:
    async with EmbeddedServer(ServerOptions()) as server:
        tune_collector()
        authority = server.certificates.authority_pem.decode()
        where = {"url": server.url, "token": server.token, "authority": authority}
        print(json.dumps(where), flush=True)
        await server.engine.wait()


if __name__ == "__main__":
    asyncio.run(main())
