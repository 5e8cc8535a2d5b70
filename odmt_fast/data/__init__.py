"""The data room: readers, filters, splits, prepared datasets, and the generated demo shop."""

from __future__ import annotations

from odmt_fast.data.dataset import Dataset
from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Filters
from odmt_fast.data.holdout import HoldOut
from odmt_fast.data.interactions import Interactions
from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.data.readers import READERS, detect, read
from odmt_fast.data.readers.amazon import AmazonOptions
from odmt_fast.data.readers.hm import HmOptions
from odmt_fast.data.readers.official import OfficialOptions
from odmt_fast.data.readers.table import TableOptions
from odmt_fast.data.report import Report
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import Split, leave_one_out

__all__ = [
    "READERS",
    "AmazonOptions",
    "DataError",
    "Dataset",
    "Filters",
    "HmOptions",
    "HoldOut",
    "ImageSource",
    "Interactions",
    "ItemTable",
    "OfficialOptions",
    "Report",
    "Sequences",
    "Split",
    "TableOptions",
    "detect",
    "leave_one_out",
    "read",
]
