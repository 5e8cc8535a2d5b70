"""From user sequences to training batches: the order of the users, the indices, the prefetch."""
