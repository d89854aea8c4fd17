// Plays frames by a slider and a button, one every so many milliseconds; paint(frame) draws one and returns its words.
(root, frames, every, paint) => {
  const [slider, button] = ["input", "button"].map((name) => root.querySelector(name));
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null;

  const show = (k) => {
    const words = paint(frames[k]);
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
    else { timer = setInterval(next, every); button.textContent = "Pause"; }
  });
  still.addEventListener("change", pause);
  root.querySelector(".geolib-controls").hidden = false;
  pause();
  show(Number(slider.value));
}
