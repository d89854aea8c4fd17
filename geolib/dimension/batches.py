"""ID_eps of many prompts: a file of them, measured in batches that are kept as they are finished."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from geolib import __version__
from geolib.checks import LINES, integer, one_line, whole_text
from geolib.dimension.architectures import check_model
from geolib.dimension.attention import measuring
from geolib.dimension.lm import device_of, labelled, named, prompt_ids, read
from geolib.dimension.rules import RULES, SHIPPED, Rule, check_eps, check_rule, column
from geolib.dimension.texts import SLOT, place, render, template_ids, text_ids
from geolib.files import json_lines, whole_file
from geolib.fingerprint import check_storable, fingerprint, plain
from geolib.store import run_in_parts

_MEASURE = 1  # part of every row's key: raise it when what a row means, or how it is computed, changes
_TEXT = ("text", "prompt", "question")  # what the text may be called in a line; the first that is there
STATISTICS = ("sink_share", "entropy", "effective_support")


def read_prompts(path) -> pd.DataFrame:
    """Read the prompts of a file.

    Parameters
    ----------
    path : path
        Named ``*.jsonl``, ``*.jsonlines``, ``*.ndjson`` or ``*.json``, in capitals or not: one JSON object a line, with
        "text" (or else "prompt", or else "question"), and an "id" if you like; other keys are passed over, so are blank
        lines. Any other name: the whole file is one prompt. UTF-8 in both cases.

    Returns
    -------
    pandas.DataFrame
        ``text`` and, if a line has one, ``id`` (whole numbers if all are, else text, None where there is none). The
        index is the number of the line in the file, from 1.

    Raises
    ------
    ValueError
        A line that is not of this form (named), no prompt at all, or a file that is not UTF-8.
    OSError
        It cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() not in LINES:
        content = whole_file("read_prompts", path)
        _check_text(f"read_prompts: {path}", content)
        return pd.DataFrame({"text": [content]}, index=pd.Index([1], name="line"))
    lines, *records = zip(*json_lines("read_prompts", path, '{"text": "..."}'), strict=True)
    texts, ids = zip(*map(_parse, *records), strict=True)
    frame = pd.DataFrame({"text": texts}, index=pd.Index(lines, name="line"))
    if any(name is not None for name in ids):
        whole = all(isinstance(name, int) and abs(name) < 2**63 for name in ids)
        frame.insert(0, "id", ids if whole else [None if name is None else str(name) for name in ids])
    return frame


def _parse(where: str, record: dict):
    """Text and id of an object; `where` prefixes the message."""
    if not any(key in record for key in _TEXT):
        raise ValueError(f'{where}, is {one_line(record)}, but an object with "text" was expected')
    key = next(key for key in _TEXT if key in record)
    if not isinstance(record[key], str):
        raise ValueError(f"{where}: {key} is {one_line(record[key])}, but a text was expected")
    _check_text(f"{where}: {key}", record[key])
    name = record.get("id")
    if isinstance(name, bool | list | dict):
        raise ValueError(f"{where}: id is {one_line(name)}, but a text or a number was expected")
    whole_text(f"{where}: id", str(name))
    return record[key], name


def _check_text(where: str, text) -> None:
    if not text:
        raise ValueError(f"{where} is empty, but a text was expected")
    whole_text(where, text)


def encode_prompts(tokenizer, texts: Sequence[str], *, chat: bool = False) -> pd.Series:
    """Token ids of texts, in which everything is text.

    A control token that is written out, such as ``<|im_end|>`` or ``<think>``, is encoded as the characters it is made
    of: what somebody writes about a model must not steer it.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Its own additions, such as a token for the beginning, are made.
    texts : sequence of str
        A Series keeps its index.
    chat : bool
        Whether to put every text, without outer white space, into the tokenizer's chat template, as the one turn of a
        user, up to where the model's answer begins. The text is tokenised by itself, with the space before it if the
        template has one. A template that prints today's date gets 26 July 2024, so that a prompt stays the same.

    Returns
    -------
    pandas.Series
        A list of int for each text.

    Raises
    ------
    TypeError
        Something that is no text.
    ValueError
        A text that is empty; with ``chat``, a tokenizer without a template, or one whose template drops or alters what
        it is given.
    """
    texts = labelled("encode_prompts: texts", texts)
    for name, text in named("encode_prompts", texts):
        if not isinstance(text, str):
            raise TypeError(f"{name} is {one_line(text)}, but a text was expected")
        _check_text(name, text)
    if not chat:
        encoded = text_ids("encode_prompts", tokenizer, list(texts), place=None)
        return pd.Series(encoded, index=texts.index, dtype=object)
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("encode_prompts: chat is True, but the tokenizer has no chat template")
    parts = render("encode_prompts", tokenizer, [{"role": "user", "content": SLOT}]).split(SLOT)
    if len(parts) != 2:
        raise ValueError("encode_prompts: the tokenizer's chat template does not keep the text of a turn, once")
    before, after = template_ids("encode_prompts", tokenizer, parts)
    turns = [text.strip() or text for text in texts]
    inner = text_ids("encode_prompts", tokenizer, turns, place=place(tokenizer, parts[0]))
    return pd.Series([[*before, *ids, *after] for ids in inner], index=texts.index, dtype=object)


