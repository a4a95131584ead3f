"""From a recipe to its bundle, whichever readout it wants; what `llmrec finetune` and the scripts call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.codes.fitting import fit_codes
from llmrec.codes.starting import check_start
from llmrec.config import Recipe, changed, load_recipe
from llmrec.errors import LlmrecError
from llmrec.fit import fit


def finetune(recipe: Recipe) -> Bundle | CodeBundle:
    """Train as the recipe says and write its bundle; goes on where an interrupted run stopped."""
    if recipe.readout != "codes":
        return fit(recipe)
    check_start(recipe)  # before the work
    return fit_codes(recipe)


def script(name: str, purpose: str, arguments: Sequence[str] | None = None) -> int:
    """Read the recipe that the arguments of a script name, train, write the bundle; return the exit code.

    `arguments` are by default those of the command line.
    """
    parser = argparse.ArgumentParser(prog=name, description=purpose)
    parser.add_argument("--config", type=Path, required=True, help="the recipe (YAML)")
    parser.add_argument("--data", help="instead of the recipe's data: prepared directory or data.yaml")
    parser.add_argument("--out", help="instead of the recipe's bundle directory")
    parser.add_argument("--seed", type=int, help="instead of the recipe's seed")
    given = parser.parse_args(arguments)
    try:
        bundle = finetune(changed(load_recipe(given.config), given.data, given.out, given.seed))
    except LlmrecError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2
    sys.stderr.write(f"the bundle is {bundle.directory}\n")
    return 0
