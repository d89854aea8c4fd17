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
NO_BROWSER = "there is no browser (Debian: apt-get install chromium)"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REDIRECT = 'http-equiv="Refresh"'  # the first page, which leads to the start
SHARED = "/_static/"
LIMIT = 1.5e6  # bytes of a page and its figures; what all pages share is loaded once
# Each colour at the width of a desk; the layout, with every fold open, at that of a phone too.
VIEWS = (("light", 1400), ("dark", 1400), ("light", 360))
SPILLS = """() => {
  const width = document.documentElement.clientWidth, found = [];
  const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  document.querySelectorAll("details").forEach((e) => (e.open = true));
  document.querySelectorAll("button.toggle-button-hidden").forEach((e) => e.click());
  if (document.documentElement.scrollWidth > width + 1) found.push("the page");
  for (const e of document.querySelectorAll(".bd-content *"))
    if (e.getClientRects().length && e.getBoundingClientRect().right > width + 1 && !scrolls(e))
      found.push(`${e.tagName.toLowerCase()} "${e.textContent.trim().slice(0, 40)}"`);
  return found;
}"""
# What a reader who scrolls to the end has fetched.
FETCH = """() => document.querySelectorAll("img[loading=lazy]").forEach((one) => {
  if (one.offsetParent) one.loading = "eager";
})"""
IMPACTS = ("serious", "critical")
RULES = ("heading-order", "page-has-heading-one", "empty-heading", "image-alt", "duplicate-id")  # whatever their impact


class _Links(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, text: str):
        super().__init__()
        self.targets, self.ids = [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.targets.append(given["href"])


def dead_links(pages: Path, base: str = "/") -> list[str]:
    """List links within the book, which is published at ``base``, that lead nowhere."""
    found = {
        page.relative_to(pages).as_posix(): _Links(page.read_text("utf-8"))
        for page in sorted(pages.rglob("*.html"))
        if "_static" not in page.parts
    }
    dead = []
    for name, links in found.items():
        for target in dict.fromkeys(links.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = posixpath.normpath(posixpath.join(base + posixpath.dirname(name), unquote(parts.path)))
            path = path.removeprefix(base) if parts.path else name
            if not (pages / path).is_file() or (path in found and unquote(parts.fragment) not in found[path].ids):
                dead.append(f"{name}: {target} leads nowhere")
    return dead


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
    """Open one page; say what is wrong with it, and after how many milliseconds its first content was there."""
    wrong, sizes = [], []
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 1000})
    page = context.new_page()

    def request(route):
        if route.request.url.startswith((home, "data:", "blob:")):
            return route.continue_()
        wrong.append(f"asks for {route.request.url}")
        return route.abort()

    page.route("**/*", request)
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
        wrong.append(f"is wider than the screen of {width} px: {', '.join(spilt[:3])}")
    context.close()
    if sum(sizes) > LIMIT:
        wrong.append(f"weighs {sum(sizes) / 1e6:.1f} MB, but at most {LIMIT / 1e6} was expected")
    return [f"{name}, {scheme}, {width} px: {problem}" for problem in dict.fromkeys(wrong)], first


def stuck(page) -> list[str]:
    """Move every slider of a page by the keys, and say which figure did not answer."""
    found = []
    for slider in page.locator(".geolib-figure input[type=range]").all():
        figure, name = (
            slider.locator("xpath=ancestor::*[contains(@class, 'geolib-figure')]"),
            slider.get_attribute("aria-label"),
        )
        before = figure.locator("p").inner_text()
        slider.press("Home")
        first = figure.locator("p").inner_text()
        slider.press("End")
        if before == first == figure.locator("p").inner_text():
            found.append(f"has a figure that does not answer the keys: slider {name!r}")
    return found


def _look_at(port: int, views: list, *, base: str, axe: str) -> list[tuple[list[str], float]]:
    """Look at some pages, one after the other, in a browser of their own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        found = [look(browser, f"http://127.0.0.1:{port}{base}", *view, axe) for view in views]
        browser.close()
    return found


def find_browser() -> str | None:
    """Say where the browser is."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def launch(playwright):
    """Start the browser."""
    return playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])


def check(root: Path = ROOT) -> int:
    """Look at every page; say with 1 that something is wrong."""
    pages = root / "book" / "_build" / "html"
    if not (pages / "index.html").is_file():
        raise BookError(f"there is no book in {pages}; run make book first")
    home = repository(root)
    base = urlsplit(home.pages).path if home else "/"
    wrong, waits = dead_links(pages, base), []
    names = [
        path.relative_to(pages).as_posix()
        for path in sorted(pages.rglob("*.html"))
        if "_static" not in path.parts and REDIRECT not in path.read_text("utf-8")
    ]
    if find_browser() is None or not AXE.is_file():
        lacks = NO_BROWSER if find_browser() is None else "there is no axe-core (npm)"
        wrong.append(f"{lacks}: only the links were looked at")
    else:
        server, looked = serve(pages, base), partial(_look_at, base=base, axe=AXE.read_text("utf-8"))
        views = [(name, scheme, width) for scheme, width in VIEWS for name in names]
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:  # a browser each
            shares = pool.map(partial(looked, server.server_address[1]), [views[i::workers] for i in range(workers)])
            for found, first in sorted(chain.from_iterable(shares), key=lambda one: one[0]):
                wrong, waits = wrong + found, [*waits, first]
        server.shutdown()
    if waits:
        print(f"first content after {sorted(waits)[len(waits) // 2]:.0f} ms in the median, {max(waits):.0f} at most")
    print("\n".join([*wrong, f"{len(names)} pages, light and dark, wide and narrow: {len(wrong)} things wrong"]))
    return int(bool(wrong))
