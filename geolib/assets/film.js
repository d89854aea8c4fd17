// Shows the frame of the slider's position. frames[k] = [curve, bars, words]: two SVG paths and what they show.
(root, frames) => {
  const [slider, button] = ["input", "button"].map((name) => root.querySelector(name));
  const [fit, dots, bars] = ["fit", "dots", "bars"].map((name) => root.querySelector(`.geolib-${name}`));
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null;

  const show = (k) => {
    const [curve, heights, words] = frames[k];
    fit.setAttribute("d", curve);
    dots.setAttribute("d", curve.replace(/^M[^L]*L/, "M").replaceAll("L", "h0M")); // a dot at every corner
    bars.setAttribute("d", heights);
    root.querySelector("p").textContent = words;
    slider.value = k;
    slider.setAttribute("aria-valuetext", words);
  };
  const pause = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = still.matches ? "Next" : "Play";
  };
  const next = () => {
    const k = (Number(slider.value) + 1) % frames.length;
    show(k);
    if (k === frames.length - 1) pause();
  };

  slider.addEventListener("input", () => { pause(); show(Number(slider.value)); });
  button.addEventListener("click", () => {
    if (still.matches) next(); // nothing moves by itself for readers who ask for that
    else if (timer) pause();
    else { timer = setInterval(next, 120); button.textContent = "Pause"; }
  });
  still.addEventListener("change", pause);
  root.querySelector(".geolib-controls").hidden = false;
  pause();
  show(Number(slider.value));
}
