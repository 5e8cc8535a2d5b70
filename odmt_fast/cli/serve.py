"""``odmt-fast serve``: a bundle over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from odmt_fast.cli.options import Device, Search


def serve(
    bundle: Annotated[Path, typer.Argument(help="What export made.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    wait_ms: Annotated[
        float,
        typer.Option(min=0, max=1000, help="Time a request may wait for others to join it."),
    ] = 2.0,
    search: Search = "exact",
    device: Device = None,
) -> None:
    """Answer over HTTP: /recommend, /similar, /items, and a page at /.

    SIGTERM ends it once what has arrived is answered; SIGHUP reads the bundle again.
    """
    try:
        from odmt_fast import service
    except ImportError as error:
        if error.name not in ("starlette", "uvicorn", "prometheus_client"):
            raise
        raise ImportError(f"serve needs {error.name}; pip install 'odmt_fast[serve]'") from None
    from odmt_fast.training.precision import training_device

    live = service.Live(bundle, training_device(device or "auto"), search=search)
    app = service.create_app(live, wait_s=wait_ms / 1000)
    service.serve(
        app, host, port, lambda address: print(f"{bundle} answers at {address}", flush=True)
    )
