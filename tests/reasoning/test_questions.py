"""Loading questions: where they come from, and what is wrong with a file that does not load."""

import functools
import hashlib
import http.server
import json
import logging
import math
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from geolib.models import MissingFileError
from geolib.reasoning import sources as module
from geolib.reasoning.generated import generate_questions
from geolib.reasoning.questions import Question
from geolib.reasoning.sources import available_questions, load_questions

GOOD = '{"question": "How many?", "answer": 48.0}\n{"question": "Wie viele Füße?", "answer": 2}\n'
HOMES = dict(module.SOURCES)
LOADED = [Question("How many?", 48.0, 0), Question("Wie viele Füße?", 2.0, 1)]
WORKED = (
    '{"question": "How many?", "answer": "Half of 9 is 9/2 = <<9/2=4.5>>4.5.\\nAll: $<<2*4.5=9>>9.\\n#### 9"}\n'
    '{"question": "And now?", "answer": "It fell to 1-1,201 = -1,200.\\n#### -1,200\\n"}\n'
    '{"question": "How long?", "answer": "1/4=<<1/4=.25>>.25 << 1\\n#### 1,000.25"}\n'
)
SOLVED = [
    Question("How many?", 9.0, 0, "Half of 9 is 9/2 = 4.5.\nAll: $9."),
    Question("And now?", -1200.0, 1, "It fell to 1-1,201 = -1,200."),
    Question("How long?", 1000.25, 2, "1/4=.25 << 1"),
]
BOTH = pytest.mark.parametrize(
    ("source", "content", "loaded"), [("gsm8k-zero", GOOD, LOADED), ("gsm8k-train", WORKED, SOLVED)]
)


