"""The decoder with a shared beginning: what it answers and counts is what each prompt gives alone."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from geolib.dimension import attention_dimension
from geolib.dimension.lm import attending
from geolib.reasoning import decode, generate_questions
from geolib.reasoning.decode import _NOISE, _STRIDE, DURING, Change, RefusedError, SharedPrefix, gumbel
from tests.dimension.architectures import tiny_model
from tests.tiny import TINY

# A small model answers in each.
pytestmark = pytest.mark.whole
EPS = (0.1, 0.03)
ENDS = (2,)
# One for each thing that attention may be besides a plain softmax: windows, softcap, sinks, positions that are learned
# or counted from the mask, values of another size than keys, experts, layers without positions.
KINDS = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "gpt_oss",
    "phi", "phi3", "olmo2", "opt", "starcoder2", "stablelm", "cohere", "cohere2", "granite", "smollm3", "glm4",
    "deepseek_v3", "biogpt",
)  # fmt: skip


def prompts(seed=0, shared=20, lengths=(3, 9, 1, 14, 5), vocab=64):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randint(3, vocab, (n,), generator=generator).tolist()  # noqa: E731
    return draw(shared), [draw(n) for n in lengths]


def alone(model, ids, n):
    """Greedy answer and measurement of one prompt by itself, with the model's own attention.

    Counts are bracketed by those a hair above and below eps: where a weight lies on the threshold, rounding decides.
    """
    tokens, ids = [], torch.tensor([ids])
    with torch.no_grad():
        for _ in range(n):
            token = (
                model(input_ids=torch.cat([ids, torch.tensor([tokens], dtype=torch.long)], 1)).logits[0, -1].argmax()
            )
            if int(token) in ENDS:
                break
            tokens.append(int(token))
    around = [eps * hair for hair in (1 + 1e-5, 1 - 1e-5) for eps in EPS]
    measured = [attention_dimension(model, ids, eps=around, rule=rule, statistics=True) for rule in decode.RULES]
    bounds = np.split(np.stack([one.per_head[:, 0, ..., 0] for one in measured]), 2, axis=1)
    return tokens, bounds, measured[0]


def assert_alone(model, answers, before, rests, n):
    for answer, rest in zip(answers, rests, strict=True):
        tokens, (fewest, most), measured = alone(model, before + rest, n)
        assert answer.tokens == tokens
        assert answer.ended == (len(tokens) < n)
        per_head = answer.per_head.reshape(fewest.shape)
        assert (fewest <= per_head).all()
        assert (per_head <= most).all()
        assert (most - fewest).sum() <= 2
        np.testing.assert_array_equal(answer.counts, per_head.sum(-1))
        np.testing.assert_allclose(answer.sink_share, measured.sink_share[0, ..., 0].mean(-1), atol=1e-5)
        np.testing.assert_allclose(answer.entropy, measured.entropy[0, ..., 0].ravel(), atol=5e-5)
        np.testing.assert_allclose(answer.renyi2, measured.renyi2[0, ..., 0].ravel(), atol=5e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_each_prompt_is_as_if_alone(kind):
    model = tiny_model(kind)
    before, rests = prompts()
    engine = SharedPrefix(model, EPS)
    engine.check(before + rests[3])
    assert_alone(model, engine.answer(before, rests, max_new_tokens=6, ends=ENDS), before, rests, 6)


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**TINY)).eval()


@pytest.mark.parametrize("piece", [4, 7, 1024])
def test_pieces_do_not_matter(llama, piece, monkeypatch):
    """A prompt, shared or not, longer than a pass; a batch larger than one."""
    monkeypatch.setattr(decode, "_PIECE", piece)
    monkeypatch.setattr(decode, "_STEP", piece)
    monkeypatch.setattr(decode, "_BLOCK", 300)
    before, rests = prompts()
    answers = SharedPrefix(llama, EPS).answer(before, rests, max_new_tokens=20, ends=ENDS)
    assert_alone(llama, answers, before, rests, 20)


def test_without_anything_shared(llama):
    _, rests = prompts()
    assert_alone(llama, SharedPrefix(llama, EPS).answer([], rests, max_new_tokens=5, ends=ENDS), [], rests, 5)


def test_what_begins_alike_is_read_once(llama, monkeypatch):
    """From one beginning to the next only the steps after the common ones are read."""
    monkeypatch.setattr(decode, "_STEP", 4)
    before, rests = prompts()
    engine, read = SharedPrefix(llama, EPS), []
    original = engine._pass
    engine._pass = lambda ids, *rows: read.append(ids.numel()) or original(ids, *rows)
    for start, expected in ((before[:12], 12), (before, 8), (before, 0), ([*before[:15], 9, 9], 5), (before[:15], 3)):
        read.clear()
        answers = engine.answer(start, rests, max_new_tokens=1, ends=ENDS)
        assert sum(read) == expected + len(rests) * max(map(len, rests))
        assert_alone(llama, answers, start, rests, 1)


def test_what_was_shared_before_leaves_no_trace(model, tokenizer):
    """Bit by bit: a run that goes on after a stop, with nothing shared yet, ends as an undisturbed one does."""
    example = tokenizer(" ".join(question.text for question in generate_questions(12, seed=0))).input_ids
    grown, fresh = SharedPrefix(model, EPS), SharedPrefix(model, EPS)
    for length in (30, 97, 150, 301, 260):
        before, rests = example[:length], [example[400:420], example[410:440]]
        one, other = (engine.answer(before, rests, max_new_tokens=2, ends=ENDS) for engine in (grown, fresh))
        fresh = SharedPrefix(model, EPS)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.sink_share, b.sink_share)
            np.testing.assert_array_equal(a.counts, b.counts)
            assert a.tokens == b.tokens


def test_the_model_stays_as_it_was(llama):
    llama.train()
    before = llama.config._attn_implementation
    SharedPrefix(llama, EPS).answer([5, 6], [[7]], max_new_tokens=2, ends=ENDS)
    assert llama.config._attn_implementation == before
    assert llama.training
    llama.eval()


def test_sharpness_scales_the_scores_of_its_layers(llama):
    """The intervention equals a model whose own scaling is another in those layers, shared tokens included."""
    before, rests = prompts()
    engine = SharedPrefix(llama, EPS, Change(sharpness={0: 2.0, 2: 0.5}))
    answers = engine.answer(before, rests, max_new_tokens=6, ends=ENDS)
    scaled = [(llama.model.layers[0].self_attn, 2.0), (llama.model.layers[2].self_attn, 0.5)]
    try:
        for attention, factor in scaled:
            attention.scaling *= factor
        assert_alone(llama, answers, before, rests, 6)
    finally:
        for attention, factor in scaled:
            attention.scaling /= factor
    plain = SharedPrefix(llama, EPS).answer(before, rests, max_new_tokens=1, ends=ENDS)
    assert any((a.counts != b.counts).any() for a, b in zip(answers, plain, strict=True))


def changed(model, change, read):
    """Let a naive attention compute, with whole T x T maps, what `change` says of a prompt of `read` tokens."""

    def attend(module, query, key, value, mask, scaling=None, **kwargs):
        layer, length = module.layer_idx, query.shape[2]
        key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
        scores = query @ key.transpose(2, 3) * scaling
        other = scores * torch.tensor(change.sharpness.get(layer, 1.0)).reshape(-1, 1, 1)
        if change.noise:
            i, j = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
            draws = np.random.default_rng(layer).standard_normal((query.shape[1], _NOISE), dtype=np.float32)
            other = other + torch.from_numpy(change.noise * draws)[:, (i * _STRIDE + j) % _NOISE]
        rows = torch.arange(length)[:, None]
        which = {"all": rows >= 0, "prompt": rows < read, "answer": rows >= read, "last token": rows == read - 1}
        which = which[change.during]
        scores = torch.where(which, other, scores).masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
        output = (scores.softmax(-1) @ value).transpose(1, 2)
        return torch.where(which[:, :, None], output * change.output, output), None

    return attending(model, "naive_change", attend, lambda *args, **kwargs: None)


@pytest.mark.parametrize("during", DURING)
@pytest.mark.parametrize("change", [
    {"sharpness": {0: 2.0, 1: 1.5}}, {"sharpness": {0: (0.5, 1.0, 2.0, 3.0)}}, {"noise": 1.5}, {"output": 1.5},
    {"sharpness": {1: 1.25}, "noise": 0.5, "output": 0.8},
])  # fmt: skip
def test_a_change_equals_a_naive_attention(llama, change, during):
    """Of the prompt's tokens, shared ones too, and of the answer's, in every pass; and replies are scored under it."""
    change, (before, rests) = Change(during=during, **change), prompts()
    engine = SharedPrefix(llama, EPS, change)
    answers = engine.answer(before, rests, max_new_tokens=5, ends=())
    replies = [[[3, 4], [9]], [[8, 8, 8]], *[[[2]]] * (len(rests) - 2)]
    scores = engine.score(before, rests, replies)
    for answer, rest, some, found in zip(answers, rests, replies, scores, strict=True):
        prompt = [*before, *rest]
        with changed(llama, change, len(prompt)), torch.no_grad():
            logits = llama(torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1 : -1]
            assert logits.argmax(-1).tolist() == answer.tokens
            for reply, score in zip(some, found, strict=True):
                read = llama(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
                assert score == pytest.approx(read[range(len(reply)), reply].sum().item(), abs=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"during": "later"}, "during is 'later', but one of all, prompt, answer, last token was expected"),
        ({"noise": -1}, "noise is -1, but a number of at least 0 was expected"),
        ({"output": 0}, "output is 0, but a number above 0 was expected"),
        ({"sharpness": {3: (1.0, 0.0)}}, "sharpness of layer 3 is 0.0, but a number above 0 was expected"),
    ],
)
def test_what_is_no_change(given, message):
    with pytest.raises(ValueError, match=f"^Change: {message}$"):
        Change(**given)


def test_factors_of_other_heads_are_refused(llama):
    engine = SharedPrefix(llama, EPS, Change(sharpness={0: (1.0, 2.0)}))
    with pytest.raises(RefusedError, match="heads in layer 1, but 2 factors were given"):
        engine.answer([], [[5, 6]], max_new_tokens=1, ends=ENDS)


def test_signs_of_watched_modules(llama):
    before, rests = prompts()
    gates = [layer.mlp.gate_proj for layer in llama.model.layers]
    answers = SharedPrefix(llama, EPS, watched=gates).answer(before, rests, max_new_tokens=2, ends=ENDS)
    for answer, rest in zip(answers, rests, strict=True):
        heard = []
        hooks = [gate.register_forward_hook(lambda *a, to=heard: to.append(a[2][0, -1] > 0)) for gate in gates]
        with torch.no_grad():
            llama(input_ids=torch.tensor([before + rest]))
        for hook in hooks:
            hook.remove()
        np.testing.assert_array_equal(np.unpackbits(answer.signs), torch.cat(heard).numpy())


def test_an_answer_stops_where_it_is_told(llama):
    before, rests = prompts()
    answers = SharedPrefix(llama, EPS).answer(
        before, rests, max_new_tokens=9, ends=(), stop=lambda tokens: len(tokens) == 4
    )
    assert all(len(answer.tokens) == 4 and answer.ended for answer in answers)


@pytest.mark.parametrize("kind", ["bloom", "diffllama", "mamba"])
def test_what_cannot_be_followed_is_refused(kind):
    with pytest.raises(ValueError, match=r"^Sweep: model is a \w+, which .*; expected one plain softmax per head"):
        SharedPrefix(tiny_model(kind), EPS).answer([5, 6], [[7]], max_new_tokens=2, ends=ENDS)


def test_a_model_that_attends_otherwise_is_refused(llama, monkeypatch):
    """The check compares logits: an attention that is not followed faithfully does not pass."""
    monkeypatch.setattr(decode, "_shared_attention", _flat)
    with pytest.raises(ValueError, match=r"logits differ by"):
        SharedPrefix(llama, EPS).check(list(range(3, 30)))


def _flat(module, query, key, value, mask, scaling=None, **kwargs):
    return decode._RUNNING.get()._attend(module, query, key, value, scaling / 4, None, None, None), None


def test_nan_is_refused(llama):
    norm = llama.model.layers[1].input_layernorm.weight
    kept = norm.detach().clone()
    try:
        norm.data[0] = torch.nan
        with pytest.raises(ValueError, match=r"^Sweep: model gives NaN attention in layer 2"):
            SharedPrefix(llama, EPS).answer([5, 6], [[7]], max_new_tokens=2, ends=ENDS)
    finally:
        norm.data[:] = kept


def test_gumbel_draws_from_the_softmax():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    choose = gumbel(0.5, ["row"])
    drawn = np.bincount([int(choose(logits, [0])) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(drawn, (logits[0] / 0.5).softmax(-1), atol=0.03)  # four standard errors


def test_gumbel_does_not_depend_on_the_batch():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together = gumbel(1.0, ["a", "b", "c"])
    apart = gumbel(1.0, ["b"])
    for _ in range(5):
        assert int(together(logits, [0, 1, 2])[1]) == int(apart(logits[1:2], [0]))
