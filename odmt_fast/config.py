"""The one validated configuration; the only place where defaults live.

A run is a `Config`: five frozen sections, read from YAML, overridden by flags, written beside the
checkpoints. `ModelConfig.from_official` takes the argument names of the official code
(``utils/parameters.py``); `odmt_fast.presets` has settings to start from.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveInt, Tag, model_validator

Mask = Literal["asymmetric", "symmetric"]
IdTable = Literal["dense", "sparse"]
IdInit = Literal["xavier", "text", "image", "mean"]
CandidateKind = Literal["in_batch", "mixed", "sampled", "full"]
LogQ = Literal["official", "none", "positive_uncorrected", "recsys25"]
Capture = Literal["auto", "off"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Residency = Literal["auto", "device", "pinned", "mmap"]
Negatives = Literal["rank", "global"]
Compat = Literal["fixed", "official"]
RepeatTargets = Literal["rank", "miss", "skip"]
Ensemble = Literal["mean", "known"]
Targets = Literal["all", "first"]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
# Without the discriminator a wrong value is refused twice, as a number and as a mapping.
ByBranch = Annotated[
    Annotated[Probability, Tag("all")] | Annotated[dict[str, Probability], Tag("branch")],
    Discriminator(lambda value: "branch" if isinstance(value, dict) else "all"),
]

# The official `init` argument, in its order (official model/model.py::Model.__init__).
_OFFICIAL_INIT: tuple[IdInit, ...] = ("xavier", "mean", "image", "text")


class Section(BaseModel):
    """A frozen group of settings that refuses unknown names, and NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """What is trained on; `odmt-fast prepare` filters and cuts."""

    path: Path | None = Field(None, description="prepared dataset directory")


class FeatureConfig(Section):
    """Where the token stores of the modalities lie."""

    stores: dict[str, Path] = Field(
        default_factory=dict, description="modality name -> token store; text and image come first"
    )
    modalities: tuple[str, ...] | None = Field(
        None, description="beside the IDs; None = all that the dataset has and all named stores"
    )
    residency: Residency = Field(
        "auto",
        description="tokens in training: all in the memory of the device, all in page-locked host "
        "memory that the GPU reads (pinned), or each batch's from the mapped store; auto = the "
        "first with room on a GPU, the store on a CPU",
    )


