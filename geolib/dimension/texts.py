"""Texts as token ids, without control tokens from inside them, and as the tokenizer would split the whole prompt."""

import copy
import json
import weakref
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tokenizers import Tokenizer

SLOT = "slottext"  # takes the place of the text in a chat template
# Templates that print today's date get this one, so that prompts do not change from day to day. It is the date that
# those of Llama 3 print if they are given no clock.
_TODAY = datetime(2024, 7, 26)
_CODES = ("-d", "-m", *"aAbBcdDeFHIjmMpSTUwWxXyYzZ")
_PLAIN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # tokenizers made by `_plain`, by their originals


def render(function: str, tokenizer: Any, turns: Sequence[dict]) -> str:
    """Render a dialog in the tokenizer's chat template, up to where the model's answer begins."""
    dates = "".join(f" | replace('%{code}', '{_TODAY.strftime('%' + code)}')" for code in _CODES)
    pinned = f"{{%- macro strftime_now(format) -%}}{{{{ format{dates} }}}}{{%- endmacro -%}}"
    try:
        template = tokenizer.get_chat_template()
        template = pinned + template if "strftime_now" in template else template
        return tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program
        reason = " ".join(str(error).split())
        raise ValueError(f"{function}: the tokenizer's chat template fails on {len(turns)} turns: {reason}") from None


def text_ids(function: str, tokenizer: Any, texts: Sequence[str], *, place: str | None = "inside") -> list[list[int]]:
    """Encode texts as token ids; even words that are written like control tokens are text.

    Their :func:`place` decides what is put before them, such as the space of SentencePiece. With None for a place, the
    tokens that the tokenizer adds itself are included.
    """
    _check(function, tokenizer)
    settings = {"split_special_tokens": True, "verbose": False} | ({"add_special_tokens": False} if place else {})
    if place and place[0] == " ":
        texts, place = [f" {text}" for text in texts], place[1:]
    return _plain(tokenizer, place)(texts, **settings).input_ids


def place(tokenizer: Any, before: str) -> str:
    """Return where in a prompt a text is that follows `before`: at its "start", "behind" a mark, or "inside" a text.

    If `before` ends in a space, the result begins with one: tokenizers join it with the word that follows.
    """
    marks = tokenizer.added_tokens_decoder.values()
    stripping = any(mark.rstrip and before.rstrip().endswith(mark.content) for mark in marks)
    space = "" if stripping else " " * before.endswith(" ")
    before = before.removesuffix(space)
    marked = stripping or any(before.endswith(mark.content) for mark in marks)
    return space + ("start" if not before else "behind" if marked else "inside")


def template_ids(function: str, tokenizer: Any, parts: Sequence[str]) -> list[list[int]]:
    """Encode the parts of a rendered template, between which texts are inserted.

    A space at the end of a part is left out, because it belongs to the text that follows (:func:`place`).
    """
    _check(function, tokenizer)
    parts = [*(part[: -1 if place(tokenizer, part)[0] == " " else None] for part in parts[:-1]), parts[-1]]
    marks = tokenizer.added_tokens_decoder.values()
    ids = [tokenizer(parts[0], add_special_tokens=False).input_ids]
    for part in parts[1:]:
        # The tokenizer starts again after a special token; text before it continues what came earlier.
        found = [(part.find(mark.content), -len(mark.content), mark.lstrip) for mark in marks if mark.content in part]
        end, _, strips = min(found, default=(len(part), 0, False))
        text = part[:end].rstrip() if strips else part[:end]
        ids.append(_plain(tokenizer, "inside")(text, add_special_tokens=False).input_ids if text else [])
        ids[-1] += tokenizer(part[end:], add_special_tokens=False).input_ids if end < len(part) else []
    return ids


def _check(function, tokenizer):
    if not isinstance(getattr(tokenizer, "added_tokens_decoder", None), dict):
        found = f"a {type(tokenizer).__name__}, which cannot encode its special tokens as text"
        raise ValueError(f"{function}: tokenizer is {found}, but one of transformers' own was expected")


def _plain(tokenizer, place):
    """Copy a tokenizer so that marks added to it are special tokens, and texts begin as their place requires."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):  # tokenizers in Python obey split_special_tokens without this
        return tokenizer
    made = _PLAIN.setdefault(tokenizer, {})
    if (place, len(tokenizer)) not in made:
        settings = json.loads(backend.to_str())
        for token in settings["added_tokens"]:
            # Marks include a punctuation sign. Other added tokens are text: a run of spaces, an empty line, a word.
            token["special"] |= any(not (sign.isalnum() or sign.isspace() or sign == "▁") for sign in token["content"])
        if isinstance(pieces := settings["model"].get("vocab"), list):  # Unigram: its pieces include the marks
            marks = {token["content"] for token in settings["added_tokens"] if token["special"]}
            settings["model"]["vocab"] = [[piece, -1e9 if piece in marks else score] for piece, score in pieces]
        for name in ("normalizer", "pre_tokenizer") if place in ("inside", "behind") else ():
            settings[name] = _without_prefix(settings[name], place)
        plain = copy.copy(tokenizer)
        plain._tokenizer = Tokenizer.from_str(json.dumps(settings))
        made[place, len(tokenizer)] = plain
    return made[place, len(tokenizer)]


def _without_prefix(part, place):
    """Change the settings of a normaliser or a pre-tokeniser so that no space is added where none belongs."""
    if part is None or (part["type"] == "Prepend" and place == "inside"):
        return None
    for inner in ("normalizers", "pretokenizers"):
        if inner in part:
            part[inner] = [one for one in (_without_prefix(one, place) for one in part[inner]) if one]
    if "prepend_scheme" in part and (place == "inside" or part["prepend_scheme"] == "first"):
        part["prepend_scheme"] = "never"
    if "add_prefix_space" in part and place == "inside":
        part["add_prefix_space"] = False
    return part
