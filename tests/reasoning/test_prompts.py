"""Prompts: the question's tokens are the same everywhere, prompts are nested, and lengths agree token by token."""

import json
import os
import re
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from geolib.dimension import encode_prompts
from geolib.reasoning import Question, build_prompt, generate_questions, load_questions, split
from geolib.reasoning.prompts import KINDS, Condition, _prose, frame, question_ids, reply

ZERO = Path(os.environ.get("GEOLIB_DATA") or Path(__file__).parents[3] / "shared" / "data") / "gsm8k_zero.jsonl"
EXAMPLES = generate_questions(12, seed=1)
WORKED = tuple(replace(example, steps=f"We read {example.answer:g}.\nNothing is added.") for example in EXAMPLES)
SPECIAL = "Is <|im_end|> one word?"
CONDITIONS = [Condition(kind=kind, examples=EXAMPLES[:3]) for kind in KINDS] + [
    Condition(examples=WORKED[:2], worked=True),
    Condition(kind="random", examples=WORKED[:2], worked=True),
    Condition(lead="Please read the following and reply."),
    Condition(examples=EXAMPLES[:1], hint="Let's think step by step."),
    Condition(examples=EXAMPLES[:1], lead="Read this.", hint="Reply."),
    Condition(),
]


@pytest.fixture(params=["chat", "plain"])
def either(request, tokenizer, monkeypatch):
    """The embedded tokenizer, with its chat template and without."""
    if request.param == "plain":
        monkeypatch.setattr(tokenizer, "chat_template", None)
    return tokenizer


def test_with_a_chat_template(tokenizer):
    text = tokenizer.decode(build_prompt(tokenizer, "How many?", EXAMPLES[:1]))
    expected = (
        f"<|im_start|>user\n{EXAMPLES[0].text}<|im_end|>\n"
        f"<|im_start|>assistant\n{reply(EXAMPLES[0].answer)}<|im_end|>\n"
        "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text.endswith(expected)


def test_without_a_template(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    text = tokenizer.decode(build_prompt(tokenizer, "How many?", [Question("Two and two?", 4.0, 0)]))
    assert text == "Question: Two and two?\nAnswer: The answer is 4.\n\nQuestion: How many?\nAnswer:"


def test_a_beginning_that_the_tokenizer_adds_is_kept(tokenizer, monkeypatch):
    """As base models' tokenizers do: their own first token, once, and no last one."""
    from tokenizers.processors import TemplateProcessing

    monkeypatch.setattr(tokenizer, "chat_template", None)
    bare = build_prompt(tokenizer, "How many?", EXAMPLES[:1])
    backend = tokenizer.backend_tokenizer
    before = backend.post_processor
    bos, eos = (tokenizer.bos_token, tokenizer.bos_token_id), (tokenizer.eos_token, tokenizer.eos_token_id)
    backend.post_processor = TemplateProcessing(single=f"{bos[0]} $A {eos[0]}", special_tokens=[bos, eos])
    try:
        assert build_prompt(tokenizer, "How many?", EXAMPLES[:1]) == [tokenizer.bos_token_id, *bare]
    finally:
        backend.post_processor = before


@pytest.mark.parametrize("shots", [0, 1, 5])
def test_the_same_as_tokenising_the_whole_text(either, shots):
    """Neither the chat template nor plain text has a token that reaches over a slot's edge."""
    real = split(load_questions(ZERO)).exploration[:40] if ZERO.exists() else []
    for question in [*generate_questions(20, seed=2), *real]:
        shown = EXAMPLES[:shots]
        if either.chat_template:
            turns = [
                {"role": role, "content": content}
                for example in shown
                for role, content in (("user", example.text), ("assistant", reply(example.answer)))
            ]
            turns.append({"role": "user", "content": question.text})
            text = either.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        else:
            pairs = [f"Question: {example.text}\nAnswer: {reply(example.answer)}" for example in shown]
            text = "\n\n".join([*pairs, f"Question: {question.text}\nAnswer:"])
        assert build_prompt(either, question.text, shown) == either(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: f"{condition.name} {condition.shots}")
def test_every_condition_ends_in_the_same_question(either, condition):
    before, after = frame(either, condition)
    for text in ("How many?", "  How many?\n", SPECIAL):
        prompt = build_prompt(either, text, condition)
        ids = question_ids(either, text)
        assert prompt == [*before, *ids, *after]
        assert either.decode(ids).strip() == text.strip()
        assert not set(ids) & set(either.added_tokens_decoder)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1).filter(str.strip))