def change(monkeypatch, source, **changes):
    monkeypatch.setitem(module.SOURCES, source, replace(module.SOURCES[source], **changes))


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data folder, an empty cache and no network, whatever the machine has."""

    monkeypatch.delenv("GEOLIB_DATA", raising=False)
    monkeypatch.setenv("GEOLIB_CACHE", str(tmp_path / "cache"))
    for source, home in HOMES.items():
        change(monkeypatch, source, url=f"http://127.0.0.1:9/{home.file_name}")  # where nobody listens


@pytest.fixture
def write(tmp_path):
    def write(content, name="questions.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_path_of_ones_own(write):
    path = write(GOOD)
    assert load_questions(path) == load_questions(str(path)) == LOADED
    assert isinstance(load_questions(path)[1].answer, float)


def test_worked_solutions(write):
    assert load_questions(write(WORKED), source="gsm8k-train") == SOLVED


@pytest.mark.parametrize(
    ("answer", "error"),
    [("4", TypeError), (None, TypeError), (True, TypeError), (math.nan, ValueError), (10**400, ValueError)],
)
def test_an_answer_is_a_finite_number(answer, error):
    with pytest.raises(error, match=r"^Question: answer is .*, but a finite number was expected$"):
        Question("How many?", answer, 0)


@pytest.mark.parametrize("answer", [4, -2.5, np.float32(4), np.int64(4), Fraction(1, 3)])
def test_any_finite_number_is_an_answer(answer):
    assert Question("How many?", answer, 0).answer == answer


@pytest.mark.parametrize(
    "answer",
    [
        72,
        None,
        "",
        "72",
        "#### 72",
        "\n#### 72",
        "<<1+1=2>>\n#### 2",
        "steps\n#### many",
        "steps\n####7",
        "steps\n#### 7 x",
        f"steps\n#### {'9' * 400}",
    ],
)
def test_solutions_that_are_none(write, answer):
    path = write(WORKED + json.dumps({"question": "How many?", "answer": answer}))
    with pytest.raises(ValueError) as raised:
        load_questions(path, source="gsm8k-train")
    assert str(raised.value).startswith(f"load_questions: {path}, line 4: answer is {json.dumps(answer)[:57]}")
    assert str(raised.value).endswith(', but steps and a last line "#### N" were expected')


@pytest.mark.parametrize(
    "content",
    [
        GOOD.rstrip("\n"),
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD + "\n  \n",
        '{"answer": 48, "more": [1], "question": "How many?"}\n' + GOOD.partition("\n")[2],
    ],
)
def test_harmless_variations(write, content):
    assert load_questions(write(content)) == LOADED


def test_blank_lines_are_skipped_but_counted(write):
    assert [question.index for question in load_questions(write(GOOD.replace("\n", "\n\n")))] == [0, 2]


def test_line_separators_inside_a_text_end_no_line(write):
    text = "How\u2028many\x85?"
    record = json.dumps({"question": text, "answer": 1}, ensure_ascii=False)
    assert load_questions(write(record)) == [Question(text, 1.0, 0)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2, is not JSON"),
        ('{"question": "How many?", "answer": 48', "line 2, is not JSON"),
        ("[" * 100_000, "line 2, is not JSON"),
        ("9" * 10_000, "line 2, is not JSON"),
        ("[1, 2]", 'line 2, is [1, 2], but an object like {"question": "...", "answer": 48} was expected'),
        ('{"answer": 48}', "line 2: question is null, but a text was expected"),
        ('{"question": "  ", "answer": 48}', 'line 2: question is "  ", but a text was expected'),
        ('{"question": 7, "answer": 48}', "line 2: question is 7, but a text was expected"),
        ('{"question": "How many?"}', "line 2: answer is null, but a finite number was expected"),
        ('{"question": "How many?", "answer": "48"}', 'line 2: answer is "48", but a finite number was expected'),
        ('{"question": "How many?", "answer": true}', "line 2: answer is true, but a finite number was expected"),
        ('{"question": "How many?", "answer": NaN}', "line 2: answer is NaN, but a finite number was expected"),
        (
            '{"question": "How many?", "answer": -Infinity}',
            "line 2: answer is -Infinity, but a finite number was expected",
        ),
        ('{"question": "How many?", "answer": 1e999}', "line 2: answer is Infinity, but a finite number was expected"),
        (f'{{"question": "How many?", "answer": 1{"0" * 400}}}', f"line 2: answer is 1{'0' * 56}..., but a finite"),
        (b'{"question": "H\xff", "answer": 1}', "line 2, is not UTF-8"),
    ],
)
def test_malformed_lines_are_named(write, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    path = write(GOOD.encode().splitlines(keepends=True)[0] + line + b"\n" + GOOD.encode())
    with pytest.raises(ValueError) as raised:
        load_questions(path)
    assert str(raised.value).startswith(f"load_questions: {path}, {message}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_files(write, content):
    path = write(content)
    with pytest.raises(ValueError) as raised:
        load_questions(path)
    like = '{"question": "...", "answer": 48}'
    assert str(raised.value) == f"load_questions: {path} is empty, but JSON lines like {like} were expected"


def test_a_missing_path_and_a_folder(tmp_path):
    for path, reason in ((tmp_path / "none.jsonl", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(MissingFileError) as raised:
            load_questions(path)
        assert str(raised.value).startswith(f"load_questions: {path} cannot be read ({reason}")
        assert "), but a file was expected: pass a path, set GEOLIB_DATA to its folder, or" in str(raised.value)
        with pytest.raises(MissingFileError):
            available_questions(path)


def test_data_folder(write, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOLIB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="cannot be read"):
        load_questions()
    with pytest.raises(MissingFileError, match="cannot be read"):
        available_questions()
    write(GOOD, "gsm8k_zero.jsonl")
    assert load_questions() == LOADED
    assert available_questions() == (LOADED, "gsm8k-zero")


def test_a_path_goes_before_the_data_folder(write, tmp_path, monkeypatch):
    write("", "gsm8k_zero.jsonl")
    monkeypatch.setenv("GEOLIB_DATA", str(tmp_path))
    path = write(GOOD)
    assert available_questions(path) == (LOADED, str(path))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A public home on this machine, and the folder that it serves."""
    folder = tmp_path / "home"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        log_message = staticmethod(lambda *_: None)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        for source, its in HOMES.items():
            change(monkeypatch, source, url=f"http://127.0.0.1:{server.server_port}/{its.file_name}")
        yield folder
        server.shutdown()


@pytest.mark.whole
@BOTH
def test_download_is_kept_in_the_cache(home, monkeypatch, source, content, loaded):
    change(monkeypatch, source, sha256=hashlib.sha256(content.encode()).hexdigest())
    served = home / HOMES[source].file_name
    served.write_bytes(content.encode())
    assert load_questions(source=source) == loaded
    served.unlink()
    assert load_questions(source=source) == loaded


def test_what_was_downloaded_is_available(home, monkeypatch):
    change(monkeypatch, "gsm8k-zero", sha256=hashlib.sha256(GOOD.encode()).hexdigest())
    (home / "gsm8k_zero.jsonl").write_bytes(GOOD.encode())
    assert available_questions() == (LOADED, "gsm8k-zero")


@BOTH
def test_other_bytes_are_refused_and_not_kept(home, tmp_path, source, content, loaded):
    (home / HOMES[source].file_name).write_bytes(content.encode())
    with pytest.raises(MissingFileError, match=r"^load_questions: .* could not be downloaded from .* \(ValueError\)"):
        load_questions(source=source)
    assert list((tmp_path / "cache").iterdir()) == []


