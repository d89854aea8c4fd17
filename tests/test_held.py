"""No sentence about a result stands without a check: key points, tables of comparison, captions, self-tests."""

import ast
import re
from pathlib import Path

import pytest

from tools import quiz, toc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "notebooks").rglob("*.md"))
CHAPTERS = [
    ROOT / f"{name}.md" for name, number in toc.chapters().items() if number and (ROOT / f"{name}.md").is_file()
]
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)

# Words by which a sentence says what came out.
RESULT = re.compile(
    r"(?<!95)(?<=\d) ?%|\b\d+ points\b|\b(?:rises?|rose|raises?|raised|falls?|fell|gains?|gained|loses?|lost)\b"
    r"|\b(?:leads?|led|helps?|helped|hurts?|separates?|survives?|coincide|vanish|vanishes|drops?|dropped|higher|lower)\b"
    r"|\b(?:more often|less often|better|worse|ahead|behind|flat)\b"
)


def tree(cell):
    return ast.parse(re.sub(r"^\s*[%!].*$", "pass", cell.source, flags=re.MULTILINE))


def calls(cells, name):
    """Calls of a function in cells of code."""
    for cell in cells:
        if cell.cell_type == "code":
            nodes = ast.walk(tree(cell))
            yield from (node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name)


def held(source):
    """Fixed parts of the texts that a notebook's code says: those of its sentences, computed numbers left out."""
    texts = []
    for cell in toc.read(source).cells:
        if cell.cell_type == "code":
            for node in ast.walk(tree(cell)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(" ".join(node.value.split()))
    return texts


def section(source, heading):
    """Cells of a section."""
    inside, found = False, []
    for cell in toc.read(source).cells:
        if cell.cell_type == "code":
            found += [cell] * inside
            continue
        for block in re.split(r"^(?=## )", cell.source, flags=re.MULTILINE):
            if block.startswith("## "):
                inside = block.startswith(f"## {heading}")
            if inside:
                found.append(type(cell)(cell_type="markdown", source=block))
    return found


@each_source
def test_conditions_are_computed(source):
    """A condition that is a constant can't fail, and numbers that are a constant say nothing of other results."""
    for call in calls(toc.read(source).cells, "holds"):
        assert len(call.args) >= 3, ast.unparse(call)
        _, condition, numbers = call.args[:3]
        assert any(isinstance(node, ast.Name) for node in ast.walk(condition)), ast.unparse(call)
        assert any(isinstance(node, ast.Name) for node in ast.walk(numbers)), ast.unparse(call)


@each_chapter
def test_key_points_that_say_a_result_are_held(source):
    cells = section(source, "Key points")
    written = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown").partition("```{quiz}")[0]
    bullets = [" ".join(bullet.split()) for bullet in re.findall(r"^- (.+(?:\n  .+)*)", written, re.MULTILINE)]
    said = [bullet for bullet in bullets if RESULT.search(bullet) and bullet not in BY_DEFINITION]
    assert not said, f"results among the points that are plain text: {said}"
    listed = [argument for call in calls(cells, "points") for argument in call.args]
    assert len(bullets) + len(listed) >= 3
    names = held_names(source)
    assert all(is_held(argument, names) for argument in listed)


def held_names(source):
    """Variables of a notebook that are given what holds(...) returns."""
    found = set()
    for cell in toc.read(source).cells:
        if cell.cell_type == "code":
            for node in ast.walk(tree(cell)):
                if isinstance(node, ast.Assign) and "holds(" in ast.unparse(node.value):
                    found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def is_held(node, names):
    return "holds(" in ast.unparse(node) or any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(node))


@each_chapter
def test_what_we_measured_is_held(source):
    cells = section(source, "What the paper reports")
    if not cells:
        return
    written = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert not re.search(r"^\|", written, re.MULTILINE), "the table is a cell: compared(...)"
    (call,) = calls(cells, "compared")
    names = held_names(source)
    for row in call.args[2].elts:
        here = row.elts[2]
        plain = ast.unparse(here)  # what was done, with a computed number or none
        method = not RESULT.search(plain) and (isinstance(here, ast.JoinedStr) or not re.search(r"\d", plain))
        assert method or is_held(here, names), f"not held: {ast.unparse(row)}"


def sentences(text):
    return [one.strip() for one in re.split(r"(?<=[.;:]) ", " ".join(text.split())) if one.strip()]


@each_source
def test_captions_that_claim_are_held(source):
    texts = held(source)
    for cell in toc.read(source).cells:
        if cell.cell_type == "code":
            shown = cell.metadata.get("mystnb", {})
            for text in (shown.get("image", {}).get("alt", ""), shown.get("figure", {}).get("caption", "")):
                for one in filter(RESULT.search, sentences(text)):
                    assert one in BY_DEFINITION or any(one.rstrip(".") in held_text for held_text in texts), one


@each_chapter
def test_self_tests_about_results_are_held(source):
    texts = held(source)
    body = re.search(r"```\{quiz\}\n(.*?)```", source.read_text("utf-8"), re.DOTALL)[1]
    for question in quiz.read(body):
        for option in question.options:
            if option.right and OURS.search(f"{question.text} {option.text}"):
                assert any(option.text in text for text in texts), f"{question.text} {option.text}"


OURS = re.compile(r"\b(?:here|this model|this book|our|SmolLM2|the published run)\b")
# Sentences that use such a word and state no result of ours: each is true by arithmetic, by the design, or says how to
# read what is drawn.
BY_DEFINITION = {
    "The ID is a sum over heads, so that more heads raise it whatever they do; that says nothing about regions.",
    "A uniform row over more and more tokens first gains absolute edges, then loses them all at once.",
    "Random tokens, shuffled text and prose of exactly the examples' length separate what examples do from what length "
    "does.",
    "Questions selected for being answered wrong have to be asked again without the treatment: what examples gain "
    "counts from there.",
    "Questions that were answered correctly can only lose. The effect over all questions weighs both by how many there "
    "are of each.",
    "Two lower triangles over the prompt's tokens, coloured by weight on a logarithmic scale.",
    "Estimates from 1,000 points on each of 24 manifolds, against the truth (dashed).",
    "a rise along a line multiplies.",
    "If the two rose and fell together, the points would lie along the diagonal.",
    "Right of the dashed line the examples are ahead.",
    "By their selection, wrong questions can only gain and correct ones only lose;",
    "a line of rank correlations against the layer in a band, a dashed line at zero, and full markers at the layers "
    "that survive correction.",
}
