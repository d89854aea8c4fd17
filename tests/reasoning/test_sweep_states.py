"""Sweeps of models and tokenizers as they come: what cannot be followed is refused by name, all else is right."""

import functools
import re
import threading
import warnings
from dataclasses import fields
from fractions import Fraction
from types import SimpleNamespace

import accelerate
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from test_prompts import TURNS, marked
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.testing._internal.two_tensor import TwoTensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    PreTrainedTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.llama.modeling_llama import LlamaMLP

from geolib.dimension import (
    RULES,
    attention_dimension,
    attention_edges,
    attention_heads,
    dimension_profile,
    gate_hyperplanes,
    gate_names,
    gate_regions,
    measure_prompts,
    mlp_parts,
    mlp_reach,
)
from geolib.dimension.rules import Rule
from geolib.fingerprint import fingerprint
from geolib.reasoning import Condition, Question, Sweep, build_prompt, generate_questions
from geolib.reasoning.answers import Answerer, Settings
from geolib.reasoning.decode import Change, SharedPrefix
from tests.tiny import TINY

# A small model is made and asked in nearly every one.
pytestmark = pytest.mark.whole
QUESTIONS = generate_questions(6, seed=3)
SIZES = TINY | {"vocab_size": 300, "max_position_embeddings": 1024, "bos_token_id": 256, "eos_token_id": 258}
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ADAPTER = {"task_type": "CAUSAL_LM"}


def tokenizer(template=CHAT):
    """A token for each byte."""
    vocab = {sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytewise = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    bytewise.pre_tokenizer, bytewise.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bytewise.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=bytewise, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    fast.chat_template = template
    return fast


def tiny(kind="llama", **settings):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | settings)).eval()


def sweep(model, tokens=None, **settings):
    defaults = {"questions": QUESTIONS[:2], "examples": QUESTIONS[4:], "shots": (0,), "max_new_tokens": 6}
    defaults |= {"model": model, "tokenizer": tokens or tokenizer(), "progress": False}
    return Sweep(**defaults | settings).run()


def same(rows, other):
    columns = [name for name in rows if name not in ("seconds",)]
    return all(str(a) == str(b) for name in columns for a, b in zip(rows[name], other[name], strict=True))


# What is refused


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mamba", {"state_size": 4}),
        ("mamba2", {"state_size": 4, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8}),
        ("falcon_mamba", {"state_size": 4}),
        ("rwkv", {}),
        ("bloom", {"n_layer": 2, "n_head": 4}),
        ("diffllama", {}),
    ],
)
def test_what_dimension_refuses_a_sweep_refuses(kind, settings):
    sizes = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2}
    torch.manual_seed(0)
    base = SIZES if kind == "diffllama" else sizes
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **base | settings)).eval()
    for ask in (lambda: attention_dimension(model, [[5, 6]]), lambda: sweep(model)):
        with pytest.raises(ValueError, match=r"^\w+: model is a \w+, which .*; expected one plain softmax") as info:
            ask()
        assert "\n" not in str(info.value)


def test_models_that_do_not_answer():
    with pytest.raises(
        ValueError, match=r"^Sweep: model is a LlamaModel, which is no causal language model with a head"
    ):
        sweep(tiny().model)
    t5 = T5Config(vocab_size=300, d_model=32, num_layers=2, num_heads=4, d_kv=8, d_ff=48)
    with pytest.raises(ValueError, match=r"^Sweep: model is a T5\w+, but a causal language model was expected$"):
        sweep(T5ForConditionalGeneration(t5).eval())
    for settings in ({}, {"sharpness": {0: 2.0}}):
        with pytest.raises(TypeError, match=r"^Sweep: model is a Linear, but a transformers model was expected"):
            sweep(torch.nn.Linear(2, 2), **settings)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama4_text", {"attention_chunk_size": 40, "intermediate_size_mlp": 48, "num_local_experts": 2}),
        (
            "qwen2_moe",
            {
                "use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1, "num_experts": 4,
                "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
            },
        ),
        ("phimoe", {"sliding_window": 40, "num_local_experts": 4}),
        (
            "phi3",
            {
                "original_max_position_embeddings": 40, "sliding_window": None,
                "rope_parameters": {
                    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.2, 1.3],
                    "long_factor": [1.0, 4.0, 16.0, 40.0], "original_max_position_embeddings": 40,
                },
            },
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_answer_that_crosses_what_is_not_followed_is_refused(kind, settings, dtype):
    """The model's own greedy answer, or none: the prompt ends before the chunk, the window, the original length."""
    model = tiny(kind, **settings).to(dtype)
    prompt = torch.randint(3, 250, (34,), generator=torch.Generator().manual_seed(3)).tolist()
    decoder = SharedPrefix(model, (0.1,))
    if dtype == torch.float32:
        (answer,) = decoder.answer(prompt[:20], [prompt[20:]], max_new_tokens=5, ends=())
        ids = list(prompt)
        for _ in range(5):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert answer.tokens == ids[34:]
    with pytest.raises(ValueError, match=r"^Sweep: model is a \w+, which attends in a way .* after 59 tokens"):
        decoder.answer(prompt[:20], [prompt[20:]], max_new_tokens=25, ends=())


