// Says what is wider than the screen and cannot be scrolled, and which caption is hidden; every fold is opened first.
() => {
  const width = document.documentElement.clientWidth, found = [];
  const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  document.querySelectorAll("details").forEach((e) => (e.open = true));
  document.querySelectorAll("button.toggle-button-hidden").forEach((e) => e.click());
  if (document.documentElement.scrollWidth > width + 1) found.push("the page is wider than the screen");
  for (const e of document.querySelectorAll(".bd-content *"))
    if (e.getClientRects().length && e.getBoundingClientRect().right > width + 1 && !scrolls(e))
      found.push(`${e.tagName.toLowerCase()} "${e.textContent.trim().slice(0, 40)}" is wider than the screen`);
  for (const e of document.querySelectorAll(".bd-content figcaption"))
    if (getComputedStyle(e).display === "none") found.push(`a caption is hidden: "${e.textContent.trim().slice(0, 40)}"`);
  return found;
}
