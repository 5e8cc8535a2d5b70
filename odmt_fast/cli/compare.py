"""``odmt-fast compare``: whether one run ranks better than another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from odmt_fast.cli.options import Json
from odmt_fast.cli.output import Output, table


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...", help="Directories of runs; the first is compared against."
        ),
    ],
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    k: Annotated[
        str | None,
        typer.Option(help="Cut-offs, such as 5,10,50.", show_default="those of the first run"),
    ] = None,
    ranking: Annotated[
        str | None,
        typer.Option(
            help="Which ranking, such as id or popularity.",
            show_default="ensemble, or the only branch",
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of the bootstrap.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 1,
    json_output: Json = False,
) -> None:
    """Compare runs target by target: HR@K and NDCG@K, by a paired bootstrap over users.

    Reads the ranks that train and evaluate keep in a run (ranks-test.parquet).
    """
    from odmt_fast.studies.compare import HEADER, check_comparable, metrics_at, ranks_of
    from odmt_fast.studies.compare import compare as compare_runs

    if len(runs) < 2 or len(set(runs)) < len(runs):
        raise ValueError("compare takes two or more different runs: odmt-fast compare RUN RUN...")
    named = {str(run): ranks_of(run, part) for run in runs}
    check_comparable(named)
    (first, base), *others = named.items()
    metrics = metrics_at([int(cut) for cut in k.split(",")] if k else base.k)
    found = [
        comparison
        for name, ranks in others
        for comparison in compare_runs(
            name, [ranks], [base], metrics, seed=seed, draws=draws, ranking=ranking
        )
    ]
    Output(json_output).result(
        {
            "against": first,
            "part": part,
            "targets": len(base.targets),
            "users": len(set(base.users)),
            "draws": draws,
            "seed": seed,
            "comparisons": [comparison.to_dict() for comparison in found],
        },
        lambda console: console.print(
            table(
                f"{part}: against {first}, {len(set(base.users)):,} users, {draws:,} draws",
                HEADER,
                (comparison.cells() for comparison in found),
            )
        ),
    )
