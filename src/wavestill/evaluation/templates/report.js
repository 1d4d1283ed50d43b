"use strict";
document.documentElement.classList.add("js");
let current = null;
for (const player of document.querySelectorAll(".player")) {
  const audio = player.querySelector("audio");
  const button = player.querySelector("button");
  const range = player.querySelector("input");
  const head = player.querySelector(".head");
  const label = button.getAttribute("aria-label").slice("Play".length);
  const draw = () => {
    const part = audio.duration ? audio.currentTime / audio.duration : 0;
    head.style.left = 100 * part + "%";
    range.value = 1000 * part;
    range.setAttribute("aria-valuetext", audio.currentTime.toFixed(1) + " seconds");
    if (!audio.paused) requestAnimationFrame(draw);
  };
  const start = (part) => {
    const begin = () => {
      if (current !== audio) return; // another one was chosen while this one loaded
      if (part !== null) audio.currentTime = part * audio.duration;
      audio.play();
    };
    if (audio.readyState > 0) begin();
    else { audio.addEventListener("loadedmetadata", begin, { once: true }); audio.preload = "auto"; audio.load(); }
  };
  audio.addEventListener("play", () => {
    player.classList.add("playing", "started");
    button.setAttribute("aria-label", "Pause" + label);
    draw();
  });
  for (const end of ["pause", "ended"]) audio.addEventListener(end, () => {
    player.classList.remove("playing");
    if (audio.ended) player.classList.remove("started");
    button.setAttribute("aria-label", "Play" + label);
  });
  button.addEventListener("click", () => {
    if (!audio.paused) return audio.pause();
    let part = null;
    if (current && current !== audio && !current.paused) {
      // the same moment of the same sentence, in another voice
      if (current.closest(".clip") === player.closest(".clip")) part = current.currentTime / current.duration;
      current.pause();
    }
    current = audio;
    start(part);
  });
  range.addEventListener("input", () => {
    if (current && current !== audio) current.pause();
    current = audio;
    if (audio.paused) start(range.value / 1000);
    else audio.currentTime = range.value / 1000 * audio.duration;
  });
}
