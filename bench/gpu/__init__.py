"""One run on a GPU box: build, GPU tests, operator benches, training step (``bench/gpu.sh OUT``).

`plan` says what runs and how long it may take, `process` runs it, each section in a process of its
own (`section`), `results` keeps one JSON per GPU, `summary` makes the table of it.
"""
