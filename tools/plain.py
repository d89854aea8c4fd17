"""Write, beside each notebook's MyST source, the ``.ipynb`` that Colab opens: plain Markdown, no outputs.

Colab shows a MyST directive as a raw fence, so each one that the book uses has a plain rendering here, and one
that has none stops the command. Figures, theorems, exercises and equations carry the numbers of the built book.

What only Colab needs is added: a button, a cell that installs the package, and a form for the parameters. Their
addresses, and those in the README, come from ``book/repository.yml``.
"""

import ast
import hashlib
import json
import posixpath
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from geolib.dimension.rules import RULES

from . import quiz
from .home import SETUP, readme, repository, setup_cell
from .toc import ROOT, BookError, chapters, files, read, read_yaml

ADMONITIONS = ("note", "tip", "hint", "important", "warning", "caution", "attention", "danger", "error", "seealso")
TITLES = {"seealso": "See also", "prf:proof": "Proof"}  # of the others it is the name
DIRECTIVE = re.compile(r"\{([^}\s]+)\}\s*(.*)")
# Escapes, code spans and mathematics come first: what looks like a role or a link inside them is neither.
INLINE = re.compile(
    r"\\."
    r"|\{(?P<role>[\w:+-]+)\}(?P<tick>`+)(?P<content>.+?)(?<!`)(?P=tick)(?!`)"
    r"|(?P<code>`+)(?!`).+?(?<!`)(?P=code)(?!`)"
    r"|\$\$.+?\$\$|\$[^$]+\$"
    r"|\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)",
    re.DOTALL,
)
FORMS = {"hide-input", "parameters"}
CHOICES = {"profile": ["quick", "full"], "rule": list(RULES)}


class Label(NamedTuple):
    """What a reference can point at: ``Label("notebooks/a", "Fig.", "1.2", "The caption")``."""

    doc: str
    kind: str
    number: str
    title: str


def form(source: str) -> str:
    """Turn assignments into fields of a Colab form; other statements stay as they are."""
    lines, kinds = source.split("\n"), {bool: "boolean", int: "integer", float: "number", str: "string"}
    for node in reversed(ast.parse(source).body):
        if not isinstance(node, ast.Assign) or len(node.targets) > 1 or node.lineno != node.end_lineno:
            continue
        line = lines[node.lineno - 1]
        value, comment = line[: node.end_col_offset], line[node.end_col_offset :].strip(" #")
        try:
            name, literal = node.targets[0].id, ast.literal_eval(node.value)
        except (AttributeError, ValueError):
            continue
        kind = json.dumps(CHOICES[name]) if name in CHOICES else f'{{type:"{kinds.get(type(literal), "raw")}"}}'
        field = f"{value}  # @param {kind}"
        lines[node.lineno - 1 : node.lineno] = [f"# @markdown `{name}`: {comment}", field] if comment else [field]
    return "\n".join(["# @title Settings: change them here, then run the cell", *lines])


