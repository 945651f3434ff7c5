"""Speed, with parity beside it: `python -m jobs.bench`, written to docs/benchmarks.md."""
