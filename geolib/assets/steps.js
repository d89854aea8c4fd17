// Shows the step of the slider's position. steps[k] = [path, ..., words]: one SVG path for each line, and what they show.
(root, steps) => {
  const slider = root.querySelector("input");
  const lines = root.querySelectorAll(".geolib-line");

  const show = (k) => {
    const words = steps[k].at(-1);
    lines.forEach((line, i) => line.setAttribute("d", steps[k][i]));
    root.querySelector("p").textContent = words;
    slider.setAttribute("aria-valuetext", words);
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  root.querySelector(".geolib-controls").hidden = false;
  show(Number(slider.value));
}