def asked(model):
    """Go through all that is asked of a model, by the name that opens an error."""
    ids = torch.arange(3, 40)[None]
    yield from {
        "attention_dimension": lambda: attention_dimension(model, ids),
        "attention_edges": lambda: attention_edges(model, ids),
        "attention_heads": lambda: attention_heads(model, ids, layer=0),
        "mlp_reach": lambda: mlp_reach(model, ids, layer=0),
        "measure_prompts": lambda: measure_prompts(model, ids.tolist()),
        "dimension_profile": lambda: dimension_profile(model, ids.tolist(), "TwoNN"),
        "gate_names": lambda: gate_names(model),
        "gate_hyperplanes": lambda: gate_hyperplanes(model, layer=0),
        "gate_regions": lambda: gate_regions(model, ids, layer=0),
        "mlp_parts": lambda: mlp_parts(model, ids, layer=0),
        "Sweep": lambda: sweep(model),
    }.items()


@pytest.mark.parametrize(
    "config",
    [
        T5Config(vocab_size=300, d_model=32, num_layers=2, num_heads=4, d_kv=8, d_ff=48),
        BartConfig(
            vocab_size=300, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
        ),
    ],
)  # fmt: skip
def test_models_with_an_encoder_are_refused_everywhere(config):
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    for name, ask in asked(model):
        with pytest.raises(
            ValueError, match=r"^\w+: model is a \w+, but a causal language model was expected$"
        ) as info:
            ask()
        assert str(info.value).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mamba", {"state_size": 4}),
        ("recurrent_gemma", {"block_types": ["recurrent"] * 3}),
        ("lfm2", {"layer_types": ["conv"] * 3}),
        ("minimax", {"layer_types": ["linear_attention"] * 3, "num_local_experts": 2}),
        ("bamba", {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 4, "attn_layer_indices": []}),
    ],
)
def test_models_in_which_no_layer_attends(kind, settings):
    """One line from whatever needs attention; the rest may measure them."""
    model, said = tiny(kind, **settings), {}
    for name, ask in asked(model):
        try:
            ask()
        except ValueError as error:
            said[name] = str(error)
    assert all(re.fullmatch(r"\w+: model is a \w+, .+", one) for one in said.values())
    assert {name for name, _ in asked(model)} - said.keys() <= {
        "dimension_profile",
        "gate_names",
        "gate_hyperplanes",
        "gate_regions",
        "mlp_parts",
    }


