"""The shell: what it prints, and how it fails."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from geolib import __version__
from geolib.cli import main
from geolib.dimension import attention_dimension


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


def test_regions(capsys):
    status, out, _ = run(capsys, "regions", "--neurons", "10", "--no-bias", "--json")
    assert status == 0
    assert json.loads(out)["n_regions"] == json.loads(out)["max_regions"] == 20
    assert "20 regions" in run(capsys, "regions", "--neurons", "10", "--no-bias")[1]


def test_regions_certified_and_along_a_line(capsys):
    line = ["--line", "-1", "-1", "1", "1"]
    status, out, _ = run(capsys, "regions", "--neurons", "10", "--certify", *line, "--json")
    report = json.loads(out)
    assert (status, report["certified"], report["snapped"]) == (0, True, 0)
    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((10, 2)), rng.standard_normal(10)
    crossed = np.count_nonzero(np.diff(np.sign(np.array([[-1, -1], [1, 1]]) @ weights.T + biases), axis=0))
    assert report["n_regions_line"] == crossed + 1
    text = run(capsys, "regions", "--neurons", "10", "--certify", *line)[1]
    assert text == (
        f"10 neurons, random biases: {report['n_regions']} regions in the window, {crossed + 1} along the line, "
        "at most 56 in the plane (certified)\n"
    )
    # A limit that is just enough.
    assert run(capsys, "regions", "--neurons", "10", "--limit", str(report["n_regions"]))[0] == 0


def test_sweep(capsys, tmp_path):
    lines = [{"question": f"Ann has {n} pens and 3 cups. How many pens has Ann?", "answer": n} for n in range(20, 26)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    arguments = ["sweep", "--questions", str(tmp_path / "q.jsonl"), "-n", "3", "--shots", "0", "--shots", "1"]
    status, out, err = run(capsys, *arguments, "--out", str(tmp_path / "out"), "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["rows"] == 6
    rows = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    assert len(rows) == 6
    status, out, _ = run(capsys, *arguments, "--out", str(tmp_path / "out"))
    assert "6 rows" in out


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
        (["dimension"], 2, "give either --text or --file"),
        (["dimension", "--text", ""], 1, "input_ids has shape"),
        (["dimension", "--text", "a", "--eps", "2"], 1, "eps is 2.0, but a number between 0 and 1"),
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
        (["regions", "--limit", "0"], 1, "limit is 0, expected at least 1"),
        (["regions", "--limit", "9"], 1, "limit is 9, but there are more regions; pass a larger limit"),
        (["regions", "--neurons", "200", "--certify"], 1, "certify is for at most 2000 regions"),
        (["regions", "--line", "1", "2", "3"], 2, "--line"),
        (["regions", "--line", "1", "2", "1", "2"], 1, "line_partition: start and end are both"),
        (["sweep", "--questions", "no/such.jsonl", "--out", "x"], 1, "no/such.jsonl"),
        (["sweep"], 2, "--out"),
        (["nothing"], 2, "No such command"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, status, message, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
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
