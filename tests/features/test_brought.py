"""Encoders that are brought as code: ``FILE.py:factory`` and ``module:factory``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from odmt_fast.features.encoder import EncoderOptions
from odmt_fast.features.extract import extract
from odmt_fast.features.further import StoreEncoder
from odmt_fast.features.registry import load_encoder
from odmt_fast.features.store import StoreError

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text("utf-8")
LENGTHS = PAGE.split("`encoders/lengths.py`\n\n```python\n")[1].split("```")[0]
COLOURS = """
import numpy as np
class Colours:
    name, digest, width, max_tokens = "colours", "1", 3, 1
    def encode(self, inputs):
        return [np.asarray(picture, np.float32).mean((0, 1))[None] for picture in inputs]
def factory(device):
    return Colours()
"""


def written(folder: Path, code: str = LENGTHS) -> str:
    (folder / "brought.py").write_text(code)
    return f"{folder / 'brought.py'}:factory"


def test_the_example_of_the_page_encodes_texts_and_leaves_the_path_alone(
    tmp_path: Path, catalogue: Any
) -> None:
    before = list(sys.path)
    store = extract(catalogue, "text", written(tmp_path), tmp_path / "s", dtype="float32")
    assert sys.path == before
    assert store.gather(torch.tensor([1])).values.tolist() == [[3.0] * 4, [7.0] * 4, [5.0] * 4]
    assert store.missing == (2, 6)
    assert store.encoder["settings"] == {"name": "lengths"}


def test_pictures_come_as_pil_images(tmp_path: Path, catalogue: Any) -> None:
    name = written(tmp_path, COLOURS)
    options = EncoderOptions(batch_size=2)
    store = extract(catalogue, "image", name, tmp_path / "s", options=options, dtype="float32")
    assert store.dim == 3
    wanted = torch.from_numpy(np.array(catalogue.images[6].load())).float().mean((0, 1))
    torch.testing.assert_close(store.gather(torch.tensor([7])).values[0], wanted)


def test_other_weights_and_other_names_are_refused(tmp_path: Path, catalogue: Any) -> None:
    extract(catalogue, "text", written(tmp_path), tmp_path / "s")
    with pytest.raises(StoreError, match="encoder weights is"):
        other = written(tmp_path, LENGTHS.replace('"1"', '"2"'))
        extract(catalogue, "text", other, tmp_path / "s")
    with pytest.raises(StoreError, match="encoder setting name is 'lengths', not 'long'"):
        other = written(tmp_path, LENGTHS.replace('"lengths"', '"long"'))
        extract(catalogue, "text", other, tmp_path / "s")


def test_a_run_or_bundle_starts_no_code(tmp_path: Path, catalogue: Any) -> None:
    store = extract(catalogue, "text", written(tmp_path), tmp_path / "s")
    made = StoreEncoder.of(store)
    assert made is not None
    with pytest.raises(StoreError, match="may not start"):
        made.tokens(catalogue)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("import torch", "import no_such_thing", "needs the module 'no_such_thing'"),
        ("def factory", "def fabric", "has no function 'factory'"),
        ("return Lengths()", "return 3", "made a int whose name is None"),
        ('"1", 4', '"", 4', "whose digest is ''"),
        ("return Lengths()", "return 1 / 0", "cannot be made: ZeroDivisionError"),
        ("class Lengths:", "class Lengths", "cannot be loaded: SyntaxError"),
        ("for text in inputs]", "for text in inputs[1:]]", "returned tokens of 4 inputs for 5"),
        ("] * 4 for", "] * 5 for", r"returned tokens of shape \(3, 5\)"),
        ("text.split()", "text.sqlit()", "failed: AttributeError"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, catalogue: Any, old: str, new: str, said: str
) -> None:
    assert old in LENGTHS
    with pytest.raises(ValueError, match=said) as raised:
        extract(catalogue, "text", written(tmp_path, LENGTHS.replace(old, new)), tmp_path / "s")
    assert "\n" not in str(raised.value)


def test_modules_that_are_not_there_name_the_file_to_give() -> None:
    with pytest.raises(ValueError, match=r"--encoder \./my/encoders\.py:make"):
        load_encoder("my.encoders:make", "text")
    with pytest.raises(ValueError, match="there is no file"):
        load_encoder("./nowhere.py:make", "text")
