"""The post-norm Transformer block over packed rows, whole and for a few rows of every segment."""

from odmt_fast.kernels.transformer_block.op import readout_block, transformer_block
from odmt_fast.kernels.transformer_block.problem import Seeds, Shape, Weights
from odmt_fast.kernels.transformer_block.shares import readout_shares

__all__ = ["Seeds", "Shape", "Weights", "readout_block", "readout_shares", "transformer_block"]
