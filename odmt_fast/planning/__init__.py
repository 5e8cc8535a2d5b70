"""What a step will need, before one is taken: memory, time, and the settings that fit."""

from odmt_fast.planning.cards import CARDS, Card
from odmt_fast.planning.pace import Probe, Rates
from odmt_fast.planning.plan import Plan, Row, plan
from odmt_fast.planning.ways import Way

__all__ = ["CARDS", "Card", "Plan", "Probe", "Rates", "Row", "Way", "plan"]
