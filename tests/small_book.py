"""A book of two small notebooks, laid out as the real one is."""

import shutil
from pathlib import Path

from tools.__main__ import main

ROOT = Path(__file__).resolve().parent.parent

HEADER = """---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
{extra}---

"""
FIRST = """# First

A figure ({numref}`fig-one`), a result {cite:p}`zaslavsky1975facing`, {doc}`second` and [the second](second.md).

```{code-cell}
:tags: [parameters]

profile = "none"
```

```{code-cell}
import os, sys
print(profile, os.listdir(), os.environ["OMP_NUM_THREADS"])
```

```{code-cell}
---
mystnb:
  image:
    alt: A red square
  figure:
    name: fig-one
    caption: A square, as in {eq}`eq-one`.
---
import base64
from IPython.display import Image
Image(base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"))
```
"""
SECOND = """# Second

$$
x^2
$$ (eq-one)

{prf:ref}`thm` is {numref}`ex`.

```{prf:theorem}
:label: thm

True.
```

```{exercise}
:label: ex

Prove it.
```

```{solution} ex
:class: dropdown

Done.
```

```{quiz}
What is $1 + 1$?

- [ ] 1
  One is left over.
- [x] 2
  See {eq}`eq-one`.
```

```{code-cell}
1 + 1
```
"""


def lay_out(folder):
    """Write the book into a folder."""
    book = folder / "book"
    book.mkdir()
    for name in ("_config.yml", "references.bib", "bibliography.md", "execution-times.md", "repository.yml"):
        shutil.copy(ROOT / "book" / name, book)
    shutil.copytree(ROOT / "book" / "_static", book / "_static")
    (folder / "constraints.txt").write_text("numpy==2.4.6\n")
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: notebooks/first\nparts:\n- caption: Part I\n  numbered: true\n"
        "  chapters: [{file: notebooks/second}]\n"
        "- caption: Appendices\n  chapters: [{file: execution-times}, {file: bibliography}]\n"
    )
    (folder / "notebooks").mkdir()
    write(folder, first=FIRST, second=SECOND)


def write(root, extra="", **texts):
    for name, text in texts.items():
        (root / "notebooks" / f"{name}.md").write_text(HEADER.format(extra=extra) + text, encoding="utf-8")
    assert main(["pair", "--root", str(root)]) == 0
