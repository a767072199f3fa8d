"""Demo, benchmarks, load and fault drivers."""
