"""Look at the built book as readers do, in a browser whose network is cut: every page, light and dark.

A page fails when it asks for anything that is not in the book, logs an error, breaks a link, is too large, holds a
slider that the keys do not move, or breaks a rule of axe (https://github.com/dequelabs/axe-core) of serious or critical
impact; and so do headings that skip a level, and what is wider than the screen, a desk's or a phone's, with no way to
scroll. Needs Chromium (Debian: ``apt-get install chromium``), or a browser that the variable CHROMIUM names.
"""

import http.server
import os
import posixpath
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .home import repository
from .toc import ROOT, BookError

AXE = ROOT / "book" / "node_modules" / "axe-core" / "axe.min.js"
NO_BROWSER, NO_AXE = "there is no browser (Debian: apt-get install chromium)", "there is no axe-core (npm)"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REDIRECT = 'http-equiv="Refresh"'  # the first page, which leads to the start
SHARED = "/_static/"
LIMIT = 1.5e6  # bytes of a page and its figures; what all pages share is loaded once
# Each colour at the width of a desk; the layout, with every fold open, at that of a phone too.
VIEWS = (("light", 1400), ("dark", 1400), ("light", 360))
SPILLS = Path(__file__).with_name("spills.js").read_text("utf-8")
# What a reader who scrolls to the end has fetched.
FETCH = "document.querySelectorAll('img[loading=lazy]').forEach((one) => one.offsetParent && (one.loading = 'eager'))"
IMPACTS = ("serious", "critical")
RULES = ("heading-order", "page-has-heading-one", "empty-heading", "image-alt", "duplicate-id")  # whatever their impact


class _Tags(HTMLParser):
    """The tags of a page with their attributes: in a seventh of the time that Beautiful Soup takes."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def dead_links(pages: Path, base: str = "/") -> list[str]:
    """List links within the book, which is published at ``base``, that lead nowhere."""
    dead, pages_tags = [], {name: _Tags(text).found for name, text in _texts(pages).items()}
    places = {name: {tag.get(key) for _, tag in tags for key in ("id", "name")} for name, tags in pages_tags.items()}
    for name, tags in pages_tags.items():
        for target in dict.fromkeys(tag["href"] for kind, tag in tags if kind == "a" and tag.get("href")):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = posixpath.normpath(posixpath.join(base + posixpath.dirname(name), unquote(parts.path)))
            path = path.removeprefix(base) if parts.path else name
            place = unquote(parts.fragment)
            if not (pages / path).is_file() or (place and path in places and place not in places[path]):
                dead.append(f"{name}: {target} leads nowhere")
    return dead


def _texts(pages: Path) -> dict[str, str]:
    """Read the pages, except those that the theme supplies."""
    found = {path.relative_to(pages).as_posix(): path for path in sorted(pages.rglob("*.html"))}
    return {name: path.read_text("utf-8") for name, path in found.items() if "_static" not in path.parts}


def serve(pages: Path, base: str = "/") -> http.server.ThreadingHTTPServer:
    """Serve the pages below ``base`` on a free port of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def translate_path(self, path):
            return super().translate_path(path.removeprefix(base.rstrip("/")) if path.startswith(base) else "/none")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=pages))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def look(browser, home: str, name: str, scheme: str, width: int, axe: str) -> tuple[list[str], float]:
    """Open one page; return what is wrong with it, and the milliseconds until its first content."""
    wrong, sizes = [], []
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 1000})
    page = context.new_page()

    def cut(route):
        wrong.append(f"asks for {route.request.url}")
        route.abort()

    page.route(lambda url: not url.startswith((home, "data:", "blob:")), cut)
    page.on("console", lambda message: wrong.append(f"logs {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(f"throws {error}"))

    def response(got):
        if got.status >= 400:
            wrong.append(f"gets {got.status} for {got.url}")
        if SHARED not in urlsplit(got.url).path:
            sizes.append(int(got.headers.get("content-length", 0)))

    page.on("response", response)
    page.goto(f"{home}{name}", wait_until="load")
    page.wait_for_function(
        "!window.MathJax || !MathJax.startup || !MathJax.startup.promise || MathJax.startup.promise.then(() => true)"
    )
    page.evaluate(FETCH)
    page.wait_for_load_state("networkidle")
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity")
    wrong += stuck(page)
    page.evaluate(axe)
    for broken in page.evaluate("axe.run().then(result => result.violations)"):
        if broken["impact"] in IMPACTS or broken["id"] in RULES:
            where = broken["nodes"][0]["html"][:160]
            wrong.append(f"axe, {broken['impact']}, {broken['id']} at {len(broken['nodes'])} places, such as {where}")
    if spilt := page.evaluate(SPILLS):  # last: it opens what is folded
        wrong.append("; ".join(spilt[:3]))
    context.close()
    if sum(sizes) > LIMIT:
        wrong.append(f"weighs {sum(sizes) / 1e6:.1f} MB, but at most {LIMIT / 1e6} was expected")
    return [f"{name}, {scheme}, {width} px: {problem}" for problem in dict.fromkeys(wrong)], first


def stuck(page) -> list[str]:
    """Move every slider of a page with the keys; list the figures that did not change."""
    found = []
    for slider in page.locator(".geolib-figure input[type=range]").all():
        said = slider.locator("xpath=ancestor::*[contains(@class, 'geolib-figure')]").locator("p")
        seen = {said.inner_text()}
        for key in ("Home", "End"):
            slider.press(key)
            seen.add(said.inner_text())
        if len(seen) == 1:
            found.append(f"has a figure that does not answer the keys: slider {slider.get_attribute('aria-label')!r}")
    return found


def _look_at(views: list, home: str, axe: str) -> list[tuple[list[str], float]]:
    """Look at some pages, one after the other, in a browser of their own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        found = [look(browser, home, *view, axe) for view in views]
        browser.close()
    return found


def find_browser() -> str | None:
    """Return the path of the browser; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def launch(playwright):
    """Start the browser."""
    return playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])


def check(root: Path = ROOT) -> int:
    """Look at every page; return 1 if something is wrong."""
    pages = root / "book" / "_build" / "html"
    if not (pages / "index.html").is_file():
        raise BookError(f"there is no book in {pages}; run make book first")
    home = repository(root)
    base = urlsplit(home.pages).path if home else "/"
    wrong, waits = dead_links(pages, base), []
    names = [name for name, text in _texts(pages).items() if REDIRECT not in text]
    if find_browser() is None or not AXE.is_file():
        wrong.append(f"{NO_AXE if find_browser() else NO_BROWSER}: only the links were looked at")
    else:
        server = serve(pages, base)
        views = [(name, scheme, width) for scheme, width in VIEWS for name in names]
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:  # a browser each
            looked = partial(_look_at, home=f"http://127.0.0.1:{server.server_port}{base}", axe=AXE.read_text("utf-8"))
            shares = pool.map(looked, [views[i::workers] for i in range(workers)])
            for found, first in sorted(chain.from_iterable(shares)):
                wrong, waits = wrong + found, [*waits, first]
        server.shutdown()
    if waits:
        print(f"first content after {sorted(waits)[len(waits) // 2]:.0f} ms in the median, {max(waits):.0f} at most")
    print("\n".join([*wrong, f"{len(names)} pages, light and dark, wide and narrow: {len(wrong)} things wrong"]))
    return int(bool(wrong))
