"""Compile every Triton kernel for GPUs that are not here; report what the compiler made of it."""
