"use strict";

/** A clip whose frames of errors are buttons beneath it: a click shows the frame. */
function startClip(figure, clip) {
  const video = figure.querySelector("video");
  const bytes = Uint8Array.from(atob(clip.media), (letter) => letter.charCodeAt(0));
  video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  const marks = [...figure.querySelectorAll(".marks button")];
  const said = figure.querySelector(".said");
  const show = () => {
    const at = Math.min(Math.floor(video.currentTime * clip.fps + 0.01), marks.length - 1);
    for (const [index, mark] of marks.entries()) mark.ariaCurrent = index === at ? "true" : null;
    said.textContent = marks[at].title;
  };
  for (const [index, mark] of marks.entries()) {
    mark.addEventListener("click", () => {
      video.pause();
      video.currentTime = (index + 0.5) / clip.fps; // the middle of the frame, to be robust to rounding
    });
  }
  video.addEventListener("timeupdate", show);
  video.addEventListener("seeked", show);
}

for (const figure of document.querySelectorAll("figure[data-clip]")) {
  startClip(figure, pageData().clips[figure.dataset.clip]);
}
