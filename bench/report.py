"""``python -m bench.report``: the figures of the pages, from the committed results only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench import (
    ablation_plot,
    allocators,
    anchor_table,
    cold,
    comparison_table,
    id_table,
    launches,
    micro_items,
    operator_table,
    paired,
    plan,
    portable,
    retrieval_table,
    service,
    spaces,
    step_table,
    validation,
)
from bench.peers.__main__ import section as peers_section
from bench.results import FOLDER, ROOT, load
from bench.step_table import GIB, IMPLEMENTATIONS, floor_seconds
from bench.table import table

PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "images" / "batch_size.png"
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results.md"
MARKS = ("<!-- headline -->", "<!-- /headline -->")
"""What stands between them in the README is made from the results."""
RANKINGS = ("id", "text", "image", "ensemble")


def batch_size_section(results: dict[str, Any]) -> str:
    """Time per sample and memory as the batch grows."""
    body = [
        [
            f"{row['users']:,}",
            row["dtype"],
            f"{row['items']:,}",
            f"{row['occurrences'] / row['items']:.2f}",
            f"{1e3 * median(row['seconds']):,.0f}",
            f"{1e3 * median(row['seconds']) / row['users']:.1f}",
            f"{floor_seconds(row) / median(row['seconds']):.0%}",
            f"{row['peak_bytes'] / GIB:.2f}",
        ]
        for row in results["rows"]
    ]
    draw_batch_size(results["rows"])
    head = ["batch", "dtype", "distinct items", "occurrences per item", "step ms", "ms per user"]
    head += ["of the floor", "process peak GiB"]
    return "\n".join(
        [
            "## Batch size",
            "",
            "The larger the batch, the more occurrences share one encoded item.",
            "",
            table(head, body),
            "",
            f"![Time per user and occurrences per item]({PLOT.relative_to(PAGE.parent)})",
        ]
    )


def draw_batch_size(rows: list[dict[str, Any]]) -> None:
    """ms per user by batch size, the dedup ratio beside it."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
    for dtype, colour in (("fp32", "#0072B2"), ("bf16", "#D55E00")):
        mine = [row for row in rows if row["dtype"] == dtype]
        users = [row["users"] for row in mine]
        cost = [1e3 * median(row["seconds"]) / row["users"] for row in mine]
        axes.plot(users, cost, "o-", color=colour, label=f"{dtype}: ms per user")
    mine = [row for row in rows if row["dtype"] == "fp32"]
    ratio = axes.twinx()
    ratio.plot(
        [row["users"] for row in mine],
        [row["occurrences"] / row["items"] for row in mine],
        "s--",
        color="#666666",
        label="occurrences per distinct item",
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks([row["users"] for row in mine], [str(row["users"]) for row in mine])
    axes.set_xlabel("users in the batch")
    axes.set_ylabel("ms per user (forward + backward)")
    axes.set_ylim(bottom=0)
    ratio.set_ylabel("occurrences per distinct item")
    ratio.set_ylim(bottom=0)
    lines = [*axes.get_lines(), *ratio.get_lines()]
    labels = [line.get_label() for line in lines]
    figure.legend(lines, labels, loc="outside upper center", ncols=3, frameon=False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=130)
    plt.close(figure)


def quality_section(results: dict[str, Any]) -> str:
    """HR@10 of reference and engine over seeds, dropout on, and what the noise alone changes."""
    name, rows, setting = results["name"], results["rows"], results["setting"]
    title = f"## Quality with dropout: {name.removeprefix('quality_')}"
    seeds = paired.complete_seeds(rows)
    if len(seeds) < setting["seeds"]:
        return f"{title}\n\nUnfinished: {len(seeds)} of {setting['seeds']} seeds are there."
    runs = {
        "reference": paired.REFERENCE,
        IMPLEMENTATIONS["engine"]: paired.ENGINE,
        f"{IMPLEMENTATIONS['engine']}, other noise": paired.AGAIN,
    }
    gaps = {
        "**engine - reference**": (paired.ENGINE, paired.REFERENCE),
        "other noise - engine": (paired.AGAIN, paired.ENGINE),
    }

    def cells(values: Callable[[str], Sequence[float]], sign: str = "") -> list[str]:
        estimates = [paired.Estimate.of(values(ranking)) for ranking in RANKINGS]
        return [f"{x.mean:{sign}.4f} ± {x.error:.4f}" for x in estimates]

    def hits(kind: tuple[str, int]) -> list[str]:
        return cells(lambda ranking: list(paired.by_seed(rows, kind, ranking).values()))

    def gap(pair: tuple[tuple[str, int], tuple[str, int]]) -> list[str]:
        return cells(lambda ranking: paired.differences(rows, *pair, ranking), "+")

    body = [
        *([label, *hits(kind)] for label, kind in runs.items()),
        *([label, *gap(pair)] for label, pair in gaps.items()),
    ]
    plot = PLOT.with_name(f"{name}.png")
    paired.draw(rows, RANKINGS, plot)
    dataset = "the generated shop" if setting["shop"] else "movielens-posters-mini"
    baselines = ", ".join(f"{key} {value:.4f}" for key, value in results["baselines"].items())
    found = paired.gaps(rows, RANKINGS)
    head, near = found["ensemble"], sum(gap.within_one_error for gap in found.values())
    level = mean(paired.by_seed(rows, paired.REFERENCE, "ensemble").values())
    users = (level * (1 - level) / results["users"]) ** 0.5
    within = "lies within" if head.within_one_error else "does not lie within"
    return "\n".join(
        [
            title,
            "",
            f"Test HR@10 on {dataset} ({results['users']:,} users, {results['items']:,} items, "
            f"whole catalogue ranked), mean of the last {setting['averaged']} of "
            f"{setting['epochs']} epochs; {len(seeds)} seeds, mean ± standard error. Width "
            f"{setting['width']}, {setting['steps']} steps, batch {setting['batch']}, dropout "
            f"{setting['dropout']}, distillation weight {setting['alpha']}, learning rate "
            f"{setting['learning_rate']}. Same weights at the start, same batches; the engine "
            "draws one noise per distinct item and step, the reference one per occurrence, the "
            "one statistical difference between them. The engine's second run of a seed differs "
            "in its noise alone. Made by `python -m bench.quality "
            f"{name.removeprefix('quality_')}`, whose docstring says how it was set.",
            "",
            f"For comparison: {baselines}.",
            "",
            table(["", *RANKINGS], body),
            "",
            f"Differences are paired by seed. That of the ensemble, {head.mean:+.4f} ± "
            f"{head.error:.4f}, {within} one standard error of zero; of the {len(RANKINGS)} "
            f"rankings' differences {near} do. Where nothing differs but noise, about two in three "
            f"would. An HR@10 of this size is uncertain by ± {users:.4f} from the choice of the "
            "test users.",
            "",
            f"![Differences by seed]({plot.relative_to(PAGE.parent)})",
        ]
    )


OPERATORS = "operators*"
"""Of this CPU, of limited instructions, of every GPU."""

SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "step": step_table.section,
    "step_avx2": step_table.section,
    "batch_size": batch_size_section,
    "allocators": allocators.section,
    "retrieval": retrieval_table.section,
    "retrieval_avx2": retrieval_table.section,
    "validation": validation.section,
    "launches": launches.section,
    "micro_items": micro_items.section,
    "plan": plan.section,
    "id_table": id_table.section,
    "portable": portable.section,
    "service": service.section,
    OPERATORS: operator_table.section,
    "peers": peers_section,
    "quality_demo": quality_section,
    "quality_mini": quality_section,
}
"""Pattern of the results' names -> their part of the page."""


