"""The shell: what it prints, and how it fails."""

import functools
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_folder import save_tiny

from geolib import __version__
from geolib.cli import main
from geolib.dimension import attention_dimension, encode_prompts, measure_prompts, read_prompts
from geolib.reasoning import load_run
from geolib.store import read_parquet

pytestmark = pytest.mark.whole


def run(capsys, *arguments):
    """Exit status, standard output and standard error of one call."""
    try:
        main(list(arguments))
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_installed_command():
    command = [sys.executable, "-c", "from geolib.cli import main; main()", "--help"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in ("regions", "dimension", "sweep", "models", "data"):
        assert name in output
    assert "torch" not in output


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"geolib, version {__version__}\n", "")


@pytest.mark.parametrize("tokens", ["last", "all"])
def test_dimension(capsys, model, tokenizer, tokens):
    text = "Two ferries left at 9."
    arguments = ["dimension", "--text", text, "--eps", "0.1", "--eps", "0.05", "--tokens", tokens]
    status, out, err = run(capsys, *arguments, "--json")
    report = json.loads(out)
    ids = tokenizer(text, return_tensors="pt").input_ids
    expected = attention_dimension(model, ids, eps=(0.1, 0.05), tokens=tokens).per_layer[:, 0]
    measured = np.array([report["per_layer"]["0.1"], report["per_layer"]["0.05"]])
    np.testing.assert_array_equal(measured, expected[..., 0] if tokens == "last" else expected)
    assert (status, err) == (0, "")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert len(out.splitlines()) == 32