def test_a_model_that_tells_no_number_of_layers(monkeypatch):
    """As blt, whose parts have theirs each."""
    model = tiny()
    monkeypatch.delattr(type(model.config), "num_hidden_layers")  # the default, and its own
    del model.config.num_hidden_layers
    for ask in (
        lambda: gate_names(model),
        lambda: attention_edges(model, [[5, 6]]),
        lambda: mlp_reach(model, [[5, 6]], layer=0),
        lambda: sweep(model, sharpness={0: 2.0}),
    ):
        with pytest.raises(
            ValueError,
            match=r"^\w+: model is a LlamaForCausalLM, whose number of layers is not known, but num_hidden_layers",
        ):
            ask()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hybrids_are_refused_in_any_type(dtype):
    model = tiny("falcon_h1", mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=4).to(dtype)
    with pytest.raises(ValueError, match="keeps more of what it has read than keys and values"):
        sweep(model)


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": "12"}, "max_new_tokens is '12', but an integer was expected"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5, but an integer was expected"),
        ({"batch_size": True}, "batch_size is True, but an integer was expected"),
        ({"sharpness": {99: 2.0}}, "layer of sharpness is 99, but 0 to 2 was expected"),
        ({"sharpness": {"1": 2.0}}, "layer of sharpness is '1', but an integer was expected"),
        ({"sharpness": {0: 10**400}}, "sharpness of layer 0 is 1000.*, but a number above 0 was expected"),
        (
            {"sharpness": {0: Fraction(1, 10**400)}},
            "sharpness of layer 0 is Fraction.*, but a number above 0 was expected",
        ),
        ({"sharpness": {0: 2.0, torch.tensor(0): 3.0}}, "sharpness is .*, but each layer once was expected"),
        ({"sharpness": []}, r"sharpness is \[\], but factors by layer were expected"),
        ({"sharpness": 0}, "sharpness is 0, but factors by layer were expected"),
        ({"temperature": True}, "temperature is True, but a number of at least 0 was expected"),
        ({"temperature": None}, "temperature is None, but a number of at least 0 was expected"),
        ({"temperature": "hot"}, "temperature is 'hot', but a number of at least 0 was expected"),
        ({"max_new_tokens": None}, "max_new_tokens is None, but an integer was expected"),
        ({"change": {0: 2.0}}, "change is {0: 2.0}, but a Change was expected"),
        (
            {"sharpness": {0: 2.0}, "change": Change()},
            "sharpness and change are both given, but one was expected",
        ),
        ({"sharpness": {1.0: 2.0}}, "layer of sharpness is 1.0, but an integer was expected"),
        ({"seed": "a"}, "seed is 'a', but an integer was expected"),
        ({"seed": Fraction(1, 2)}, r"seed is Fraction\(1, 2\), but an integer was expected"),
        ({"only_wrong": "x"}, "only_wrong is 'x', but True or False was expected"),
        ({"paired": 1}, "paired is 1, but True or False was expected"),
        ({"shots": 3}, "shots is 3, but a sequence was expected"),
        ({"shots": None}, "shots is None, but a sequence was expected"),
        ({"questions": None}, "questions is None, but a sequence was expected"),
        ({"questions": QUESTIONS[0]}, r"questions is Question\(.*, but a sequence was expected"),
        ({"questions": ["x"]}, "questions holds a str, but Questions were expected"),
        ({"examples": ["x"]}, "examples holds a str, but Questions were expected"),
        ({"watched": "lm_head"}, "watched is 'lm_head', but a sequence was expected"),
        ({"watched": [3]}, "watched holds a int, but strs were expected"),
        (
            {"watched": ("model.layers.0.self_attn",)},
            "watched holds a LlamaAttention, but a module whose output is a tensor",
        ),
        ({"model": None, "sharpness": {0: 2.0}}, "model is a NoneType, but a transformers model was expected"),
        ({"max_new_tokens": 1000}, "none of 2 prompts .* 1[0-9][0-9] tokens .* is 1000, but at most 1024 in total was"),
        ({"tokenizer": None}, "tokenizer is None, but a tokenizer was expected"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises((ValueError, TypeError), match=f"^Sweep: {message}"):
        sweep(**{"model": tiny()} | settings)


@pytest.mark.parametrize("part", ["model.norm", "lm_head"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_none(part, value):
    model = tiny()
    model.get_submodule(part).weight.data[5] = value
    with pytest.raises(ValueError, match=r"^Sweep: model gives NaN or infinite logits, but finite ones were expected$"):
        sweep(model)


def test_next_to_0_a_temperature_is_greedy():
    """Logits over it overflow: what is largest is drawn all the same."""
    model = tiny()
    for temperature in (1e-30, 1e-40, 5e-324):
        assert sweep(model, temperature=temperature).response.tolist() == sweep(model).response.tolist()


def test_a_tokenizer_that_outgrows_the_model():
    with pytest.raises(ValueError, match=r"^Sweep: prompt of question 0 has ids 13 to 258, but 0 to"):
        sweep(tiny(vocab_size=257))


class Slow(PreTrainedTokenizer):
    """Ids beyond its words stand for nothing, as in a padded vocabulary."""

    def __init__(self, **settings):
        self.words = {chr(i): i for i in range(128)}
        super().__init__(**settings)

    vocab_size = 128

    def get_vocab(self):
        return dict(self.words)

    def _tokenize(self, text, **_):
        return list(text)

    def _convert_token_to_id(self, token):
        return self.words.get(token, 0)

    def _convert_id_to_token(self, index):
        return chr(index) if index < 128 else None

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)


def test_slow_tokenizers_with_padded_vocabularies():
    rows = sweep(tiny(vocab_size=2000), Slow(eos_token="\x03"))
    assert (rows.new_tokens > 0).all()
    assert all(ord(sign) < 128 for said in rows.response for sign in said)


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        (" The answer is 3.\nQuestion: Who", True),
        (" The answer is 3.\n\n", True),
        ("\n\n\n", False),
        ("\n\nQuestion: Who", False),
        (" So.\nQuest", False),
    ],
)
def test_an_answer_ends_at_a_stop_of_any_number_of_tokens(said, ends):
    """Seen at the very token that completes it, and not where an answer merely begins with it."""
    tokens = tokenizer(template=None)
    answerer = Answerer(tiny(), tokens, Settings(
        eps=[0.1], max_new_tokens=40, temperature=0, seed=0, change=Change(), watched=(), model_sha256="", probe=(),
        ends=(), stops=("\n\n", "\nQuestion:"),
    ))  # fmt: skip
    ids = tokens(said).input_ids
    seen = [answerer._stopped(ids[:n]) for n in range(1, len(ids) + 1)]
    assert any(seen) == ends
    if ends:
        stop = max(said.find(stop) + len(stop) for stop in ("\n\n", "\nQuestion:") if stop in said)
        assert seen.index(True) == stop - 1