@BOTH
def test_a_damaged_cache_is_fetched_again(home, tmp_path, monkeypatch, caplog, source, content, loaded):
    change(monkeypatch, source, sha256=hashlib.sha256(content.encode()).hexdigest())
    (home / HOMES[source].file_name).write_bytes(content.encode())
    load_questions(source=source)
    (tmp_path / "cache" / HOMES[source].file_name).write_bytes(content.encode()[:-9])
    assert load_questions(source=source) == loaded
    assert "is damaged: it is removed and fetched again" in caplog.text


@pytest.mark.parametrize(
    ("source", "repository"),
    [("gsm8k-zero", "d223302/Over-Reasoning-of-LLMs"), ("gsm8k-train", "openai/grade-school-math")],
)
def test_public_homes_are_pinned(source, repository):
    url = rf"https://raw\.githubusercontent\.com/{repository}/[0-9a-f]{{40}}/.*\.jsonl?"
    assert re.fullmatch(url, HOMES[source].url)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("source", "instead"),
    [
        ("gsm8k-zero", 'pass a path, set GEOLIB_DATA to its folder, or use source="generated"'),
        ("gsm8k-train", "pass a path, or set GEOLIB_DATA to its folder"),
    ],
)
def test_no_network(tmp_path, source, instead):
    name = HOMES[source].file_name
    with pytest.raises(MissingFileError) as raised:
        load_questions(source=source)
    assert str(raised.value) == (
        f"load_questions: {name} is not in {tmp_path / 'cache'} and could not be downloaded from "
        f"http://127.0.0.1:9/{name} (ConnectionError): {instead}"
    )


@pytest.mark.whole
def test_generated_questions_stand_in(caplog):
    with caplog.at_level(logging.INFO, logger="geolib"):
        questions, source = available_questions()
    assert source == "generated"
    assert questions == load_questions(source="generated") == generate_questions(3000)
    assert "generated questions are used instead" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": "a"}, ValueError, "source is 'a', but 'gsm8k-zero' or 'gsm8k-train' or 'generated' was expected"),
        ({"path": 3}, TypeError, "path is 3, but a file's name was expected"),
        (
            {"path": "a", "source": "generated"},
            ValueError,
            """path is 'a', but None was expected with source="generated\"""",
        ),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error) as raised:
        load_questions(**arguments)
    assert str(raised.value) == f"load_questions: {message}"


def test_questions_are_frozen():
    with pytest.raises(AttributeError):
        LOADED[0].answer = 1.0


SHARED = Path(os.environ.get("GEOLIB_DATA") or Path(__file__).parents[3] / "shared" / "data")
ZERO, TRAIN = (SHARED / home.file_name for home in HOMES.values())


@pytest.mark.skipif(not ZERO.exists(), reason=f"no GSM8K-Zero: {ZERO} does not exist")
def test_gsm8k_zero():
    assert hashlib.sha256(ZERO.read_bytes()).hexdigest() == HOMES["gsm8k-zero"].sha256
    questions = load_questions(ZERO)
    assert len(questions) == 2978
    assert [question.index for question in questions] == list(range(2978))
    assert questions[0].answer == 48


@pytest.mark.skipif(not TRAIN.exists(), reason=f"no GSM8K train: {TRAIN} does not exist")
def test_gsm8k_train():
    assert hashlib.sha256(TRAIN.read_bytes()).hexdigest() == HOMES["gsm8k-train"].sha256
    questions = load_questions(TRAIN, source="gsm8k-train")
    assert len({question.text for question in questions}) == 7473
    assert [question.answer for question in questions[:2]] == [72, 10]
    assert questions[0].steps.endswith("Natalia sold 48+24 = 72 clips altogether in April and May.")
    assert not any(mark in question.steps for question in questions for mark in ("<<", ">>", "####"))


@pytest.mark.whole
@pytest.mark.parametrize("name", ["questions", "generated", "judge", "reading", "prompts"])
def test_import_loads_no_torch(name):
    root = Path(module.__file__).parents[2]
    folder = root / "geolib" / "reasoning"
    code = (  # the module alone, without the package around it, which also holds the sweep
        "import sys, types; package = types.ModuleType('geolib.reasoning'); "
        f"package.__path__ = [{str(folder)!r}]; sys.modules['geolib.reasoning'] = package; "
        f"import geolib.reasoning.{name}; "
        "sys.exit(bool({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