def test_dimension_of_a_file(capsys, tmp_path):
    (tmp_path / "prompt.txt").write_text("Two ferries left at 9.")
    by_file = run(capsys, "dimension", "--file", str(tmp_path / "prompt.txt"), "--json")
    assert by_file == run(capsys, "dimension", "--text", "Two ferries left at 9.", "--json")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder of a model, and the model and tokenizer in it."""
    folder = tmp_path_factory.mktemp("tiny")
    return str(folder), *save_tiny(folder)


def write_prompts(path, n, *, name="text"):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc defg."), rng.integers(1, 90))) for _ in range(n)]
    path.write_text("".join(json.dumps({"id": f"q{i}", name: text}) + "\n" for i, text in enumerate(texts)))
    return texts


@pytest.mark.parametrize("text", ["a, b --eps=c", "--eps=0.1,0.2", "--eps", "-", "--text", "--", "--shots 1,2"])
@pytest.mark.parametrize(
    "eps",
    [
        ["--eps", "0.1", "0.05", "--tokens", "last"],
        ["--tokens", "last", "--eps", "0.1", "0.05"],
        ["--eps", "0.1", "--eps", "0.05"],
        ["--eps", "0.1,0.05"],
        ["--eps=0.1,0.05"],
        ["--eps=0.1", "0.05"],
    ],
    ids=" ".join,
)
def test_several_values_after_one_flag_and_a_text_like_a_flag(capsys, tiny, eps, text):
    folder, model, tokenizer = tiny
    status, out, _ = run(capsys, "dimension", "--model", folder, "--text", text, *eps, "--json")
    report = json.loads(out)
    assert (status, report["eps"], list(report["per_layer"])) == (0, [0.1, 0.05], ["0.1", "0.05"])
    expected = attention_dimension(model, tokenizer(text).input_ids, eps=[0.1, 0.05]).per_layer[:, 0, :, 0]
    np.testing.assert_array_equal(list(report["per_layer"].values()), expected)


def test_both_rules_and_statistics(capsys, tiny):
    folder, model, tokenizer = tiny
    arguments = ["dimension", "--model", folder, "--text", "Two ferries.", "--rule", "absolute", "relative"]
    arguments.append("--statistics")
    status, out, _ = run(capsys, *arguments, "--json")
    report = json.loads(out)
    assert status == 0
    for rule in ("absolute", "relative"):
        alone = attention_dimension(model, tokenizer("Two ferries.").input_ids, rule=rule, statistics=True)
        assert report["per_layer"][rule]["0.1"] == alone.per_layer[0, :, 0].tolist()
        np.testing.assert_allclose(report["mass_above"][rule]["0.1"], alone.mass_above[0, ..., 0].mean(1), rtol=1e-6)
    np.testing.assert_allclose(report["sink_share"], alone.sink_share[0, ..., 0].mean(1), rtol=1e-6)
    table = run(capsys, *arguments)[1].splitlines()
    assert len(table) == 5
    assert table[1].split()[:3] == ["layer", "absolute", "eps=0.1"]
    assert len({len(line) for line in table[1:]}) == 1


@pytest.mark.parametrize("name", ["p.JSONL", "p.json", "p.ndjson", "p.jsonlines"])
def test_lines_of_json_by_other_names(capsys, tmp_path, tiny, name):
    write_prompts(tmp_path / name, 3)
    status, out, _ = run(capsys, "dimension", "--model", tiny[0], "--file", str(tmp_path / name), "--json")
    assert (status, json.loads(out)["n_prompts"]) == (0, 3)


def test_json_that_is_no_lines_is_no_prompt(capsys, tmp_path, tiny):
    for content in ('[{"text": "a"}, {"text": "b"}]', '[\n{"text": "a"}]'):
        (tmp_path / "p.json").write_text(content)
        status, out, err = run(capsys, "dimension", "--model", tiny[0], "--file", str(tmp_path / "p.json"))
        assert (status, out) == (1, "")
        assert "p.json, line 1, is" in err


@pytest.mark.parametrize("name", ["text", "prompt", "question"])
def test_dimension_of_many_prompts(capsys, tmp_path, tiny, name):
    folder, model, tokenizer = tiny
    texts = write_prompts(tmp_path / "prompts.jsonl", 20, name=name)
    arguments = ["dimension", "--model", folder, "--file", str(tmp_path / "prompts.jsonl"), "--eps", "0.1", "0.05"]
    status, out, _ = run(capsys, *arguments, "--rule", "absolute", "--tokens", "last", "--json")
    report = json.loads(out)
    written = tmp_path / "prompts.dimension.parquet"
    assert (status, report["n_prompts"], report["out"]) == (0, 20, str(written))
    rows = read_parquet(written)
    expected = measure_prompts(model, encode_prompts(tokenizer, texts), eps=(0.1, 0.05))
    assert list(rows) == ["line", "id", "n_tokens", "id_absolute_0.1", "id_absolute_0.05"]
    assert rows.line.tolist() == list(range(1, 21))
    assert rows.id.tolist() == [f"q{i}" for i in range(20)]
    assert rows.n_tokens.sum() == report["n_tokens"]
    for eps in ("0.1", "0.05"):
        measured = np.stack(rows[f"id_absolute_{eps}"])
        np.testing.assert_array_equal(measured, np.stack(expected[f"id_absolute_{eps}"]))
        np.testing.assert_allclose(report["per_layer"][eps], measured.mean(0))
    # Again, other settings, and again the first: every time what was asked for, the first from what was kept.
    before = written.read_bytes()
    assert run(capsys, *arguments, "--tokens", "all")[1].endswith(f"20 rows in {written}\n")
    assert written.read_bytes() != before
    assert run(capsys, *arguments)[0] == 0
    assert written.read_bytes() == before


def test_everything_in_the_parquet_file(capsys, tmp_path, tiny):
    folder, model, tokenizer = tiny
    write_prompts(tmp_path / "p.jsonl", 5)
    out = tmp_path / "rows.parquet"
    out.touch()  # an empty file is no result that could be lost
    arguments = ["--tokens", "all", "--statistics", "--per-head", "--per-token", "--chat", "--out", str(out)]
    status, *_ = run(capsys, "dimension", "--model", folder, "--file", str(tmp_path / "p.jsonl"), *arguments)
    ids = encode_prompts(tokenizer, read_prompts(tmp_path / "p.jsonl").text, chat=True)
    settings = {"tokens": "all", "statistics": True, "per_head": True, "per_token": True}
    expected = measure_prompts(model, ids, **settings)
    rows = read_parquet(out).drop(columns="id")
    assert status == 0
    assert list(rows) == list(expected)
    assert rows["entropy_tokens"][2].shape == (3, rows.n_tokens[2])
    for name in expected:
        for cell, value in zip(rows[name], expected[name], strict=True):
            np.testing.assert_array_equal(cell, value)


def test_a_text_goes_into_a_parquet_file_too(capsys, tmp_path, tiny):
    out = str(tmp_path / "one.parquet")
    status, printed, _ = run(capsys, "dimension", "--model", tiny[0], "--text", "a b", "--out", out, "--per-head")
    assert (status, printed.splitlines()[-1]) == (0, f"1 row in {out}")
    assert read_parquet(out)["id_absolute_0.1_heads"][0].shape == (3, 4)


def test_rows_of_another_model_or_setting_are_not_replaced_in_silence(capsys, tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        save_tiny(tmp_path / name, seed=seed)
    out, said = tmp_path / "rows.parquet", []
    for model, eps in (("one", "0.1"), ("one", "0.1"), ("two", "0.1"), ("two", "0.05"), ("two", "0.05")):
        arguments = ["--model", str(tmp_path / model), "--text", "Four pears.", "--eps", eps, "--out", str(out)]
        capsys.readouterr()
        status, _, err = run(capsys, "dimension", *arguments)
        assert status == 0
        assert [name for name in read_parquet(out) if name.startswith("id_")] == [f"id_absolute_{eps}"]
        said.append(re.findall(r"WARNING: .*rows.parquet held rows of another (\w+): they are replaced", err))
    assert said == [[], [], ["model"], ["eps"], []]


def test_interrupted_then_two_at_once(capsys, tmp_path, tiny):
    """The shell for real: Ctrl-C in the middle, then two that go on at the same time; nothing is lost or doubled."""
    folder, *_ = tiny
    write_prompts(tmp_path / "p.jsonl", 100)
    arguments = ["dimension", "--model", folder, "--file", str(tmp_path / "p.jsonl"), "--batch-tokens", "1", "--json"]
    disturbed = [*arguments, "--out", str(tmp_path / "rows.parquet")]
    code = "import torch; torch.set_num_threads(1); from geolib.cli import main; main()"

    def start():
        # Tests that a shell runs in the background have SIGINT ignored, and hand that down.
        default = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        command = [sys.executable, "-c", code, *disturbed]
        return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, preexec_fn=default)

    parts = tmp_path / "rows.parquet.parts"
    first, deadline = start(), time.monotonic() + 120
    while len(list(parts.glob("*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=60)
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    n_distinct = read_prompts(tmp_path / "p.jsonl").text.nunique()
    assert (first.returncode, out) == (130, "")
    (safe,) = re.findall(rf"(\d+) of {n_distinct} rows are safe in {parts}: run again to go on", err)
    assert int(safe) in (len(done), len(done) - 1)  # stopped between keeping a batch and noting it, it says one less
    assert err.endswith("geolib: interrupted\n")
    assert "Traceback" not in err
    assert not (tmp_path / "rows.parquet").exists()

    reports = [json.loads(process.communicate(timeout=120)[0]) for process in [start(), start()]]
    assert all(report["n_prompts"] == 100 for report in reports)
    assert reports[0]["per_layer"] == reports[1]["per_layer"]
    assert {name: (parts / name).stat().st_mtime_ns for name in done} == done
    assert len(list(parts.glob("*.parquet"))) == n_distinct
    assert run(capsys, *arguments, "--out", str(tmp_path / "undisturbed.parquet"))[0] == 0
    assert (tmp_path / "rows.parquet").read_bytes() == (tmp_path / "undisturbed.parquet").read_bytes()


@pytest.mark.parametrize(
    ("content", "arguments", "status", "message"),
    [
        (b'{"text": "a"}\n{"text": ', [], 1, "p.jsonl, line 2, is not JSON, but an object like"),
        (b'{"text": ""}', [], 1, "p.jsonl, line 1: text is empty"),
        (b'{"texts": "a"}', [], 1, 'an object with "text" was expected'),
        (b"", [], 1, "p.jsonl is empty"),
        (b'{"text": "\xff"}', [], 1, "p.jsonl, line 1, is not UTF-8"),
        (b'{"text": "a"}', ["--out", "no/such.parquet"], 1, "there is no folder 'no'"),
        (b'{"text": "a"}', ["--out", "."], 2, "is a directory"),
        (b'{"text": "a"}', ["--out", "p.jsonl"], 1, "out is 'p.jsonl', which holds something else"),
        (b'{"text": "a"}', ["--eps", "0.1", "2"], 1, "eps is 2.0, but a number between 0 and 1 was expected"),
        (b'{"text": "a"}', ["--eps", "nan"], 1, "eps is nan"),
        (b'{"text": "a"}', ["--eps", "0.1,"], 2, "'' is not a valid float"),
        (b'{"text": "a"}', ["--eps"], 2, "requires an argument"),
        (b'{"text": "a"}', ["--eps", "--json"], 2, "--eps"),
        (b'{"text": "a"}', ["--eps", "0.1", "0.05", "x"], 2, "'x' is not a valid float"),
        (b'{"text": "a"}', ["--eps", "0.1", "0.1"], 1, "thresholds that differ in six digits"),
        (b'{"text": "a"}', ["--rule", "absolute", "soft"], 2, "'soft' is not one of"),
        (b'{"text": "a"}', ["--tokens", "last", "all"], 2, "unexpected extra argument"),
        (b'{"text": "a"}', ["--per-token"], 1, "per_token is True and tokens is 'last'"),
        (b'{"text": "a"}', ["--batch-tokens", "0"], 2, "'--batch-tokens': 0 is not in the range x>=1"),
        (
            b'{"text": "a"}',
            ["--rule", "absolute", "absolute"],
            1,
            "but 'absolute' or 'relative', each once, was expected",
        ),
        (
            b'{"text": "a"}\n{"text": "' + b"b" * 256 + b'"}',
            [],
            1,
            "line 2 has 257 tokens, but at most 256, the model's window, was expected",
        ),
        (b'{"text": "a\\ud800"}', [], 1, "line 1: text holds '\\ud800', but whole characters were expected"),
    ],
)
def test_bad_files_are_one_line_and_leave_nothing(
    capsys, tmp_path, monkeypatch, tiny, content, arguments, status, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_bytes(content)
    code, out, err = run(capsys, "dimension", "--model", tiny[0], "--file", "p.jsonl", *arguments)
    assert (code, out) == (status, "")
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
    assert (tmp_path / "p.jsonl").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


def test_regions(capsys):
    status, out, _ = run(capsys, "regions", "--neurons", "10", "--no-bias", "--json")
    assert status == 0
    assert json.loads(out)["n_regions"] == json.loads(out)["max_regions"] == 20
    assert "20 regions" in run(capsys, "regions", "--neurons", "10", "--no-bias")[1]


def test_regions_certified_and_along_a_line(capsys):
    line = ["--line", "-1", "-1", "1", "1"]
    status, out, _ = run(capsys, "regions", "--neurons", "10", "--certify", *line, "--json")
    report = json.loads(out)
    assert (status, report["certified"], report["snapped"], report["snapped_line"]) == (0, True, 0, 0)
    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((10, 2)), rng.standard_normal(10)
    crossed = np.count_nonzero(np.diff(np.sign(np.array([[-1, -1], [1, 1]]) @ weights.T + biases), axis=0))
    assert report["n_regions_line"] == crossed + 1
    text = run(capsys, "regions", "--neurons", "10", "--certify", *line)[1]
    assert text == (
        f"10 neurons, random biases: {report['n_regions']} regions in the window, {crossed + 1} along the line, "
        "at most 56 in the plane (certified)\n"
    )
    # Values that lie within rounding are said to be in doubt.
    wide = ["regions", "--neurons", "10", "--window", "1e17", "--line", "-1e17", "0", "1e17", "0"]
    said = json.loads(run(capsys, *wide, "--json")[1])
    assert said["snapped"] > 0 < said["snapped_line"]
    doubts = f"in doubt: {said['snapped'] + said['snapped_line']} values within rounding of 0 were counted as 0\n"
    assert run(capsys, *wide)[1].endswith(f"at most 56 in the plane; {doubts}")
    # A limit that is just enough.
    assert run(capsys, "regions", "--neurons", "10", "--limit", str(report["n_regions"]))[0] == 0


def test_sweep(capsys, tmp_path):
    lines = [{"question": f"Ann has {n} pens and 3 cups. How many pens has Ann?", "answer": n} for n in range(20, 26)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    arguments = ["sweep", "--questions", str(tmp_path / "q.jsonl"), "-n", "3", "--shots", "0", "--shots", "1"]
    arguments += ["--max-new-tokens", "8"]
    status, out, err = run(capsys, *arguments, "--out", str(tmp_path / "out"), "--json")
    assert status == 0
    assert all(line.startswith("INFO: answers: ") for line in err.splitlines())  # on a slow day
    assert json.loads(out)["rows"] == 6
    rows = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    assert len(rows) == 6
    status, out, _ = run(capsys, *arguments, "--out", str(tmp_path / "out"))
    assert "6 rows" in out


def write_questions(path, n):
    lines = [{"question": f"Ann has {i} pens. How many?", "answer": i} for i in range(n)]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return str(path)


def test_a_sweep_never_replaces_the_rows_of_another(capsys, tmp_path):
    """The manifest beside the rows says what made them: model, questions and settings; no place on this machine."""
    for name, seed in (("one", 0), ("two", 1)):
        save_tiny(tmp_path / name, seed=seed)
    questions, out = write_questions(tmp_path / "q.jsonl", 8), tmp_path / "out"
    arguments = ["--questions", questions, "-n", "3", "--shots", "0", "1", "--max-new-tokens", "2", "--out", str(out)]
    assert run(capsys, "sweep", "--model", str(tmp_path / "one"), *arguments)[0] == 0
    rows, about = load_run("rows", out)
    command = "geolib sweep --model one --questions q.jsonl -n 3 --shots 0 1 --max-new-tokens 2"
    assert (len(rows), about["rows"], about["command"]) == (6, 6, command)
    kept = {"shots": [0, 1], "only_wrong": False, "max_new_tokens": 2, "n_questions": 3}
    assert about["settings"] == kept
    assert {"model_sha256", "questions_sha256", "commit", "versions"} <= about.keys()
    assert str(tmp_path) not in (out / "rows.json").read_text().replace(about["questions"], "")
    before = (out / "rows.parquet").read_bytes()
    assert run(capsys, "sweep", "--model", str(tmp_path / "one"), *arguments)[0] == 0  # the same again
    others = {
        "model": ["--model", str(tmp_path / "two"), *arguments],
        "settings": ["--model", str(tmp_path / "one"), *arguments, "-n", "4"],
        "questions": ["--model", str(tmp_path / "one"), *arguments, "--questions", write_questions(tmp_path / "r", 9)],
    }
    for what, other in others.items():
        status, printed, err = run(capsys, "sweep", *other)
        assert (status, printed) == (1, "")
        assert f"whose rows.parquet holds rows of another {what} ({command}); expected a new folder" in err
    (out / "rows.json").unlink()
    assert "no manifest says which" in run(capsys, "sweep", "--model", str(tmp_path / "one"), *arguments)[2]
    assert (out / "rows.parquet").read_bytes() == before


def test_no_run_replaces_another_model_s(capsys, tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        save_tiny(tmp_path / name, seed=seed)
    arguments = ["--questions", write_questions(tmp_path / "q.jsonl", 5), "--max-new-tokens", "2", "--run", "bare"]
    arguments += ["--out", str(tmp_path / "out")]
    status, out, _ = run(capsys, "sweep", "--model", str(tmp_path / "one"), *arguments, "--json")
    assert status == 0
    assert json.loads(out)["command"] == "geolib sweep --model one --questions q.jsonl --max-new-tokens 2 --run bare"
    status, _, err = run(capsys, "sweep", "--model", str(tmp_path / "two"), *arguments)
    assert (status, "whose bare.parquet holds rows of another model" in err) == (1, True)
    for name in ("bare.parquet", "bare.json"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / "questions.json").write_text("{}")
    status, _, err = run(capsys, "sweep", "--model", str(tmp_path / "two"), *arguments)
    assert (status, "whose questions.parquet holds rows of another questions" in err) == (1, True)


def test_no_examples_of_gsm8k_zero_and_few_questions_of_one_s_own(capsys, tmp_path):
    """Neither 0 examples nor fewer questions than usual are refused."""
    save_tiny(tmp_path / "model")
    like = [{"question": f"How many are {i}?", "answer": i} for i in range(2978)]
    (tmp_path / "zero.jsonl").write_text("\n".join(json.dumps(line) for line in like))
    arguments = ["sweep", "--model", str(tmp_path / "model"), "--max-new-tokens", "1", "--json"]
    zero = ["--questions", str(tmp_path / "zero.jsonl"), "-n", "2", "--shots", "0", "--out", str(tmp_path / "zero")]
    assert json.loads(run(capsys, *arguments, *zero)[1])["rows"] == 2
    few = ["--questions", write_questions(tmp_path / "few.jsonl", 7), "--out", str(tmp_path / "few")]
    assert json.loads(run(capsys, *arguments, *few)[1])["by_shots"][0]["n"] == 2  # 7, less the 5 shown


@pytest.mark.parametrize("command", ["sweep", "report"])
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-n", "0"], 2, "Invalid value for '-n': 0 is not in the range x>=1"),
        (["--shots", "0", "--shots", "-1"], 2, "Invalid value for '--shots': -1 is not in the range x>=0"),
        (["--max-new-tokens", "0"], 2, "'--max-new-tokens': 0"),
        (["--batch-size", "-1"], 2, "'--batch-size': -1"),
        (
            ["-n", "40"],
            1,
            "with -n 40 and --shots 5, n_questions + n_examples is 40 + 5, but at most 41",
        ),
        (["--shots", "0", "41"], 1, "with -n 1 and --shots 41, n_questions + n_examples is 1 + 41, but at most 41"),
    ],
)
def test_numbers_that_do_not_fit_name_their_flags(capsys, tmp_path, command, arguments, status, message):
    arguments = [command, "--questions", write_questions(tmp_path / "q.jsonl", 41), *arguments]
    code, out, err = run(capsys, *arguments, "--out", str(tmp_path / "out"))
    assert (code, out) == (status, "")
    assert message in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "--questions", "q.jsonl"],
        ["sweep", "--questions", "no.jsonl", "--out", "x"],
        ["sweep", "--questions", "q.jsonl", "-n", "9", "--out", "x"],
        ["report", "--questions", "q.jsonl", "--shots", "1"],
        ["report", "--questions", "no.jsonl"],
        ["sweep", "--questions", "q.jsonl", "--shots", "0", "0", "--out", "x"],
        ["sweep", "--questions", "q.jsonl", "--run", "walk", "--out", "x"],
        ["sweep", "--questions", "q.jsonl", "--run", "many", "--out", "x"],
        ["sweep", "--questions", "q.jsonl", "--shots", "0", "--out", "x", "--store", "q.jsonl"],
        ["dimension", "--text", "a", "--rule", "soft"],
        ["dimension", "--text", "a", "--eps", "2"],
        ["dimension", "--text", "a", "--rule", "absolute", "--rule", "absolute"],
        ["dimension", "--text", "a", "--batch-tokens", "0"],
        ["dimension", "--text", ""],
        ["dimension", "--text", "\udcff"],
        ["dimension", "--text", "a", "--out", "no/x.parquet"],
    ],
    ids=" ".join,
)
def test_what_needs_no_model_does_not_wait_for_torch(tmp_path, arguments):
    write_questions(tmp_path / "q.jsonl", 5)
    code = (
        "import sys\nfrom geolib.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'statsmodels'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert output.splitlines()[-1] == "[]"


def test_without_a_terminal_long_work_says_how_far_it_is(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("geolib.store._SAY", 0.0)
    save_tiny(tmp_path / "model")
    arguments = ["--questions", write_questions(tmp_path / "q.jsonl", 4), "--shots", "0", "--batch-size", "2"]
    arguments += ["--model", str(tmp_path / "model"), "--max-new-tokens", "1", "--out", str(tmp_path / "out")]
    capsys.readouterr()
    status, _, err = run(capsys, "sweep", *arguments)
    assert (status, err.splitlines()) == (0, ["INFO: answers: 2 of 4", "INFO: answers: 4 of 4"])


def test_sweep_on_a_cluster(capsys, tmp_path, monkeypatch):
    """The same rows, in the same file."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    save_tiny(tmp_path / "model")
    lines = [{"question": f"Ann has {n} pens. How many?", "answer": n} for n in range(60)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    arguments = ["sweep", "--model", str(tmp_path / "model"), "--questions", str(tmp_path / "q.jsonl"), "-n", "6"]
    arguments += ["--max-new-tokens", "2", "--shots", "0", "--batch-size", "2", "--json", "--out"]
    # With the threads that a worker has.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    reports = [run(capsys, *arguments, str(tmp_path / "local"))]
    torch.set_num_threads(threads)
    reports.append(run(capsys, *arguments, str(tmp_path / "ray"), "--engine", "ray", "--workers", "1"))
    assert [(status, json.loads(out)) for status, out, _ in reports] == [(0, json.loads(reports[0][1]))] * 2
    local, ray = (read_parquet(tmp_path / name / "rows.parquet").drop(columns="seconds") for name in ("local", "ray"))
    pd.testing.assert_frame_equal(local, ray, check_exact=True)
    assert ray.attrs == {"skipped": [], "failed": []}


def test_runs_of_the_book(capsys, tmp_path):
    """On a model and questions of one's own: prompts beyond the window are counted, and nothing is answered twice."""
    save_tiny(tmp_path / "model")
    lines = [{"question": f"Ann has {n} pens. How many?", "answer": n} for n in range(60)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    arguments = ["sweep", "--model", str(tmp_path / "model"), "--questions", str(tmp_path / "q.jsonl")]
    arguments += ["--max-new-tokens", "2", "--out", str(tmp_path / "out"), "--json", "--run"]
    status, out, err = run(capsys, *arguments, "bare", "shots")
    bare, shots = map(json.loads, out.splitlines())
    assert (status, bare["rows"], bare["skipped"]) == (0, 60, 0)
    assert shots["skipped"] > 0
    assert f"{shots['skipped']} prompts do not fit" in err
    rows = read_parquet(tmp_path / "out" / "shots.parquet")
    assert len(rows) == shots["rows"]
    assert len(rows) + shots["skipped"] == 48 * 11  # a fifth of the questions is shown, never asked
    parts = sorted((tmp_path / "out" / "batches").glob("*.parquet"))
    assert run(capsys, *arguments, "shots")[0] == 0
    assert sorted((tmp_path / "out" / "batches").glob("*.parquet")) == parts
    status, out, err = run(capsys, *arguments, "bare", "walk")
    assert (status, out) == (1, "")
    assert err == (
        "geolib: run: name is 'walk', but one of bare, shots, ablations, repeats, right, chain, many, other-sets, "
        "intervention, choosing, sharper, margins, arms, second, dose, within, rounding, length was expected\n"
    )


def test_models(capsys):
    report = json.loads(run(capsys, "models", "--fetch", "--json")[1])
    assert report["folder"].startswith(report["cache"])


def test_data(capsys, tmp_path, monkeypatch):
    (tmp_path / "gsm8k_zero.jsonl").write_text('{"question": "Ann has 2 pens. How many?", "answer": 2}\n')
    monkeypatch.setenv("GEOLIB_DATA", str(tmp_path))
    report = json.loads(run(capsys, "data", "--json")[1])
    assert report["n_questions"] == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["dimension"], 2, "give either --text"),
        (["dimension", "--text", "a", "--per-head"], 2, "give --out"),
        (["dimension", "--text", ""], 2, "give either --text, which must not be empty, or --file"),
        (["dimension", "--text", "", "--file", __file__], 2, "give either --text, which must not be empty, or --file"),
        (["dimension", "--text", "a", "--eps", "2"], 1, "eps is 2.0, but a number between 0 and 1 was expected"),
        (["dimension", "--text", "a", "--eps", "x"], 2, "'x' is not a valid float"),
        (["dimension", "--text", "a", "--rule", "soft"], 2, "'soft' is not one of"),
        (["dimension", "--file", "no/such.txt"], 2, "does not exist"),
        (["dimension", "--model", "no/such-model", "--text", "a"], 1, "name is 'no/such-model'"),
        (["regions", "--neurons", "0"], 1, "neurons is 0"),
        (["regions", "--seed", "-1"], 1, "seed is -1"),
        (["regions", "--neurons", "1.5"], 2, "'1.5' is not a valid integer"),
        (["regions", "--neurons", "100001"], 1, "neurons is 100001"),
        (["regions", "--window", "0"], 1, "window"),
        (["regions", "--window", "nan"], 1, "window holds nan"),
        (["regions", "--window", "inf"], 1, "window holds -inf"),
        (["regions", "--window", "1e308"], 1, "overflow float64"),
        (["regions", "--limit", "0"], 1, "limit is 0, but at least 1 was expected"),
        (["regions", "--limit", "9"], 1, "limit is 9, but more was expected: there are more regions"),
        (["regions", "--neurons", "200", "--certify"], 1, "certify is True for 6784 regions, but at most 2000"),
        (["regions", "--line", "1", "2", "3"], 2, "--line"),
        (["regions", "--line", "1", "2", "1", "2"], 1, "line_partition: start and end are both"),
        (["sweep", "--questions", "no/such.jsonl", "--out", "x"], 1, "no/such.jsonl"),
        (["sweep"], 2, "--out"),
        (["sweep", "--out", "x", "--workers", "2"], 2, "--workers and --threads are for --engine ray"),
        (["sweep", "--out", "x", "--run", "bare", "--shots", "0"], 2, "--shots and --only-wrong are not for --run"),
        (["sweep", "--out", "x", "--run", "bare", "--only-wrong"], 2, "--shots and --only-wrong are not for --run"),
        (["report", "--shots", "0", "0"], 1, "report: shots is (0, 0), but distinct numbers were expected (--shots)"),
        (["sweep", "--out", "x", "--engine", "dask"], 2, "'dask' is not one of"),
        (["nothing"], 2, "No such command"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, status, message, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (status, "")
    assert message in err
    assert "Traceback" not in err
    if status == 1:
        assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_malformed_line_is_named(capsys, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"question": "Ann has 2 pens. How many?", "answer": 2}\n{"question": 3}\n')
    code, _, err = run(capsys, "sweep", "--questions", str(tmp_path / "q.jsonl"), "--out", str(tmp_path / "out"))
    assert code == 1
    assert "line 2" in err
    assert not (tmp_path / "out").exists()


def test_interruption(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("geolib.models.embedded_folder", interrupt)
    status, out, err = run(capsys, "models", "--fetch")
    assert (status, out, err.strip()) == (130, "", "geolib: interrupted")
