"use strict";
/* The page of a tracked video: its frames are in the page. */

const REMEMBERED = 48; // decoded pictures

/** What Player shows, from what Python embedded. */
function embeddedMedia(data) {
  const kept = new Map(); // index -> place in data.frames
  for (const [first, end] of data.excerpts)
    for (let index = first; index < end; index++) kept.set(index, kept.size);
  const frameOf = (index) => data.frames[kept.get(index)];
  const pictures = new Map();
  /** A value of a frame that is not in the page, from its neighbours that are known. */
  const between = (index, column) => {
    const after = Math.max(1, data.knots.findIndex(([at]) => at >= index));
    const [a, b] = [data.knots[after - 1], data.knots[after] || data.knots[after - 1]];
    const share = b[0] === a[0] ? 0 : (index - a[0]) / (b[0] - a[0]);
    return a[column] + share * (b[column] - a[column]);
  };
  const media = {
    count: data.count, width: data.width, height: data.height, aspect: data.aspect,
    excerpts: data.excerpts,
    scale: data.maskSize[1] / data.width,
    number: (index) => (kept.has(index) ? frameOf(index)[0] : Math.round(between(index, 1))),
    seconds: (index) => (kept.has(index) ? frameOf(index)[1] : between(index, 2)),
    async picture(index) {
      if (!pictures.has(index)) {
        const image = new Image();
        image.src = `data:image/jpeg;base64,${frameOf(index)[2]}`;
        pictures.set(index, image.decode().then(() => image));
        if (pictures.size > REMEMBERED) pictures.delete(pictures.keys().next().value);
      }
      return pictures.get(index);
    },
    async instances(index) {
      return frameOf(index)[3].map(([track, score, box, counts]) => ({
        track, score, counts, height: data.maskSize[0],
        box: box.map((side) => side * media.scale),
      }));
    },
    note: (index) => (frameOf(index)[4] ? "this frame could not be decoded" : ""),
    prefetch(index, isPlaying) {
      for (let next = index + 1; next < index + (isPlaying ? 8 : 2); next++)
        if (kept.has(next)) media.picture(next);
    },
  };
  return media;
}

{
  const data = pageData(), media = embeddedMedia(data);
  const player = new Player(document.getElementById("player"), media, data.tracks);
  const rows = document.querySelectorAll("tr[data-track]");
  for (const row of rows)
    row.addEventListener("click", (event) => {
      const target = event.target.closest("[data-index]") || row;
      player.pause();
      player.select(Number(row.dataset.track));
      player.seek(Number(target.dataset.index));
      player.root.scrollIntoView({ block: "nearest" });
    });
  player.addEventListener("select", ({ detail }) => {
    for (const row of rows)
      row.classList.toggle("selected", detail.includes(Number(row.dataset.track)));
  });
}
