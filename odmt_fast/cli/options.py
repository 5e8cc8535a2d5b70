"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object.", show_default=False)
]
ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="CONFIG.yaml",
        help="Settings by section, such as 'model: {width: 128}'.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Settings to start from: small, medium, sparse, official; stream, arts, office, hm "
        "(paper)."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting: --set model.tau=0.5 (repeat)."),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(help="Largest picture that is decoded.", show_default="128,000,000"),
]
Data = Annotated[Path | None, typer.Option(help="Prepared dataset (data.path).")]
Store = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODALITY=DIR", help="Token store (repeat).", show_default="those in DATA/features"
    ),
]
OtherFeatures = Annotated[
    bool,
    typer.Option(
        "--allow-other-features",
        help="Go on though data or features are not those of the training.",
        show_default=False,
    ),
]
OutputDir = Annotated[
    Path | None, typer.Option("--output", "-o", help="Run directory (training.output).")
]
Run = Annotated[Path, typer.Argument(help="Directory of a training run.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Ensemble = Annotated[
    str | None,
    typer.Option(
        help="mean of all branches, or of those that have known the item in training, or by its "
        "text or picture.",
        show_default="that of the run",
    ),
]
Search = Annotated[
    str,
    typer.Option(help="exact, or faiss: by the index of export --faiss.", metavar="exact|faiss"),
]
Targets = Annotated[
    str | None,
    typer.Option(
        help="Of a user with several held-out items rank all, or the first alone.",
        show_default="that of the run",
    ),
]
Checkpoint = Annotated[str, typer.Option(help="best, last, or the path of a checkpoint.")]