# States


def test_training_modes_stay():
    model = tiny()
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    sweep(model)
    assert [module.training for module in model.modules()] == modes


def test_two_sweeps_in_two_threads():
    """Each gets its own rows, as does whoever calls the model meanwhile, and the model stays what it was."""
    model, ids, said, failed = tiny(), torch.arange(3, 40)[None], {}, []
    with torch.no_grad():
        logits = model(ids).logits
    watched = gate_names(model)
    alone = {shots: sweep(model, shots=(shots,), watched=watched) for shots in (0, 1)}
    regions = gate_regions(model, ids, layer=1).around_tokens

    def ask(shots):
        said[shots] = sweep(model, shots=(shots,), watched=watched)

    def call():
        with torch.no_grad():
            failed.extend(i for i in range(100) if not torch.allclose(model(ids).logits, logits, atol=1e-4))

    def count():
        failed.extend(i for i in range(20) if (gate_regions(model, ids, layer=1).around_tokens != regions).any())

    threads = [threading.Thread(target=ask, args=(shots,)) for shots in alone] + [
        threading.Thread(target=one) for one in (call, count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(said[shots], alone[shots]) for shots in alone)
    assert not failed
    assert model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        assert torch.equal(model(ids).logits, logits)


def test_under_autocast():
    model, tokens = tiny(), tokenizer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = sweep(model, tokens)
        ids = [build_prompt(tokens, question.text) for question in QUESTIONS[:2]]
        expected = [attention_dimension(model, [one]).per_layer[0, :, 0] for one in ids]
    # Keys of the shared beginning are rounded as in one pass; where a weight lies near 0.1 its rounding may decide.
    assert max(abs(got - want).max() for got, want in zip(rows["id_absolute_0.1"], expected, strict=True)) <= 1


def test_offloaded_models_answer_as_they_do_in_memory(tmp_path):
    model, tokens = tiny(), tokenizer()
    expected, key = sweep(model, tokens), fingerprint(model)
    model = accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    assert model.device.type == "meta"
    assert fingerprint(model) == key
    assert same(sweep(model, tokens, store=tmp_path), expected)


# Stores


def lora(model):
    config = LoraConfig(r=4, target_modules=["q_proj", "k_proj"], init_lora_weights=False, **ADAPTER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(model, config).eval()
        model.add_adapter("other", config)
    return model.eval()


def states(model):
    """Every state that an adapted model may be in, one after the other; what it computes differs in each."""
    layer = model.base_model.model.model.layers[1].self_attn.q_proj
    model.set_adapter("default")
    yield "default"
    layer.set_scale("default", 3.0)
    yield "scaled"
    layer.set_scale("default", 1.0)
    model.set_adapter("other")
    yield "other"
    with model.disable_adapter():
        yield "off"
    model.merge_adapter(["default"])
    yield "merged"
    model.unmerge_adapter()
    kept = layer.base_layer.weight.detach().clone()
    layer.base_layer.weight.data.zero_()
    yield "weights"
    layer.base_layer.weight.data[:] = kept
    model.config.eos_token_id = 7
    yield "configuration"
    model.config.eos_token_id = 258
    attention = model.base_model.model.model.layers[2].self_attn
    attention.scaling *= 2
    yield "setting"
    attention.scaling /= 2
    model.base_model.model.model.layers[0].mlp.act_fn = torch.nn.ReLU()
    yield "replaced module"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield "autocast"
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield "precision"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_store_keeps_the_states_of_a_model_apart(tmp_path):
    model, tokens = lora(tiny()), tokenizer()
    prompts, keys = [build_prompt(tokens, question.text) for question in QUESTIONS[:2]], {}
    for state in states(model):
        keys[state] = fingerprint(model)
        rows, alone = measure_prompts(model, prompts, store=tmp_path), measure_prompts(model, prompts)
        assert str(rows["id_absolute_0.1"].tolist()) == str(alone["id_absolute_0.1"].tolist()), state
        if state in ("default", "other", "off"):
            assert same(sweep(model, tokens, store=tmp_path), sweep(model, tokens)), state
    assert len(set(keys.values())) == len(keys)
    again = lora(tiny())
    again.load_state_dict(model.state_dict())


def test_the_same_model_has_the_same_key():
    """Also when it was run, trained, or looked at meanwhile."""
    model = tiny()
    key = fingerprint(model)
    model.train()
    model(torch.arange(3, 40)[None], output_hidden_states=True, output_attentions=False)
    assert fingerprint(model) == fingerprint(tiny()) == key
    torch.manual_seed(1)
    adapted = [lora(tiny()), lora(tiny())]
    adapted[1].load_state_dict(adapted[0].state_dict())
    assert fingerprint(adapted[0]) == fingerprint(adapted[1]) != key


def test_what_no_key_can_tell_is_not_stored(tmp_path):
    model, prompts = tiny(), [[5, 6, 7]]
    bare = measure_prompts(model, prompts)["id_absolute_0.1"].tolist()

    def changed(module, args):
        return (args[0] * torch.linspace(-3, 3, 32),)

    layer = model.model.layers[1]
    hook = layer.self_attn.q_proj.register_forward_pre_hook(changed)
    assert len(measure_prompts(model, prompts)) == len(bare)
    for ask in (lambda: measure_prompts(model, prompts, store=tmp_path), lambda: sweep(model, store=tmp_path)):
        with pytest.raises(ValueError, match=r"^\w+: model has .* on 'model.layers.1.self_attn.q"):
            ask()
    assert len(sweep(model)) == 2
    hook.remove()
    layer.mlp.forward = lambda x: 2 * x
    with pytest.raises(ValueError, match=r"on 'model.layers.1.mlp'"):
        measure_prompts(model, prompts, store=tmp_path)
    del layer.mlp.forward
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"on 'the whole'"):
        measure_prompts(model, prompts, store=tmp_path)
    hook.remove()
    measure_prompts(model, prompts, store=tmp_path)


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_a_store_keeps_virtual_tokens_apart(tmp_path, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = kind(num_virtual_tokens=4, **ADAPTER)
        model = get_peft_model(tiny(), config).eval()
        model.add_adapter("other", config)
    for part in model.prompt_encoder.values():
        torch.nn.init.normal_(part.embedding.weight, std=2.0)
    keys = []

    def measured():
        keys.append(fingerprint(model))
        rows, alone = measure_prompts(model, [[5, 6, 7, 8]], store=tmp_path), measure_prompts(model, [[5, 6, 7, 8]])
        assert rows["id_absolute_0.1"][0].tolist() == alone["id_absolute_0.1"][0].tolist()

    measured()
    with model.disable_adapter():
        measured()
    model.set_adapter("other")
    measured()
    assert len(set(keys)) == 3
    model.set_adapter("default")
    assert fingerprint(model) == keys[0]


def replace(model, value):
    del model.model.layers[1].mlp.act_fn
    model.model.layers[1].mlp.act_fn = value


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.model, "k", 0.1),
        lambda model: setattr(model.model.layers[0], "k", torch.full((2,), 0.1)),
        lambda model: setattr(model.model, "k", {(1, 2): Fraction(1, 3)}),
        lambda model: model.model.rotary_emb.inv_freq.mul_(0.1),
        lambda model: replace(model, torch.nn.functional.relu),
        lambda model: replace(model, functools.partial(torch.nn.functional.leaky_relu, negative_slope=0.5)),
    ],
)
def test_what_is_neither_weight_nor_configuration_is_in_the_key(change):
    model = tiny()
    change(model)
    assert fingerprint(model) != fingerprint(tiny())