class Pairs:
    """The paired notebooks of a book, rendered from the sources under ``root/notebooks``."""

    def __init__(self, root: Path = ROOT):
        from markdown_it.renderer import RendererHTML
        from myst_parser.config.main import MdParserConfig
        from myst_parser.parsers.mdit import create_md_parser
        from sphinx_proof.proof_type import PROOF_TYPES

        config = read_yaml(root / "book" / "_config.yml")
        extensions = set(config["parse"]["myst_enable_extensions"])
        self.parse = cache(create_md_parser(MdParserConfig(enable_extensions=extensions), RendererHTML).parse)
        self.root, self.chapters, self.citations = root, chapters(root), _citations(root)
        self.home = repository(root)
        sources = [path for path in files(root / "notebooks") if path.suffix == ".md"]
        names = {path.relative_to(root).with_suffix("").as_posix() for path in sources}
        in_toc = [name for name in self.chapters if name in names]
        self.docs = in_toc + sorted(names - set(in_toc))  # the order in which the book numbers its figures
        self.labels, self.titles = {}, {}
        for page in (root / "book").glob("*.md"):  # notebooks may refer to them and to their labelled sections
            self.doc = page.stem
            headings = re.findall(r"^(?:\((.+)\)=\n+)?(#+) (.+)$", page.read_text("utf-8"), re.MULTILINE)
            for label, level, title in reversed(headings):  # the first is the title, and code may hold other #
                self._heading(title, f"h{len(level)}", label)
        self.doc, self.final = "", False
        self.numbered = {f"prf:{kind}" for kind in PROOF_TYPES} | {"exercise", "exercise-start"}

    def render(self) -> dict[Path, str]:
        """Render every source: ``{path of the .ipynb: its text}``."""
        # The first pass finds the labels and their numbers; the second can refer to any of them.
        for final in (False, True):
            self.final, self.counts, texts = final, Counter(), {}
            for doc in self.docs:
                self.doc = doc
                texts[self.root / f"{doc}.ipynb"] = self._notebook()
        return texts

    def plain(self, text: str) -> str:
        """Render MyST as plain Markdown."""
        lines, edits = text.split("\n"), {}
        target = None  # the label of a (label)= line, until the block that it names
        tokens = self.parse(text)
        for opening, token in zip([None, *tokens], tokens, strict=False):
            if token.type == "dd_open":  # a definition list, which plain Markdown lacks, becomes a bullet list
                lines[token.map[0]] = lines[token.map[0]].replace(":", " ", 1)
            if token.type == "myst_target":
                self._label(token.content, "", "", "")
            start, end = token.map or (0, 0)
            end = max(end, start + 1)
            if token.type in ("myst_target", "myst_line_comment"):
                new = None
            elif token.type in ("fence", "colon_fence") and (match := DIRECTIVE.fullmatch(token.info.strip())):
                new = _placed(self._directive(*match.groups(), token.content), lines, start, end)
            elif token.type == "math_block_label":
                new = _placed(self._equation(token.content, token.info), lines, start, end)
            elif token.type == "inline":
                new = self._inline("\n".join(lines[start:end]))
                if opening.type == "heading_open":
                    self._heading(self._inline(token.content), opening.tag, target)
                elif opening.type == "dt_open":
                    new = f"- **{new}**"
            else:
                continue
            target = token.content if token.type == "myst_target" else None
            edits[start] = (end, new)
        for start, (end, new) in sorted(edits.items(), reverse=True):
            if new is None and not "".join(lines[max(start - 1, 0) : start]).strip():
                end += not "".join(lines[end : end + 1]).strip()  # what vanishes leaves one blank line, not two
            lines[start:end] = [] if new is None else new.split("\n")
        result = "\n".join(lines).strip("\n")
        for token in self.parse(result):
            self._refuse(token)
        return result

    def _notebook(self) -> str:
        """Render the source of ``self.doc`` as the text of its paired notebook."""
        import nbformat
        from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

        cells = []
        for cell in read(self.root / f"{self.doc}.md").cells:
            if cell.cell_type == "code":
                tags = cell.metadata.get("tags", [])
                metadata = ({"tags": tags} if tags else {}) | ({"cellView": "form"} if FORMS & set(tags) else {})
                if "hide-input" in tags:  # what the book folds is folded in Jupyter and Colab too
                    metadata["jupyter"] = {"source_hidden": True}
                source = form(cell.source) if "parameters" in tags else cell.source
                cells.append(new_code_cell(source, metadata=metadata))
                figure = cell.metadata.get("mystnb", {}).get("figure", {})
                if "caption" in figure:
                    cells.append(new_markdown_cell(self._caption("Fig.", figure["caption"], figure.get("name"))))
            elif source := self.plain(cell.source):
                cells.append(new_markdown_cell(source))
        if self.home:  # a button under the title, and the cell that installs before all other code
            if not cells or cells[0].cell_type != "markdown":
                cells.insert(0, new_markdown_cell(""))
            title, _, rest = cells[0].source.partition("\n")
            cells[0].source = f"{title}\n\n{self.home.button(f'{self.doc}.ipynb')}\n{rest}".strip()
            cells.insert(1, new_code_cell(setup_cell(self.home), metadata={"tags": [SETUP], "cellView": "form"}))
        seen = Counter()
        for cell in cells:
            content = f"{cell.cell_type}\n{cell.source}"
            seen[content] += 1
            cell.id = hashlib.sha256(f"{content}\n{seen[content]}".encode()).hexdigest()[:12]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        return nbformat.writes(new_notebook(cells=cells, metadata={"kernelspec": kernel})) + "\n"

    # Blocks

    def _directive(self, name: str, argument: str, content: str) -> str | None:
        """Render one directive; ``content`` still begins with its options."""
        from docutils.parsers.rst.directives.misc import TestDirective  # MyST lets it have any option
        from myst_parser.parsers.directives import parse_directive_text

        found = parse_directive_text(TestDirective, "", content)
        options, body = found.options, "\n".join(found.body)
        folded = "dropdown" in str(options.get("class", "")).split()
        label = options.get("label") or options.get("name")
        if name in (*ADMONITIONS, "prf:proof"):
            return _box(f"{TITLES.get(name, name.capitalize())}.", self.plain(f"{argument}\n{body}"), folded)
        if name in ("admonition", "dropdown"):
            return _box(self._inline(argument), self.plain(body), folded or name == "dropdown")
        if name in self.numbered:
            kind = name.removeprefix("prf:").removesuffix("-start").capitalize()
            number = "" if "nonumber" in options else self._number(kind)
            heading, title = f"{kind} {number}".strip(), self._inline(argument)
            self._label(label, kind, number, title)
            return _box(f"{heading} ({title})." if title else f"{heading}.", self.plain(body), folded)
        if name in ("solution", "solution-start"):
            title = f"Solution to {self._reference('ref', argument, None)}"
            body = self.plain(body)
            # A fold cannot span cells: between solution-start and solution-end, cells tagged hide-input are shut.
            return _box(title, body, True) if name == "solution" else f"**{title}.**\n\n{body}".strip()
        if name in ("exercise-end", "solution-end"):
            return None
        if name == "math":
            return self._equation(f"{argument}\n{body}", label)
        if name in ("figure", "image"):
            image = f"![{options.get('alt', '')}]({argument})"
            return f"{image}\n\n{self._caption('Fig.', body, label)}" if name == "figure" and body.strip() else image
        if name == "table":
            return f"{self._caption('Table', argument, label)}\n\n{self.plain(body)}"
        if name == "quiz":
            return self._quiz(body)
        if name == "code-block":
            return f"```{argument}\n{body.rstrip()}\n```"
        raise self._error(f"directive {{{name}}} has no plain Markdown rendering in tools/plain.py")

    def _quiz(self, body: str) -> str:
        """Render each question with its options as a list, and the explanations in a fold."""
        try:
            questions = quiz.read(body)
        except BookError as error:
            raise self._error(f"quiz: {error}") from None
        shown = ["**Self-test**"]
        for number, question in enumerate(questions, 1):
            options = list(zip("ABCDEFGH", question.options, strict=False))
            shown.append(f"{number}. {self._inline(question.text)}")
            shown.append("\n".join(f"   - {letter}: {self._inline(option.text)}" for letter, option in options))
            said = (f"- {letter}: {'right' if o.right else 'no'}. {self._inline(o.why)}" for letter, o in options)
            shown.append(_box("Answer", "\n".join(said), True))
        return "\n\n".join(shown)

    def _equation(self, content: str, label: str | None) -> str:
        tag = ""
        if label:
            number = self._number("Equation")
            self._label(label, "Equation", number, f"({number})")
            tag = f"\n\\tag{{{number}}}"
        return f"$$\n{content.strip()}{tag}\n$$"

    def _caption(self, kind: str, text: str, label: str | None) -> str:
        text = " ".join(self.plain(text).split())
        number = self._number(kind)
        self._label(label, kind, number, text)
        return f"*{kind} {number}. {text}*"

    def _number(self, kind: str) -> str:
        """Count as Sphinx does: per chapter, and through all the pages that are in none."""
        chapter = self.chapters.get(self.doc, "")
        self.counts[chapter, kind] += 1
        return f"{chapter}.{self.counts[chapter, kind]}".lstrip(".")

    def _label(self, label: str | None, *what: str) -> None:
        if label:
            self.labels[label] = Label(self.doc, *what)

    # Inside a line

    def _inline(self, text: str) -> str:
        """Render the roles and the links between documents in a run of text."""
        return INLINE.sub(self._replace, text)

    def _replace(self, match: re.Match) -> str:
        if match["role"]:
            content = match["content"].strip()
            titled = re.fullmatch(r"(.+?)\s*<([^<>]+)>", content, re.DOTALL)
            text, target = titled.groups() if titled else (None, content)
            return self._role(match["role"], text, target, content)
        if match["target"] is None:
            return match[0]
        role = "ref" if match["target"].startswith("#") else "doc"
        return self._role(role, match["text"] or None, match["target"].removeprefix("#"), "")

    def _role(self, role: str, text: str | None, target: str, content: str) -> str:
        if role in ("eq", "ref", "numref", "prf:ref"):
            return self._reference(role, target, text)
        if role in ("cite", "cite:p", "cite:t"):
            return self._cite(content, in_text=role == "cite:t")
        if role == "doc":
            return f"[{text or self._title(target)}]({self._path(target)})"
        if role == "term":
            return text or target
        if role == "math":
            return f"${content}$"
        raise self._error(f"role {{{role}}} has no plain Markdown rendering in tools/plain.py")

    def _reference(self, role: str, target: str, text: str | None) -> str:
        if self.final and target not in self.labels:
            raise self._error(f"reference to {target!r}, which no source and no page defines")
        label = self.labels.get(target, Label(self.doc, "", "", "?"))
        named = f"{label.kind} {label.number}".strip()
        if text is None:
            by_title = role == "ref" and label.kind in ("", "Fig.", "Table")
            text = label.title if by_title or label.kind == "Equation" else named
        else:
            text = text.replace("%s", label.number).replace("{number}", label.number)
        if not text and self.final:
            raise self._error(f"reference to {target!r}, which has no title: write {{ref}}`text <{target}>`")
        return text if label.doc == self.doc else f"[{text}]({self._path('/' + label.doc)})"

    def _cite(self, keys: str, *, in_text: bool) -> str:
        cited = []
        for key in re.split(r"\s*,\s*", keys):
            if key not in self.citations:
                raise self._error(f"citation {key!r} is not in book/references.bib")
            authors, year, url = self.citations[key]
            text = f"{authors} ({year})" if in_text else f"{authors}, {year}"
            cited.append(f"[{text}]({url})" if url else text)
        return ", ".join(cited) if in_text else f"({'; '.join(cited)})"

    # Other documents

    def _docname(self, target: str) -> str:
        """Name the document at ``target``, which is relative to this one's place in the book, or absolute."""
        path = posixpath.join("/", posixpath.dirname(self.doc), target.split("#")[0])
        return re.sub(r"\.(md|ipynb)$", "", posixpath.normpath(path).lstrip("/"))

    def _path(self, target: str) -> str:
        """Point a link at a file of the repository: a paired notebook, a page of the book, or any other file."""
        if re.match(r"[a-z]+:", target):
            return target
        name, here = self._docname(target), posixpath.dirname(self.doc)
        if name in self.docs:
            return posixpath.relpath(f"{name}.ipynb", here)
        if (self.root / "book" / f"{name}.md").is_file():
            return posixpath.relpath(f"book/{name}.md", here)
        if (self.root / here / target).is_file():
            return target
        raise self._error(f"link to {target!r}, which is neither a document nor a file")

    def _heading(self, title: str, tag: str, label: str | None) -> None:
        self._label(label, "", "", title)
        if tag == "h1":
            self.titles[self.doc] = title

    def _title(self, target: str) -> str:
        name = self._docname(target)
        if self.final and name not in self.titles:
            raise self._error(f"link to {target!r}, which has no title")
        return self.titles.get(name, "?")

    # Refusals

    def _refuse(self, token) -> None:
        """Refuse what would show as raw MyST in Colab."""
        if token.type in ("fence", "colon_fence") and (token.type[0] == "c" or DIRECTIVE.match(token.info.strip())):
            raise self._error(f"directive {token.info.strip()} has no plain Markdown rendering in tools/plain.py")
        if token.type == "amsmath" and token.meta["numbered"] != "*":
            raise self._error("a numbered amsmath environment: star it, or put it into a labelled $$ ... $$ (label)")
        for part in (token, *(token.children or ())):
            kind = part.type.split("_")[0]
            if kind in ("footnote", "substitution"):
                raise self._error(f"a {kind} has no plain Markdown rendering: write it out in the text")
            if part.type == "myst_role":
                raise self._error(f"role {{{part.meta['name']}}} could not be read: is a $ before it unescaped?")

    def _error(self, message: str) -> BookError:
        return BookError(f"{self.doc}.md: {message}")


