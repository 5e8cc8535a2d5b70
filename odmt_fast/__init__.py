"""odmt_fast: the engine for multi-modal sequential recommenders trained by online distillation."""

from __future__ import annotations

from pkgutil import extend_path

# A checkout on sys.path must not hide the compiled extension of an installed package.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