def times(k):
    class Scaled(LlamaMLP):
        def forward(self, x):
            return self.scaled(super().forward(x))

        def scaled(self, x):
            return k * x

    return Scaled


def test_a_class_of_ones_own_is_told_by_its_code(tmp_path):
    """It has the same name when its cell is run again, after a change."""
    model, counts = tiny(), []
    for factor in (2, 3, 2):
        model.model.layers[1].mlp.__class__ = times(factor)
        counts.append(measure_prompts(model, [list(range(3, 60))], store=tmp_path)["id_absolute_0.1"][0].tolist())
        assert counts[-1] == attention_dimension(model, list(range(3, 60))).per_layer[0, :, 0].tolist()
    assert counts[0] == counts[2] != counts[1]
    assert len([*tmp_path.glob("*.parquet")]) == 2


class Doubling(accelerate.hooks.ModelHook):
    def post_forward(self, module, output):
        return 2 * output


def hooked(model, append=False):
    accelerate.hooks.add_hook_to_module(model.model.layers[1].mlp, Doubling(), append)


def offloaded(model):
    model.model.layers[1].mlp.forward = lambda x: 2 * x
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))


@pytest.mark.parametrize(
    "change",
    [
        hooked,
        lambda model: [accelerate.cpu_offload(model, torch.device("cpu")), hooked(model, append=True)],
        offloaded,
        lambda model: replace(model, lambda x: 2 * x),
        lambda model: replace(model, [torch.nn.ReLU()]),
    ],
)
def test_what_a_module_calls_that_no_key_tells_is_not_stored(tmp_path, change):
    model = tiny()
    change(model)
    with pytest.raises(ValueError, match=r"^measure_prompts: model has .* on 'model.layers.1.mlp'"):
        measure_prompts(model, [[5, 6, 7]], store=tmp_path)


