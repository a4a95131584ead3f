"""`llmrec ray-batch` as a script: `python serve/ray_batch.py requests.jsonl --bundle BUNDLE --out FILE`."""

import sys

from llmrec.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["ray-batch"]
    main()
