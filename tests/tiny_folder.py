"""A folder that holds a causal language model and its tokenizer, and loads in no time: one token a byte."""

import torch
from tiny import TINY
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<|turn|>")
TEMPLATE = "{% for turn in messages %}<|turn|>{{ turn.content }}</s>{% endfor %}<|turn|>"


def save_tiny(folder, *, chat_template=TEMPLATE, seed=0, **changes):
    """Save the model and the tokenizer, and return them. The tokenizer begins every text with <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *alphabet))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|turn|>"],
        chat_template=chat_template,
        model_max_length=256,
    )
    torch.manual_seed(seed)
    config = AutoConfig.for_model("llama", **TINY | {"vocab_size": len(vocabulary)} | changes)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer
