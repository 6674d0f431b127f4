"use strict";
/* The video of a review: images and regions, requested from the server per frame. */

const CACHED = 64; // decoded images
const AHEAD = 4; // frames prefetched during playback

/** An error response of the server. */
class ResponseError extends Error {
  constructor(status, content) {
    super(content.error || content.detail || "the server does not respond");
    this.status = status;
    this.conflict = content.conflict;
    this.isStale = content.isStale;
  }
}

/**
 * Send a request: GET, or POST if there is content.
 *
 * Throws ResponseError for error responses, and Error if the server does not respond.
 */
async function request(path, content) {
  const options = content === undefined ? {} : { method: "POST", body: JSON.stringify(content) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not respond: restart it and open the address that it " +
      "prints; all saved actions are on disk");
  }
  if (response.ok) return response;
  const text = await response.text();
  let error = { error: text };
  try {
    error = JSON.parse(text);
  } catch { /* plain text */ }
  throw new ResponseError(response.status, error);
}

/** The media of Player. Evenly spaced values are sent as {first, step}. */
class ServedMedia {
  constructor(review) {
    Object.assign(this, {
      count: review.count, width: review.width, height: review.height, aspect: review.aspect,
      excerpts: null, scale: 1, hasVideo: review.hasVideo,
    });
    const at = (values) => (index) =>
      Array.isArray(values) ? values[index] : values.first + index * values.step;
    this.number = at(review.numbers);
    this.seconds = at(review.seconds);
    this.pictures = new Map();
    this.frames = new Map();
    this.loading = null;
  }

  /** The image of a frame; of requests made during another one, only the last is sent: the others
   * resolve to null. */
  picture(index) {
    return this.pictures.get(index) || this._latest(index);
  }

  async instances(index) {
    return (await this.frame(index)).instances;
  }

  /** {instances, isChecked} of a frame. */
  async frame(index) {
    if (!this.frames.has(index)) {
      const content = request(`frame/${index}`).then((response) => response.json());
      const loading = content.then((frame) => ({
        isChecked: frame.isChecked,
        instances: frame.regions.map((region) => ({
          ...region, height: this.height,
          note: region.origin === "found" ? "" : region.origin,
        })),
      }));
      remember(this.frames, index, loading, 4 * CACHED);
    }
    return this.frames.get(index);
  }

  /** Clear the cache of regions, after a correction. */
  clearRegions() {
    this.frames.clear();
  }

  prefetch(index, isPlaying) {
    for (let next = index + 1; next <= index + (isPlaying ? AHEAD : 1); next++)
      if (next < this.count && !this.pictures.has(next)) {
        this._loadPicture(next).catch(() => {});
        this.frame(next).catch(() => {});
      }
  }

  /** The image of a frame for other uses than the player, such as a crop. */
  image(index) {
    return this.pictures.get(index) || this._loadPicture(index);
  }

  async _latest(index) {
    this.wanted = index;
    while (this.loading) {
      await this.loading.catch(() => {});
      if (this.wanted !== index) return null;
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
    const loading = !this.hasVideo ? Promise.resolve(this._blank())
      : request(`picture/${index}?width=${width}`)
        .then((response) => response.blob()).then((blob) => createImageBitmap(blob));
    return remember(this.pictures, index, loading, CACHED);
  }

  _blank() {
    const canvas = element("canvas", { width: this.width, height: this.height });
    const context = canvas.getContext("2d");
    context.fillStyle = "#222";
    context.fillRect(0, 0, this.width, this.height);
    return canvas;
  }
}

/** Add a promise to a cache of limited size; it is removed if it is rejected. */
function remember(cache, index, promise, size) {
  cache.delete(index);
  cache.set(index, promise);
  promise.catch(() => cache.get(index) === promise && cache.delete(index));
  while (cache.size > size) cache.delete(cache.keys().next().value);
  return promise;
}
