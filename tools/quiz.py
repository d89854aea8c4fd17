"""Self-test questions that work on a page without a kernel: each option opens, and says whether it is right and why.

A directive for Sphinx. Questions follow one another, each with its options, each of these with its explanation::

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

WHY = r"(?:  .*\n|[^\S\n]*\n)*"  # lines that are indented, and empty ones
OPTION = re.compile(rf"^- \[([ x])\] (.+)\n({WHY})", re.MULTILINE)
LIST = re.compile(rf"^((?:- \[[ x]\] .+\n{WHY})+)", re.MULTILINE)


class Option(NamedTuple):
    """An option: whether it is right, its text, and its explanation."""

    right: bool
    text: str
    why: str


class Question(NamedTuple):
    """A question and its options."""

    text: str
    options: list[Option]


def read(content: str) -> list[Question]:
    """Read the questions of a directive's body."""
    questions, parts = [], [*LIST.split(f"{content}\n"), ""]  # a text, its options, a text, its options, and so on
    for text, listed in zip(parts[::2], parts[1::2], strict=True):
        if listed and not text.strip():
            raise BookError(f"{listed.splitlines()[0]!r} comes before any question")
        found = OPTION.findall(listed)
        options = [Option(mark == "x", said.strip(), " ".join(why.split())) for mark, said, why in found]
        questions += [Question(" ".join(text.split()), options)] if text.strip() else []
    if not questions:
        raise BookError("holds no question")
    for question in questions:
        if sum(option.right for option in question.options) != 1 or len(question.options) < 2:
            raise BookError(f"{question.text!r}: two options or more were expected, one of them right")
        if unsaid := [option.text for option in question.options if not option.why]:
            raise BookError(f"{question.text!r}: option {unsaid[0]!r} has no explanation, but one was expected")
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
                    box += [nodes.inline("", "", *self._words(option.text)), _html("</summary>")]
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
