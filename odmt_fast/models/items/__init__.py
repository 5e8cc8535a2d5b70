"""Item encoders: distinct items of a batch -> one embedding per branch."""
