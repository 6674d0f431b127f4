"use strict";
/* A video with its tracks drawn on it, exact to the frame. */

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const LATE = 250; // milliseconds of delay after which playback waits instead of dropping frames

/**
 * Shows frames with masks, boxes and ids, and a timeline below them.
 *
 * media: {
 *   count: frames of the video; width, height: of them; aspect: width by height as shown;
 *   seconds(index), number(index): when a frame is shown, and its number in the file;
 *   excerpts: [[first, end], ...] of the frames that can be shown; null: all of them;
 *   picture(index), instances(index): promises of a drawable image, and of
 *     [{track, score, box: [x0, y0, x1, y1], counts, height}]: box and mask in pixels of a frame
 *     that is `scale` times as large as the video's own, and `height` pixels high;
 *   scale: of boxes and masks; note(index): text shown on the frame, if any;
 *   prefetch(index, isPlaying): may load frames that are likely to be requested next;
 * }
 * tracks: [{id, title, colour: [r, g, b], spans: [[first, last], ...], checked, marks}]
 *
 * Events: "frame" when another frame is shown, "select" when the selected tracks have changed.
 * layers: functions (context, scale) that draw on top, in pixels of the video.
 * keyboard: its shortcuts; pages add their own.
 */
class Player extends EventTarget {
  constructor(root, media, tracks) {
    super();
    this.media = media;
    this.index = -1;
    this.selected = [];
    this.shows = { masks: true, boxes: false, labels: true };
    this.layers = [];
    this.speed = 1;
    this.current = null;
    this._asked = 0;
    this._seeks = 0;
    this._build(root);
    this.timeline = new Timeline(this.root, media);
    this.timeline.addEventListener("seek", ({ detail }) => {
      if (detail.track) this.select(detail.track.id, detail.isAdding);
      this.seek(detail.index);
    });
    this.keyboard.add(this._keys());
    this.setTracks(tracks);
    this.seek(this._nearest(0));
  }

  /** Replace the tracks; ids that are gone are no longer selected. */
  setTracks(tracks) {
    this.tracks = new Map(tracks.map((track) => [track.id, track]));
    this.timeline.setTracks(tracks);
    this.select(this.selected.filter((id) => this.tracks.has(id)));
  }

  /** Show a frame, or the nearest one that the page has; resolves as `_go` does. */
  async seek(index) {
    const wanted = this._nearest(Math.min(this.media.count - 1, Math.max(0, index)));
    this._say(wanted === index || index < 0 || index >= this.media.count ? ""
      : `frame ${this.media.number(index)} is not in this page: the nearest one is shown`);
    await this._go(wanted);
  }

  /** Go on by frames that the page has; negative: back. */
  step(frames) {
    this.pause();
    return this._show(this._after(this._wanted, frames));
  }

  /** Load the frame again that is shown, after its instances have changed. */
  refresh() {
    return this._go(this._wanted);
  }

  /** Show a frame from which playback, if any, goes on; resolves early if another is asked for. */
  _go(index) {
    this._seeks++;
    return (this._arrival = this._show(index));
  }

  async play() {
    if (this.isPlaying) return;
    if (this._after(this.index, 1) === this.index) await this._show(this._nearest(0));
    this.isPlaying = true;
    this._update();
    let start = performance.now(), from = this.media.seconds(this.index), seeks = this._seeks;
    while (this.isPlaying) {
      if (seeks !== this._seeks) { // go on from the frame that was sought
        seeks = this._seeks;
        await this._arrival;
        [start, from] = [performance.now(), this.media.seconds(this.index)];
        continue;
      }
      let next = this._after(this.index, 1);
      if (next === this.index) break;
      if (next !== this.index + 1) { // the next excerpt
        [start, from] = [performance.now(), this.media.seconds(next)];
        await this._show(next);
        continue;
      }
      const due = (index) => start + ((this.media.seconds(index) - from) / this.speed) * 1000;
      await wait(due(next) - performance.now());
      if (!this.isPlaying) break;
      if (seeks !== this._seeks) continue;
      const late = performance.now() - due(next);
      if (late > LATE) [start, from] = [performance.now(), this.media.seconds(next)];
      else
        while (due(next + 1) <= performance.now() && this._after(next, 1) === next + 1) next++;
      const speed = this.speed;
      await this._show(next);
      if (speed !== this.speed) [start, from] = [performance.now(), this.media.seconds(next)];
    }
    this.pause();
  }