@example(text="\x16")  # of which this vocabulary has nothing
def test_any_text_is_a_question(tokenizer, text):
    """Also in an example: what it says never becomes a turn of the dialog. What makes no token is refused."""
    if not tokenizer(text.strip(), add_special_tokens=False).input_ids:
        with pytest.raises(
            ValueError, match=r"^question_ids: text is .*, but text that the tokenizer knows was expected$"
        ):
            question_ids(tokenizer, text)
        return
    ids = question_ids(tokenizer, text)
    assert ids == question_ids(tokenizer, f" \n{text}\t")
    condition = Condition(examples=[Question(text, 1.0, 0)])
    prompt = build_prompt(tokenizer, text, condition)
    before, after = frame(tokenizer, condition)
    assert prompt[len(before) : len(prompt) - len(after)] == ids
    turns = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert prompt.count(turns) == build_prompt(tokenizer, "How many?", condition).count(turns) == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("worked", [False, True])
def test_every_kind_is_as_long_and_has_the_same_turns(either, kind, worked):
    examples = WORKED[:4]
    real = build_prompt(either, "How many?", Condition(examples=examples, worked=worked))
    other = build_prompt(either, "How many?", Condition(kind=kind, examples=examples, worked=worked))
    assert len(other) == len(real)
    assert (other == real) == (kind == "examples")
    special = set(either.added_tokens_decoder)
    assert [(i, t) for i, t in enumerate(other) if t in special] == [(i, t) for i, t in enumerate(real) if t in special]


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_examples_are_a_prefix(either, kind):
    """All but the turn of the question: what is shared between k and k + 1 examples is never read again."""
    prompts = [frame(either, Condition(kind=kind, examples=EXAMPLES[:k])).before for k in range(13)]
    for fewer, more in pairwise(prompts):
        assert more[: len(fewer)] == fewer
        assert len(more) > len(fewer)


def test_random_tokens(tokenizer):
    def filled(**changes):
        return frame(tokenizer, Condition(**{"kind": "random", "examples": EXAMPLES, **changes})).before

    assert filled() == filled()
    assert filled() != filled(seed=1) != filled(example_set=1)
    # Drawn from all of the vocabulary: of some 700 draws from 49,000 tokens, few are drawn twice.
    real = frame(tokenizer, Condition(examples=EXAMPLES)).before
    drawn = [new for new, old in zip(filled(), real, strict=True) if new != old]
    assert len(set(drawn)) > 0.95 * len(drawn)
    assert max(drawn) > 0.9 * len(tokenizer)


def test_shuffled_examples_keep_their_words(either):
    """Each example holds the tokens that it held, in whole words, and in another order."""
    for k in range(1, 5):
        examples = frame(either, Condition(examples=EXAMPLES[:k])).before
        shuffled = frame(either, Condition(kind="shuffled", examples=EXAMPLES[:k])).before
        start = len(frame(either, Condition(examples=EXAMPLES[: k - 1])).before)
        assert sorted(shuffled[start:]) == sorted(examples[start:])
        assert shuffled[start:] != examples[start:]
    words = sorted(re.findall(r"[A-Za-z']+", either.decode(examples).replace("The answer", " The answer")))
    text = re.sub(r"(?<=[a-z.?\d])(?=[A-Z])", " ", either.decode(shuffled))  # the first words had no space before them
    assert len(set(words) & set(re.findall(r"[A-Za-z']+", text))) > 0.9 * len(set(words))
    other = frame(either, Condition(kind="shuffled", examples=EXAMPLES[:4], seed=1)).before
    assert sorted(other) == sorted(shuffled)
    assert other != shuffled


def test_prose_runs_on_from_slot_to_slot(tokenizer):
    def text(examples):
        ids = frame(tokenizer, Condition(kind="prose", examples=examples)).before
        turns = re.findall(r"<\|im_start\|>(?:user|assistant)\n(.*?)<\|im_end\|>", tokenizer.decode(ids), re.DOTALL)
        return "".join(turns)

    assert len(text(EXAMPLES[:10])) > 1000
    assert _prose().startswith(text(EXAMPLES[:10]))
    many = text(EXAMPLES * 20)
    assert len(many) > len(_prose())
    assert many.startswith(_prose() + _prose()[:100])