def main() -> None:
    """Writes the page from the results that are there."""
    parts = [
        "# Performance",
        "",
        "Made by `make report` from `bench/results/`, which `make bench` writes; nothing here is "
        "typed by hand.",
        "",
    ]
    for pattern, section in SECTIONS.items():
        paths = sorted(FOLDER.glob(f"{pattern}.json"))
        if pattern == OPERATORS and not paths:
            parts += [operator_table.NOT_YET, ""]
        for path in paths:
            results = {"name": path.stem, **load(path.stem)}
            machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
            parts += [section(results), "", f"<sub>{machine}</sub>", ""]
    PAGE.write_text("\n".join(parts))
    print(PAGE.relative_to(ROOT))
    steps = [load(name) for name in ("step", "step_avx2") if (FOLDER / f"{name}.json").exists()]
    if steps:
        write_between(README, MARKS, step_table.headline(steps))
    for data in cold.NAMES:
        if (FOLDER / f"cold_{data}.json").exists():
            write_between(RESULTS, cold.marks(data), cold.section(load(f"cold_{data}")))
    if (FOLDER / f"{anchor_table.NAME}.json").exists():
        write_between(RESULTS, anchor_table.MARKS, anchor_table.section(load(anchor_table.NAME)))
    for file in sorted((FOLDER / "studies").glob("*-compared.json")):
        name = file.stem.removesuffix("-compared")
        found, compared = load(f"studies/{name}"), load(f"studies/{file.stem}")
        text = comparison_table.section(found, compared)
        if name.endswith(ablation_plot.SUFFIX):
            drawn = ablation_plot.draw(name, found, compared["models"])
            places = [picture.relative_to(RESULTS.parent) for picture in drawn]
            text = "\n\n".join([text, *(f"![{place.stem}]({place})" for place in places)])
        write_between(RESULTS, comparison_table.marks(name), text)
    if (FOLDER / f"{spaces.NAME}.json").exists():
        write_between(RESULTS, spaces.MARKS, spaces.section(load(spaces.NAME)))


def write_between(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replaces what stands between two marks of a page.

    Raises:
        ValueError: the page lacks a mark.
    """
    before, first, rest = page.read_text().partition(marks[0])
    _, second, after = rest.partition(marks[1])
    if not (first and second):
        raise ValueError(f"{page} lacks {marks[0]} or {marks[1]}; put both where the table goes")
    page.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}")
    print(page)


if __name__ == "__main__":
    main()
