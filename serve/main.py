"""`llmrec serve` as a script: `python serve/main.py BUNDLE --port 8000`, options as there."""

import sys

from llmrec.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    main()
