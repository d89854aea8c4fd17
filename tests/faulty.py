"""A model that fails on purpose, for processes that load it themselves: faults that a sweep must survive."""

import os
import signal

from geolib.models import load


def raised():
    """Fail as a model does that meets what it cannot compute."""
    raise FloatingPointError("poisoned")


def killed():
    """End this process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {"\u00a7": raised, "\u00a1": killed}  # characters that are in no question which is not meant to fail


def load_faulty(folder):
    """Load the model of a folder; a prompt that holds one of the characters makes it fail."""
    model, tokenizer = load(folder, device="cpu")
    tokens = {tuple(tokenizer(mark, add_special_tokens=False).input_ids): fault for mark, fault in FAULTS.items()}

    def look(module, arguments):
        text = arguments[0].flatten().tolist()
        for mark, fault in tokens.items():
            if mark in zip(*(text[i:] for i in range(len(mark))), strict=False):
                fault()

    model.get_input_embeddings().register_forward_pre_hook(look)
    return model, tokenizer
