"""The process around the application: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

_PATIENCE_S = 30


def serve(app: Starlette, host: str, port: int, ready: Callable[[str], object]) -> None:
    """Answers until SIGTERM or SIGINT, which first lets what has arrived be answered.

    SIGHUP reads the bundle again, as POST /reload does.

    Args:
        app: of `create_app`.
        host: address to listen on.
        port: 0 takes a free one.
        ready: told the address once connections are accepted.

    Raises:
        OSError: the port is taken, or the host is none of this machine.
    """
    with listener(host, port) as listening:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_level="info",
            access_log=False,  # counted in /metrics; histories stay out of logs
            timeout_graceful_shutdown=_PATIENCE_S,
        )
        asyncio.run(_run(uvicorn.Server(config), app, listening, lambda: ready(address)))


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens, and whose connections send at once what is written to them.

    Raises:
        OSError: see `serve`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"--host {host} --port {port}: {reason}; choose another") from error
    # asyncio sets TCP_NODELAY where a socket names its protocol, which `create_server` leaves out.
    # Without it an answer's second part waits for the client to acknowledge the first: 40 ms.
    return socket.socket(family, made.type, socket.IPPROTO_TCP, made.detach())


async def _run(
    server: uvicorn.Server,
    app: Starlette,
    listening: socket.socket,
    ready: Callable[[], object],
) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[str]] = set()

    def reload() -> None:
        task = loop.create_task(app.state.reload())
        tasks.add(task)  # the loop alone would let it go
        task.add_done_callback(tasks.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, reload)
    # What is loaded by now stays. Left among what the collector looks through, torch and the
    # catalogue would be walked through every few hundred requests, while all others wait.
    gc.collect()
    gc.freeze()
    # The kernel queues connections from `create_server` on.
    ready()
    await server.serve(sockets=[listening])
