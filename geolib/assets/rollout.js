// Shows the frame of the slider's position. frames[k] = [paths, words]: SVG paths in their order, and what they show.
(root, frames) => {
  const [slider, button] = ["input", "button"].map((name) => root.querySelector(name));
  const parts = root.querySelectorAll(".geolib-moves");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null;

  const show = (k) => {
    const [paths, words] = frames[k];
    parts.forEach((part, i) => part.setAttribute("d", paths[i]));
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
    else { timer = setInterval(next, 250); button.textContent = "Pause"; }
  });
  still.addEventListener("change", pause);
  root.querySelector(".geolib-controls").hidden = false;
  pause();
  show(Number(slider.value));
}
