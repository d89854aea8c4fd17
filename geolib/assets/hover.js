// Tells of the region under the pointer, or of the one the keys have walked to. maps[i] = [slope 1, slope 2, offset].
(root, { maps, active, neurons, areas }) => {
  const svg = root.querySelector("svg"), said = root.querySelector("p"), mark = root.querySelector(".geolib-mark");
  const cells = [...root.querySelectorAll(".geolib-cells path")];
  const corners = cells.map((cell) => cell.getAttribute("d").match(/[\d.]+/g).map(Number));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const centres = corners.map((xy) => [mean(xy.filter((_, k) => k % 2 === 0)), mean(xy.filter((_, k) => k % 2))]);
  const digits = (value) => String(Number(Math.abs(value).toPrecision(4)));
  const term = (value, name) => `${value < 0 ? "−" : "+"} ${digits(value)}${name}`;
  const largest = areas.indexOf(Math.max(...areas));
  let here = largest;

  const show = (i) => {
    here = i;
    mark.setAttribute("d", cells[i].getAttribute("d"));
    const [first, second, offset] = maps[i];
    const f = `${term(first, " x₁")} ${term(second, " x₂")} ${term(offset, "")}`.replace(/^\+ /, "").replace(/^− /, "−");
    said.textContent = `Region ${i + 1} of ${cells.length}: f(x) = ${f}. ` +
      `${active[i]} of ${neurons} neurons active, area ${digits(areas[i])}.`;
  };

  // The region whose centre is nearest, among those within 45 degrees of the arrow; where there is none, stay.
  const beside = (dx, dy) => {
    let best = here, least = Infinity;
    centres.forEach(([x, y], i) => {
      const [u, v] = [x - centres[here][0], y - centres[here][1]];
      const along = u * dx + v * dy, across = Math.abs(u * dy - v * dx);
      if (along > across && along + across < least) [best, least] = [i, along + across];
    });
    return best;
  };
  const keys = {
    ArrowLeft: () => beside(-1, 0), ArrowRight: () => beside(1, 0), ArrowUp: () => beside(0, -1),
    ArrowDown: () => beside(0, 1), Home: () => largest,
    PageDown: () => (here + 1) % cells.length, PageUp: () => (here + cells.length - 1) % cells.length,
  };

  const point = (event) => {
    const i = cells.indexOf(event.target);
    if (i >= 0) show(i);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("focus", () => {
    if (svg.matches(":focus-visible")) show(here); // by keyboard: a pointer chooses its own
  });
  svg.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(keys[event.key]());
  });
  svg.setAttribute("role", "application"); // so that a screen reader lets the arrow keys through
  svg.tabIndex = 0;
  said.textContent = "Point at a region or tap it; or focus the figure and walk with the arrow keys.";
}