def measure_prompts(
    model,
    prompts: Sequence,
    *,
    eps=0.1,
    rule="absolute",
    tokens="last",
    statistics: bool = False,
    per_head: bool = False,
    per_token: bool = False,
    batch_tokens: int = 2048,
    store=None,
    progress: bool = False,
) -> pd.DataFrame:
    """Measure ID_eps (arXiv 2407.02678, eq. 8) of many prompts, in batches, each kept as it is finished.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        As for :func:`~geolib.dimension.attention_dimension`.
    prompts : sequence of array-like, shape=[tokens], int
        Token ids, such as :func:`encode_prompts` gives. The same prompt twice is measured once and gives two rows.
    eps : float or sequence of float
        Threshold(s) in (0, 1).
    rule : str or sequence of str
        Names in :data:`~geolib.dimension.RULES`, such as ``"absolute"``; several are one pass too.
    tokens : {"last", "all"}
        Measure each prompt's last token, or every token and take the mean.
    statistics : bool
        Whether to measure the sink's share, the entropy, the effective support and the mass above eps too.
    per_head, per_token : bool
        Whether to give, besides, everything head by head, and, where ``tokens`` is ``"all"``, token by token.
    batch_tokens : int
        The most tokens in a batch, padding counted: what memory goes with. A prompt that is longer is a batch alone.
    store : path, optional
        Folder in which finished batches are kept (:mod:`geolib.store`). Whoever calls again with the same arguments
        gets the rows of an undisturbed run, bit for bit on the same machine, whatever became of the first call. A row's
        key covers whatever changes the function that the model computes (:mod:`geolib.fingerprint`); a model with
        hooks, which no key can tell, is refused.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per prompt, in order. ``prompt`` (its place from 0; where ``prompts`` is a Series with a named index,
        that index under its name), ``n_tokens``, and for each rule and threshold ``id_<rule>_<eps>`` (array-like,
        shape=[layers], summed over heads). With ``statistics``: ``mass_above_<rule>_<eps>``, ``sink_share``,
        ``entropy`` (nats) and ``effective_support`` (means over heads, shape=[layers]). Each of these again with
        ``_heads`` (shape=[layers, heads]; a mean over tokens where ``tokens`` is ``"all"``) and ``_tokens``
        (shape=[layers, tokens]; over heads as above) where asked for. ``attrs`` holds the settings.

    Raises
    ------
    ValueError, TypeError
        As for :func:`~geolib.dimension.attention_dimension`; the prompt is named, and nothing has been computed then.

    Notes
    -----
    Prompts of like length share a batch, padded at the right. Padding may change the order of sums: a weight at the
    threshold may then fall on its other side, so that a count differs by one from that of the prompt alone. Batches
    follow from the prompts and ``batch_tokens``, never from what is in the store; prompts added at the end change
    few of them.
    """
    eps, rules = check_eps("measure_prompts", eps, distinct=True), check_rule("measure_prompts", rule)
    if tokens not in ("last", "all"):
        raise ValueError(f"measure_prompts: tokens is {tokens!r}, but 'last' or 'all' was expected")
    if per_token and tokens == "last":
        raise ValueError("measure_prompts: per_token is True and tokens is 'last', but 'all' was expected with it")
    check_model("measure_prompts", model, virtual=True)
    batch_tokens = integer("measure_prompts: batch_tokens", batch_tokens, 1)
    prompts = labelled("measure_prompts: prompts", prompts)
    checked = [prompt_ids(name, ids, model) for name, ids in named("measure_prompts", prompts)]

    attrs = {"geolib": __version__, "eps": list(eps), "rule": list(rules), "tokens": tokens}
    if store is not None:
        check_storable("measure_prompts", model)  # before every weight is hashed, which takes a while
        attrs["model"] = fingerprint(model)
    what = {"statistics": bool(statistics), "per_head": bool(per_head), "per_token": bool(per_token)}
    settings = {"measure": _MEASURE, "device": device_of(model).type} | attrs | what
    del settings["geolib"]
    if changed := changed_rules("measure_prompts", rules, stored=store is not None):
        settings["rules"] = changed
    batches, keys = [], {}
    for batch in _batches(dict.fromkeys(checked), batch_tokens):
        # Rounding depends on what is computed together, so that a row's key holds its whole batch.
        digest = hashlib.sha256(json.dumps([settings, batch]).encode()).hexdigest()
        batches.append([{"key": f"{digest}-{place}", "ids": ids} for place, ids in enumerate(batch)])
        keys |= {item["ids"]: item["key"] for item in batches[-1]}

    def compute(batch):
        return _measure_batch(model, batch, eps, rules, tokens, **what)

    rows = run_in_parts(batches, compute, folder=store, progress=progress, label="prompts")
    frame = pd.DataFrame([rows[keys[ids]] for ids in checked]).drop(columns="key")
    frame.insert(0, prompts.index.name or "prompt", prompts.index)
    frame.attrs = attrs
    return frame