@pytest.mark.parametrize("wrap", [lambda function: function, functools.wraps(LlamaMLP.forward), torch.no_grad()])
def test_a_patched_class_is_not_stored(tmp_path, monkeypatch, wrap):
    old = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", wrap(lambda self, x: 2 * old(self, x)))
    with pytest.raises(ValueError, match=r"^measure_prompts: model has .* on 'model.layers.0.mlp'"):
        measure_prompts(tiny(), [[5, 6, 7]], store=tmp_path)


def test_a_store_keeps_ends_apart(tmp_path):
    """Each sweep's rows are those that it would have without a store."""
    model, tokens = tiny(), tokenizer()
    first = tokens(sweep(model, tokens, store=tmp_path).response[0]).input_ids[:1]
    for end in ([258, *range(100)], 258, first or 5):
        model.generation_config.eos_token_id = end
        assert same(sweep(model, tokens, store=tmp_path), sweep(model, tokens))
    model.generation_config.eos_token_id = 258
    for token in map(tokens.convert_ids_to_tokens, range(0, 256, 64)):
        tokens.eos_token = token
        assert same(sweep(model, tokens, store=tmp_path), sweep(model, tokens))


def stopping(*texts):
    model = tiny()
    model.generation_config.stop_strings = list(texts)
    return model


def test_a_store_keeps_stops_apart(tmp_path):
    """A template may write what a prompt in plain text is, token for token; and a model may bring stops of its own."""
    template = "{% for m in messages %}Question: {{ m['content'] }}\nAnswer:{% endfor %}"
    turns, plain = tokenizer(template), tokenizer(None)
    assert build_prompt(turns, QUESTIONS[0].text) == build_prompt(plain, QUESTIONS[0].text)
    said = sweep(tiny(), turns, max_new_tokens=16).response
    inside = next(sign for sign in said[0][1:] if sign.isascii() and sign.isprintable())
    for tokens in (turns, plain, tokenizer()):
        for model in (tiny(), stopping(inside), stopping("never said", inside)):
            rows = sweep(model, tokens, max_new_tokens=16, store=tmp_path)
            assert same(rows, sweep(model, tokens, max_new_tokens=16))
    assert sweep(stopping(inside), turns, max_new_tokens=16).response[0] == said[0].split(inside)[0].strip()


def test_stops_of_the_model_end_an_answer_where_generate_ends_it():
    tokens, ids = tokenizer(), [build_prompt(tokenizer(), QUESTIONS[0].text)]
    settings = {
        "max_new_tokens": 40,
        "do_sample": False,
        "pad_token_id": 0,
        "attention_mask": torch.ones_like(torch.tensor(ids)),
    }
    free = tokens.decode(tiny().generate(torch.tensor(ids), **settings)[0, len(ids[0]) :], skip_special_tokens=True)
    stop = next(sign for sign in free[3:] if sign.isascii() and sign.isprintable())
    ended = stopping(stop).generate(torch.tensor(ids), tokenizer=tokens, **settings)[0, len(ids[0]) :]
    rows = sweep(stopping(stop), tokens, max_new_tokens=40)
    assert rows.new_tokens[0] == len(ended) < 40
    assert not rows.truncated[0]
    assert rows.response[0] == tokens.decode(ended, skip_special_tokens=True).lstrip().split(stop)[0].strip()


