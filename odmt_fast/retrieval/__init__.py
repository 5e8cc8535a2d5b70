"""From a trained model to lists of items: vectors, exact top-k, recommendations, bundles."""

from __future__ import annotations

from odmt_fast.retrieval.export import Vectors, export_vectors, load_vectors
from odmt_fast.retrieval.hub import Origin
from odmt_fast.retrieval.manifest import is_bundle
from odmt_fast.retrieval.parts import KnownUsers, Parts
from odmt_fast.retrieval.recommend import Recommendation, Recommender
from odmt_fast.retrieval.search import item_vectors, top_k, user_vectors

__all__ = [
    "KnownUsers",
    "Origin",
    "Parts",
    "Recommendation",
    "Recommender",
    "Vectors",
    "export_vectors",
    "is_bundle",
    "item_vectors",
    "load_vectors",
    "top_k",
    "user_vectors",
]