def changed_rules(function: str, names: Sequence[str], *, stored: bool) -> dict:
    """Tell what rules of these names do, as a row's key tells it, where they are not the shipped ones.

    Raises
    ------
    ValueError
        What one does cannot be told, and rows are ``stored``; `function` opens the error.
    """
    changed = {name: RULES[name] for name in sorted(names) if RULES[name] is not SHIPPED.get(name)}
    for name, rule in changed.items():
        try:
            changed[name] = plain([rule.keep, rule.score] if type(rule) is Rule else rule)
        except (TypeError, ValueError, RecursionError, AttributeError):
            changed[name], told = None, "no row's key tells what it does; expected a plain function, or no store"
            if stored:
                raise ValueError(f"{function}: store is given, but of rule {name!r} {told}") from None
    return changed


def _batches(prompts, batch_tokens: int):
    """Group prompts of like length, as they come, the longest first: memory that does not suffice shows at once."""
    groups = {}
    for ids in prompts:
        groups.setdefault(_rung(len(ids)), []).append(ids)
    for rung in sorted(groups, reverse=True):
        group, size = groups[rung], max(1, batch_tokens // rung)
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _rung(length: int) -> int:
    """Round a length up to three binary digits: a batch is then padded by a quarter at most.

    >>> [_rung(n) for n in (7, 9, 100, 129)]
    [7, 10, 112, 160]
    """
    step = 1 << max(0, (length - 1).bit_length() - 3)
    return -(-length // step) * step


def _measure_batch(model, batch, eps, rules, tokens, *, statistics, per_head, per_token) -> list[dict]:
    """Rows of one batch: a single forward pass."""
    lengths = [len(item["ids"]) for item in batch]
    # Padded at the right: no token sees what follows it, and its position stays what it is.
    ids = torch.zeros(len(batch), max(lengths), dtype=torch.long)
    for row, item in zip(ids, batch, strict=True):
        row[: len(item["ids"])] = torch.tensor(item["ids"])
    mask = (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long()
    mask = None if mask.all() else mask.to(device_of(model))
    with measuring(model, eps=eps, rule=rules, tokens=tokens, statistics=statistics, attention_mask=mask) as measure:
        read(model, input_ids=ids.to(device_of(model)), attention_mask=mask)
    measured = {}  # shape=[batch, layers, heads, tokens] each
    for rule, result in measure.results().items():
        for e, one in enumerate(eps):
            measured[column(rule, one)] = result.per_head[e]
            if statistics:
                measured[column(rule, one, "mass_above")] = result.mass_above[e]
    if statistics:
        measured |= {name: getattr(result, name) for name in STATISTICS}
    rows = []
    for i, item in enumerate(batch):
        row = {"key": item["key"], "n_tokens": lengths[i]}
        for name, values in measured.items():
            heads = values[i, ..., : lengths[i]]  # all that is there where only the last token was measured
            summed = heads.sum(1, dtype=np.int32) if name.startswith("id_") else heads.mean(1, dtype=np.float64)
            row[name] = summed[:, 0] if tokens == "last" else summed.mean(-1)
            if per_head:
                row[f"{name}_heads"] = heads[..., 0].copy() if tokens == "last" else heads.mean(-1, dtype=np.float64)
            if per_token:
                row[f"{name}_tokens"] = summed
        rows.append(row)
    return rows
