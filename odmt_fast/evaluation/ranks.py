"""The rank of every target, kept in the run: what a paired comparison of runs needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from odmt_fast.evaluation.metrics import gains
from odmt_fast.evaluation.result import EvaluationResult, best_ranking
from odmt_fast.storage import file_digest, write_atomically

_METADATA = b"odmt_fast"


def ranks_file(run: Path, part: str) -> Path:
    """Where the ranks of a run's best epoch lie."""
    return run / f"ranks-{part}.parquet"


@dataclass(frozen=True)
class Ranks:
    """Ranks of B targets under R rankings, with whose and which they are.

    Attributes:
        users: B user ids of the source; one repeats where the source held out several targets.
        targets: B item ids of the source.
        names: the R rankings: branches, "ensemble" when there are several, then "popularity".
        ranks: int64 [R, B], 1 + number of items scored above the target.
        ties: int64 [R, B], other items scored like the target.
        k: the cut-offs of the evaluation.
        made_of: what has to be the same where two are compared: name -> digest or setting.
        checkpoint: digest of the weights file that ranked.
    """

    users: tuple[str, ...]
    targets: tuple[str, ...]
    names: tuple[str, ...]
    ranks: NDArray[np.int64]
    ties: NDArray[np.int64]
    k: tuple[int, ...]
    made_of: Mapping[str, str]
    checkpoint: str

    @classmethod
    def of(
        cls,
        result: EvaluationResult,
        users: Sequence[str],
        items: Sequence[str],
        made_of: Mapping[str, str],
        weights: Path,
    ) -> Ranks:
        """Of an evaluation.

        Args:
            result: R rankings of B targets.
            users: the user id of every ranked sequence, those that `result` left out included.
            items: the item id of dense item i at i - 1.
            made_of: data and catalogue by digest.
            weights: file of the checkpoint that ranked.
        """
        return cls(
            users=tuple(users[row] for row in result.rows.tolist()),
            targets=tuple(items[target - 1] for target in result.targets.tolist()),
            names=result.names,
            ranks=result.ranks.numpy(),
            ties=result.ties.numpy(),
            k=result.k,
            made_of={**made_of, "evaluation.repeat_targets": result.repeat_targets},
            checkpoint=file_digest(weights),
        )

    @property
    def best(self) -> str:
        """See `best_ranking`."""
        return best_ranking(self.names)

    def gains(self, metric: str, name: str | None = None) -> NDArray[np.float64]:
        """float64 [B], what each target adds to ``hr@K`` or ``ndcg@K``, of the best ranking or one.

        Raises:
            ValueError: there is no such metric or ranking.
        """
        name = name or self.best
        if name not in self.names:
            raise ValueError(f"{name!r} was not ranked; choose one of {', '.join(self.names)}")
        row = self.names.index(name)
        ranks, ties = torch.tensor(self.ranks[row]), torch.tensor(self.ties[row])
        return gains(metric, ranks, ties).numpy()

    def save(self, path: Path) -> None:
        """Writes a Parquet file, a row per target: user, target, ``<name>`` and ``<name> ties``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "user": pa.array(self.users, pa.string()),
            "target": pa.array(self.targets, pa.string()),
        }
        for row, name in enumerate(self.names):
            columns[f"{name} rank"] = pa.array(self.ranks[row], pa.int32())
            columns[f"{name} ties"] = pa.array(self.ties[row], pa.int32())
        about = {
            "names": self.names,
            "k": self.k,
            "made_of": dict(self.made_of),
            "checkpoint": self.checkpoint,
        }
        table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(about).encode()})
        write_atomically(path, lambda part: pq.write_table(table, part, compression="zstd"))

    @classmethod
    def load(cls, run: Path, part: str, weights: Path) -> Ranks:
        """Those that `run` keeps of its best epoch, whose file is `weights`.

        Raises:
            ValueError: it keeps none, they are damaged, or another checkpoint made them.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path, remedy = ranks_file(run, part), f"odmt-fast evaluate {run} --part {part} makes it"
        if not path.is_file():
            raise ValueError(f"{path} does not exist; {remedy} of a trained run")
        try:
            table = pq.read_table(path)
            about = json.loads(table.schema.metadata[_METADATA])
            names = tuple(about["names"])
            found = cls(
                users=tuple(table["user"].to_pylist()),
                targets=tuple(table["target"].to_pylist()),
                names=names,
                ranks=_matrix(table, names, "rank"),
                ties=_matrix(table, names, "ties"),
                k=tuple(about["k"]),
                made_of=about["made_of"],
                checkpoint=about["checkpoint"],
            )
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error!r}); {remedy} anew") from error
        if not weights.is_file() or file_digest(weights) != found.checkpoint:
            raise ValueError(f"{path} was not made by {weights}; {remedy} anew")
        return found


def _matrix(table: object, names: tuple[str, ...], what: str) -> NDArray[np.int64]:
    return np.array([table[f"{name} {what}"].to_numpy() for name in names], np.int64)  # type: ignore[index]
