"""Fine-tune a language model for retrieval and write its bundle.

python finetune/retrieval.py --config finetune/recipes/sample.yaml
accelerate launch --multi_gpu --num_processes 2 finetune/retrieval.py --config finetune/recipes/sample.yaml

(`--multi_gpu` starts processes on CPUs too where there is no GPU; without it accelerate starts one.)
"""

import argparse
import sys
from pathlib import Path

from llmrec.config import changed, load_recipe
from llmrec.errors import LlmrecError
from llmrec.fit import fit


def main() -> int:
    """Read the recipe, train, write the bundle; return the exit code."""
    parser = argparse.ArgumentParser(description="Fine-tune a language model for retrieval.")
    parser.add_argument("--config", type=Path, required=True, help="the recipe (YAML)")
    parser.add_argument("--data", help="instead of the recipe's data: prepared directory or data.yaml")
    parser.add_argument("--out", help="instead of the recipe's bundle directory")
    parser.add_argument("--seed", type=int, help="instead of the recipe's seed")
    arguments = parser.parse_args()
    try:
        recipe = load_recipe(arguments.config)
        bundle = fit(changed(recipe, arguments.data, arguments.out, arguments.seed))
    except LlmrecError as error:
        sys.stderr.write(f"retrieval.py: {error}\n")
        return 2
    sys.stderr.write(f"the bundle is {bundle.directory}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