  pause() {
    this.isPlaying = false;
    this._update();
  }

  /** Select a track or a list of them; adding: keep what was selected, or drop it if it was. */
  select(ids, isAdding = false) {
    const list = Array.isArray(ids) ? ids : [ids];
    const old = this.selected;
    this.selected = !isAdding ? list
      : list.every((id) => old.includes(id)) ? old.filter((id) => !list.includes(id))
        : [...old, ...list.filter((id) => !old.includes(id))];
    this.timeline.select(this.selected);
    this.draw();
    this.dispatchEvent(new CustomEvent("select", { detail: this.selected }));
  }

  /** Ids of the tracks at a point of the video, the smallest instance first. */
  tracksAt(x, y) {
    const hits = [];
    for (const instance of this.current?.instances || []) {
      const region = this._regionOf(instance), scale = this.media.scale;
      if (region ? regionHas(region, x * scale, y * scale) : false)
        hits.push([region.width * region.height, instance.track]);
    }
    return hits.sort((a, b) => a[0] - b[0]).map(([, track]) => track);
  }

  /** A pointer event's place in pixels of the video. */
  pointOf(event) {
    const { width, height } = this.canvas.getBoundingClientRect();
    return [(event.offsetX / width) * this.media.width, (event.offsetY / height) * this.media.height];
  }

