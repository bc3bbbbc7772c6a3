"""Benchmarks, run by `make bench`; not tests, so pytest does not collect them."""
