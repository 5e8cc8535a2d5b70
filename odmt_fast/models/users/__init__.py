"""User encoders: item embeddings of the rows -> one state per row and branch."""
