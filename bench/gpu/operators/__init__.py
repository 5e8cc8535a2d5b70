"""The operator benches: a module per operator with ``cases(setting)``, see `bench.gpu.case`."""
