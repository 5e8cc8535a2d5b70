"""Hugging Face encoders: which states are stored, in which order, and independent of the batch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from odmt_fast.features.encoder import Encoder, EncoderOptions
from odmt_fast.features.extract import extract
from odmt_fast.features.registry import load_encoder
from odmt_fast.kernels.linear import libraries
from odmt_fast.kernels.linear.libraries import Libraries

TinyEncoder = Callable[[str], str]
TEXTS = [
    "red running shoes",
    "a",
    "a warm coat, and two long shoes with a red winter jacket and running coats, shoes, a coat",
    "coats",
]


def options(**changes: Any) -> EncoderOptions:
    return EncoderOptions(device="cpu", offline=True, **changes)


def encode(encoder: Encoder[Any], inputs: list[Any]) -> list[Tensor]:
    states = dict(encoder.encode(inputs))
    assert sorted(states) == list(range(len(inputs)))
    return [states[position] for position in range(len(inputs))]


def pixels(encoder: Any, pictures: list[Any]) -> Tensor:
    return torch.stack([encoder._pixels(picture.load()) for picture in pictures])


@pytest.fixture
def pictures(catalogue: Any) -> list[Any]:
    return [image for image in catalogue.images if image is not None]


@pytest.mark.parametrize("layer", [None, 0, 1, -1])
def test_text_tokens_are_the_states_of_the_real_tokens(
    tiny_encoder: TinyEncoder, layer: int | None
) -> None:
    encoder: Any = load_encoder(tiny_encoder("bert"), "text", options(max_tokens=12, layer=layer))
    assert encoder.dim == 32
    for text, states in zip(TEXTS, encode(encoder, TEXTS), strict=True):
        ids = encoder._tokenizer(text, truncation=True, max_length=12, return_tensors="pt")
        with torch.no_grad():
            outputs = encoder._model(input_ids=ids["input_ids"], output_hidden_states=True)
        wanted = outputs.last_hidden_state if layer is None else outputs.hidden_states[layer]
        assert ids["input_ids"][0, 0] == encoder._tokenizer.cls_token_id
        torch.testing.assert_close(states, wanted[0], atol=1e-5, rtol=1e-5)


def test_an_encoder_without_a_first_token_gets_the_mean_there(tiny_encoder: TinyEncoder) -> None:
    encoder: Any = load_encoder(tiny_encoder("t5"), "text", options(max_tokens=6))
    for text, states in zip(TEXTS, encode(encoder, TEXTS), strict=True):
        ids = encoder._tokenizer(text, truncation=True, max_length=6, return_tensors="pt")
        with torch.no_grad():
            wanted = encoder._model(input_ids=ids["input_ids"]).last_hidden_state[0]
        torch.testing.assert_close(states[1:], wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states[0], states[1:].mean(0))
    assert encoder.max_length == 7


def test_max_tokens_and_lower_case(tiny_encoder: TinyEncoder) -> None:
    cased: Any = load_encoder(tiny_encoder("bert"), "text", options(max_tokens=5, lower_case=False))
    cased._tokenizer.backend_tokenizer.normalizer = None
    lower: Any = load_encoder(tiny_encoder("bert"), "text", options(max_tokens=5))
    lower._tokenizer.backend_tokenizer.normalizer = None
    upper = [text.upper() for text in TEXTS]
    for a, b, c in zip(
        encode(lower, upper), encode(lower, TEXTS), encode(cased, upper), strict=True
    ):
        assert a.shape[0] <= 5
        assert torch.equal(a, b)
        assert a.shape != c.shape or not torch.equal(a, c)


@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("name", ["vit", "clip_vision", "clip"])
def test_image_transformers_keep_cls_first_and_patches_in_order(
    tiny_encoder: TinyEncoder, pictures: list[Any], name: str, layer: int | None
) -> None:
    encoder: Any = load_encoder(tiny_encoder(name), "image", options(batch_size=2, layer=layer))
    states = torch.stack(encode(encoder, pictures))
    assert states.shape == (6, 1 + 16, 32)
    assert (encoder.dim, encoder.max_length) == (32, 17)
    with torch.no_grad():
        outputs = encoder._model(pixels(encoder, pictures), output_hidden_states=True)
    wanted = outputs.last_hidden_state if layer is None else outputs.hidden_states[layer]
    torch.testing.assert_close(states, wanted, atol=1e-5, rtol=1e-5)


def test_mae_masks_nothing_and_shuffles_nothing(
    tiny_encoder: TinyEncoder, pictures: list[Any]
) -> None:
    encoder: Any = load_encoder(tiny_encoder("mae"), "image", options(layer=0))
    states = torch.stack(encode(encoder, pictures))
    embeddings = encoder._model.embeddings
    patches = embeddings.patch_embeddings(pixels(encoder, pictures))
    wanted = patches + embeddings.position_embeddings[:, 1:]
    torch.testing.assert_close(states[:, 1:], wanted, atol=1e-5, rtol=1e-5)
    deep: Any = load_encoder(tiny_encoder("mae"), "image", options())
    assert (deep.dim, deep.max_length) == (32, 17)
    assert torch.equal(torch.stack(encode(deep, pictures)), torch.stack(encode(deep, pictures)))


def test_swin_gets_its_pooled_output_first(tiny_encoder: TinyEncoder, pictures: list[Any]) -> None:
    encoder: Any = load_encoder(tiny_encoder("swin"), "image", options())
    states = torch.stack(encode(encoder, pictures))
    with torch.no_grad():
        outputs = encoder._model(pixels(encoder, pictures))
    assert states.shape == (6, 1 + 16, 32)
    torch.testing.assert_close(states[:, 0], outputs.pooler_output)
    torch.testing.assert_close(states[:, 1:], outputs.last_hidden_state)
    early = torch.stack(
        encode(load_encoder(tiny_encoder("swin"), "image", options(layer=0)), pictures)
    )
    assert early.shape == (6, 1 + 64, 16)
    torch.testing.assert_close(early[:, 0], early[:, 1:].mean(1))


def test_convolutional_outputs_become_patch_tokens_row_by_row(
    tiny_encoder: TinyEncoder, pictures: list[Any]
) -> None:
    encoder: Any = load_encoder(tiny_encoder("resnet"), "image", options())
    states = torch.stack(encode(encoder, pictures))
    with torch.no_grad():
        outputs = encoder._model(pixels(encoder, pictures))
    grid = outputs.last_hidden_state
    assert states.shape == (6, 1 + 16, 16)
    torch.testing.assert_close(states[:, 1 + 4 * 2 + 3], grid[:, :, 2, 3])
    torch.testing.assert_close(states[:, 0], grid.mean((2, 3)))


def test_normalisation_of_the_encoder_or_of_the_official_code(
    tiny_encoder: TinyEncoder, pictures: list[Any]
) -> None:
    own: Any = load_encoder(tiny_encoder("resnet"), "image", options())
    official: Any = load_encoder(tiny_encoder("resnet"), "image", options(normalisation="official"))
    image = pictures[0].load()
    assert own._pixels(image).shape == (3, 32, 32)
    stretched = official._pixels(image)
    assert stretched.shape == (3, 224, 224)
    assert -1 <= stretched.min() < -0.5
    assert 0.5 < stretched.max() <= 1
    white = Image.new("RGB", (8, 8), (255, 255, 255))
    torch.testing.assert_close(official._pixels(white), torch.ones(3, 224, 224))
    torch.testing.assert_close(own._pixels(white), torch.full((3, 32, 32), (1 - 0.4) / 0.2))
    assert own.identity != official.identity


@pytest.mark.parametrize(
    ("name", "modality"), [("bert", "text"), ("vit", "image"), ("mae", "image")]
)
def test_batches_do_not_change_the_states(
    tiny_encoder: TinyEncoder, pictures: list[Any], name: str, modality: Any
) -> None:
    inputs = TEXTS if modality == "text" else pictures
    together = load_encoder(tiny_encoder(name), modality, options(max_tokens=20, batch_size=64))
    alone = load_encoder(tiny_encoder(name), modality, options(max_tokens=20, batch_size=1))
    for a, b in zip(encode(together, inputs), encode(alone, inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "modality"), [("bert", "text"), ("clip", "image"), ("resnet", "image")]
)
def test_bf16_compute_is_near_fp32_and_another_identity(
    monkeypatch: pytest.MonkeyPatch,
    tiny_encoder: TinyEncoder,
    pictures: list[Any],
    name: str,
    modality: Any,
) -> None:
    monkeypatch.setattr(libraries, "_chosen", Libraries(False, False, bf16_is_fast=True))
    inputs = TEXTS if modality == "text" else pictures
    exact = load_encoder(tiny_encoder(name), modality, options(max_tokens=20))
    fast = load_encoder(tiny_encoder(name), modality, options(max_tokens=20, compute="bf16"))
    for a, b in zip(encode(exact, inputs), encode(fast, inputs), strict=True):
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)
        assert float((a - b).norm() / a.norm()) < 0.03
    assert exact.identity != fast.identity


@pytest.mark.parametrize(("name", "modality"), [("bert", "text"), ("resnet", "image")])
def test_bf16_is_computed_in_fp32_where_its_products_are_slow(
    monkeypatch: pytest.MonkeyPatch,
    tiny_encoder: TinyEncoder,
    pictures: list[Any],
    name: str,
    modality: Any,
) -> None:
    monkeypatch.setattr(libraries, "_chosen", Libraries(False, False, bf16_is_fast=False))
    inputs = TEXTS if modality == "text" else pictures
    exact = load_encoder(tiny_encoder(name), modality, options(max_tokens=20))
    asked = load_encoder(tiny_encoder(name), modality, options(max_tokens=20, compute="bf16"))
    with pytest.warns(UserWarning, match="no fast products of bf16: the encoder computes in fp32"):
        got = encode(asked, inputs)
    assert all(torch.equal(a, b) for a, b in zip(encode(exact, inputs), got, strict=True))


def test_identity_follows_the_weights_not_the_folder(
    tiny_encoder: TinyEncoder, tmp_path: Path
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    first = load_encoder(tiny_encoder("bert"), "text", options(max_tokens=8))
    copy = tmp_path / "copy"
    shutil.copytree(tiny_encoder("bert"), copy)
    same = load_encoder(str(copy), "text", options(max_tokens=8))
    assert same.identity.weights == first.identity.weights
    tensors = load_file(copy / "model.safetensors")
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1e-3
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    other = load_encoder(str(copy), "text", options(max_tokens=8))
    assert other.identity.weights != first.identity.weights


def test_real_text_encoder(minilm: str, catalogue: Any, tmp_path: Path) -> None:
    store = extract(
        catalogue, "text", minilm, tmp_path, options=options(max_tokens=10), dtype="float32"
    )
    assert (store.dim, store.max_length, store.missing) == (384, 10, (2, 6))
    coat = store.gather(torch.tensor([4]))
    assert coat.lengths.tolist() == [3]
    encoder: Any = load_encoder(minilm, "text", options(max_tokens=10))
    torch.testing.assert_close(coat.values, encode(encoder, ["coat"])[0], atol=1e-5, rtol=1e-5)
    # The sentence vectors of this model are token means: shoes must be nearer to shoes.
    mean = torch.stack([store.gather(torch.tensor([i])).values.mean(0) for i in (1, 7, 4)])
    near, far = torch.cosine_similarity(mean[:1], mean[1:])
    assert near > far + 0.1


def test_real_image_encoder(mobilenet: str, catalogue: Any, tmp_path: Path) -> None:
    store = extract(catalogue, "image", mobilenet, tmp_path, options=options(), dtype="float32")
    assert (store.dim, store.max_length, store.missing) == (256, 50, (4,))
    tokens = store.gather(torch.tensor([1])).values
    assert tokens.shape == (50, 256)
    torch.testing.assert_close(tokens[0], tokens[1:].mean(0), atol=1e-5, rtol=1e-4)
    assert float(tokens.abs().max()) > 0.1


def test_unknown_encoders_say_what_can_be_given(
    tiny_encoder: TinyEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message(name: str, modality: Any = "text", **changes: Any) -> str:
        with pytest.raises(ValueError) as caught:
            load_encoder(name, modality, options(**changes))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "'hashed-words' encodes text, not image; use 'pca-patches'" in message(
        "hashed-words", "image"
    )
    assert "is not a folder with a Hugging Face model" in message(str(tmp_path))
    assert "is not a folder with a Hugging Face model" in message("/no/such/folder")
    offline = message("nobody/no-such-encoder")
    assert "the model of encoder='nobody/no-such-encoder' cannot be loaded" in offline
    assert "or use 'hashed-words' (text) or 'pca-patches' (image)" in offline
    assert "reads pixel_values, not input_ids" in message(tiny_encoder("vit"))
    assert "reads input_ids, not pixel_values" in message(tiny_encoder("bert"), "image")
    assert "max_tokens=30 is more than the 24 encoder=" in message(tiny_encoder("bert"))
    assert "layer=12 does not exist" in message(tiny_encoder("bert"), layer=12, max_tokens=8)
    assert "it has hidden states 0..2" in message(tiny_encoder("vit"), "image", layer=-4)
    with pytest.raises(ValueError, match="modality='video' must be text or image"):
        load_encoder("hashed-words", "video")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers: pip install 'odmt_fast\[features"):
        load_encoder(tiny_encoder("bert"), "text", options())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, "max_tokens=0 must be at least 1"),
        ({"compute": "fp16"}, "compute='fp16' must be fp32 or bf16"),
        ({"normalisation": "none"}, "normalisation='none' must be encoder or official"),
    ],
)
def test_options_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderOptions(**changes)
