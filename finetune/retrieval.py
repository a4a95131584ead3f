"""Fine-tune a language model for retrieval and write its bundle.

python finetune/retrieval.py --config finetune/recipes/sample.yaml
accelerate launch --multi_gpu --num_processes 2 finetune/retrieval.py --config finetune/recipes/sample.yaml

(`--multi_gpu` starts processes on CPUs too where there is no GPU; without it accelerate starts one.)
"""

import sys

from llmrec.finetune import script

if __name__ == "__main__":
    sys.exit(script("retrieval.py", "Fine-tune a language model for retrieval."))
