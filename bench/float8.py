"""What float8 does to loss and gradients: ``python -m bench.float8 --page`` writes docs/float8.md.

A model of the official sizes and a realistic batch, without dropout, so that nothing but the
products differs. Rows are the precisions, each held to fp32. Float8 is rounded and multiplied as a
GPU does, but for the order of sums; no time is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.results import ROOT, save
from bench.table import table
from bench.workload import EPOCH, Workload
from odmt_fast.storage import write_atomically

PAGE = ROOT / "docs" / "float8.md"
PRECISIONS = ("fp32", "bf16", "bf16, items in float8")
ABOUT = """# Float8

`training.float8=true` (with bf16) multiplies the linear maps of the items' layers in
float8 e4m3: Q, K and V of all layers but the last, O, and the feed-forward maps. Activations,
weights and the gradients of activations are rounded, each row to a scale of its own; the weights'
gradients, and everything else, stay bf16 (`kernels/linear/float8.py`). It is off by default and
needs a GPU from sm_89 on, elsewhere training refuses it. **No GPU has run it yet.**

A step at width {width}, {layers} layers, {items} items, {rows} rows, initial weights, no dropout,
computed on a CPU from operands rounded as a GPU rounds them: relative distance of gradients from
those of fp32 in 2-norms, cosine in brackets. `python -m bench.float8 --page`. What float8 does to
the quality of a trained model was not measured.
"""
PARTS = {
    "Q, K, V, O of the items": ("items.blocks", "qkv out"),
    "feed-forward maps of the items": ("items.blocks", "up. down."),
    "feature projections": ("items.projections", ""),
    "ID table": ("items.id_embedding", ""),
    "users": ("users", ""),
}
"""Title -> beginning of the names of parameters, and what else one of must be in them."""


def results_of(model: nn.Module, workload: Workload, precision: str) -> dict[str, Tensor]:
    """Loss terms and gradients by name."""
    model.zero_grad(set_to_none=True)
    items: Any = model.items
    items.float8 = "float8" in precision
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32"):
        terms = model(workload.packed_batch, EPOCH)
    terms["loss"].backward()
    found = {f"term {name}": term.detach() for name, term in terms.items()}
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found | gradients


def chosen(names: Sequence[str], begins: str, words: str) -> list[str]:
    """The parameters of a part."""
    found = [name for name in names if name.startswith(begins)]
    return [name for name in found if not words or any(word in name for word in words.split())]


def measured(workload: Workload) -> list[dict[str, Any]]:
    """A row a precision: the loss, and how far terms and gradients are from those of fp32."""
    model = workload.engine()
    exact: dict[str, Tensor] = {}
    rows = []
    for precision in PRECISIONS:
        got = results_of(model, workload, precision)
        exact = exact or got
        names = [name for name in got if not name.startswith("term ")]
        row: dict[str, Any] = {"precision": precision, "loss": float(got["term loss"])}
        row["loss_error"] = abs(row["loss"] / float(exact["term loss"]) - 1)
        for title, part in {"all weights": ("", ""), **PARTS}.items():
            of = chosen(names, *part)
            one, other = (torch.cat([x[n].flatten().double() for n in of]) for x in (got, exact))
            row[title] = {
                "distance": float((one - other).norm() / other.norm()),
                "cosine": float(torch.nn.functional.cosine_similarity(one, other, dim=0)),
            }
        rows.append(row)
    return rows


def page(rows: Sequence[Mapping[str, Any]], workload: Workload) -> str:
    """docs/float8.md."""
    batch = workload.batch
    head = ["", *(row["precision"] for row in rows)]
    body = [
        ["loss", *(f"{row['loss']:.5f}" for row in rows)],
        ["its relative error", *(f"{row['loss_error']:.1e}" for row in rows)],
    ]
    for title in ("all weights", *PARTS):
        cells = [f"{row[title]['distance']:.1%} ({row[title]['cosine']:.4f})" for row in rows]
        body.append([f"gradient of {title}", *cells])
    about = ABOUT.format(
        width=workload.width, layers=workload.layers, items=len(batch.items), rows=batch.n_rows
    )
    return f"{about}\n{table(head, body)}\n"


def main() -> None:
    """Measures, prints, and with --page saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--page", action="store_true", help="write docs/float8.md and the results")
    options = parser.parse_args()
    workload = Workload(users=options.users, width=options.width, dropout=0.0)
    rows = measured(workload)
    text = page(rows, workload)
    print(text)
    if options.page:
        save("float8", rows, users=options.users, width=options.width)
        write_atomically(PAGE, lambda part: part.write_text(text))


if __name__ == "__main__":
    main()
