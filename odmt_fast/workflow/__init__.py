"""Rooms called one after the other: from a dataset to a run, from a run to recommendations."""
