"""For people: `python -m faults.simulation SEED [MUTANT]` tells the history of a seed, operation by operation, and what was
wrong in it; `python -m faults.simulation --mutants` looks for the first seed that catches each mutant, for caught.py.
"""
# ruff: noqa: T201

import sys
import traceback
from itertools import count

from faults.simulation.binding import replaced
from faults.simulation.mutants import MUTANTS, catching_seed
from faults.simulation.story import simulate


def main() -> int:
    """1 when something was wrong."""
    if sys.argv[1] == "--mutants":
        for mutant in MUTANTS:
            print(f'    "{mutant.name}": {catching_seed(mutant, count())},', flush=True)
        return 0
    broken = [mutant.replacements() for mutant in MUTANTS if mutant.name in sys.argv[2:]]
    with replaced([replacement for replacements in broken for replacement in replacements]):
        outcome = simulate(int(sys.argv[1]), print)
    print()
    for violation in outcome.violations:
        print("WRONG:", violation)
    for bug in outcome.bugs:
        traceback.print_exception(bug)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
