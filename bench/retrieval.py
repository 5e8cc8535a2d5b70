"""``python -m bench.retrieval``: searches of a whole catalogue, against what else computes them.

Every way runs on the same vectors in the same process, one after the other and round again; the
floor is the product of all users with all items alone, by torch's matmul. Seconds are wall time, of
all threads; on a busy machine the processor seconds beside them are what can be trusted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.results import save, timed
from odmt_fast.kernels.rank_of_target import rank_of_target
from odmt_fast.kernels.top_k import top_k

USERS, HISTORY, ROUNDS = 1000, 30, 5
SIZES = ((100_000, 256), (1_000_000, 64))
OFFICIAL_ITEMS, OFFICIAL_WIDTH, OFFICIAL_USERS = 20_000, 256, 50
FLOOR = "product alone (torch)"

Way = tuple[str, Callable[[], object]]


def ways(items: Tensor, users: Tensor) -> Iterator[Way]:
    """Names and calls of all ways to search `items` [n, d] for `users` [B, d]."""
    n = items.shape[0]
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(1, n, (users.shape[0],), generator=generator)
    offsets = torch.arange(users.shape[0] + 1) * HISTORY
    history = torch.randint(1, n, (users.shape[0] * HISTORY,), generator=generator)
    yield FLOOR, lambda: users @ items.t()
    yield (
        "rank_of_target",
        lambda: rank_of_target(users[None], items[None], targets, offsets, history),
    )
    for k in (10, 60):
        yield f"top_k, k = {k}", lambda k=k: top_k(users, items, k, offsets, history)
        yield f"torch matmul + topk, k = {k}", lambda k=k: torch.topk(users @ items.t(), k)
    yield from faiss_ways(items, users)


def faiss_ways(items: Tensor, users: Tensor) -> Iterator[Way]:
    """FAISS's exact index, where it is installed."""
    try:
        import faiss
    except ImportError as error:
        print(f"FAISS is left out: {error}; pip install faiss-cpu", flush=True)
        return
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items.numpy())
    for k in (10, 60):
        yield f"FAISS IndexFlatIP, k = {k}", lambda k=k: index.search(users.numpy(), k)


def official_ways(items: Tensor, users: Tensor) -> Iterator[Way]:
    """Three branches and their ensemble, as the official code ranks them: by four sorts a user."""
    n = items.shape[1]
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(1, n, (users.shape[1],), generator=generator)
    offsets = torch.arange(users.shape[1] + 1) * HISTORY
    history = torch.randint(1, n, (users.shape[1] * HISTORY,), generator=generator)

    def official() -> Tensor:
        scores = users @ items.transpose(1, 2)
        ranks = []
        for user, target in enumerate(targets.tolist()):
            past = history[offsets[user] : offsets[user + 1]]
            for score in (*scores[:, user].clone(), scores[:, user].mean(0)):
                score[past] = -torch.inf
                order = score[1:].argsort(descending=True)
                ranks.append((order == target - 1).nonzero())
        return torch.cat(ranks)

    yield "official: four argsorts a user", official
    yield "rank_of_target", lambda: rank_of_target(users, items, targets, offsets, history)


def measured(found: Iterator[Way], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Name -> wall and processor seconds of each round, the first, which warms up, left out."""
    calls = dict(found)
    seconds = {name: {"seconds": [], "processor_seconds": []} for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            if turn:
                seconds[name]["seconds"].append(time.perf_counter() - wall)
                seconds[name]["processor_seconds"].append(time.process_time() - processor)
    return seconds


def rows_of(
    label: str, users: int, items: int, width: int, found: dict[str, dict[str, list[float]]]
) -> list[dict[str, Any]]:
    """Rows of the results file, printed as they come."""
    rows = []
    for name, times in found.items():
        rows.append({"case": label, "way": name, "users": users, "items": items, "width": width})
        rows[-1] |= times
        wall, processor = median(times["seconds"]), median(times["processor_seconds"])
        print(f"{label}: {name}: {wall:.3f} s, {processor:.3f} s of processors", flush=True)
    return rows


def main() -> None:
    """Measures and saves ``retrieval.json``."""
    parser = argparse.ArgumentParser(prog="python -m bench.retrieval", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="measured rounds of each way")
    options = parser.parse_args()
    name = timed("retrieval")
    rows: list[dict[str, Any]] = []
    generator = torch.Generator().manual_seed(0)
    for n, width in SIZES:
        items = torch.randn(n, width, generator=generator)
        users = torch.randn(USERS, width, generator=generator)
        found = measured(ways(items, users), options.rounds)
        rows += rows_of(f"{n:,} x {width}", USERS, n, width, found)
    shape = (OFFICIAL_ITEMS, OFFICIAL_WIDTH)
    branches = torch.randn(3, *shape, generator=generator)
    states = torch.randn(3, OFFICIAL_USERS, OFFICIAL_WIDTH, generator=generator)
    found = measured(official_ways(branches, states), options.rounds)
    rows += rows_of("official, 3 branches", OFFICIAL_USERS, *shape, found)
    print(save(name, rows))


if __name__ == "__main__":
    main()
