"""Self-test questions that work on a page without a kernel: each option opens, and says whether it is right and why.

A directive for Sphinx. Questions follow one another, each with its options, each of these with what it says::

    ```{quiz}
    How many regions do three lines make of the plane, at most?

    - [ ] 6
      The third line crosses both others, and so runs through three regions.
    - [x] 7
      One, then one more, two more, three more.
    ```

In the plain notebook (:mod:`tools.plain`) the options are a list, and one fold below them holds the answers.
"""

import re
from typing import NamedTuple

from .toc import BookError

OPTION = re.compile(r"- \[([ x])\] (.+)")


class Option(NamedTuple):
    """What can be chosen: whether it is right, its text, and what is said of it."""

    right: bool
    text: str
    why: str


class Question(NamedTuple):
    """A question and its options."""

    text: str
    options: list[Option]


def read(content: str) -> list[Question]:
    """Read the questions of a directive's body."""
    found: list[tuple[list[str], list[list]]] = []
    for line in content.splitlines():
        if option := OPTION.match(line):
            if not found:
                raise BookError(f"{line!r} comes before any question")
            found[-1][1].append([option[1] == "x", option[2].strip(), []])
        elif not line.strip():
            continue
        elif found and found[-1][1] and line.startswith("  "):
            found[-1][1][-1][2].append(line.strip())
        elif found and not found[-1][1]:
            found[-1][0].append(line.strip())
        else:
            found.append(([line.strip()], []))
    questions = [
        Question(" ".join(lines), [Option(right, text, " ".join(why)) for right, text, why in options])
        for lines, options in found
    ]
    if not questions:
        raise BookError("holds no question")
    for question in questions:
        if sum(option.right for option in question.options) != 1 or len(question.options) < 2:
            raise BookError(f"{question.text!r}: two options or more were expected, one of them right")
        if unsaid := [option.text for option in question.options if not option.why]:
            raise BookError(f"{question.text!r}: nothing is said of {unsaid[0]!r}")
    return questions


def setup(app):
    """Make the directive known to Sphinx."""
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class Quiz(SphinxDirective):
        has_content = True

        def run(self):
            try:
                questions = read("\n".join(self.content))
            except BookError as error:
                raise self.error(f"quiz: {error}") from None
            box = nodes.container(classes=["quiz"])
            box += nodes.paragraph("", "Self-test", classes=["quiz-title"])
            for number, question in enumerate(questions, 1):
                box += nodes.paragraph("", f"{number}. ", *self._words(question.text), classes=["quiz-question"])
                for option in question.options:
                    verdict = "Right" if option.right else "No"
                    box += _html(f'<details class="quiz-option quiz-{verdict.lower()}"><summary>')
                    box += nodes.inline("", "", *self._words(option.text))
                    box += _html("</summary>")
                    box += nodes.paragraph("", "", nodes.strong("", f"{verdict}. "), *self._words(option.why))
                    box += _html("</details>")
            return [box]

        def _words(self, text):
            words, messages = self.parse_inline(text)
            return [*words, *messages]

    def _html(text):
        return nodes.raw("", text, format="html")

    app.add_directive("quiz", Quiz)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
