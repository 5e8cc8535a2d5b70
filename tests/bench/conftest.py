"""The benches lie beside the package, not in it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# At the end: an installed odmt_fast comes before the checkout.
sys.path.append(str(ROOT))