class ModelConfig(Section):
    """The architecture and the objective (paper sections 3.2 to 3.4)."""

    name: str = Field(
        "odmt", description="odmt, id, text, image, ef, lf, fdsa, unisrec: see docs/models.md"
    )
    backbone: str = Field(
        "sasrec", description="user encoder: sasrec, gru4rec, nextitnet, hstu, ligr"
    )
    width: PositiveInt = Field(64, description="d, official embedding_dim")
    id_width: PositiveInt | None = Field(None, description="official id_embedding_dim; None = d")
    # The bounds of max_seq_len and tau are those of the operators (tests/models/test_limits.py).
    max_seq_len: PositiveInt = Field(20, le=512, description="S, input steps of a user")
    imt_layers: PositiveInt = Field(2, description="official merged_att_layers")
    imt_heads: PositiveInt | None = Field(None, description="None = imt_layers, as officially")
    user_layers: PositiveInt = Field(2, description="official transformer_block")
    user_heads: PositiveInt = Field(2, description="official num_attention_heads")
    dropout: Probability = Field(0.1, description="official drop_rate")
    item_encoder_dropout: Probability | None = Field(
        None, description="inside the item encoder, in place of `dropout`"
    )
    item_dropout: ByBranch = Field(
        0.0,
        description="of an item's embedding, as input and as candidate alike; {id: 0.2} of the "
        "branches that are named",
    )
    mask: Mask = Field("asymmetric", description="official version: v1 = asymmetric")
    id_init: IdInit = Field("xavier", description="official init: 0, 3, 2, 1")
    id_table: IdTable = Field(
        "dense",
        description="how the ID embeddings learn: by AdamW in every step (dense), or only those of "
        "the items of the step (sparse), which is faster and smaller for millions of items",
    )
    tau: float = Field(0.3, ge=1e-4, description="temperature of the distillation")
    alpha: float = Field(20.0, ge=0.0, description="ramp-up epochs (>= 1) or constant weight (< 1)")
    detach_teacher: bool = Field(False, description="stop the gradient into the teachers")
    candidates: CandidateKind = Field(
        "in_batch",
        description="what a row is scored against: items of the batch, officially; mixed adds "
        "`draws`; sampled: draws alone; full: the whole catalogue",
    )
    draws: PositiveInt = Field(1024, description="items drawn per step, shared by its rows")
    draw_power: float = Field(0.0, ge=0.0, description="b: draws by popularity^b; 0 = uniformly")
    logq: LogQ = Field(
        "official",
        description="correction of a candidate's score: log q; on negatives alone "
        "(positive_uncorrected); of its expected count there (recsys25); none",
    )

    @property
    def heads(self) -> int:
        """Heads of an IMT layer."""
        return self.imt_heads or self.imt_layers

    @property
    def id_features(self) -> int:
        """Width of the ID embedding table."""
        return self.id_width or self.width

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        for name, heads in (("imt_heads", self.heads), ("user_heads", self.user_heads)):
            if self.width % heads:
                raise ValueError(
                    f"width={self.width} is not a multiple of {name}={heads}; "
                    f"choose a width that {heads} divides"
                )
        return self

    @classmethod
    def from_official(cls, args: Any) -> ModelConfig:
        """Reads the official argument names from any object (an argparse namespace, say).

        Raises:
            ValueError: an argument the model needs is absent, or an unsupported value is set.
        """
        if isinstance(args, ModelConfig):
            return args
        if isinstance(args, Config):
            return args.model
        if getattr(args, "item_tower", "modal") != "modal":
            raise ValueError(f"item_tower={args.item_tower!r} is not supported; use 'modal'")
        names = {
            "width": "embedding_dim",
            "id_width": "id_embedding_dim",
            "max_seq_len": "max_seq_len",
            "imt_layers": "merged_att_layers",
            "user_layers": "transformer_block",
            "user_heads": "num_attention_heads",
            "dropout": "drop_rate",
            "tau": "tau",
            "alpha": "alpha",
            "init": "init",
            "version": "version",
        }
        absent = [official for official in names.values() if not hasattr(args, official)]
        if absent:
            raise ValueError(
                f"args lacks {', '.join(absent)}; pass the official argument namespace or a "
                "ModelConfig"
            )
        values = {ours: getattr(args, official) for ours, official in names.items()}
        init, version = values.pop("init"), values.pop("version")
        if init not in range(len(_OFFICIAL_INIT)):
            raise ValueError(f"init={init!r} is not an official value; use 0, 1, 2 or 3")
        return cls(
            **values,
            id_init=_OFFICIAL_INIT[init],
            mask="asymmetric" if version == "v1" else "symmetric",
        )


