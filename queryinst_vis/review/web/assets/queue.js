"use strict";
/* The queue of suggested corrections. */

const MARGIN = 0.25; // of a crop around its box, relative to the longer side
const CROP = 160; // side of a crop in pixels

/** Shows one suggestion at a time, with crops to compare. */
class Queue {
  constructor(review) {
    Object.assign(this, { review, player: review.player, list: [], at: 0 });
    this.edited = new Set(); // tracks edited since the list was requested
    this.loads = 0;
    review.addEventListener("edit", ({ detail }) => this._drop(detail));
  }

  async load() {
    const turn = ++this.loads;
    this.edited.clear();
    try {
      const list = await (await request("suggestions")).json();
      if (turn !== this.loads) return; // requested again in the meantime
      this.list = list;
    } catch (error) {
      setStatus(error.message, true);
    }
    this._drop([]);
  }

  /** Drop suggestions for tracks that have been edited, since they may no longer apply. */
  _drop(tracks) {
    for (const track of tracks) this.edited.add(track);
    const isValid = ({ crops }) => crops.every(({ track }) => !this.edited.has(track));
    const before = this.list.slice(0, this.at).filter(isValid).length;
    this.list = this.list.filter(isValid);
    this.at = Math.min(before, Math.max(0, this.list.length - 1));
    this.update(true);
  }

  get current() {
    return this.list[this.at];
  }

  go(step) {
    if (!this.list.length) return;
    this.at = (this.at + step + this.list.length) % this.list.length;
    this.update(true);
    this.show();
  }

  /** Select the tracks of the suggestion and go to its frame. */
  show() {
    const { current } = this;
    if (!current) return;
    this.player.pause();
    const ids = new Set(current.crops.map(({ track }) => track));
    this.player.select([...ids].filter((id) => this.review.tracks.has(id)));
    this.player.seek(current.crops[current.crops.length - 1].frame);
  }

  accept() {
    return this._apply("accept");
  }

  dismiss() {
    return this._apply("dismiss");
  }

  async _apply(decision) {
    const { current } = this;
    if (!current || this.isBusy) return; // accepting a swap twice would undo it
    this.isBusy = true;
    if (await this.review.act(current[decision])) await this.load();
    this.isBusy = false;
  }

  update(isNew = false) {
    const { current } = this;
    if (!current) {
      this.shown = null;
      return section("queue", "Suggestions", element("p", { className: "note" }, "No suggestions."),
        button("update", "", () => this.load()));
    }
    if (!isNew && this.shown === current) return;
    this.shown = current;
    const crops = current.crops.map((crop) => this._crop(crop));
    section("queue", `Suggestion ${this.at + 1} of ${this.list.length}`,
      element("p", {}, current.reason), element("div", { className: "pair" }, ...crops),
      button("accept", "a", () => this.accept()), button("dismiss", "r", () => this.dismiss()),
      button("next", "j", () => this.go(1)), button("show", "", () => this.show()),
      button("update", "", () => this.load()));
  }

  _crop({ track, frame }) {
    const canvas = element("canvas", { width: CROP, height: CROP });
    canvas.onclick = () => {
      this.player.pause();
      if (this.review.tracks.has(track)) this.player.select(track);
      this.player.seek(frame);
    };
    this._drawCrop(canvas, track, frame).catch((error) => setStatus(error.message, true));
    const title = this.review.tracks.get(track)?.name || `#${track}`;
    return element("figure", {}, canvas,
      element("figcaption", {}, `${title}, frame ${this.player.media.number(frame)}`));
  }

  async _drawCrop(canvas, track, frame) {
    const { media } = this.player;
    const [image, { instances }] = await Promise.all([media.image(frame), media.frame(frame)]);
    const found = instances.find((instance) => instance.track === track);
    if (!found) return;
    const [x0, y0, x1, y1] = found.box;
    const side = Math.max(x1 - x0, y1 - y0) * (1 + 2 * MARGIN);
    const scale = image.width / media.width; // the image may be smaller than the video frame
    const left = ((x0 + x1 - side) / 2) * scale, top = ((y0 + y1 - side) / 2) * scale;
    const context = canvas.getContext("2d");
    context.drawImage(image, left, top, side * scale, side * scale, 0, 0, CROP, CROP);
    context.strokeStyle = `rgb(${this.review.tracks.get(track)?.colour || [255, 255, 255]})`;
    context.lineWidth = 3;
    const zoom = CROP / side;
    context.strokeRect((x0 - (x0 + x1 - side) / 2) * zoom, (y0 - (y0 + y1 - side) / 2) * zoom,
      (x1 - x0) * zoom, (y1 - y0) * zoom);
  }
}
