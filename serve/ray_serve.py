"""`llmrec ray-serve` as a script: `python serve/ray_serve.py BUNDLE --replicas 2`."""

import sys

from llmrec.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["ray-serve"]
    main()
