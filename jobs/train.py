"""Train a model on a Ray cluster: what `embedpipe train` does here, on one of its nodes.

python jobs/train.py --config configs/train/card.yaml --address http://head:8265 --gpus 1

Pairs, `model.base` and `output` must be places that the cluster's nodes see. Over there must be installed: embedpipe[train].
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.load import load_training
from pipeline.errors import EmbedpipeError
from pipeline.storage.environment import redact
from pipeline.train.submit import submit_training


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the recipe and show what the training tells; its exit code."""
    parser = argparse.ArgumentParser(description="Train a model on a Ray cluster.")
    parser.add_argument("--config", "-c", type=Path, required=True, help="the recipe, as for `embedpipe train`")
    parser.add_argument("--address", required=True, help="of the cluster's dashboard, as in http://head:8265")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value over the recipe's")
    parser.add_argument("--gpus", type=int, default=0, choices=(0, 1), help="1: train on a GPU")
    parser.add_argument("--no-follow", action="store_true", help="end when it is submitted")
    asked = parser.parse_args(arguments)
    try:
        training = load_training(asked.config, asked.set)
        return submit_training(
            training, asked.address, gpus=asked.gpus, follow=not asked.no_follow, show=lambda text: print(text, end="")
        )
    except EmbedpipeError as error:
        sys.stderr.write(f"error: {redact(error.message)}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
