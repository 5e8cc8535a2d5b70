"""Figures are drawn from the CSV logs, show what is in them, and refuse what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odmt_fast.studies.plots import _running_mean, plot_metric, plot_run, read_log


def write_run(run: Path, steps: int = 5, epochs: int = 3) -> Path:
    logs = run / "logs"
    logs.mkdir(parents=True)
    names = ["id/ce", "text/ce", "text/kd", "id/kd"]
    lines = [",".join(["step", "epoch", "loss", *names])]
    lines += [f"{s * 20},1,3.0,2.0,{2 + 1 / s},0.5,0.25" for s in range(1, steps + 1)]
    (logs / "steps.csv").write_text("\n".join(lines) + "\n")
    metrics = [f"{b}/{m}" for b in ("id", "text", "ensemble", "popularity") for m in ("hr@10",)]
    lines = [",".join(["epoch", "score", *metrics])]
    lines += [f"{e},0.{e},0.{e},0.1,0.{e}5,0.02" for e in range(1, epochs + 1)]
    (logs / "epochs.csv").write_text("\n".join(lines) + "\n")
    return run


@pytest.mark.parametrize(("steps", "epochs"), [(5, 3), (1, 1), (300, 2)])
def test_a_run_becomes_two_pictures(tmp_path: Path, steps: int, epochs: int) -> None:
    paths = plot_run(write_run(tmp_path / "run", steps, epochs))
    assert [path.name for path in paths] == ["losses.png", "hr_at_10.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            pixels = np.asarray(image.convert("RGB"))
        # The blue of the first branch is on the white page.
        assert (np.abs(pixels.astype(int) - (0, 0x72, 0xB2)).sum(-1) < 12).sum() > 20
        assert (pixels == 255).all(-1).mean() > 0.5


def test_figures_go_where_they_are_asked_to(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    paths = plot_run(run, tmp_path / "figures" / "new")
    assert {path.parent for path in paths} == {tmp_path / "figures" / "new"}
    assert not list(tmp_path.rglob("*.part"))


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        plot_run(tmp_path)
    epochs = write_run(tmp_path / "run") / "logs" / "epochs.csv"
    with pytest.raises(ValueError, match=r"'hr@7' is not in .*hr@10"):
        plot_metric(epochs, tmp_path / "x.png", "hr@7")
    epochs.write_text("epoch,score\n")
    with pytest.raises(ValueError, match="no row yet"):
        read_log(epochs)


def test_running_mean_shrinks_at_the_ends() -> None:
    assert _running_mean(np.array([0.0, 3, 6, 9]), 1).tolist() == [1.5, 3, 6, 7.5]
