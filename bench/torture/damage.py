"""Damages every file of a run, its dataset and its stores, and looks whether anybody notices."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from bench.torture.kills import state_of_run
from bench.torture.session import Outcome, run
from bench.torture.shop import Shop
from bench.torture.tally import Tally

# Of a run, what training reads to go on and nothing else reads.
_LAST, _LOGS = Path("run", "checkpoints", "last"), Path("run", "logs")


def damageable(shop: Shop) -> list[Path]:
    """Every file that commands read of a finished run, relative to the shop's folder."""
    found = [
        file
        for folder in (shop.run, shop.dataset)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    ]
    return [file.relative_to(shop.folder) for file in found]


def damage(shop: Shop, folder: Path, file: Path, seed: int, times: int) -> Tally:
    """Damages a copy of `file` `times` times, and asks every command that reads it.

    A trial is unchanged when the metrics, the weights and the logs are those of before, refused
    when the error names the damaged file, silent when neither.
    """
    copy = Shop(folder / f"{file.name}-{seed}")
    shutil.copytree(shop.folder, copy.folder)
    target = copy.folder / file
    whole = target.read_bytes()
    others = [path for path in damageable(copy) if path != file]
    chance = random.Random(f"{seed}/{file}")
    tally = Tally(_group(file))
    state = state_of_run(copy.run)
    metrics = run(*copy.evaluate()).json
    for _ in range(times):
        other = (copy.folder / chance.choice(others)).read_bytes()
        what, content = mutate(whole, other, chance)
        if content == whole:
            continue
        if content is None:
            target.unlink()
        else:
            target.write_bytes(content)
        note = f"{file} {what}"
        evaluated = None
        if not file.is_relative_to(_LAST) and not file.is_relative_to(_LOGS):
            evaluated = run(*copy.evaluate())
            same = evaluated.code == 0 and evaluated.json == metrics
            _judge(tally, note, evaluated, target, same)
        if file.parts[0] == "run" and (evaluated is None or evaluated.code == 0):
            trained = run(*copy.train())
            same = trained.code == 0 and state_of_run(copy.run) == state
            _judge(tally, f"{note}, train", trained, target, same)
            _restore(shop, copy)
        target.write_bytes(whole)
    shutil.rmtree(copy.folder)
    return tally


def _judge(tally: Tally, note: str, outcome: Outcome, target: Path, same: bool) -> None:
    if outcome.crashed:
        tally.count("crashes", f"{note}: {outcome.last_line}")
    elif outcome.code:
        # A folder is as good a name as its only file.
        named = outcome.names(target, target.parent)
        tally.count("refused" if named else "unnamed", f"{note}: {outcome.last_line}")
    elif same:
        tally.count("unchanged")
    else:
        tally.count("silent", note)


def _restore(shop: Shop, copy: Shop) -> None:
    """Puts back what a command may have written."""
    shutil.rmtree(copy.run)
    shutil.copytree(shop.run, copy.run)


def _group(file: Path) -> str:
    return f"damaged: {file.parts[0]}/{'/'.join(file.parts[1:])}"


def mutate(whole: bytes, other: bytes, chance: random.Random) -> tuple[str, bytes | None]:
    """(what was done, the damaged bytes; None = the file is deleted)."""
    n = len(whole)
    at, size = chance.randrange(max(n, 1)), chance.choice((1, 4, 64, 4096))
    block = slice(at, at + size)
    kind = chance.choices(
        ("flip", "byte", "zero", "cut", "lose", "repeat", "insert", "append", "swap", "delete"),
        (30, 20, 10, 15, 8, 5, 5, 3, 3, 1),
    )[0]
    changed = bytearray(whole)
    if kind == "flip" and n:
        changed[at] ^= 1 << chance.randrange(8)
    elif kind == "byte" and n:
        changed[at] = chance.randrange(256)
    elif kind == "zero":
        changed[block] = bytes(len(changed[block]))
    elif kind == "cut":
        del changed[at:]
    elif kind == "lose":
        del changed[block]
    elif kind == "repeat":
        changed[at:at] = changed[block]
    elif kind == "insert":
        changed[at:at] = chance.randbytes(size)
    elif kind == "append":
        changed += chance.randbytes(size)
    elif kind == "swap":
        changed = bytearray(other)
    else:
        return "deleted", None
    return f"{kind} at {at} ({size} bytes)", bytes(changed)
