"""The book's commands at the shell: each is a function of a module beside this one."""

import argparse
import sys
from functools import partial
from pathlib import Path

from . import alone, assignments, check, execute, home, pdf_epub, plain, render, slides
from .toc import ROOT, BookError


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    found = argparse.ArgumentParser(prog="python -m tools", description="The book's commands.")
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    def add(name, call, text):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this one)")
        command.set_defaults(call=call, command=name)
        return command

    build = add("build", render.build_book, "Execute the notebooks that need it, and render the book.")
    build.add_argument("--profile", choices=execute.PROFILES, default="quick", help="how much is measured")
    build.add_argument("--jobs", type=_count, default=2, help="notebooks executed at a time (default: 2)")
    pair = add("pair", plain.pair, "Write the paired notebooks that Colab opens.")
    pair.add_argument("--check", action="store_true", help="write nothing; exit 1 if one is stale")
    new = add("home", home.move, "Write the address of the repository everywhere that it stands.")
    new.add_argument("address", help="https://github.com/OWNER/NAME")
    add("check", check.check, "Look at the built book in a browser whose network is cut.")
    lone = add("alone", alone.alone, "Run notebooks as Colab does, with nothing else at hand.")
    lone.add_argument("notebooks", nargs="*", help="such as notebooks/start (default: all)")
    lone.add_argument("--ci", action="store_true", help="those that changed, and two drawn by the commit")
    tasks = add("assignments", assignments.assignments, "Make the assignments' zip.")
    tasks.add_argument("--check", action="store_true", help="run solutions and blanks")
    add("slides", slides.slides, "Make slides of each part of the built book.")
    for kind in ("pdf", "epub"):
        add(kind, partial(pdf_epub.make, kind=kind), f"Make one {kind.upper()} of the built book.")
    add("note", partial(pdf_epub.make, kind="note"), "Make a note of what the built book found: a PDF in two columns.")
    return found


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} was given, but an integer of at least 1 was expected")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; an error is printed as one line, without a traceback."""
    options = vars(parser().parse_args(arguments))
    call, command = options.pop("call"), options.pop("command")
    try:
        return call(**options | {"root": options["root"].resolve()}) or 0
    except (BookError, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{command}: stopped; what was finished is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
