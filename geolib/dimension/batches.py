"""ID_eps of many prompts: read from a file, and measured in batches that are stored as they are finished."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from geolib import __version__
from geolib.checks import LINES, choice, flag, integer, one_line, whole_text
from geolib.dimension.architectures import check_model
from geolib.dimension.attention import measuring
from geolib.dimension.lm import device_of, labelled, named, prompts_of, read
from geolib.dimension.rules import RULES, SHIPPED, Rule, check_eps, check_rule, column
from geolib.dimension.texts import SLOT, place, render, template_ids, text_ids
from geolib.files import json_lines, whole_file
from geolib.fingerprint import check_storable, fingerprint, plain
from geolib.store import check_folder, run_in_parts
from geolib.typing import Model, Tokenizer

_MEASURE = 1  # part of every row's key: raise it when the meaning or the computation of a row changes
_TEXT = ("text", "prompt", "question")  # keys of the text in a line; the first that is found is taken
STATISTICS = ("sink_share", "entropy", "effective_support")


def read_prompts(path: str | os.PathLike) -> pd.DataFrame:
    """Read the prompts of a file.

    Parameters
    ----------
    path : path
        A file in UTF-8. If its name ends in ``.jsonl``, ``.jsonlines``, ``.ndjson`` or ``.json``, in capitals or not,
        each line is a JSON object with the key "text" (or "prompt", or "question") and, optionally, "id"; other keys
        and blank lines are ignored. Any other file is one prompt.

    Returns
    -------
    pandas.DataFrame
        ``text`` and, if any line has one, ``id`` (integers if all are; otherwise text, and None where there is none).
        The index is the number of the line in the file, from 1.

    Raises
    ------
    TypeError
        If ``path`` is not a path.
    ValueError
        If a line does not have this form (the error gives its number), there is no prompt, or the file is not UTF-8.
    OSError
        If the file cannot be read.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"read_prompts: path is {one_line(path)}, but a path was expected")
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


def _parse(where: str, record: dict) -> tuple[str, Any]:
    """Return text and id of an object; ``where`` begins the message of an error."""
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


def _check_text(where, text):
    if not text:
        raise ValueError(f"{where} is empty, but a text was expected")
    whole_text(where, text)


def encode_prompts(tokenizer: Tokenizer, texts: Sequence[str], *, chat: bool = False) -> pd.Series:
    """Encode texts as token ids, without control tokens from inside them.

    A control token that is written out in a text, such as ``<|im_end|>`` or ``<think>``, is encoded by its characters:
    a text about a model must not steer the model.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Tokens that it adds itself, such as one for the beginning, are included.
    texts : sequence of str
        The result has the index of a Series.
    chat : bool
        Whether to put every text, without outer white space, into the tokenizer's chat template: as the only turn of a
        user, up to where the model's answer begins. The text is tokenised by itself, with the space before it if the
        template has one. A template that prints today's date gets 26 July 2024, so that prompts do not change.

    Returns
    -------
    pandas.Series
        A list of int for each text.

    Raises
    ------
    TypeError
        If ``texts`` is not a sequence of texts, or ``chat`` is not True or False.
    ValueError
        If a text is empty; and, with ``chat``, if the tokenizer has no template, or the template drops or changes the
        text.
    """
    texts = labelled("encode_prompts: texts", texts)
    for name, text in named("encode_prompts", texts):
        if not isinstance(text, str):
            raise TypeError(f"{name} is {one_line(text)}, but a text was expected")
        _check_text(name, text)
    if not flag("encode_prompts: chat", chat):
        encoded = text_ids("encode_prompts", tokenizer, list(texts), place=None)
        return pd.Series(encoded, index=texts.index, dtype=object)
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("encode_prompts: chat is True, but False was expected: the tokenizer has no chat template")
    parts = render("encode_prompts", tokenizer, [{"role": "user", "content": SLOT}]).split(SLOT)
    if len(parts) != 2:
        found = f"has a chat template that prints the text of a turn {len(parts) - 1} times"
        raise ValueError(f"encode_prompts: tokenizer {found}, but once was expected")
    before, after = template_ids("encode_prompts", tokenizer, parts)
    turns = [text.strip() or text for text in texts]
    inner = text_ids("encode_prompts", tokenizer, turns, place=place(tokenizer, parts[0]))
    return pd.Series([[*before, *ids, *after] for ids in inner], index=texts.index, dtype=object)


