"""vLLM in this process: what `engines.contract` and `decode.continuations` ask of an engine.

The only package that imports vllm. Importing it checks the versions first, sets what vLLM reads from the
environment when it is imported (what the user has set stays), and leaves out its warnings of old parts in its
own dependencies. Raises `LlmrecError` where vLLM cannot run; `engines.choice` says why without importing it.
"""

import os
import warnings

from llmrec.engines.choice import check_vllm

check_vllm()
for _name, _value in {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, in which arrays are handed over (`listening`)
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the other one has no such logits processors
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other processes need the cores too
    "TORCHDYNAMO_DISABLE": "1",  # or the first request compiles for 10 s and more
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}.items():
    os.environ.setdefault(_name, _value)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import vllm  # noqa: F401
