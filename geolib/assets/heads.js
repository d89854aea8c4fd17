// Shows the graph of one head, and in colour the edges of one token. graphs[layer][head] lists its edges, each as
// 100 times the index of its pair [query, key] plus its weight in hundredths; arcs are the pairs' SVG paths.
(root, { arcs, pairs, graphs, layers, heads, tokens, step, eps }) => {
  const sliders = [...root.querySelectorAll("input")], [layer, head, token] = sliders;
  const svg = root.querySelector("svg"), box = root.querySelector(".geolib-wide"), said = root.querySelector("p");
  const [others, own] = root.querySelectorAll("svg g"), names = [...root.querySelectorAll("svg text")];
  const edgesOf = (i) => (code) => pairs[Math.floor(code / 100)][0] === i;

  const draw = (group, codes) => group.replaceChildren(...codes.map((code) => {
    const arc = document.createElementNS(svg.namespaceURI, "path");
    arc.setAttribute("d", arcs[Math.floor(code / 100)]);
    arc.setAttribute("stroke-width", 0.5 + (code % 100) / 30);
    return arc;
  }));
  const show = () => {
    const [l, h, i] = sliders.map((slider) => Number(slider.value));
    const mine = edgesOf(i), graph = graphs[l][h], count = graph.filter(mine).length;
    draw(others, graph.filter((code) => !mine(code)));
    draw(own, graph.filter(mine));
    names.forEach((name, k) => name.classList.toggle("geolib-here", k === i));
    const later = graph.map((code) => pairs[Math.floor(code / 100)]).filter(([query]) => query > 0);
    const sink = later.length ? Math.round(100 * later.filter(([, key]) => key === 0).length / later.length) : 0;
    said.textContent = `Layer ${layers[l]}, head ${heads[h]}: ${graph.length} edges above ${eps}; of those from later ` +
      `tokens, ${sink} % end at the first. Token ${i + 1}, “${tokens[i]}”, has ${count} here, and ` +
      `${graphs[l].flat().filter(mine).length} over all heads: its ID.`;
    sliders.forEach((slider) => slider.setAttribute("aria-valuetext", said.textContent));
  };

  sliders.forEach((slider) => slider.addEventListener("input", show));
  svg.addEventListener("click", (event) => {
    const area = svg.getBoundingClientRect(), x = (event.clientX - area.left) * svg.viewBox.baseVal.width / area.width;
    token.value = Math.floor((x - 10) / step);
    show();
  });
  root.querySelector(".geolib-controls").hidden = false;
  box.scrollLeft = box.scrollWidth; // to the token in colour
  show();
}
