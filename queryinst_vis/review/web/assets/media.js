"use strict";
/* The video of a review: pictures and regions come from the server, frame by frame. */

const PICTURES = 64; // decoded ones that are kept
const AHEAD = 4; // frames that are loaded before they are played
const NEVER = new Promise(() => {});

/** An error that the server has answered with, in its words. */
class Refused extends Error {
  constructor(status, answer) {
    super(answer.error || answer.detail || "the server does not answer");
    this.status = status;
    this.conflict = answer.conflict;
  }
}

/** The answer to a request; throws Refused, or an Error where no server is there. */
async function ask(path, content) {
  const options = content === undefined ? {} : { method: "POST", body: JSON.stringify(content) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer: start it again, and open the address that it " +
      "prints; all that was done before is on disk");
  }
  if (response.ok) return response;
  const text = await response.text();
  let answer = { error: text };
  try {
    answer = JSON.parse(text);
  } catch { /* plain text */ }
  throw new Refused(response.status, answer);
}

/** What Player shows; see there. Values that rise evenly come as {first, step}. */
class ServedMedia {
  constructor(review) {
    Object.assign(this, {
      count: review.count, width: review.width, height: review.height, aspect: review.aspect,
      excerpts: null, scale: 1, hasPictures: review.hasPictures,
    });
    const at = (values) => (index) =>
      Array.isArray(values) ? values[index] : values.first + index * values.step;
    this.number = at(review.numbers);
    this.seconds = at(review.seconds);
    this.pictures = new Map();
    this.frames = new Map();
    this.loading = null;
  }

  /** The picture of a frame; of several that are asked for meanwhile, the last one is loaded. */
  picture(index) {
    return this.pictures.get(index) || this._latest(index);
  }

  async instances(index) {
    return (await this.frame(index)).instances;
  }

  /** {instances, isChecked} of a frame. */
  async frame(index) {
    if (!this.frames.has(index)) {
      const loading = ask(`frame/${index}`).then((answer) => answer.json()).then((frame) => ({
        isChecked: frame.isChecked,
        instances: frame.regions.map((region) => ({
          ...region, height: this.height,
          note: region.origin === "found" ? "" : region.origin,
        })),
      }));
      remember(this.frames, index, loading, 4 * PICTURES);
    }
    return this.frames.get(index);
  }

  /** Forget regions: they have been corrected. */
  forget() {
    this.frames.clear();
  }

  prefetch(index, isPlaying) {
    for (let next = index + 1; next <= index + (isPlaying ? AHEAD : 1); next++)
      if (next < this.count && !this.pictures.has(next)) {
        this._loadPicture(next).catch(() => {});
        this.frame(next).catch(() => {});
      }
  }

  /** A frame's picture in another place than the player, such as a crop. */
  anyPicture(index) {
    return this.pictures.get(index) || this._loadPicture(index);
  }

  async _latest(index) {
    this.wanted = index;
    while (this.loading) {
      await this.loading.catch(() => {});
      if (this.wanted !== index) return NEVER;
    }
    this.loading = this.pictures.get(index) || this._loadPicture(index);
    try {
      return await this.loading;
    } finally {
      this.loading = null;
    }
  }

  _loadPicture(index) {
    const width = Math.round(Math.min(this.width, document.documentElement.clientWidth *
      (window.devicePixelRatio || 1)));
    const loading = !this.hasPictures ? Promise.resolve(this._blank())
      : ask(`picture/${index}?width=${width}`)
        .then((answer) => answer.blob()).then((blob) => createImageBitmap(blob));
    return remember(this.pictures, index, loading, PICTURES);
  }

  _blank() {
    const canvas = element("canvas", { width: this.width, height: this.height });
    const context = canvas.getContext("2d");
    context.fillStyle = "#222";
    context.fillRect(0, 0, this.width, this.height);
    return canvas;
  }
}

/** Keep a promise, at most so many; one that fails is forgotten. */
function remember(known, index, promise, most) {
  known.delete(index);
  known.set(index, promise);
  promise.catch(() => known.get(index) === promise && known.delete(index));
  while (known.size > most) known.delete(known.keys().next().value);
  return promise;
}
