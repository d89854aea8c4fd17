// frames[k] = [paths, words]: SVG paths in their order, and what they show.
(root, frames) => {
  const parts = root.querySelectorAll(".geolib-moves");

  player(root, frames, 250, ([paths, words]) => {
    parts.forEach((part, i) => part.setAttribute("d", paths[i]));
    return words;
  });
}
