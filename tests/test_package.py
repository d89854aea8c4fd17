"""The package as a whole: metadata that cannot drift, imports that stay light and point one way."""

import ast
import importlib
import importlib.metadata
import inspect
import os
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import geolib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
}
DECLARED = [Requirement(line) for group in (PROJECT["dependencies"], *EXTRAS.values()) for line in group]


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement):
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_pins_are_what_the_dependencies_need_and_no_more():
    """Walk the requirements of what is installed: the pins are that closure."""
    needed, todo = set(), list(DECLARED)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if not any(
            requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        ):
            continue
        if (name, frozenset(extras)) in needed:
            continue
        needed.add((name, frozenset(extras)))
        for line in _requires(name):
            child = Requirement(line)
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(Requirement(line.split(";")[0]))
    # pip and its like come with the environment.
    assert {name for name, _ in needed} - {"pip", "setuptools", "wheel"} == set(PINS) - {"setuptools", "wheel"}


def _requires(name):
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        assert name in {canonicalize_name(Requirement(line).name) for line in EXTRAS["bench"]}
        return []


MACHINES = {
    "x86_64-manylinux_2_28": ("linux", "x86_64"),
    "aarch64-manylinux_2_28": ("linux", "aarch64"),
    "aarch64-apple-darwin": ("darwin", "arm64"),
    "x86_64-pc-windows-msvc": ("win32", "AMD64"),
}


NEWER = ("x86_64-manylinux_2_28", "aarch64-apple-darwin")