class TrainingConfig(Section):
    """The optimisation and its bookkeeping."""

    output: Path = Field(Path("runs/odmt"), description="checkpoints, logs and plots go here")
    batch_size: PositiveInt = Field(128, description="users of a step, of each process")
    negatives: Negatives = Field(
        "rank",
        description="of several processes: a row sees the items of its own process's users (rank, "
        "as officially), or those of all processes (global)",
    )
    epochs: PositiveInt = 40
    learning_rate: float = Field(1e-3, gt=0.0)
    weight_decay: float = Field(0.1, ge=0.0)
    clip_norm: float = Field(5.0, gt=0.0, description="gradient norm limit")
    precision: Precision = Field(
        "auto",
        description="fp32, tf32 (GPU: fp32 with TF32 products), bf16 or fp16; auto = bf16 where "
        "products of it are fast",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    seed: int = 1
    patience: PositiveInt = Field(10, description="epochs without a better validation score")
    workers: int | None = Field(
        None,
        ge=0,
        description="loader threads beside the training thread; None = by the cores for a GPU",
    )
    checkpoint_minutes: float = Field(10.0, gt=0.0, description="longest time between two")
    checkpoint_steps: PositiveInt | None = Field(None, description="also one every so many steps")
    log_steps: PositiveInt = Field(
        20,
        description="steps per row of logs/steps.csv; on a GPU also between two looks at the loss",
    )
    tensorboard: bool = Field(True, description="write TensorBoard events if it is installed")
    capture: Capture = Field(
        "auto",
        description="on a GPU, record the steps of every shape once and repeat them as one launch "
        "(CUDA graphs); off launches every kernel of every step",
    )
    float8: bool = Field(
        False,
        description="with precision bf16: the linear maps of the items' layers multiply in float8, "
        "their weights' gradients in bf16; needs a GPU from sm_89 on",
    )
    compile: bool = Field(
        False,
        description="make one graph of forward and backward by torch.compile, at the first batch; "
        "such steps are not captured",
    )
    recompute: bool = Field(
        False,
        description="recompute item activations in the backward: less memory, more time",
    )
    micro_items: PositiveInt | None = Field(
        None, description="recompute the items so many at a time; None = 6,144 tokens of them"
    )


class EvaluationConfig(Section):
    """Ranking over the whole catalogue."""

    k: tuple[PositiveInt, ...] = (5, 10, 20)
    metric: str = Field("ndcg@10", description="selects the best checkpoint, of the ensemble")
    batch_size: PositiveInt = 512
    repeat_targets: RepeatTargets = "rank"
    compat: Compat = "fixed"
    targets: Targets = Field(
        "all", description="of a user with several held-out items: rank all, or the first alone"
    )
    valid_targets: PositiveInt | None = Field(
        None,
        description="targets ranked after an epoch of training, drawn once for all runs of the "
        "data; null = all",
    )
    ensemble: Ensemble = Field(
        "mean",
        description="of all branches, officially; known: of those that know the item (an ID row "
        "that was trained, a text, a picture), see models/ensemble.py",
    )

    @model_validator(mode="after")
    def _metric_is_computed(self) -> EvaluationConfig:
        name, _, k = self.metric.partition("@")
        if name not in ("hr", "ndcg") or not k.isdigit() or int(k) not in self.k:
            raise ValueError(
                f"metric={self.metric!r} is not computed; use hr@K or ndcg@K with K one of {self.k}"
            )
        return self


class Config(Section):
    """Everything a run needs to be made again."""

    data: DataConfig = DataConfig()
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _micro_batches_begin_at_a_draw(self) -> Config:
        if self.training.micro_items and self.model.width % 4:
            raise ValueError(
                f"training.micro_items={self.training.micro_items} needs a model.width that is a "
                f"multiple of 4, got {self.model.width}; choose one, or leave micro_items null"
            )
        return self

    def updated(self, overrides: dict[str, Any]) -> Config:
        """A copy with dotted names replaced (``{"model.width": 128}``), validated again.

        Raises:
            ValueError: a name that does not exist, or a value its section refuses.
        """
        values = self.model_dump()
        for name, value in overrides.items():
            section, _, key = name.partition(".")
            if section not in values or key not in values[section]:
                raise ValueError(f"{name!r} is not a setting; see odmt-fast train --help")
            values[section][key] = value
        return Config.model_validate(values)

    def relative_to(self, folder: Path) -> Config:
        """A copy whose dataset and stores are named as seen from `folder`, to move with it."""
        return self._with_paths(lambda path: Path(os.path.relpath(path, folder)))

    def seen_from(self, folder: Path) -> Config:
        """The inverse of `relative_to`; paths that only exist as they are stay so."""

        def resolved(path: Path) -> Path:
            moved = Path(os.path.normpath(folder / path))
            return path if path.exists() and not moved.exists() else moved

        return self._with_paths(resolved)

    def _with_paths(self, function: Callable[[Path], Path]) -> Config:
        path, stores = self.data.path, self.features.stores
        return self.updated(
            {
                "data.path": None if path is None else function(path),
                "features.stores": {name: function(store) for name, store in stores.items()},
            }
        )
