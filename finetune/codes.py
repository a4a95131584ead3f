"""Fine-tune a language model that writes the codes of items and write its bundle; see docs/codes.md.

python finetune/codes.py --config finetune/recipes/sample-codes.yaml
accelerate launch --multi_gpu --num_processes 2 finetune/codes.py --config finetune/recipes/sample-codes.yaml
"""

import sys

from llmrec.finetune import script

if __name__ == "__main__":
    sys.exit(script("codes.py", "Fine-tune a language model that writes the codes of items."))