def without_wheel(pins, machine, python, cache, *options):
    """What uv says of pins that have no wheel for another platform, or nothing; nothing is downloaded or installed."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-platform", machine, "--python-version", python, "--no-config", "--cache-dir", cache]
    machines = dict(os.environ, MACOSX_DEPLOYMENT_TARGET="14.0")  # what torch asks for
    done = subprocess.run([*command, *options], input="\n".join(pins), env=machines, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


@pytest.fixture
def asked(tmp_path):
    """What the index says of every pin, asked once: each question after that is answered without it."""
    pins = [f"{name}=={version}" for name, version in PINS.items()]
    if said := without_wheel(pins, "x86_64-manylinux_2_28", "3.12", tmp_path):
        assert "no usable wheels" not in said
        pytest.skip("no package index is within reach")
    return tmp_path


@pytest.mark.whole
def test_the_two_commands_need_nothing_that_lacks_a_wheel(asked):
    """Markers are judged for the machine asked about, so that what a marker leaves out there is not looked for."""
    said = {}
    for machine, python in [*((name, "3.12") for name in MACHINES), *((name, "3.14") for name in NEWER)]:
        system, processor = MACHINES[machine]
        there = {"sys_platform": system, "platform_machine": processor, "extra": ""}
        left_out = [r for r in DECLARED if r.marker is not None and not r.marker.evaluate(there)]
        names = {canonicalize_name(requirement.name) for requirement in (*left_out, *map(Requirement, EXTRAS["bench"]))}
        pins = [f"{name}=={version}" for name, version in PINS.items() if name not in names]
        said[machine, python] = without_wheel(pins, machine, python, asked, "--offline")
    assert set(said.values()) == {""}, said
    # The check can fail: regioncam is what the two commands once needed.
    peer = [f"regioncam=={PINS['regioncam']}"]
    assert "no usable wheels" in without_wheel(peer, "aarch64-apple-darwin", "3.12", asked, "--offline")


def test_newer_pythons_are_allowed():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [version for version in ("3.10", "3.11", "3.14", "3.15") if version in allowed] == ["3.11", "3.14", "3.15"]


@pytest.mark.whole
def test_text_is_the_same_bytes_everywhere():
    """Under core.autocrlf a checkout would turn line ends: scripts would not start, and frozen hashes differ."""
    files = [".ci/run", "geolib/reasoning/judge.py", "book/plan.md", "book/results/bare.parquet"]
    command = ["git", "-c", "core.autocrlf=true", "ls-files", "--eol", *files]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    assert len(lines) == len(files)
    assert all("attr/-text" in line for line in lines)


@pytest.mark.parametrize("name", sorted(PINS))
def test_what_is_installed_is_what_is_pinned(name):
    try:
        installed = Version(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not needed on this platform")
    assert Version(installed.public) == PINS[name]


def test_torch_is_pinned_in_the_constraints_alone():
    (torch,) = [r for r in DECLARED if r.name == "torch"]
    assert all(specifier.operator == ">=" for specifier in torch.specifier)
    assert PINS["torch"] == Version("2.13.0")


def test_conda_makes_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    conda, (pip,) = (
        environment["dependencies"][:-1],
        [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)],
    )
    # repo2docker, which Binder runs, takes the version from a line of this form, and else an older Python.
    (python,) = [re.fullmatch(r"python=(\d+\.\d+)", line)[1] for line in conda if line.startswith("python")]
    assert python in SpecifierSet(PROJECT["requires-python"])
    # The same two arguments with which the Makefile calls pip; peers of the benchmarks are for `make bench` alone.
    extras = ",".join(name for name in EXTRAS if name != "bench")
    assert pip == ["--constraint constraints.txt", f"--editable .[{extras}]"]
    makefile = (ROOT / "Makefile").read_text()
    assert f"EXTRAS := {extras}\n" in makefile
    assert "-c constraints.txt -e '.[$(EXTRAS)]'" in makefile


@pytest.mark.whole
def test_import_is_light():
    loaded = set(python("import sys, geolib; print(*sys.modules)").split())
    assert "geolib" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "pandas", "matplotlib", "click"}


@pytest.mark.whole
def test_protocols_need_nothing():
    loaded = set(python("import sys, geolib.typing; print(*sys.modules)").split())
    assert not loaded & {"torch", "transformers", "numpy"}


# What the reference documents.
ANNOTATED = ["models", "store", "fingerprint", "files", "checks", "statements", "estimates", "figures", "interactive"]
ANNOTATED += ["partition", "reasoning", "toy", "cli", "dimension", "dimension.rules", "dimension.architectures"]
ANNOTATED += ["dimension.lm", "dimension.texts", "video", "physics"]
ANNOTATED += ["experiments", "experiments.report", "experiments.endpoint_judge"]


@pytest.mark.parametrize("module", ANNOTATED)
def test_public_functions_are_annotated(module):
    module = importlib.import_module(f"geolib.{module}")
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    lacking = []
    for name in names:
        thing = getattr(module, name)
        if not str(getattr(thing, "__module__", "")).startswith(module.__name__):
            continue
        own = [thing] if inspect.isfunction(thing) else []
        if inspect.isclass(thing):
            own = [vars(thing)[key] for key in vars(thing) if not key.startswith("_") or key == "__call__"]
            own = [
                getattr(one, "fget", None) or getattr(one, "func", None) or getattr(one, "__func__", one) for one in own
            ]
        for function in filter(inspect.isfunction, own):
            signature = inspect.signature(function)
            given = [p.annotation for p in signature.parameters.values() if p.name not in ("self", "cls")]
            if inspect.Parameter.empty in (*given, signature.return_annotation):
                lacking.append(function.__qualname__)
    assert not lacking


def test_the_wheel_says_that_it_is_typed():
    assert (ROOT / "geolib" / "py.typed").is_file()


@pytest.mark.whole
def test_partition_needs_numpy_only():
    before = set(python("import sys, numpy.typing; print(*sys.modules)").split())
    loaded = set(python("import sys, geolib.partition; print(*sys.modules)").split())
    tops = {name.split(".")[0] for name in loaded - before}
    assert tops - {"geolib"} <= set(sys.stdlib_module_names)


@pytest.mark.whole
def test_submodules_are_there_on_first_use():
    assert python("import geolib; print(geolib.partition.max_regions(50, 2))") == "1276"
    with pytest.raises(AttributeError, match="module 'geolib' has no attribute 'nothing'"):
        geolib.nothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"^module 'geolib\.partition' has no attribute 'nothing'"):
        geolib.partition.nothing  # noqa: B018


@pytest.mark.parametrize("part", ["dimension", "reasoning", "experiments"])
def test_names_that_come_on_first_use(part):
    package, found = getattr(geolib, part), {}
    exec(f"from geolib.{part} import *", found)
    assert sorted({*found} - {"__builtins__"}) == dir(package) == package.__all__
    for name in {*package.__all__} - {"RULES"}:
        assert pickle.loads(pickle.dumps(found[name])) is found[name]
    with pytest.raises(AttributeError, match=rf"^module 'geolib\.{part}' has no attribute 'nothing'$"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["GateRegions", "gate_hyperplanes", "gate_names", "gate_regions"])
def test_gates_are_found_where_they_once_were(name):
    assert getattr(geolib.partition, name) is getattr(geolib.dimension, name)


# Who may import whom: cli -> experiments -> reasoning -> dimension -> models; partition and toy stand alone, the leaves
# carry all. A name with a dot is one module: the rules of counting edges need NumPy only, what is beside them torch.
KEPT = ("store", "fingerprint", "files")
ALLOWED = {
    "cli": {"experiments", "reasoning", "dimension", "models", "partition", "video", "physics", *KEPT, "checks"},
    "experiments": {
        *("experiments", "reasoning", "dimension", "models", "video", "physics", "figures", "estimates"),
        *(*KEPT, "checks", "later", "typing"),
    },
    "reasoning": {"reasoning", "dimension", "models", *KEPT, "checks", "later", "estimates", "typing"},
    "dimension": {"dimension", "models", *KEPT, "checks", "later", "typing"},
    "partition": {"partition", "checks", "later"},
    "toy": {"dimension.rules", "checks"},
    "video": {"models", "physics", "files", "store", "checks", "typing"},
    "physics": {"checks"},
    "interactive": {"figures", "dimension.rules", "checks"},
    "figures": {"dimension.rules", "checks"},
    "statements": {"estimates", "checks"},
    **{part: {"typing"} for part in ("models", "fingerprint")},
    "store": {"files", "checks"},
    **{part: {"checks"} for part in ("files", "estimates")},
    **{part: set() for part in ("checks", "later", "typing")},
}
# Of the modules in a folder each stands on those before it.
ORDER = {
    "partition": "rounding network exact mesh count cube line plane",
    "dimension": "points rules rows architectures lm attention texts batches heads minkowski gates reach estimators "
    "profiles",
    "reasoning": "judge questions reading prompts generated sources decode answers sweep protocol columns resampling "
    "analysis regressions published claims",
    "experiments": "choosing names fresh gate blind predicting runs report queue cluster endpoint_judge windows",
}
MODULES = sorted((ROOT / "geolib").rglob("*.py"))
KNOWN = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES}


def imports(nodes):
    """Modules of geolib that statements import, without "geolib.", and the packages that are none of geolib's."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & KNOWN or ({node.module} if node.module != "geolib" else inner)
    ours = {name.removeprefix("geolib.") for name in names if name.startswith("geolib.")}
    return ours - {"__version__"}, {name.split(".")[0] for name in names} - {"geolib"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT / "geolib").parts[0].removesuffix(".py")
    tree = ast.parse(path.read_text())
    ours, others = imports(ast.walk(tree))
    assert {name for name in ours if not {name, name.split(".")[0]} & ALLOWED.get(part, set())} == set()
    assert not others & {"tools", "tests", "benchmarks"}
    if part == "cli":  # what starts the shell; the rest is imported by the command that needs it
        assert imports(tree.body)[0] <= {"checks", "dimension.rules"}