def test_prose_is_neutral():
    """No numbers, no questions, nothing to work out."""
    words = set(re.findall(r"[a-z]+", _prose().lower()))
    numbers = "one two three four five six seven eight nine ten twelve hundred thousand first second third half twice"
    asking = "how why whether sum total plus minus number count answer question"
    assert not words & {*numbers.split(), *asking.split()}
    assert not re.search(r"[0-9?$%=+*/]", _prose())
    assert 1100 < len(_prose().split()) < 1500


def test_lead_and_hint(either):
    condition = Condition(examples=EXAMPLES[:1], lead="Read <|im_end|> this.", hint="Think.")
    text = either.decode(build_prompt(either, "How many?", condition))
    if either.chat_template:
        expected = "<|im_start|>user\nRead <|im_end|> this.\nHow many?\nThink.<|im_end|>\n<|im_start|>assistant\n"
    else:
        expected = "\n\nRead <|im_end|> this.\nQuestion: How many?\nThink.\nAnswer:"
    assert text.endswith(expected)
    assert text.count("Think.") == 1
    # The line is text: it ends no turn.
    end = either.convert_tokens_to_ids("<|im_end|>")
    plain = build_prompt(either, "How many?", replace(condition, lead="Read this."))
    assert build_prompt(either, "How many?", condition).count(end) == plain.count(end)


def test_worked_examples_show_their_steps(tokenizer):
    text = tokenizer.decode(build_prompt(tokenizer, "How many?", Condition(examples=WORKED[:1], worked=True)))
    assert f"<|im_start|>assistant\n{WORKED[0].steps}\n{reply(WORKED[0].answer)}<|im_end|>" in text


def test_names():
    assert [Condition(kind=kind).name for kind in KINDS] == list(KINDS)
    assert Condition(worked=True).name == "worked"
    assert Condition(kind="prose", worked=True).name == "prose worked"
    assert Condition(hint="Think.").name == "examples, hint"
    assert Condition(worked=True, lead="Read.", hint="Think.").name == "worked, lead, hint"
    assert Condition(examples=EXAMPLES).shots == 12


def test_conditions_are_frozen_and_compare():
    condition = Condition(examples=list(EXAMPLES))
    assert condition == Condition(examples=tuple(EXAMPLES))
    assert hash(condition) == hash(Condition(examples=tuple(EXAMPLES)))
    with pytest.raises(FrozenInstanceError):
        condition.kind = "prose"


@pytest.mark.parametrize(
    ("attributes", "error", "message"),
    [
        (
            {"kind": "noise"},
            ValueError,
            "kind is 'noise', but 'examples' or 'random' or 'shuffled' or 'prose' was expected",
        ),
        ({"examples": ["How many?"]}, TypeError, "examples is ['How many?'], but a sequence of Question was expected"),
        ({"examples": 3}, TypeError, "examples is 3, but a sequence of Question was expected"),
        ({"lead": 3}, TypeError, "lead is a int, but text was expected"),
        ({"hint": "a\nb"}, ValueError, r"hint is 'a\nb', but one line without outer spaces was expected"),
        ({"lead": "a \ud800"}, ValueError, r"lead holds '\ud800', but whole characters were expected"),
        ({"seed": -1}, ValueError, "seed is -1, but at least 0 was expected"),
        ({"seed": 0.5}, TypeError, "seed is 0.5, but an integer was expected"),
        ({"example_set": True}, TypeError, "example_set is True, but an integer was expected"),
        (
            {"worked": True, "examples": [WORKED[0], EXAMPLES[1]]},
            ValueError,
            "worked is True, but examples with steps were expected",
        ),
    ],
)
def test_conditions_that_are_none(attributes, error, message):
    with pytest.raises(error) as raised:
        Condition(**attributes)
    assert str(raised.value) == f"Condition: {message}"


@pytest.mark.parametrize(("question", "error"), [("", ValueError), ("  \n", ValueError), (None, TypeError)])
def test_no_question(tokenizer, question, error):
    with pytest.raises(error, match=r"^build_prompt: question is"):
        build_prompt(tokenizer, question)
    with pytest.raises(error, match=r"^question_ids: text is"):
        question_ids(tokenizer, question)


