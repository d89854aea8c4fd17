"""Self-tests: what is read is what was written, and every chapter ends with one."""

import re
from pathlib import Path

import pytest

from tools import quiz, toc

ROOT = Path(__file__).resolve().parents[2]

TEXT = """\
How many
regions?

- [ ] 6
  The third line
  crosses both.
- [x] $7$
  One, then one more.

And pieces?

- [x] As many
  Here.
- [ ] None
  No.
"""
CHAPTERS = [name for name, number in toc.chapters().items() if number and (ROOT / f"{name}.md").is_file()]


def test_reads_what_was_written():
    first, second = quiz.read(TEXT)
    assert first.text == "How many regions?"
    assert first.options == [
        quiz.Option(False, "6", "The third line crosses both."),
        quiz.Option(True, "$7$", "One, then one more."),
    ]
    assert [option.right for option in second.options] == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no question"),
        ("- [x] 7\n  Why", "'- \\[x\\] 7' comes before any question"),
        (TEXT.replace("[x] $7$", "[ ] $7$"), "'How many regions\\?': two options or more were expected, one of them r"),
        (TEXT.replace("[ ] 6", "[x] 6"), "'How many regions\\?': two options or more were expected, one of them right"),
        (TEXT.replace("- [ ] None\n  No.\n", ""), "'And pieces\\?': two options or more"),
        (TEXT.replace("  Here.\n", ""), "'And pieces\\?': option 'As many' has no explanation"),
    ],
)
def test_refuses(text, message):
    with pytest.raises(toc.BookError, match=message):
        quiz.read(text)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_chapter_ends_with_points_a_test_and_graded_exercises(name):
    text = (ROOT / f"{name}.md").read_text()
    _, points, end = text.partition("\n## Key points\n")
    assert points  # how many, and that they are held: test_held.py
    questions = quiz.read(re.search(r"```\{quiz\}\n(.*?)```", end, re.DOTALL)[1])
    assert len(questions) >= 2
    levels = re.findall(r"^:::\{exercise\}(.*)$", text, re.MULTILINE)
    assert len(levels) >= 2
    assert all(re.fullmatch(" Level [123]", level) for level in levels)
    assert end.count(":::{solution}") == len(levels)
