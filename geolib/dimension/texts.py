"""Texts as token ids: what somebody wrote is text and nothing else, and stands in a prompt as it would in the whole."""

import copy
import json
import weakref
from datetime import datetime

from tokenizers import Tokenizer

SLOT = "slottext"  # stands for the text in a chat template
# Templates that print a date get this one, so that a prompt is the same tomorrow: where there is no clock, those of
# Llama 3 print it too.
_TODAY = datetime(2024, 7, 26)
_CODES = ("-d", "-m", *"aAbBcdDeFHIjmMpSTUwWxXyYzZ")
_PLAIN = weakref.WeakKeyDictionary()  # tokenizers made by `_plain`, by the one that they come from


def render(function, tokenizer, turns) -> str:
    """Text of a dialog in the tokenizer's chat template, up to where the model's answer begins; `function` opens."""
    dates = "".join(f" | replace('%{code}', '{_TODAY.strftime('%' + code)}')" for code in _CODES)
    pinned = f"{{%- macro strftime_now(format) -%}}{{{{ format{dates} }}}}{{%- endmacro -%}}"
    try:
        template = tokenizer.get_chat_template()
        template = pinned + template if "strftime_now" in template else template
        return tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program
        reason = " ".join(str(error).split())
        raise ValueError(f"{function}: the tokenizer's chat template fails on {len(turns)} turns: {reason}") from None


def text_ids(function, tokenizer, texts, *, place="inside") -> list[list[int]]:
    """Token ids of texts in which everything is text, also what is written like a control token.

    What is put before them, such as the space of SentencePiece, goes by their :func:`place`; without any the
    tokenizer's other additions are made too. `function` opens the error about a tokenizer that cannot do this.
    """
    _check(function, tokenizer)
    settings = {"split_special_tokens": True, "verbose": False} | ({"add_special_tokens": False} if place else {})
    if place and place[0] == " ":
        texts, place = [f" {text}" for text in texts], place[1:]
    return _plain(tokenizer, place)(texts, **settings).input_ids


def place(tokenizer, before) -> str:
    """Where in a prompt a text stands that comes after `before`: at its start, behind a mark, or inside a text.

    A space at the end of `before` opens the place: tokenizers make one token of it and the word that follows.
    """
    marks = tokenizer.added_tokens_decoder.values()
    stripping = any(mark.rstrip and before.rstrip().endswith(mark.content) for mark in marks)
    space = "" if stripping else " " * before.endswith(" ")
    before = before.removesuffix(space)
    marked = stripping or any(before.endswith(mark.content) for mark in marks)
    return space + ("start" if not before else "behind" if marked else "inside")


def template_ids(function, tokenizer, parts) -> list[list[int]]:
    """Token ids of the parts of a rendered template; between each two of them stands something else.

    A space before that is not among them: it belongs to what stands there (:func:`place`).
    """
    _check(function, tokenizer)
    parts = [*(part[: -1 if place(tokenizer, part)[0] == " " else None] for part in parts[:-1]), parts[-1]]
    marks = tokenizer.added_tokens_decoder.values()
    ids = [tokenizer(parts[0], add_special_tokens=False).input_ids]
    for part in parts[1:]:
        # What follows a special token begins anew for the tokenizer; what comes before it goes on.
        found = [(part.find(mark.content), -len(mark.content), mark.lstrip) for mark in marks if mark.content in part]
        end, _, strips = min(found, default=(len(part), 0, False))
        text = part[:end].rstrip() if strips else part[:end]
        ids.append(_plain(tokenizer, "inside")(text, add_special_tokens=False).input_ids if text else [])
        ids[-1] += tokenizer(part[end:], add_special_tokens=False).input_ids if end < len(part) else []
    return ids


def _check(function, tokenizer) -> None:
    if not isinstance(getattr(tokenizer, "added_tokens_decoder", None), dict):
        raise ValueError(
            f"{function}: tokenizer is a {type(tokenizer).__name__}, which cannot encode its special tokens as text; "
            "expected one of transformers' own"
        )


def _plain(tokenizer, place):
    """Copy of a tokenizer that takes marks added to it for special ones, and puts before a text what a place asks."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):  # Python's own split at nothing when they are told so
        return tokenizer
    made = _PLAIN.setdefault(tokenizer, {})
    if (place, len(tokenizer)) not in made:
        settings = json.loads(backend.to_str())
        for token in settings["added_tokens"]:
            # Others are pieces of text: a run of spaces, an empty line, a word.
            token["special"] |= any(not (sign.isalnum() or sign.isspace() or sign == "▁") for sign in token["content"])
        if isinstance(pieces := settings["model"].get("vocab"), list):  # of Unigram, by which a mark is a piece too
            marks = {token["content"] for token in settings["added_tokens"] if token["special"]}
            settings["model"]["vocab"] = [[piece, -1e9 if piece in marks else score] for piece, score in pieces]
        for name in ("normalizer", "pre_tokenizer") if place in ("inside", "behind") else ():
            settings[name] = _without_prefix(settings[name], place)
        plain = copy.copy(tokenizer)
        plain._tokenizer = Tokenizer.from_str(json.dumps(settings))
        made[place, len(tokenizer)] = plain
    return made[place, len(tokenizer)]


def _without_prefix(part, place):
    """Change a normaliser's settings, or those of what splits a text, so that no space is put where none belongs."""
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
