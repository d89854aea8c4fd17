"""What SECURITY.md promises, looked for in every file that is committed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from geolib.models import EMBEDDED_SHA256
from geolib.reasoning.sources import SOURCES

ROOT = Path(__file__).resolve().parent.parent
FILES = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
SCRIPTS = [name for name in FILES if name.endswith(".py") and not name.startswith("tests/")]
SHELLS = [name for name in FILES if name.endswith((".sh", ".sbatch")) or name == ".ci/run"]
WORKFLOWS = [name for name in FILES if name.startswith(".github/workflows/")]

NEVER = {
    *("pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"),
    *("torch.load", "numpy.load", "np.load", "pd.read_pickle", "eval", "exec", "yaml.load", "yaml.unsafe_load"),
    *("os.system", "shutil.unpack_archive", "extractall"),
}


def forbidden(source):
    """Names of what is never imported or called, and settings that would run what is loaded."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from NEVER & {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            yield from NEVER & {(node.module or "").partition(".")[0]}
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield from NEVER & ({name} | {name.rpartition(".")[2]} - {"eval"})  # a model has an eval of its own
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in ("trust_remote_code", "shell") and value is not False:
                    yield f"{keyword.arg}={value}"
                if keyword.arg == "use_safetensors" and value is not True:
                    yield f"{keyword.arg}={value}"


@pytest.mark.skipif(not SCRIPTS, reason="no checkout of git")
def test_nothing_executes_what_it_loads():
    found = {name: list(forbidden((ROOT / name).read_text("utf-8"))) for name in SCRIPTS}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("torch.load(path)", "torch.load"),
        ("archive.extractall(folder)", "extractall"),
        ("yaml.load(text)", "yaml.load"),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", "trust_remote_code=True"),
        ("f(name, trust_remote_code=flag)", "trust_remote_code=None"),
        ("subprocess.run(line, shell=True)", "shell=True"),
    ],
)
def test_what_is_forbidden_is_seen(source, what):
    assert list(forbidden(source)) == [what]


def test_downloads_are_pinned():
    for source in SOURCES.values():
        assert source.url.startswith("https://")
        assert re.search(r"/[0-9a-f]{40}/", source.url), "a branch may change"
        assert re.fullmatch("[0-9a-f]{64}", source.sha256)
    assert re.fullmatch("[0-9a-f]{64}", EMBEDDED_SHA256)


@pytest.mark.whole
def test_bandit_finds_nothing():
    command = [
        sys.executable,
        "-m",
        "bandit",
        "--quiet",
        "--severity-level",
        "medium",
        "--recursive",
        "geolib",
        "tools",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def shellcheck(path):
    if not Path(sys.executable).with_name("shellcheck").exists():
        pytest.skip("shellcheck has no wheel for this machine")
    command = [str(Path(sys.executable).with_name("shellcheck")), "--enable=all", "--exclude=SC2312", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.whole
@pytest.mark.parametrize("name", SHELLS)
def test_scripts_of_the_shell(name):
    shellcheck(ROOT / name)


@pytest.mark.whole
def test_scripts_on_pages(tmp_path):
    """Whole scripts, which readers are to save."""
    texts = [(ROOT / name).read_text("utf-8") for name in FILES if re.match(r"(book|notebooks)/.*\.md$", name)]
    scripts = [
        script for text in texts for script in re.findall(r"^```bash\n(#!.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]
    assert scripts
    for script in scripts:
        (tmp_path / "script.sh").write_text(script)
        shellcheck(tmp_path / "script.sh")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_are_pinned_and_may_do_little(name):
    text = (ROOT / name).read_text()
    workflow = yaml.safe_load(text)
    uses = re.findall(r"uses:\s*(\S+)", text)
    assert uses
    assert all(re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", one) for one in uses)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        allowed = {("pages", "write"), ("id-token", "write")}
        if "checkout" not in str(job):  # runs no code of this repository: it may make a release's page
            allowed |= {("contents", "write")}
        assert set(job.get("permissions", {}).items()) <= allowed
    assert "pull_request_target" not in text
    assert not re.search(r"\$\{\{[^}]*github\.(event|head_ref)", text), "text of others in a script"
