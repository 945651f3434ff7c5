"""Python runs this at the start of every process that has this folder on its PYTHONPATH: a job's, and those of its Ray."""

import os

if "FAULTS_HOOKS" in os.environ:
    from faults.hooks import install

    install(os.environ["FAULTS_HOOKS"].split(","))
