"""For each mutant a seed that catches it, so that the test need not look for one: `python -m faults.simulation --mutants`."""

SEEDS: dict[str, int] = {}
