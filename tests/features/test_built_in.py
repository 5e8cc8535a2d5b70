"""The encoders that need no weights: reproducible to the bit, and useful."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from odmt_fast.features.encoder import EncoderOptions
from odmt_fast.features.hashed_words import HashedWords
from odmt_fast.features.pca_patches import PcaPatches, _patches


def encode(text: str, **options: Any) -> Tensor:
    [(position, states)] = HashedWords(EncoderOptions(**options)).encode([text])
    assert position == 0
    return states


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def test_hashed_words_are_the_same_bits_everywhere() -> None:
    # Fixed when the algorithm was: a change here makes every existing store another one.
    states = encode("Red running shoes, 42 – naïve 東京", width=20)
    digest = hashlib.sha256(states.numpy().astype("<f4").tobytes()).hexdigest()
    assert states.shape == (10, 20)
    assert digest.startswith("c54b15eac2dee1be")


def test_hashed_words_one_token_a_word_after_the_summary() -> None:
    states = encode("Red running shoes!", width=64)
    assert states.shape == (1 + 4, 64)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states.square().mean(1), torch.ones(5))
    assert torch.equal(encode("shoes", width=64)[1], states[3])
    assert cosine(states[0], states[1:].sum(0)) > 0.9


def test_hashed_words_related_words_are_near_and_others_are_not() -> None:
    run, running, runs, coat = (
        encode(word, width=512)[1] for word in ("runner", "runners", "rug", "coat")
    )
    assert cosine(run, running) > 0.4
    assert abs(cosine(run, coat)) < 0.15
    assert cosine(run, running) > cosine(run, runs)


def test_hashed_words_case_length_and_scripts() -> None:
    assert torch.equal(encode("RED Shoes"), encode("red shoes"))
    assert not torch.equal(encode("RED", lower_case=False), encode("red", lower_case=False))
    assert encode("a b c d e f g", max_tokens=4).shape[0] == 4
    assert encode("a b c", max_tokens=1).shape[0] == 1
    assert encode("東京タワー").shape[0] == 1 + 5
    assert torch.equal(encode("ｒｅｄ"), encode("red"))
    assert encode(" ").shape[0] == 2


def pictures(catalogue: Any) -> list[Any]:
    return [image for image in catalogue.images if image is not None]


def fitted(images: list[Any], **options: Any) -> PcaPatches:
    encoder = PcaPatches(EncoderOptions(**options))
    encoder.fit(images, Path("no such file"))
    return encoder


def tokens(encoder: PcaPatches, images: list[Any]) -> Tensor:
    return torch.stack([states for _, states in sorted(encoder.encode(images), key=lambda x: x[0])])


def test_pca_patches_are_whitened_and_know_their_place(catalogue: Any) -> None:
    images = pictures(catalogue)
    states = tokens(fitted(images, width=24), images)
    assert states.shape == (6, 26, 24)
    patches = states[:, 1:, :16].reshape(-1, 16).double()
    covariance = patches.T @ patches / patches.shape[0]
    torch.testing.assert_close(covariance, torch.eye(16).double(), atol=2e-3, rtol=0)
    assert patches.mean(0).abs().max() < 1e-3
    places = states[:, :, 16:]
    assert torch.equal(places[0], places[5])
    assert places[0, 0].abs().max() < 1e-5
    torch.testing.assert_close(states[:, 0], states[:, 1:].mean(1))
    assert torch.cdist(places[0], places[0]).fill_diagonal_(1).min() > 0.1


def test_pca_patches_do_not_depend_on_batches_or_threads(catalogue: Any) -> None:
    images = pictures(catalogue)
    allowed = torch.get_num_threads()
    found = []
    try:
        for cores, batch_size, threads in ((1, 1, 1), (2, 4, 3), (3, 3, 1)):
            torch.set_num_threads(cores)
            encoder = fitted(images, batch_size=batch_size, threads=threads)
            assert torch.get_num_threads() == cores
            found.append((encoder.identity, tokens(encoder, images)))
    finally:
        torch.set_num_threads(allowed)
    for identity, states in found[1:]:
        assert identity == found[0][0]
        assert torch.equal(states, found[0][1])


def test_pca_patches_are_the_projection_of_the_pixels(catalogue: Any) -> None:
    images = pictures(catalogue)
    encoder = fitted(images, width=24)
    state = encoder._state
    assert state is not None
    mean, projection = state["mean"].double(), state["projection"].double()
    for index, states in encoder.encode(images):
        pixels = _patches(images[index].load()).double() / 255
        expected = (pixels - mean) @ projection
        torch.testing.assert_close(states[1:, :16].double(), expected, atol=1e-6, rtol=1e-6)


def test_pca_patches_keep_what_they_learnt(catalogue: Any, tmp_path: Path) -> None:
    images = pictures(catalogue)
    state = tmp_path / "encoder.safetensors"
    first = fitted(images, width=16)
    first.save(state)
    other = PcaPatches(EncoderOptions(width=16))
    other.fit(images[:1], state)
    assert other.identity == first.identity
    assert torch.equal(tokens(other, images), tokens(first, images))
    wider = PcaPatches(EncoderOptions(width=32))
    wider.fit(images, state)
    assert tokens(wider, images).shape[2] == 32


def test_pca_patches_of_flat_images_are_finite(tmp_path: Path) -> None:
    from PIL import Image

    class Flat:
        def load(self) -> Image.Image:
            return Image.new("RGB", (30, 50), (10, 200, 30))

    assert tokens(fitted([Flat(), Flat()]), [Flat()]).isfinite().all()


@pytest.mark.parametrize("width", [8, 777])
def test_pca_patches_refuse_a_width_they_cannot_have(width: int) -> None:
    with pytest.raises(ValueError, match=f"width={width} must be in 9..776"):
        PcaPatches(EncoderOptions(width=width))


def test_pca_patches_say_when_they_were_not_fitted(catalogue: Any) -> None:
    with pytest.raises(ValueError, match="was not fitted"):
        list(PcaPatches().encode(pictures(catalogue)))