def _box(title: str, body: str, folded: bool) -> str:
    """Set a body under its title: a blockquote, or a fold that opens."""
    if folded:
        return f"<details>\n<summary>{title.rstrip('.')}</summary>\n\n{body}\n\n</details>"
    text = f"**{title}**\n\n{body}".strip()
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def _placed(new: str | None, lines: list[str], start: int, end: int) -> str | None:
    """Put a block where lines start to end were: behind the same list or quote marker, between blank lines."""
    if new is None:
        return None
    first = re.match(r".*?(?=[`~:$]{2})", lines[start])[0]
    rest = re.sub(r"[^>\s]", " ", first)
    placed = [first + new.split("\n")[0], *((rest + line).rstrip() for line in new.split("\n")[1:])]
    if start > 0 and lines[start - 1].strip(" >"):
        placed.insert(0, rest.rstrip())
    if end < len(lines) and lines[end].strip(" >"):
        placed.append(rest.rstrip())
    return "\n".join(placed)


def _citations(root: Path) -> dict[str, tuple[str, str, str]]:
    """Read references.bib: ``{key: (authors, year, address)}``."""
    bibliography = root / "book" / "references.bib"
    if not bibliography.exists():
        return {}
    from pybtex.database import parse_file

    cited, links = {}, {"doi": "https://doi.org/{}", "eprint": "https://arxiv.org/abs/{}", "url": "{}"}
    for key, entry in parse_file(str(bibliography), "bibtex").entries.items():
        names = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
        authors = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        url = next((link.format(entry.fields[name]) for name, link in links.items() if name in entry.fields), "")
        cited[key] = (authors, entry.fields["year"], url)
    return cited


def stale(root: Path = ROOT) -> tuple[dict[Path, str], list[Path]]:
    """Find the paired notebooks to write, ``{path: text}``, and those whose source is gone."""
    texts = Pairs(root).render()
    notebooks = set(texts)
    if home := repository(root):
        texts |= readme(root, home)
    old = {path: text for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text}
    return old, [path for path in files(root / "notebooks") if path.suffix == ".ipynb" and path not in notebooks]


def pair(root: Path = ROOT, check: bool = False) -> int:
    """Write the paired notebooks that are missing or stale, or only name them; return 1 if something is wrong."""
    old, orphans = stale(root)
    for path, text in old.items():
        print(f"{path.relative_to(root)}: {'stale' if check else 'written'}")
        if not check:
            path.write_text(text, encoding="utf-8")
    for path in orphans:
        print(f"{path.relative_to(root)}: has no source beside it")
    return int(bool(orphans or (check and old)))