# What each argument is changed to, where the first stands for all that a sweep of these tests is given.
CHANGES = {
    "model": [tiny(initializer_range=0.2), stopping("the end"), tiny(eos_token_id=9)],
    "tokenizer": [tokenizer(CHAT + " "), tokenizer(None)],
    "questions": [QUESTIONS[2:4]],
    "examples": [QUESTIONS[5:]],
    "shots": [(0,)],
    "conditions": [[Condition(examples=QUESTIONS[4:5], hint="Think.")]],
    "eps": [0.2, (0.1, 0.05)],
    "max_new_tokens": [5],
    "temperature": [0.5],
    "sharpness": [{0: 2.0}],
    "change": [Change(noise=1.0), Change(output=2.0), Change(sharpness={0: 2.0}, during="answer")],
    "watched": [["model.layers.0.mlp.gate_proj"]],
}
KEPT = {
    "paired": ([True], "which question is asked under which condition, not how"),
    "only_wrong": ([True], "which questions are asked under the other conditions, not how"),
    "seed": ([1], "greedy answers draw nothing; where some are drawn, test_the_seed_counts_only_where_it_is_used"),
    "batch_size": ([1], "each row is computed as if alone, but for rounding, which `near` tells of"),
    "store": (["folder"], "where rows are kept"),
    "engine": ([SimpleNamespace(submit=print)], "who answers: its workers refuse other weights, and get all settings"),
    "progress": ([True], "what is shown meanwhile"),
}


def keys_of(**change):
    settings = {"model": tiny(), "tokenizer": tokenizer(), "questions": QUESTIONS[:2], "progress": False}
    settings |= {"examples": QUESTIONS[4:], "shots": (1,), "max_new_tokens": 6} | change
    if "conditions" in change or "paired" in change:
        shown = Condition(examples=QUESTIONS[4:5])
        settings |= {
            "examples": (),
            "conditions": change.get("conditions", [shown, Condition(examples=QUESTIONS[4:5], example_set=1)]),
        }
    if "only_wrong" in change:
        settings["shots"] = (0, 1)
    asked = Sweep(**settings)
    return {p["key"] for p in asked._prompts(asked._conditions[-1], asked.questions, fingerprint(asked.model), [])}


def test_every_argument_is_in_the_key_or_changes_no_row(tmp_path):
    assert {*CHANGES, *KEPT} == {field.name for field in fields(Sweep)}
    assert not CHANGES.keys() & KEPT.keys()
    usual = keys_of()
    for name, values in CHANGES.items():
        for value in values:
            assert usual.isdisjoint(keys_of(**{name: value})), name
    for name, (values, reason) in KEPT.items():
        assert reason
        assert all(keys_of(**{name: value}) == usual for value in values), name


def test_a_store_keeps_rules_apart(tmp_path, monkeypatch):
    model, tokens = tiny(), tokenizer()

    def agrees():
        assert same(sweep(model, tokens, store=tmp_path), sweep(model, tokens))
        names = tuple(RULES)
        rows, alone = (measure_prompts(model, [[5, 6, 7]], rule=names, store=s) for s in (tmp_path, None))
        assert str(rows.to_dict()) == str(alone.to_dict())

    agrees()
    for factor in (0.5, 0.25):
        monkeypatch.setitem(RULES, "part", lambda weights, eps, factor=factor: weights > factor * eps)
        agrees()
    monkeypatch.delitem(RULES, "relative")
    agrees()
    monkeypatch.setitem(RULES, "absolute", Rule(lambda weights, eps: weights > eps / 3, "a third"))
    agrees()
    monkeypatch.setitem(RULES, "part", functools.partial(torch.nn.Linear(1, 1)))
    for ask in (
        lambda: sweep(model, store=tmp_path),
        lambda: measure_prompts(model, [[5]], rule="part", store=tmp_path),
    ):
        with pytest.raises(
            ValueError, match=r"^\w+: store is given for the rule 'part', which a row's key cannot describe"
        ):
            ask()


