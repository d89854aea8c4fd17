// Cuts the window by a ReLU network again at each move of a slider, or of the red line, which is the first neuron's.
// layers = [[weights, biases], ...], all neurons that the sliders can bring in; window = [[x0, x1], [y0, y1]].
(root, { layers, window, shades }) => {
  const sliders = [...root.querySelectorAll("input")], [neurons, second, scale, angle, distance] = sliders;
  const svg = root.querySelector("svg svg"), cells = root.querySelector(".geolib-cells"), said = root.querySelector("p");
  const lines = root.querySelectorAll(".geolib-mark"), dots = root.querySelectorAll("circle");
  const [[left, right], [low, high]] = window, centre = [(left + right) / 2, (low + high) / 2];
  const reach = Math.min(right - left, high - low) / 2; // of the slider with the distance, to both sides
  const mine = layers[0][0][0], size = Math.hypot(...mine);

  // An affine function on the plane is [slope, slope, offset, terms]. The last is as large as the terms that were added
  // to get it can be in the window: a value below a trillionth of that is a rounding error, and counts as 0.
  const affine = (W, b, inputs) => W.map((row, i) => {
    const f = [0, 0, b[i], Math.abs(b[i])];
    for (let j = 0; j < row.length; j += 1) {
      for (let k = 0; k < 3; k += 1) f[k] += row[j] * inputs[j][k];
      f[3] += Math.abs(row[j]) * inputs[j][3];
    }
    return f;
  });
  // Splits a convex polygon where a function is 0, if it has both signs there. A neuron is active where it exceeds 0.
  const split = ({ corners, active }, [p, q, r, terms]) => {
    const values = corners.map(([x, y]) => p * x + q * y + r).map((v) => (Math.abs(v) > 1e-12 * terms ? v : 0));
    const [above, below] = [values.some((v) => v > 0), values.some((v) => v < 0)];
    if (!(above && below)) return [{ corners, active: [...active, above] }];
    const side = (sign) => corners.flatMap(([x, y], i) => {
      const j = (i + 1) % corners.length, [v, w] = [values[i], values[j]], t = v / (v - w);
      const crossing = [x + t * (corners[j][0] - x), y + t * (corners[j][1] - y)];
      return [...(sign * v >= 0 ? [[x, y]] : []), ...(Math.sign(v) * Math.sign(w) < 0 ? [crossing] : [])];
    });
    return [1, -1].map((sign) => ({ corners: side(sign), active: [...active, sign > 0] }));
  };
  // The regions in a window: corners, and the active neurons of each layer. On a region of the layers before, the next
  // layer is affine, and cuts it along lines; of the region's functions, a silent neuron passes on 0.
  const cut = (layers, [[x0, x1], [y0, y1]]) => layers.reduce((regions, [W, b]) => regions.flatMap((region) => {
    const rows = affine(W, b, region.inputs), whole = { corners: region.corners, active: [] };
    return rows.reduce((parts, row) => parts.flatMap((part) => split(part, row)), [whole]).map(({ corners, active }) => ({
      corners, pattern: [...region.pattern, active], inputs: rows.map((row, i) => (active[i] ? row : [0, 0, 0, 0])),
    }));
  }), [{
    corners: [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], pattern: [],
    inputs: [[1, 0, 0, Math.max(-x0, x1)], [0, 1, 0, Math.max(-y0, y1)]],
  }]);
  // The most regions of n and then m neurons in the plane (Serra et al. 2018); with m = 0, 1 + n + n (n - 1) / 2.
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const choose = (n, most) => [1, n, n * (n - 1) / 2].slice(0, most + 1);
  const ceiling = (n, m) => sum(choose(n, 2).map((ways, j) => ways * sum(choose(m, Math.min(2, n - j)))));

  // The red line leads through two grips, points of the plane; its neuron is active to the right of the way from the
  // first to the second. Two sliders have its angle and its distance from the centre; no bias scale moves it.
  let grips;
  const place = (turn, apart) => {
    const [c, s] = [Math.cos(turn), Math.sin(turn)], foot = [centre[0] + apart * c, centre[1] + apart * s];
    grips = [-0.5, 0.5].map((part) => [foot[0] - part * reach * s, foot[1] + part * reach * c]);
  };
  const normal = () => {
    const [[x0, y0], [x1, y1]] = grips, length = Math.hypot(x1 - x0, y1 - y0);
    return [(y1 - y0) / length, (x0 - x1) / length];
  };
  const turn = () => Math.atan2(...normal().reverse());
  const apart = () => sum(normal().map((value, k) => value * (grips[0][k] - centre[k])));

  // The layers as the sliders and the red line have them.
  const shown = () => {
    const [n, m, factor] = [Number(neurons.value), Number(second.value), scale.value / 10];
    const some = ([W, b], rows, columns) =>
      [W.slice(0, rows).map((row) => row.slice(0, columns)), b.slice(0, rows).map((value) => factor * value)];
    const [W, b] = some(layers[0], n, 2);
    W[0] = normal().map((value) => size * value);
    b[0] = -sum(W[0].map((value, k) => value * grips[0][k]));
    return [[W, b], ...(m > 0 ? [some(layers[1], m, n)] : [])];
  };
  const [wide, tall] = [svg.width, svg.height].map((length) => length.baseVal.value);
  const pixel = ([x, y]) => [(x - left) / (right - left) * wide, (high - y) / (high - low) * tall];
  const path = (points) => `M${points.map((point) => pixel(point).map((value) => value.toFixed(1)).join(" ")).join("L")}`;
  const show = () => {
    const now = shown(), regions = cut(now, window);
    const counts = regions.map(({ pattern }) => pattern.flat().filter(Boolean).length);
    const least = Math.min(...counts), span = Math.max(1, Math.max(...counts) - least);
    cells.replaceChildren(...regions.map(({ corners }, i) => {
      const cell = document.createElementNS(svg.namespaceURI, "path");
      cell.setAttribute("d", `${path(corners)}Z`);
      cell.setAttribute("fill", shades[Math.round(14 * (counts[i] - least) / span) + (span > 7) * 3 * (counts[i] % 2)]);
      return cell;
    }));
    const beyond = grips.map((grip, k) => grip.map((value, axis) => value + 99 * (value - grips[1 - k][axis])));
    lines.forEach((line) => line.setAttribute("d", path(beyond)));
    dots.forEach((dot, k) => pixel(grips[k]).forEach((value, axis) => dot.setAttribute(["cx", "cy"][axis], value)));
    angle.value = (turn() * 180 / Math.PI + 360) % 360;
    distance.value = 40 + 40 * apart() / reach;

    // In one layer, a line adds 1, and 1 more for each point where it crosses lines before it.
    const [n, m] = now.map(([, b]) => b.length).concat(0), count = `${regions.length} regions`;
    const different = (of) => new Set(regions.map(({ pattern }) => of(pattern[0]))).size;
    const folds = sum(now[0][0].map((_, i) => different((active) => active[i]) - 1));
    const [factor, far] = [(scale.value / 10).toFixed(1), apart().toFixed(2).replace("-", "−")];
    said.firstChild.textContent = count;
    said.lastChild.textContent = (now.length > 1
      ? `; the first layer alone makes ${different(String)}. ${n} + ${m} neurons`
      : `: 1 + ${folds} lines in the window + ${regions.length - 1 - folds} crossings. ${n} neurons`) +
      ` can make at most ${ceiling(n, m).toLocaleString("en")}. Biases ×\u00a0${factor}; red line at ${angle.value}°, ${far} from the centre.`;
    [n, m, `× ${factor}`, `${angle.value}°`, far].forEach((value, k) => (
      sliders[k].setAttribute("aria-valuetext", `${value}: ${count}`)));
  };

  sliders.forEach((slider) => slider.addEventListener("input", () => {
    if (slider === angle) place(angle.value * Math.PI / 180, apart());
    if (slider === distance) place(turn(), (distance.value / 40 - 1) * reach);
    show();
  }));
  // The line is dragged as it is, a grip about the other one. The slider that has the keys afterwards does the same.
  const point = ({ clientX, clientY }) => {
    const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(cells.getScreenCTM().inverse());
    return [left + Math.min(1, Math.max(0, x / wide)) * (right - left), high - Math.min(1, Math.max(0, y / tall)) * (high - low)];
  };
  [...dots, lines[1]].forEach((handle, held) => {
    let last = null;
    // Inside an SVG, Chromium does not heed touch-action: without this a finger scrolls the page.
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      handle.setPointerCapture(event.pointerId);
      (held < 2 ? angle : distance).focus({ preventScroll: true });
      last = point(event);
    });
    handle.addEventListener("pointermove", (event) => {
      if (!last) return;
      const here = point(event), step = here.map((value, k) => value - last[k]);
      const moved = grips.map((grip, k) => (held === 2 || held === k ? grip.map((value, axis) => value + step[axis]) : grip));
      if (Math.hypot(...moved[0].map((value, k) => value - moved[1][k])) < reach / 20) return; // they have to differ
      [grips, last] = [moved, here];
      show();
    });
    handle.addEventListener("lostpointercapture", () => {
      last = null;
      place(turn(), apart()); // both grips in reach again
      show();
    });
  });
  place(Math.atan2(mine[1], mine[0]), -(layers[0][1][0] + sum(mine.map((w, k) => w * centre[k]))) / size);
  root.querySelector(".geolib-controls").hidden = false;
  root.live = { cut, ceiling, shown }; // for those who check it
  show();
}
