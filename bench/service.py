"""``python -m bench.service``: a bundle under many clients at once, against the bare call.

The service is a process of its own on the loopback device; the clients share this one and do as
little as they can (bytes made before, no HTTP library), since on few cores they take time from it:
of both the CPU-milliseconds per request are told. The bare call is ``Recommender.recommend`` for
one history. With ``--fuzz N`` it is sent N bodies near right ones first, none of which may end it
or answer 5xx.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import torch

from bench.results import save, timed
from bench.table import table
from odmt_fast.config import ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models.zoo import build
from odmt_fast.retrieval import Parts, Recommender

CLIENTS, SECONDS, ITEMS, WIDTH, K = 200, 30.0, 20_000, 64, 10
_FUZZ_WORDS = (None, True, -1, 10**30, 1.5, "", "i1", "\ud800", [], ["i1"], [[]], {}, {"a": 1})


def recommender(items: int) -> Recommender:
    """An untrained model over `items` random items."""
    generator = torch.Generator().manual_seed(0)
    settings = ModelConfig(width=WIDTH, max_seq_len=20)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(items + 1)])
    text = TokenTable(torch.randn(items, 32, generator=generator), offsets)
    model = build(settings, [1.0] * (items + 1), {"text": text}, generator=generator).eval()
    names = tuple(f"i{item}" for item in range(items))
    return Recommender(Parts.of(model, settings, ItemTable(names, names, (None,) * items)))


def histories(items: int, count: int, draw: random.Random) -> list[list[str]]:
    """Of 1 to 20 items."""
    return [[f"i{draw.randrange(items)}" for _ in range(draw.randint(1, 20))] for _ in range(count)]


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(seconds)
    return {
        f"p{part}_ms": 1e3 * ordered[min(len(ordered) - 1, len(ordered) * part // 100)]
        for part in (50, 99)
    }


def resident(pid: int) -> float:
    """MiB of the process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Of the process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def packed(history: list[str]) -> bytes:
    """A request for the list after `history`."""
    body = json.dumps({"history": history, "k": K})
    head = "POST /recommend HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def asking(port: int, number: int, requests: list[bytes], end: float) -> list[float]:
    """Seconds that each answer took, over a connection of its own, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took: list[float] = []
    while (begun := time.perf_counter()) < end:
        writer.write(requests[(7 * number + len(took)) % len(requests)])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200 "), head
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        took.append(time.perf_counter() - begun)
    writer.close()
    return took


async def load(
    address: str, pid: int, clients: int, seconds: float, asked: list[list[str]]
) -> dict[str, Any]:
    """Every client asks again once it is answered; memory is read at a tenth and at the end."""
    requests = [packed(history) for history in asked]
    port = int(address.rpartition(":")[2])
    await asking(port, 0, requests, time.perf_counter() + 0.2)
    start, server, client = time.perf_counter(), cpu_seconds(pid), time.process_time()
    all_of_them = [
        asyncio.create_task(asking(port, number, requests, start + seconds))
        for number in range(clients)
    ]
    await asyncio.sleep(seconds / 10)
    warm = resident(pid)
    took = [second for part in await asyncio.gather(*all_of_them) for second in part]
    return {
        "requests": len(took),
        "requests_per_second": len(took) / (time.perf_counter() - start),
        **percentiles(took),
        "server_cpu_ms": 1e3 * (cpu_seconds(pid) - server) / len(took),
        "client_cpu_ms": 1e3 * (time.process_time() - client) / len(took),
        "warm_mib": warm,
        "end_mib": resident(pid),
    }


def fuzz(address: str, count: int) -> None:
    """Raises an AssertionError with the body that was answered by 5xx."""
    draw = random.Random(0)
    with httpx.Client(base_url=address, timeout=60) as client:
        for _ in range(count):
            body: dict[str, Any] = {"history": ["i1", "i2"], "k": 3, "deny": ["i3"]}
            for _ in range(draw.randrange(3)):
                body[draw.choice([*body, "user", "items"])] = draw.choice(_FUZZ_WORDS)
            content = bytearray(json.dumps(body).encode())
            for _ in range(draw.randrange(3)):
                content[draw.randrange(len(content))] = draw.randrange(256)
            route = draw.choice(["/recommend", "/similar", "/items"])
            headers = {"content-type": "application/json"}
            answer = client.post(route, content=bytes(content), headers=headers)
            assert answer.status_code < 500, (route, bytes(content), answer.text)


def main() -> None:
    """Measures and saves ``service.json``."""
    parser = argparse.ArgumentParser(prog="python -m bench.service", description=__doc__)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--wait-ms", type=float, default=2.0, help="of the service")
    parser.add_argument("--fuzz", type=int, default=0, metavar="N", help="bodies sent before")
    options = parser.parse_args()
    asked = histories(options.items, 1000, random.Random(0))
    bare = recommender(options.items)
    with tempfile.TemporaryDirectory() as folder:
        bundle = bare.save(Path(folder) / "bundle")
        seconds = []
        for history in asked:
            begun = time.perf_counter()
            bare.recommend([history], K)
            seconds.append(time.perf_counter() - begun)
        command = [sys.executable, "-m", "odmt_fast", "serve", str(bundle), "--port", "0"]
        command += ["--wait-ms", str(options.wait_ms)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().split()[-1]
                fuzz(address, options.fuzz)
                work = load(address, process.pid, options.clients, options.seconds, asked)
                under = asyncio.run(work)
            finally:
                process.terminate()
    common = {"items": options.items, "width": WIDTH, "k": K}
    rows = [
        {"way": "bare call, one history", **common, **percentiles(seconds)},
        {
            "way": "service",
            "clients": options.clients,
            "wait_ms": options.wait_ms,
            **common,
            **under,
        },
    ]
    for row in rows:
        print(json.dumps(row), flush=True)
    save(timed("service"), rows)


def section(results: dict[str, Any]) -> str:
    """The service beside the bare call, for docs/performance.md."""
    bare, service = results["rows"]
    head = ["", "p50 ms", "p99 ms", "requests/s", "CPU ms a request", "MiB before", "MiB after"]
    body = [
        [bare["way"], f"{bare['p50_ms']:.1f}", f"{bare['p99_ms']:.1f}", "", "", "", ""],
        [
            f"service, {service['clients']} clients at once",
            f"{service['p50_ms']:.0f}",
            f"{service['p99_ms']:.0f}",
            f"{service['requests_per_second']:,.0f}",
            f"{service['server_cpu_ms']:.2f}",
            f"{service['warm_mib']:.1f}",
            f"{service['end_mib']:.1f}",
        ],
    ]
    return "\n".join(
        [
            "## The service",
            "",
            f"`serve` ([serving.md](serving.md)) on the loopback device, "
            f"{service['items']:,} items of width {service['width']}, top {service['k']}: "
            f"{service['requests']:,} requests, each client asking again as soon as it is "
            f"answered; clients and service share the cores. It waits {service['wait_ms']:g} ms "
            "for requests to answer together. `python -m bench.service --seconds 60 --fuzz 10000` "
            "sends 10,000 hostile bodies first, none of which may be answered with a fault of the "
            "service.",
            "",
            table(head, body),
        ]
    )


if __name__ == "__main__":
    main()