@pytest.mark.parametrize("folder", ORDER)
def test_no_arrow_points_up_within_a_folder(folder):
    order = ORDER[folder].split()
    paths = {path.stem: path for path in (ROOT / "geolib" / folder).glob("[!_]*.py")}
    assert sorted(order) == sorted(paths)
    for place, name in enumerate(order):
        ours, _ = imports(ast.walk(ast.parse(paths[name].read_text())))
        mine = {one.removeprefix(f"{folder}.") for one in ours if one.split(".")[0] == folder}
        assert mine <= {*order[:place]}, name


@pytest.mark.whole
def test_the_rules_are_read_without_torch():
    loaded = set(python("import sys, geolib.cli, geolib.dimension.rules; print(*sys.modules)").split())
    assert not loaded & {"torch", "transformers", "pandas"}


# Lines of code: what is left without docstrings, comments and empty lines. Past a limit, look for what can go first: a
# limit is raised in a commit of its own that says what was removed.
BUDGETS = {
    "geolib/partition": 1439,
    "geolib/dimension": 2002,
    "geolib/reasoning": 2755,
    "geolib/experiments": 1438,
    "geolib/figures.py": 320,
    "geolib/interactive.py": 422,
    "geolib/toy.py": 245,
    "geolib/video.py": 231,
    "geolib/physics.py": 111,
    "geolib/cli.py": 408,
    "geolib/models.py": 282,
    "geolib/store.py": 234,
    "geolib/fingerprint.py": 147,
    "geolib/files.py": 35,
    "geolib/estimates.py": 65,
    "geolib/statements.py": 123,
    "tools": 1580,
}


@pytest.mark.parametrize("place", BUDGETS)
def test_the_house_stays_small(place):
    path = ROOT / place
    files = [path] if path.suffix else sorted(path.rglob("*.py"))
    assert sum(code_lines(file.read_text()) for file in files) <= BUDGETS[place]


def test_what_is_in_no_budget_is_next_to_nothing():
    places = [ROOT / place for place in BUDGETS]
    rest = [f for f in (ROOT / "geolib").rglob("*.py") if not any(f == p or p in f.parents for p in places)]
    assert sum(code_lines(file.read_text()) for file in rest) <= 128


def code_lines(source):
    rows = {i for i, line in enumerate(source.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
            rows -= set(range(node.lineno, node.end_lineno + 1))
    return len(rows)


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == geolib.__version__ == importlib.metadata.version(PROJECT["name"])
    assert citation["license"] == PROJECT["license"]
