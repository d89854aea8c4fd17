"""What geolib needs of a model, a tokenizer and an engine, for annotations. It imports neither torch nor transformers.

Every causal language model of transformers is a `Model`, and every tokenizer of transformers a `Tokenizer`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Model(Protocol):
    """A causal language model, as `geolib.models.load` returns it."""

    config: Any  # transformers.PreTrainedConfig: of its layers, heads, vocabulary and window
    generation_config: Any  # what ends an answer
    __call__: Callable[..., Any]  # token ids in, an object with `logits` out

    def can_generate(self) -> bool:
        """Whether it has a head that predicts the next token."""

    def named_modules(self) -> Any:
        """Go through pairs of a name and a torch.nn.Module; modules are watched, and attention replaced, by name."""

    def state_dict(self) -> Any:
        """Weights by name, which `geolib.fingerprint.fingerprint` reads."""


class Tokenizer(Protocol):
    """What turns text into token ids and back, as `geolib.models.load` returns it."""

    chat_template: Any  # text (Jinja), texts by name, or None for a base model
    __call__: Callable[..., Any]  # text in, an object with `input_ids` out
    decode: Callable[..., Any]  # token ids in, text out

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """Tokens as the vocabulary writes them, of one id or several."""


class Engine(Protocol):
    """What answers a sweep's batches elsewhere: see `geolib.experiments.Cluster`."""

    @property
    def at_once(self) -> int:
        """Number of batches that may be on the way at the same time."""

    def room(self) -> tuple[str, int]:
        """Type of the device that answers, and its memory in bytes: batches are sized by it."""

    def submit(self, settings: Any, batch: Sequence[dict]) -> Any:
        """Have a batch answered as `geolib.reasoning.answers.Settings` says; return a Future of its rows."""
