"""``odmt-fast plan``: how much memory and time a step will need, and what to set."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from odmt_fast.cli.options import ConfigFile, Data, Json, Preset, Set, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import given_places, load_config

if TYPE_CHECKING:
    from odmt_fast.planning import Card, Plan, Row

_SIZES = (32, 128, 512, 2048, 8192)
_MICRO_ITEMS = (1024, 256)
_UNITS = ("", "k", "m", "g", "t")


def plan(
    config_file: ConfigFile = None,
    preset: Preset = None,
    assignments: Set = None,
    data: Data = None,
    store: Store = None,
    device: Annotated[
        str, typer.Option(help="cpu, or a GPU by name: a100, h100, h200; cuda is the one here.")
    ] = "cpu",
    memory: Annotated[
        str | None,
        typer.Option(help="What may be taken, such as 8GiB.", show_default="what is free"),
    ] = None,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(help="Users of a step (repeat).", show_default=", ".join(map(str, _SIZES))),
    ] = None,
    micro_items: Annotated[
        list[int] | None,
        typer.Option(
            help="training.micro_items to consider beside one pass (repeat).",
            show_default=", ".join(map(str, _MICRO_ITEMS)),
        ),
    ] = None,
    probe_seconds: Annotated[
        float, typer.Option(help="On a CPU, about so long steps are timed.")
    ] = 20.0,
    json_output: Json = False,
) -> None:
    """Predict peak memory and time of a step for batch sizes, and name the settings to train with.

    Every step is run without being computed, which counts its memory; nothing is
    trained. docs/performance.md has predictions beside measurements.
    """
    import torch

    from odmt_fast import planning
    from odmt_fast.features.resident import source_bytes
    from odmt_fast.planning.heap import resident_bytes
    from odmt_fast.planning.plan import gib
    from odmt_fast.training.libraries import choose
    from odmt_fast.training.placement import Machine, free_host_bytes, placed
    from odmt_fast.training.precision import resolve
    from odmt_fast.workflow.workspace import Workspace

    output = Output(json_output)
    card = _card(device)
    given = None if memory is None else size_of(memory)
    config = load_config(config_file, preset, assignments or (), given_places(data, store, "cpu"))
    workspace = Workspace.open(config).with_default_stores()
    choose(say=output.note)
    stores = workspace.stores()
    precision = config.training.precision
    found = "bf16" if card and precision == "auto" else resolve(precision, torch.device("cpu"))
    config = workspace.config.updated({"training.precision": found})
    tokens = sum(map(source_bytes, stores.values())) if card else 0
    free = free_host_bytes()  # beside what this process has
    room = given or (card.memory if card else free and free + (resident_bytes() or 0))
    if not room:
        raise ValueError("how much memory is free is not told here; give --memory, such as 8GiB")
    beside = Machine("cuda", free_device=room, free_host=0, cores=0)
    planned = planning.plan(
        workspace.model(stores),
        workspace.split,
        config,
        memory=room,
        batch_sizes=batch_size or _SIZES,
        micro_items=_MICRO_ITEMS if micro_items is None else micro_items,
        card=card,
        table_bytes=tokens if placed("auto", 0, tokens, beside).residency == "device" else 0,
        probe_seconds=probe_seconds,
        say=output.note,
    )
    title = f"A step in {found} on {device}, {gib(planned.memory)}"
    output.result(
        _values(planned, found),
        lambda console: console.print(
            table(title, _HEAD, map(_cells, planned.rows)),
            table(
                f"Memory of {planned.pick.way.batch_size}, {planned.pick.way}",
                ("", "GiB"),
                _parts(planned.pick),
            ),
            *_remarks(planned, card is not None),
            planned.pick.way.yaml,
            sep="\n",
        ),
    )


_HEAD = ("batch", "items", "peak GiB", "fits", "step s", "users/s")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.way.batch_size:,}",
        str(row.way),
        f"{row.peak / 2**30:.2f}",
        "yes" if row.fits else "no",
        f"{row.seconds:.3g}",
        f"{row.users_per_second:,.0f}",
    )


def _parts(row: Row) -> list[tuple[str, str]]:
    counts = row.counts
    named = {
        "beside the model": row.base,
        "weights": counts.parameters,
        "optimiser": counts.optimizer,
        "tokens of the batch": counts.tokens,
        "activations kept for the backward": counts.saved,
        "gradients and work in the backward": counts.backward,
        "holes of the heap": counts.holes,
        "peak": row.peak,
    }
    return [(name, f"{size / 2**30:.3f}") for name, size in named.items()]


def _remarks(planned: Plan, on_card: bool) -> list[str]:
    if on_card:
        return [
            "Estimated from the rates that the maker states and the tensors of the CPU's operators;"
            " measured on no GPU."
        ]
    sizes = ", ".join(f"{probe.users} users {probe.seconds:.3g} s" for probe in planned.probes)
    return [f"Timed: {sizes}. The batch size changes what is learned; docs/choosing-settings.md."]


def _values(planned: Plan, precision: str) -> dict[str, Any]:
    return {
        "memory": planned.memory,
        "precision": precision,
        "pick": _row_values(planned.pick),
        "yaml": planned.pick.way.yaml,
        "rows": [_row_values(row) for row in planned.rows],
        "probes": [{"users": p.users, "seconds": p.seconds} for p in planned.probes],
    }


def _row_values(row: Row) -> dict[str, Any]:
    return {
        **asdict(row.way),
        "peak": row.peak,
        "fits": row.fits,
        "seconds": row.seconds,
        "users_per_second": row.users_per_second,
        "base": row.base,
        **asdict(row.counts),
    }


def size_of(words: str) -> int:
    """Bytes of "8GiB", "500 MB" or "1e9".

    Raises:
        ValueError: they are no size.
    """
    match = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([kmgt]?)(i?)b?\s*", words.lower())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"--memory {words} is no size; give one such as 8GiB or 500MB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _UNITS.index(match[2]))


def _card(device: str) -> Card | None:
    """The GPU to plan for; None = this CPU.

    Raises:
        ValueError: no such device is known.
    """
    import torch

    from odmt_fast.planning import CARDS

    if device == "cpu":
        return None
    name = device
    if device.partition(":")[0] == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"--device {device}: torch sees no GPU here; name the one to plan for: "
                f"--device {', '.join(CARDS)}, or cpu"
            )
        name = torch.cuda.get_device_name(device)
    found = next((card for key, card in CARDS.items() if key in name.lower()), None)
    if found is None:
        raise ValueError(f"--device {name} is not known; use cpu, {', '.join(CARDS)} or cuda")
    return found
