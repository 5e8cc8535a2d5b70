"""Operators of odmt_fast: one folder per operator, tensors in, tensors out.

Imported as ``odmt_fast.kernels``. The version below only matters when the repository root is on
``sys.path`` and another library probes for a package named ``kernels``.
"""

__version__ = "0.0.0"