def measure_prompts(
    model: Model,
    prompts: Sequence,
    *,
    eps: float | Sequence[float] = 0.1,
    rule: str | Sequence[str] = "absolute",
    tokens: str = "last",
    statistics: bool = False,
    per_head: bool = False,
    per_token: bool = False,
    batch_tokens: int = 2048,
    store: str | os.PathLike | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Measure ID_eps (arXiv 2407.02678, eq. 8) of many prompts, in batches that are stored as they are finished.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        As for :func:`~geolib.dimension.attention_dimension`.
    prompts : sequence of array-like, shape=[tokens], int
        Token ids, such as :func:`encode_prompts` gives. The same prompt twice is measured once and gives two rows.
    eps : float or sequence of float
        Threshold(s) in (0, 1).
    rule : str or sequence of str
        Names in :data:`~geolib.dimension.RULES`, such as ``"absolute"``; several take one forward pass too.
    tokens : {"last", "all"}
        Whether to measure each prompt's last token, or every token and take the mean.
    statistics : bool
        Whether to measure the sink's share, the entropy, the effective support and the mass above eps too.
    per_head, per_token : bool
        Whether to return all numbers head by head too; and token by token, which needs ``tokens="all"``.
    batch_tokens : int
        Largest number of tokens in a batch, including padding; memory is proportional to it. A longer prompt is a batch
        of its own.
    store : path, optional
        Folder in which finished batches are kept (:mod:`geolib.store`). After an interruption, a second call with the
        same arguments gives the rows of an undisturbed run, bit for bit on the same machine. A row's key covers
        everything that changes the function that the model computes (:mod:`geolib.fingerprint`); a model with hooks,
        which a key cannot cover, is refused.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per prompt, in order: ``prompt`` (its place from 0; if ``prompts`` is a Series with a named index, that
        index under its name), ``n_tokens``, and for each rule and threshold ``id_<rule>_<eps>`` (array-like,
        shape=[layers], summed over heads). With ``statistics`` also ``mass_above_<rule>_<eps>``, ``sink_share``,
        ``entropy`` (nats) and ``effective_support`` (means over heads, shape=[layers]). With ``per_head`` each of these
        is repeated with the ending ``_heads`` (shape=[layers, heads]; means over tokens if ``tokens`` is ``"all"``),
        and with ``per_token`` with the ending ``_tokens`` (shape=[layers, tokens]; over heads as above). ``attrs`` has
        the settings.

    Raises
    ------
    ValueError, TypeError
        As for :func:`~geolib.dimension.attention_dimension`; the error names the prompt, and comes before any
        computation.

    Notes
    -----
    Prompts of similar length share a batch, padded at the right. Padding may change the order of sums, and with it
    whether a weight at the threshold exceeds it: a count may differ by one from that of the prompt alone. Batches
    depend on the prompts and ``batch_tokens`` only, not on the store; prompts added at the end change few of them.
    """
    eps, rules = check_eps("measure_prompts", eps, distinct=True), check_rule("measure_prompts", rule)
    check_folder("measure_prompts: store", store)
    choice("measure_prompts: tokens", tokens, "last", "all")
    what = {"statistics": statistics, "per_head": per_head, "per_token": per_token}
    what = {name: flag(f"measure_prompts: {name}", value) for name, value in what.items()}
    if per_token and tokens == "last":
        raise ValueError("measure_prompts: per_token is True and tokens is 'last', but 'all' was expected with it")
    check_model("measure_prompts", model, virtual=True)
    batch_tokens = integer("measure_prompts: batch_tokens", batch_tokens, 1)
    labels, checked = prompts_of("measure_prompts", prompts, model)

    attrs = {"eps": list(eps), "rule": list(rules), "tokens": tokens}
    if store is not None:
        check_storable("measure_prompts", model)  # before every weight is hashed, which takes a while
        attrs["model"] = fingerprint(model)
    settings = {"measure": _MEASURE, "device": device_of(model).type} | attrs | what
    if changed := changed_rules("measure_prompts", rules, stored=store is not None):
        settings["rules"] = changed
    batches, keys = [], {}
    for batch in _batches(dict.fromkeys(checked), batch_tokens):
        # Rounding depends on what is computed together, so a row's key covers its whole batch.
        digest = hashlib.sha256(json.dumps([settings, batch]).encode()).hexdigest()
        batches.append([{"key": f"{digest}-{place}", "ids": ids} for place, ids in enumerate(batch)])
        keys |= {item["ids"]: item["key"] for item in batches[-1]}

    def compute(batch):
        return _measure_batch(model, batch, eps, rules, tokens, **what)

    rows = run_in_parts(batches, compute, folder=store, progress=progress, label="prompts")
    frame = pd.DataFrame([rows[keys[ids]] for ids in checked]).drop(columns="key")
    frame.insert(0, labels.name or "prompt", labels)
    frame.attrs = {"geolib": __version__} | attrs
    return frame


def changed_rules(function: str, names: Sequence[str], *, stored: bool) -> dict:
    """Describe the rules of these names that are not the shipped ones, for the keys of rows.

    Raises
    ------
    ValueError
        If a rule cannot be described, and rows are ``stored``.
    """
    changed: dict[str, Any] = {name: RULES[name] for name in sorted(names) if RULES[name] is not SHIPPED.get(name)}
    for name, rule in changed.items():
        try:
            changed[name] = plain([rule.keep, rule.score] if type(rule) is Rule else rule)
        except (TypeError, ValueError, RecursionError, AttributeError):
            changed[name] = None
            if stored:
                found = f"the rule {name!r}, which a row's key cannot describe"
                raise ValueError(f"{function}: store is given for {found}, but no store was expected") from None
    return changed


def _batches(prompts: Iterable[tuple[int, ...]], batch_tokens: int) -> Iterable[list[tuple[int, ...]]]:
    """Group prompts of similar length, in their order; the longest first, so that a lack of memory shows at once."""
    groups = {}
    for ids in prompts:
        groups.setdefault(_rung(len(ids)), []).append(ids)
    for rung in sorted(groups, reverse=True):
        group, size = groups[rung], max(1, batch_tokens // rung)
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _rung(length: int) -> int:
    """Round a length up to three binary digits, so that padding is at most a quarter of a batch.

    >>> [_rung(n) for n in (7, 9, 100, 129)]
    [7, 10, 112, 160]
    """
    step = 1 << max(0, (length - 1).bit_length() - 3)
    return -(-length // step) * step


def _measure_batch(model, batch, eps, rules, tokens, *, statistics, per_head, per_token):
    """Return the rows of one batch, from a single forward pass."""
    lengths = [len(item["ids"]) for item in batch]
    # Padding at the right changes nothing: no token sees what follows it, and positions stay the same.
    ids = pad_sequence([torch.tensor(item["ids"]) for item in batch], batch_first=True)
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
            heads = values[i, ..., : lengths[i]]  # where only the last token was measured, its one column
            summed = heads.sum(1, dtype=np.int32) if name.startswith("id_") else heads.mean(1, dtype=np.float64)
            row[name] = summed[:, 0] if tokens == "last" else summed.mean(-1)
            if per_head:
                row[f"{name}_heads"] = heads[..., 0].copy() if tokens == "last" else heads.mean(-1, dtype=np.float64)
            if per_token:
                row[f"{name}_tokens"] = summed
        rows.append(row)
    return rows
