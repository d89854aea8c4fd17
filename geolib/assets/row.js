// One row of attention, the softmax of the first scores times a factor, and what each rule counts in it. eps are the
// thresholds of the slider; the panel spans powers of 10.
(root, { scores, eps, span }) => {
  const [length, scale, threshold, sorted] = root.querySelectorAll("input"), sliders = [length, scale, threshold];
  const svg = root.querySelector("svg svg"), bars = root.querySelectorAll(".geolib-bars"), said = root.querySelector("p");
  const lines = root.querySelectorAll(".geolib-line"), names = root.querySelectorAll(".geolib-name");
  const [wide, tall] = [svg.width, svg.height].map((size) => size.baseVal.value);
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  const measure = (length, scale, eps) => {
    const chosen = scores.slice(0, length).map((score) => score / 8), top = Math.max(...chosen);
    // An eighth of the scores: their differences, and these times the factor, do not overflow.
    const parts = chosen.map((score) => Math.exp(8 * (scale * (score - top)))), total = sum(parts);
    const weights = parts.map((part) => part / total), thresholds = [eps, eps * Math.max(...weights)];
    const counts = thresholds.map((value) => weights.filter((weight) => weight > value).length);
    const entropy = -sum(weights.map((weight) => weight > 0 ? weight * Math.log(weight) : 0));
    return { weights, thresholds, counts, entropy, support: Math.exp(entropy) };
  };
  // Pixels from above; what is too small stands on the foot.
  const height = (weight) => Math.min(tall, (span[1] - Math.log10(weight)) / (span[1] - span[0]) * tall);
  const show = () => {
    const [n, factor, limit] = [Number(length.value), scale.value / 10, eps[threshold.value]];
    const { weights, thresholds, counts, entropy, support } = measure(n, factor, limit);
    const order = sorted.checked ? [...weights].sort((a, b) => b - a) : weights, step = wide / scores.length;
    // Whatever the absolute rule counts, the relative one counts too: its threshold is never higher.
    const rank = (weight) => thresholds.filter((value) => weight > value).length;
    bars.forEach((bar, k) => bar.setAttribute("d", order.map((weight, i) => (rank(weight) !== k ? "" :
      `M${((i + 0.1) * step).toFixed(1)} ${tall}V${height(weight).toFixed(1)}h${(0.8 * step).toFixed(1)}V${tall}Z`)).join("")));
    const heights = thresholds.map(height), room = Math.max(0, 22 - heights[1] + heights[0]) / 2; // between their names
    heights.forEach((y, k) => {
      lines[k].setAttribute("d", `M0 ${y.toFixed(1)}H${wide}`);
      names[k].setAttribute("y", svg.y.baseVal.value + y + [-room, room][k]);
      names[k].textContent = `${["absolute", "relative"][k]} ${counts[k]}`;
    });
    const ids = `ID ${counts[0]} absolute, ${counts[1]} relative`, times = `scores ×\u00a0${factor.toFixed(1)}`;
    said.firstChild.textContent = ids;
    said.lastChild.textContent = ` at eps = ${limit}, of ${n} tokens, ${times}. Entropy H = ${entropy.toFixed(2)} nats, ` +
      `effective support exp(H) = ${support.toFixed(1)} tokens.`;
    [`${n} tokens`, times, limit].forEach((value, k) => sliders[k].setAttribute("aria-valuetext", `${value}: ${ids}`));
  };

  [...sliders, sorted].forEach((control) => control.addEventListener("input", show));
  root.querySelector(".geolib-controls").hidden = false;
  root.live = { measure }; // for those who check it
  show();
}
