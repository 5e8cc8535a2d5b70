"""Benches of odmt_fast: they measure, they are no tests (``pytest bench --benchmark``)."""
