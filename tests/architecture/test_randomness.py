"""Nothing draws from a default generator: all streams come from `odmt_fast.randomness`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "odmt_fast"
KERNELS = Path(__file__).parents[2] / "kernels"

# Makes or changes a generator.
MAKERS = {"default_rng", "manual_seed", "set_rng_state", "fork_rng", "RandomState", "SeedSequence"}
# Draws from the default one unless it is given another.
DRAWS = {
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like"),
    *("bernoulli", "multinomial", "normal", "poisson", "random_", "bernoulli_", "normal_"),
    *("uniform_", "exponential_", "log_normal_", "cauchy_", "geometric_", "trunc_normal_"),
    *("xavier_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_", "orthogonal_"),
}
# Their dropout draws from the default one.
LAYERS = {"Dropout", "TransformerEncoderLayer", "MultiheadAttention", "AlphaDropout"}

ALLOWED = {
    # A batch without noise: torch.manual_seed rules people who train without a loader.
    "models/noise.py": {"randint"},
    # The official model as it is written.
    "official/modules.py": {"Dropout"},
    "randomness.py": {"manual_seed"},
}


def violations(source: str) -> set[str]:
    """Names of calls that draw, or decide what is drawn, where they must not."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if "random" in names or getattr(node, "module", None) == "random":
                found.add("import random")
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        given = any(word.arg == "generator" for word in node.keywords)
        if (
            name in MAKERS
            or (name in DRAWS and owner.split(".")[0] in ("torch", "nn") and not given)
            or (name in DRAWS and name.endswith("_") and not given)
            or (name in LAYERS and owner in ("nn", "torch.nn"))
            or (owner in ("np.random", "numpy.random") and name not in ("PCG64", "Generator"))
            or (name == "dropout" and owner in ("F", "nn.functional", "torch.nn.functional"))
        ):
            found.add(name)
    return found


def test_no_room_draws_from_a_default_generator() -> None:
    wrong = {}
    for folder in (PACKAGE, KERNELS):
        for path in sorted(folder.rglob("*.py")):
            name = str(path.relative_to(folder))
            if found := violations(path.read_text()) - ALLOWED.get(name, set()):
                wrong[name] = found
    assert wrong == {}


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from random import shuffle",
        "torch.manual_seed(1)",
        "np.random.default_rng(1)",
        "np.random.shuffle(x)",
        "torch.rand(3)",
        "x.normal_()",
        "nn.init.xavier_normal_(x)",
        "nn.Dropout(0.1)",
        "F.dropout(x, 0.1)",
    ],
)
def test_the_rule_sees(source: str) -> None:
    assert violations(source)
    assert not violations("torch.rand(3, generator=g); np.random.PCG64(stream(1, 'x'))")
