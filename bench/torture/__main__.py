"""``python -m bench.torture``: runs everything, prints the table, writes docs/reliability.md."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench.machine import machine
from bench.results import ROOT
from bench.table import table
from bench.torture.damage import damage, damageable
from bench.torture.kills import kill_extraction, kill_training
from bench.torture.readers import fuzz, layouts
from bench.torture.session import fork, wait, warm
from bench.torture.shop import Shop, make_shop
from bench.torture.tally import Tally, in_lanes

PAGE = ROOT / "docs" / "reliability.md"
MARKS = ("<!-- torture -->", "<!-- /torture -->")
_HEAD = ["", "trials", "refused", "as before", "silent differences", "unnamed errors", "crashes"]


def main() -> int:
    """Exit status 1 when anything ended as nothing may."""
    parser = argparse.ArgumentParser(prog="python -m bench.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=100, help="sessions of each kind to kill")
    parser.add_argument("--damages", type=int, default=500, help="of every file")
    parser.add_argument("--lines", type=int, default=200_000, help="damaged lines in all")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=("kills", "damages", "lines"))
    parser.add_argument("--page", action="store_true", help="write the table into docs/")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        rows = torture(Path(temporary), asked)
    minutes = (time.monotonic() - began) / 60
    page = report(rows, minutes)
    print(page)
    for row in rows:
        for note in row.notes:
            print(f"{row.what}: {note}")
    if asked.page:
        _write_page(page)
    return 0 if all(row.clean for row in rows) else 1


def torture(folder: Path, asked: argparse.Namespace) -> list[Tally]:
    """Runs what was asked for, below `folder`."""
    rows: list[Tally] = []
    if asked.only != "lines":
        shop = _make(folder / "origin")
    if asked.only in (None, "kills"):
        each = [asked.kills // asked.lanes] * asked.lanes
        each[0] += asked.kills % asked.lanes
        for kill in (kill_training, kill_extraction):
            place = folder / kill.__name__
            jobs = [
                (shop, place / str(lane), asked.seed + lane, kills)
                for lane, kills in enumerate(each)
            ]
            rows += in_lanes(kill, jobs, asked.lanes)
    if asked.only in (None, "damages"):
        jobs = [
            (shop, folder / "damaged", file, asked.seed + part, asked.damages // 4)
            for file in damageable(shop)
            for part in range(4)
        ]
        rows += in_lanes(damage, jobs, asked.lanes)
    if asked.only in (None, "lines"):
        names = layouts()
        jobs = [(name, folder / "lines", asked.seed, asked.lines // len(names)) for name in names]
        rows += in_lanes(fuzz, jobs, asked.lanes)
    return rows


def _make(folder: Path) -> Shop:
    """Makes the shop in a process of its own, so that the forks begin as fresh as a command."""
    log = folder.with_name("make")
    done = wait(fork(lambda: make_shop(folder) and None, log), log, 600)
    if done.code:
        raise SystemExit(f"the shop could not be made: {done.last_line}")
    shop, spare = Shop(folder), folder.with_name("spare")
    warm(shop.train(spare / "run"), shop.evaluate(), shop.extract("image", spare / "image"))
    shutil.rmtree(spare)
    return shop


def report(rows: list[Tally], minutes: float) -> str:
    """The table and what it was made on."""
    body = [
        [row.what, *(f"{getattr(row, n):,}" for n in
         ("tried", "refused", "unchanged", "silent", "unnamed", "crashes"))]
        for row in rows
    ]  # fmt: skip
    command = " ".join(["python -m bench.torture", *sys.argv[1:]])
    about = machine()
    return (
        f"{table(_HEAD, body)}\n\n<sub>`{command}`, {minutes:.1f} minutes on "
        f"{about['cores']} cores, torch {about['torch']}, {about['date']}.</sub>"
    )


def _write_page(text: str) -> None:
    page = PAGE.read_text("utf-8")
    before, rest = page.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    PAGE.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