def test_numbers_of_other_kinds(tmp_path):
    model, tokens = tiny(), tokenizer()
    plain = sweep(model, tokens, sharpness={0: 4.0}, temperature=0.5, store=tmp_path)
    other = sweep(model, tokens, sharpness={torch.tensor(0): Fraction(4)}, temperature=Fraction(1, 2))
    assert same(plain, other)
    assert not same(plain, sweep(model, tokens, temperature=0.5))


def test_quantised_modules_have_a_key(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised, other = (
            torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
            for model in (tiny(), tiny(initializer_range=0.2))
        )
        assert len({fingerprint(model) for model in (quantised, other, tiny())}) == 3
        rows = measure_prompts(quantised, [[5, 6, 7]], store=tmp_path)
    assert rows["id_absolute_0.1"][0].tolist() == attention_dimension(quantised, [5, 6, 7]).per_layer[0, :, 0].tolist()


def of_two(model, other=1.0):
    """A weight that is a tensor made of two, as torchao's are of numbers and scales."""
    weight = model.model.layers[1].mlp.gate_proj.weight.detach()
    model.model.layers[1].mlp.gate_proj.weight = torch.nn.Parameter(TwoTensor(weight, other * weight))
    return model


def test_weights_that_are_made_of_other_tensors():
    keys = [fingerprint(model) for model in (tiny(), of_two(tiny()), of_two(tiny(), other=2.0))]
    assert len(set(keys)) == 3
    assert fingerprint(of_two(tiny())) == keys[1]
    with pytest.raises(ValueError, match=r"^gate_hyperplanes: model is a \w+, whose layer 1 has weights of type Two"):
        gate_hyperplanes(of_two(tiny()), layer=1)


def test_how_a_module_is_shown_is_nothing_to_a_key(tmp_path):
    model = tiny()
    model.lm_head.extra_repr = functools.partial(print)
    assert fingerprint(model) == fingerprint(tiny())
    assert len(measure_prompts(model, [[5, 6, 7]], store=tmp_path)) == 1


def test_virtual_tokens_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(tiny(), PromptTuningConfig(num_virtual_tokens=8, **ADAPTER)).eval()
    with pytest.raises(ValueError, match=r"^Sweep: model is a PeftModelForCausalLM with 8 virtual tokens"):
        sweep(model)


# Templates


@pytest.mark.parametrize("template", TURNS)
@pytest.mark.parametrize("prefix", ["prepend", "always", "first", "never"])
def test_a_sweep_asks_what_the_whole_dialog_is(prefix, template):
    """Also where the tokenizer puts a space before the question under some conditions only."""
    model, tokens, asked = tiny(), marked(prefix, template), Question("Tom has 3.", 3.0, 1)
    shown = (Question("Ann has 2.", 2.0, 0),)
    conditions = [
        Condition(examples=examples, lead=lead, hint=hint)
        for examples in ((), shown)
        for lead, hint in (("", ""), ("Think.", ""), ("", "Think."))
    ]
    rows = sweep(model, tokens, questions=[asked], examples=(), conditions=conditions)
    for condition, row in zip(conditions, rows.itertuples(), strict=True):
        turns = [{"role": "user", "content": "Ann has 2."}, {"role": "assistant", "content": "The answer is 2."}]
        turns = turns[: 2 * condition.shots]
        asks = "\n".join(filter(None, (condition.lead, asked.text, condition.hint)))
        whole = tokens.apply_chat_template([*turns, {"role": "user", "content": asks}], return_dict=False)
        assert row.prompt_tokens == len(whole)
        expected = attention_dimension(model, [whole], eps=0.01).per_layer[0, :, 0]
        assert rows["id_absolute_0.01"][row.Index].tolist() == expected.tolist()


def test_a_template_with_a_clock_gives_the_same_prompt_tomorrow(monkeypatch):
    tokens = tokenizer("{{ strftime_now('%d %b %Y %H:%M:%S') }}" + CHAT)
    text = tokens.decode(build_prompt(tokens, "How many?"))
    assert text.startswith("26 Jul 2024 00:00:00<|im_start|>user")


def test_templates_that_fail_say_why():
    wants = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('First message\nmust be system') }}{% endif %}"
    for template, reason in (
        (wants, "First message must be system"),
        ("{{ messages", "unexpected end"),
        ("{{ 1 / 0 }}", "div"),
    ):
        with pytest.raises(
            ValueError, match=f"^frame: the tokenizer's chat template fails on 1 turns: .*{reason}"
        ) as info:
            sweep(tiny(), tokenizer(template))
        assert "\n" not in str(info.value)
