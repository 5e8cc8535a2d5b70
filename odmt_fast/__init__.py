"""odmt_fast: the engine for multi-modal sequential recommenders trained by online distillation.

>>> from odmt_fast import ODMT
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odmt_fast.config import Config, ModelConfig
    from odmt_fast.data.dataset import Dataset
    from odmt_fast.official.facade import ODMT
    from odmt_fast.retrieval.recommend import Recommender
    from odmt_fast.workflow.fit import fit

# A checkout on sys.path must not hide the compiled extension of an installed package.
__path__ = extend_path(__path__, __name__)

__version__ = "0.2.0"
__all__ = ["ODMT", "Config", "Dataset", "ModelConfig", "Recommender", "__version__", "fit"]

_HOME = {
    "ODMT": "odmt_fast.official.facade",
    "Config": "odmt_fast.config",
    "Dataset": "odmt_fast.data.dataset",
    "ModelConfig": "odmt_fast.config",
    "Recommender": "odmt_fast.retrieval.recommend",
    "fit": "odmt_fast.workflow.fit",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that reading data or a store does not import torch and the kernels.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'odmt_fast' has no attribute {name!r}")
