// frames[k] = [curve, bars, words]: two SVG paths and what they show.
(root, frames) => {
  const [fit, dots, bars] = ["fit", "dots", "bars"].map((name) => root.querySelector(`.geolib-${name}`));

  player(root, frames, 120, ([curve, heights, words]) => {
    fit.setAttribute("d", curve);
    dots.setAttribute("d", curve.replace(/^M[^L]*L/, "M").replaceAll("L", "h0M")); // a dot at every corner
    bars.setAttribute("d", heights);
    return words;
  });
}
