"""Compare the numbers on the pages of two builds of the book: python benchmarks/pages.py OLD_HTML NEW_HTML.

Of each page that differs, the numbers that are gone and those that are new, in its text and in its tables. Code, and
numbers inside figures, are left out. A minus is a minus however it is written.
"""

import argparse
import collections
import html
import re
from pathlib import Path

LEFT_OUT = re.compile(r'<(script|style|svg).*?</\1>|<div class="highlight.*?</pre>', re.DOTALL)
TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def numbers(page):
    """Count the numbers in a page's text, and in its tables."""
    text = page.read_text("utf-8")
    article = re.search(r"<article.*?</article>", text, re.DOTALL)
    text = LEFT_OUT.sub("", article[0] if article else text)
    for part in (TABLE.sub("", text), " ".join(TABLE.findall(text))):
        plain = html.unescape(re.sub(r"<[^>]+>", " ", part)).replace("\N{MINUS SIGN}", "-")
        yield collections.Counter(number.replace(",", "") for number in NUMBER.findall(plain))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    given = parser.parse_args()
    for page in sorted((given.old / "notebooks").rglob("*.html")):
        name = page.relative_to(given.old)
        if not (given.new / name).exists():
            print(f"{name}: gone")
            continue
        for where, old, new in zip(("text", "tables"), numbers(page), numbers(given.new / name), strict=True):
            gone, come = old - new, new - old
            if gone or come:
                left, added = (", ".join(counts.elements()) or "-" for counts in (gone, come))
                print(f"{name}, {where}: gone {left}; new {added}")


if __name__ == "__main__":
    main()