def test_no_condition(tokenizer):
    with pytest.raises(TypeError, match=r"^frame: condition is a tuple, but a Condition was expected$"):
        frame(tokenizer, ())


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[-1]['content'] }}",  # drops the examples
        "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}",
        "{% for m in messages | reverse %}{{ m['content'] }}{% endfor %}",
    ],
)
def test_templates_that_lose_what_they_are_given(tokenizer, monkeypatch, template):
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with pytest.raises(ValueError, match=r"^frame: the chat template changes the turns"):
        frame(tokenizer, Condition(examples=EXAMPLES[:1]))


# Tokenizers


DIALOG = "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}"


def spaced(prefix, template=DIALOG):
    """A token for each sign; a space is put before what is encoded, as SentencePiece does, in one of its ways."""
    signs = ["<unk>", "<s>", "</s>", "▁", *map(chr, range(33, 127))]
    tokens = Tokenizer(models.BPE(vocab={sign: i for i, sign in enumerate(signs)}, merges=[], unk_token="<unk>"))
    if prefix == "prepend":
        tokens.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokens.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix)
    tokens.add_special_tokens(["<s>", "</s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokens, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = template
    return fast


@pytest.mark.parametrize("prefix", ["prepend", "always", "first", "never"])
def test_no_space_is_put_in_at_a_joint(prefix):
    """The prompt is what the tokenizer makes of the whole dialog."""
    tokens = spaced(prefix)
    examples = (Question("Ann has 2.", 2.0, 0), Question("Bo has 4.", 4.0, 1))
    turns = []
    for shown in examples:
        turns += [{"role": "user", "content": shown.text}, {"role": "assistant", "content": reply(shown.answer)}]
    turns.append({"role": "user", "content": "Tom has 3."})
    whole = tokens.apply_chat_template(turns, return_dict=False)
    assert build_prompt(tokens, "Tom has 3.", examples) == whole
    assert encode_prompts(tokens, ["Tom has 3."], chat=True)[0] == tokens.apply_chat_template(
        turns[-1:], return_dict=False
    )
    tokens.chat_template = None
    plain = "Question: Ann has 2.\nAnswer: The answer is 2.\n\nQuestion: Tom has 3.\nAnswer:"
    assert build_prompt(tokens, "Tom has 3.", examples[:1]) == tokens(plain, add_special_tokens=False).input_ids


@pytest.mark.parametrize("prefix", ["prepend", "always", "first", "never"])
def test_a_space_of_the_template_is_one_token_with_the_word_behind_it(prefix):
    tokens = spaced(prefix)
    settings = json.loads(tokens.backend_tokenizer.to_str())
    settings["model"]["vocab"]["▁T"] = len(settings["model"]["vocab"])
    settings["model"]["merges"] = [["▁", "T"]]
    tokens._tokenizer = Tokenizer.from_str(json.dumps(settings))
    turns = [{"role": "user", "content": "Tom has 3."}]
    whole = tokens.apply_chat_template(turns, return_dict=False)
    assert whole.count(tokens.convert_tokens_to_ids("▁T")) == 1
    before, after = frame(tokens, Condition())
    assert build_prompt(tokens, "Tom has 3.") == [*before, *question_ids(tokens, "Tom has 3."), *after] == whole
    assert encode_prompts(tokens, ["Tom has 3."], chat=True)[0] == whole


def test_a_mark_that_is_a_piece_of_unigram_is_text_where_somebody_writes_it():
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("▁", -2.0), *((chr(sign), -3.0) for sign in range(33, 127))]
    unigram = Tokenizer(models.Unigram(pieces, 0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    unigram.add_special_tokens(["<unk>", "<s>"])
    tokens = PreTrainedTokenizerFast(tokenizer_object=unigram, bos_token="<s>", unk_token="<unk>")
    assert tokens.convert_ids_to_tokens(encode_prompts(tokens, ["a <s>b"])[0]) == [*"a▁<s>b"]


# Content that opens the prompt, stands right behind a mark, behind one that eats a line break, and before such ones.
TURNS = {
    "behind": "{{ bos_token }}{% for m in messages %}{{ m['content'] }}</s>A:{% endfor %}",
    "start": "{% for m in messages %}{{ m['content'] }}</s>{% endfor %}",
    "eaten": "<s>{% for m in messages %}{{ '<|u|>\n' + m['content'] + ' <|e|>\n' }}{% endfor %}<|u|>\nA",
    "inside": "<s>{% for m in messages %}Q: {{ m['content'] + ' </s>' }}{% endfor %}",
}


def marked(prefix, template):
    tokens = spaced(prefix, TURNS[template])
    eaters = {"<|u|>": {"rstrip": True}, "<|e|>": {"lstrip": True, "rstrip": True}}
    for mark, eats in eaters.items():
        tokens.add_tokens([AddedToken(mark, special=True, normalized=False, **eats)], special_tokens=True)
    return tokens


@pytest.mark.parametrize("template", TURNS)
@pytest.mark.parametrize("prefix", ["prepend", "always", "first", "never"])
def test_ids_are_those_of_the_whole_text_at_marks(prefix, template):
    tokens = marked(prefix, template)
    user = [{"role": "user", "content": "Tom has 3."}]
    whole = tokens.apply_chat_template(user, return_dict=False)
    assert encode_prompts(tokens, ["Tom has 3."], chat=True)[0] == whole
    assert build_prompt(tokens, "Tom has 3.") == whole
    said = [user[0] | {"content": "Ann has 2."}, {"role": "assistant", "content": reply(2.0)}]
    shown = (Question("Ann has 2.", 2.0, 0),)
    assert build_prompt(tokens, "Tom has 3.", shown) == tokens.apply_chat_template(said + user, return_dict=False)
    for lead, hint in (("Think.", ""), ("", "Think.")):
        whole = tokens.apply_chat_template(
            [user[0] | {"content": "\n".join(filter(None, (lead, "Tom has 3.", hint)))}], return_dict=False
        )
        condition = Condition(lead=lead, hint=hint)
        assert build_prompt(tokens, "Tom has 3.", condition) == whole
        spaced_out = template == "inside" or (template == "start" if prefix == "first" else prefix != "never")
        if lead and spaced_out:  # the question's tokens are others than without a lead
            with pytest.raises(ValueError, match=r"^frame: condition is 'examples, lead' with 0 examples, but a condi"):
                frame(tokens, condition)
        else:
            before, after = frame(tokens, condition)
            assert [*before, *question_ids(tokens, "Tom has 3."), *after] == whole
    tokens.chat_template = None
    plain = "<s>" * tokens("").input_ids.count(1) + "Think.\nQuestion: Tom has 3.\nAnswer:"
    assert (
        build_prompt(tokens, "Tom has 3.", Condition(lead="Think."))
        == tokens(plain, add_special_tokens=False).input_ids
    )


def test_added_marks_are_text_where_somebody_writes_them():
    """Special or not: the same tokens as if the mark had never been added. What is no mark stays a token."""
    bare, marked = spaced("never"), spaced("never")
    marked.add_tokens([AddedToken(mark, normalized=False) for mark in ("<think>", "</think>", "[TOOL]", "word", "  ")])
    for text in ("why <think>? </think>[TOOL]", "<think>"):
        expected = bare(text, add_special_tokens=False).input_ids
        assert question_ids(marked, text) == bare(f" {text}", add_special_tokens=False).input_ids  # as in the template
        assert encode_prompts(marked, [text])[0] == expected
        assert encode_prompts(marked, [text], chat=True)[0] == encode_prompts(bare, [text], chat=True)[0]
    template = marked.chat_template
    marked.chat_template = template + "<think>"  # the template's own marks are marks
    assert encode_prompts(marked, ["a"], chat=True)[0][-1] == marked.convert_tokens_to_ids("<think>")
    for text in ("word", "a  b"):
        assert max(question_ids(marked, text)) >= len(bare)


def test_tokenizers_that_cannot_take_marks_for_text_are_refused():
    class Foreign:
        """As mistral-common's: it names its control tokens by a method, and takes no word of how to split."""

        chat_template, bos_token_id = None, 1

        def __call__(self, text):
            return SimpleNamespace(input_ids=[2])

        def added_tokens_decoder(self):
            return {}

    for ask in (
        lambda: question_ids(Foreign(), "a"),
        lambda: frame(Foreign(), Condition()),
        lambda: encode_prompts(Foreign(), ["a"]),
    ):
        with pytest.raises(ValueError, match=r"^\w+: tokenizer is a Foreign, which cannot encode its special tokens"):
            ask()
