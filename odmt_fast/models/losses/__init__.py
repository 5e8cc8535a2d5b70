"""Losses: user states against the candidates of the batch -> named terms."""
