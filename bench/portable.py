"""``python -m bench.portable``: the user encoder of every model as a graph, against the engine.

For each: CPU-seconds to make it, the bytes of the files, and the largest difference of a vector to
the engine's, over the largest of its values. ONNX is told where it and ONNX Runtime are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.results import save, timed
from bench.table import table
from odmt_fast.config import ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models.zoo import BACKBONES, MODELS, build
from odmt_fast.retrieval import Parts, Recommender
from odmt_fast.retrieval.portable import exported, save_onnx, save_torch

ITEMS, USERS, WIDTH, STEPS = 500, 300, 64, 20


def recommender(name: str, backbone: str) -> Recommender:
    """An untrained model over random items."""
    g = torch.Generator().manual_seed(0)
    settings = ModelConfig(name=name, backbone=backbone, width=WIDTH, max_seq_len=STEPS)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(ITEMS + 1)])
    sources = {
        modality: TokenTable(torch.randn(ITEMS, 32, generator=g), offsets)
        for modality in ("text", "image")
    }
    model = build(settings, [1.0] * (ITEMS + 1), sources, generator=g).eval()
    names = tuple(f"i{item}" for item in range(ITEMS))
    return Recommender(Parts.of(model, settings, ItemTable(names, names, (None,) * ITEMS)))


def histories() -> tuple[Tensor, list[list[int]]]:
    """Padded, and as lists."""
    g = torch.Generator().manual_seed(1)
    drawn = torch.randint(1, ITEMS + 1, (USERS, STEPS), generator=g)
    lengths = torch.randint(1, STEPS + 1, (USERS, 1), generator=g)
    drawn *= torch.arange(STEPS) < lengths
    return drawn, [row[row > 0].tolist() for row in drawn]


def measured(name: str, backbone: str, onnx: bool) -> dict[str, Any]:
    """Of one model."""
    asked = recommender(name, backbone)
    padded, lists = histories()
    vectors = asked.parts.catalogue[:, 1:].contiguous()
    expected = asked.user_vectors(Sequences.from_lists(lists))

    def error(found: Tensor) -> float:
        return float((found - expected).abs().max() / expected.abs().max())

    start = time.process_time()
    program = exported(asked.parts)
    row: dict[str, Any] = {"model": name, "backbone": backbone}
    row["cpu_seconds"] = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        file = save_torch(program, asked.parts, Path(folder))
        row["torch_bytes"] = file.stat().st_size
        row["torch_error"] = error(torch.export.load(file).module()(vectors, padded))
        if onnx:
            import onnxruntime

            file = save_onnx(program, asked.parts, Path(folder))
            row["onnx_bytes"] = file.stat().st_size
            session = onnxruntime.InferenceSession(file)
            feed = {"vectors": vectors.numpy(), "histories": padded.numpy()}
            row["onnx_error"] = error(torch.tensor(session.run(None, feed)[0]))
    return row


def main() -> None:
    """Measures and saves ``portable.json``."""
    argparse.ArgumentParser(prog="python -m bench.portable", description=__doc__).parse_args()
    onnx = all(importlib.util.find_spec(n) for n in ("onnx", "onnxscript", "onnxruntime"))
    kinds = [("odmt", backbone) for backbone in BACKBONES]
    kinds += [(name, "sasrec") for name in MODELS if name != "odmt"]
    rows = []
    for name, backbone in kinds:
        rows.append(measured(name, backbone, onnx))
        print(json.dumps(rows[-1]), flush=True)
    save(timed("portable"), rows)


def section(results: dict[str, Any]) -> str:
    """Of every model, for docs/performance.md."""
    rows = results["rows"]
    kinds = [kind for kind in ("torch", "onnx") if f"{kind}_error" in rows[0]]
    body = [
        [
            row["model"],
            row["backbone"],
            f"{row['cpu_seconds']:.1f}",
            *(f"{row[f'{kind}_bytes'] / 1e6:.2f}" for kind in kinds),
            *(f"{row[f'{kind}_error']:.1e}" for kind in kinds),
        ]
        for row in rows
    ]
    head = ["model", "backbone", "CPU s to make", *(f"{kind} MB" for kind in kinds)]
    head += [f"{kind} error" for kind in kinds]
    return "\n".join(
        [
            "## The user encoder as a graph",
            "",
            "`export --torch-export --onnx` ([serving.md](serving.md)): vectors of "
            f"{USERS} histories by the loaded graph against the engine's, width {WIDTH}, {STEPS} "
            "steps, fp32. *error* is the largest difference over the largest value. `python -m "
            "bench.portable`.",
            "",
            table(head, body, left=2),
        ]
    )


if __name__ == "__main__":
    main()
