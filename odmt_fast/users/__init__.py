"""User encoders: item embeddings of the rows -> one state per row and branch."""

from __future__ import annotations

from odmt_fast.users.sasrec import Steps, UserEncoders

__all__ = ["Steps", "UserEncoders"]