  draw() {
    if (!this.current) return;
    const { canvas, media, shows } = this, context = canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height)
      Object.assign(canvas, { width, height });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.current.picture, 0, 0, width, height);
    const scale = [width / media.width, height / media.height];
    const instances = [...this.current.instances].sort(
      (a, b) => this.selected.includes(a.track) - this.selected.includes(b.track));
    for (const instance of instances) {
      const track = this.tracks.get(instance.track);
      if (track) this._drawInstance(context, instance, track, scale, ratio);
    }
    for (const layer of this.layers) layer(context, scale, ratio);
    const note = media.note?.(this.index);
    if (note) this._drawNote(context, note, ratio);
  }

  _drawInstance(context, instance, track, scale, ratio) {
    const { shows, media } = this, isSelected = this.selected.includes(track.id);
    const [sx, sy] = scale.map((side) => side / media.scale);
    const region = shows.masks ? this._regionOf(instance) : null;
    if (region) {
      const painted = this._paintedOf(instance, region, track.colour);
      context.imageSmoothingEnabled = true;
      context.drawImage(painted, region.x * sx, region.y * sy, region.width * sx, region.height * sy);
    }
    const [x0, y0, x1, y1] = instance.box;
    const box = [x0 * sx, y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy];
    if (shows.boxes || isSelected || !instance.counts) {
      context.strokeStyle = isSelected ? "#fff" : `rgb(${track.colour})`;
      context.lineWidth = (isSelected ? 2 : 1.5) * ratio;
      context.setLineDash(isSelected ? [6 * ratio, 4 * ratio] : []);
      context.strokeRect(...box);
      context.setLineDash([]);
    }
    if (shows.labels) this._drawLabel(context, track, instance, box, ratio);
  }

  _drawLabel(context, track, instance, [left, top], ratio) {
    const score = instance.score == null ? "" : ` ${instance.score.toFixed(2)}`;
    const text = `${track.title}${score}${instance.note ? ` (${instance.note})` : ""}`;
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const width = context.measureText(text).width + 8 * ratio, height = 17 * ratio;
    const x = Math.min(Math.max(0, left), this.canvas.width - width);
    const y = Math.max(0, top - height);
    context.fillStyle = `rgb(${track.colour})`;
    context.fillRect(x, y, width, height);
    const [red, green, blue] = track.colour;
    context.fillStyle = 0.3 * red + 0.59 * green + 0.11 * blue > 140 ? "#000" : "#fff";
    context.fillText(text, x + 4 * ratio, y + height / 2);
  }

  _drawNote(context, text, ratio) {
    context.font = `${13 * ratio}px system-ui, sans-serif`;
    context.fillStyle = "#e8384f";
    context.fillText(text, 8 * ratio, this.canvas.height - 12 * ratio);
  }

  _regionOf(instance) {
    if (!instance.counts) return null;
    if (!("region" in instance)) instance.region = regionOf(instance.counts, instance.height);
    return instance.region;
  }

  _paintedOf(instance, region, colour) {
    if (instance.paintedIn !== String(colour))
      [instance.painted, instance.paintedIn] = [paintRegion(region, colour), String(colour)];
    return instance.painted;
  }

  async _show(index) {
    const turn = ++this._asked;
    this._wanted = index;
    try {
      const [picture, instances] = await Promise.all(
        [this.media.picture(index), this.media.instances(index)]);
      if (turn !== this._asked) return; // another frame was requested in the meantime
      this.index = index;
      this.current = { picture, instances };
    } catch (error) {
      if (turn === this._asked) this._say(error.message);
      this.pause();
      return;
    }
    this.draw();
    this.timeline.setIndex(index);
    this._update();
    this.media.prefetch?.(index, this.isPlaying);
    this.dispatchEvent(new CustomEvent("frame", { detail: index }));
  }

  /** The frame that the page has and that is the nearest to this one. */
  _nearest(index) {
    let nearest = null;
    for (const [first, end] of this._excerpts()) {
      const here = Math.min(Math.max(index, first), end - 1);
      if (nearest === null || Math.abs(here - index) < Math.abs(nearest - index)) nearest = here;
    }
    return nearest ?? index;
  }

  /** The frame so many frames on, among those that the page has; the last one at the end. */
  _after(index, frames) {
    const excerpts = this._excerpts();
    let at = excerpts.findIndex(([, end]) => index < end);
    let place = index + frames;
    while (at >= 0) {
      const [first, end] = excerpts[at];
      if (place >= end) {
        if (at + 1 === excerpts.length) return end - 1;
        place += excerpts[++at][0] - end;
      } else if (place < first) {
        if (at === 0) return first;
        place -= first - excerpts[--at][1];
      } else return place;
    }
    return this._nearest(place);
  }

  _excerpts() {
    return this.media.excerpts || [[0, this.media.count]];
  }

  _build(root) {
    this.root = element("div", { className: "player" });
    root.append(this.root);
    this.canvas = element("canvas", { className: "player-canvas", tabIndex: 0 });
    this.canvas.setAttribute("aria-label", "video with its tracks");
    this.canvas.style.aspectRatio = String(this.media.aspect);
    this.canvas.style.width = `min(100%, calc(70vh * ${this.media.aspect}))`;
    this.canvas.addEventListener("click", (event) => {
      const [hit] = this.tracksAt(...this.pointOf(event));
      const isAdding = event.shiftKey || event.ctrlKey || event.metaKey;
      if (hit !== undefined) this.select(hit, isAdding);
      else if (!isAdding) this.select([]);
    });
    const button = (text, title, act) => {
      const made = element("button", { type: "button", textContent: text, title, onclick: act });
      made.setAttribute("aria-label", title);
      return made;
    };
    this.playButton = button("▶", "play or pause (space)", () => this.toggle());
    this.place = element("input", { type: "text", inputMode: "numeric", size: 7 });
    this.place.setAttribute("aria-label", "frame number");
    this.place.onchange = () => this._goTo(this.place.value);
    this.time = element("span", { className: "player-time" });
    this.rate = element("select", {});
    this.rate.setAttribute("aria-label", "speed");
    for (const speed of SPEEDS)
      this.rate.append(element("option", { value: speed, textContent: `${speed}×` }));
    this.rate.value = "1";
    this.rate.onchange = () => (this.speed = Number(this.rate.value));
    this.switches = Object.keys(this.shows).map((what) => {
      const box = element("input", { type: "checkbox", checked: this.shows[what] });
      box.onchange = () => this.toggle(what);
      return element("label", {}, box, ` ${what}`);
    });
    this.message = element("span", { className: "player-message" });
    this.message.setAttribute("role", "status");
    this.bar = element("div", { className: "player-bar" },
      button("|◀", "first frame (Home)", () => this.seek(0)),
      button("‹", "previous frame (←)", () => this.step(-1)),
      this.playButton,
      button("›", "next frame (→)", () => this.step(1)),
      button("▶|", "last frame (End)", () => this.seek(this.media.count - 1)),
      element("label", {}, "frame ", this.place), this.time, this.rate, ...this.switches,
      button("?", "keyboard (?)", () => this.keyboard.showList()), this.message);
    this.root.append(this.canvas, this.bar);
    this.keyboard = new Keyboard(this.root);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** Play or pause; or show or hide masks, boxes or labels. */
  toggle(what) {
    if (what === undefined) return this.isPlaying ? this.pause() : this.play();
    this.shows[what] = !this.shows[what];
    Object.keys(this.shows).forEach((name, place) => {
      this.switches[place].firstChild.checked = this.shows[name];
    });
    this.draw();
  }

  _goTo(text) {
    const wanted = Number.parseInt(text, 10);
    if (Number.isNaN(wanted)) return this._update();
    let low = 0, high = this.media.count - 1; // numbers are ascending
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.media.number(middle) < wanted) low = middle + 1;
      else high = middle;
    }
    this.pause();
    this.seek(low);
  }

  _keys() {
    const second = (sign) => {
      let to = this._wanted;
      const from = this.media.seconds(to);
      while (Math.abs(this.media.seconds(to) - from) < 1) {
        const next = this._after(to, sign);
        if (next === to) break;
        to = next;
      }
      this.pause();
      return this._show(to);
    };
    const birth = (sign) => {
      const starts = [...this.tracks.values()].flatMap((track) => track.spans.map(([at]) => at));
      const others = starts.filter((at) => sign * (at - this.index) > 0);
      if (others.length) this.seek(sign > 0 ? Math.min(...others) : Math.max(...others));
    };
    const neighbour = (sign) => {
      const ids = (this.current?.instances || []).map((instance) => instance.track)
        .filter((id) => this.tracks.has(id)).sort((a, b) => a - b);
      const at = ids.indexOf(this.selected[0]);
      const next = at < 0 ? (sign > 0 ? 0 : ids.length - 1) : (at + sign + ids.length) % ids.length;
      if (ids.length) this.select(ids[next]);
    };
    return [
      [" ", "play or pause", () => this.toggle()],
      ["ArrowLeft", "previous frame", () => this.step(-1)],
      ["ArrowRight", "next frame", () => this.step(1)],
      ["Shift+ArrowLeft", "a second back", () => second(-1)],
      ["Shift+ArrowRight", "a second on", () => second(1)],
      ["Home", "first frame", () => this.seek(0)],
      ["End", "last frame", () => this.seek(this.media.count - 1)],
      ["[", "where a track appeared before this frame", () => birth(-1)],
      ["]", "where the next track appears", () => birth(1)],
      ["1", "show or hide masks", () => this.toggle("masks")],
      ["2", "show or hide boxes", () => this.toggle("boxes")],
      ["3", "show or hide labels", () => this.toggle("labels")],
      [",", "select the previous track in this frame", () => neighbour(-1)],
      [".", "select the next track in this frame", () => neighbour(1)],
    ];
  }

  _say(text) {
    this.message.textContent = text;
  }

  _update() {
    if (this.index < 0) return;
    this.playButton.textContent = this.isPlaying ? "❚❚" : "▶";
    if (document.activeElement !== this.place) this.place.value = this.media.number(this.index);
    this.time.textContent = clock(this.media.seconds(this.index));
  }
}

const wait = (milliseconds) =>
  new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)));
