"use strict";
/* A timeline with one row per track; only visible rows are drawn. */

const ROW_HEIGHT = 20, RULER_HEIGHT = 22, LABEL_WIDTH = 150;

/**
 * Shows rows of tracks over the frames of a video, and reports clicks.
 *
 * media: {count, seconds(index), excerpts}, as Player's. Tracks: as Player's.
 * Events: "seek" with detail {index, track}; track is null on the ruler.
 */
class Timeline extends EventTarget {
  constructor(root, media) {
    super();
    this.media = media;
    this.tracks = [];
    this.index = 0;
    this.selected = new Set();
    this.scroller = element("div", { className: "timeline", tabIndex: -1 });
    this.canvas = element("canvas", { className: "timeline-canvas" });
    this.spacer = element("div", { className: "timeline-spacer" });
    this.scroller.append(this.canvas, this.spacer);
    root.append(this.scroller);
    this.scroller.addEventListener("scroll", () => this.draw());
    this.canvas.addEventListener("pointerdown", (event) => this._press(event));
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1 && this._dragging) this._seek(event, null);
    });
    this.canvas.addEventListener("pointerup", () => (this._dragging = false));
    new ResizeObserver(() => this._resize()).observe(this.scroller);
  }

  /** Show these tracks, in this order. */
  setTracks(tracks) {
    this.tracks = tracks;
    this._resize();
  }

  /** Move the line to a frame. */
  setIndex(index) {
    this.index = index;
    this.draw();
  }

  /** Mark the rows of these ids, and bring the first of them into view. */
  select(ids) {
    this.selected = new Set(ids);
    const row = this.tracks.findIndex((track) => this.selected.has(track.id));
    if (row >= 0) {
      const top = row * ROW_HEIGHT, view = this.scroller.clientHeight - RULER_HEIGHT;
      if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
      else if (top + ROW_HEIGHT > this.scroller.scrollTop + view)
        this.scroller.scrollTop = top + ROW_HEIGHT - view;
    }
    this.draw();
  }

  /** Horizontal place of a frame, in CSS pixels. */
  placeOf(index) {
    const width = this.scroller.clientWidth - LABEL_WIDTH - 8;
    return LABEL_WIDTH + (index / Math.max(1, this.media.count)) * width;
  }

  draw() {
    if (this._scheduled) return;
    this._scheduled = requestAnimationFrame(() => {
      this._scheduled = 0;
      this._paint();
    });
  }

  _paint() {
    const context = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.width / ratio, height = this.canvas.height / ratio;
    const style = getComputedStyle(this.scroller);
    const ink = style.color, faint = style.getPropertyValue("--timeline-line") || "#8884";
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${style.fontFamily}`;
    context.textBaseline = "middle";
    const first = Math.floor(this.scroller.scrollTop / ROW_HEIGHT);
    const offset = RULER_HEIGHT - (this.scroller.scrollTop % ROW_HEIGHT);
    context.save();
    context.beginPath();
    context.rect(0, RULER_HEIGHT, width, height);
    context.clip();
    for (let row = 0; offset + row * ROW_HEIGHT < height; row++) {
      const track = this.tracks[first + row];
      if (track) this._paintRow(context, track, offset + row * ROW_HEIGHT, width, ink, faint);
    }
    context.restore();
    this._paintRuler(context, width, ink, faint);
    const here = Math.round(this.placeOf(this.index + 0.5)) + 0.5;
    context.strokeStyle = style.getPropertyValue("--timeline-cursor") || "#e8384f";
    context.lineWidth = 1.5;
    line(context, here, 0, here, height);
  }

  _paintRow(context, track, top, width, ink, faint) {
    if (this.selected.has(track.id)) {
      context.fillStyle = faint;
      context.fillRect(0, top, width, ROW_HEIGHT);
    }
    const colour = `rgb(${track.colour})`, middle = top + ROW_HEIGHT / 2;
    context.fillStyle = colour;
    context.fillRect(4, top + 5, 10, ROW_HEIGHT - 10);
    context.fillStyle = ink;
    const mark = track.checked ? "✓ " : "";
    context.fillText(`${mark}${track.title}`, 20, middle, LABEL_WIDTH - 26);
    context.fillStyle = colour;
    for (const [start, last] of track.spans) {
      const left = this.placeOf(start), right = this.placeOf(last + 1);
      context.fillRect(left, top + 4, Math.max(1.5, right - left), ROW_HEIGHT - 8);
    }
    context.fillStyle = ink;
    for (const index of track.marks || [])
      context.fillRect(this.placeOf(index + 0.5) - 1, top + 2, 2, ROW_HEIGHT - 4);
  }

  _paintRuler(context, width, ink, faint) {
    context.fillStyle = faint;
    for (const [start, end] of this.media.excerpts || [])
      context.fillRect(this.placeOf(start), RULER_HEIGHT - 5,
        Math.max(2, this.placeOf(end) - this.placeOf(start)), 5);
    context.strokeStyle = faint;
    context.lineWidth = 1;
    line(context, 0, RULER_HEIGHT - 0.5, width, RULER_HEIGHT - 0.5);
    context.fillStyle = ink;
    const ticks = Math.max(1, Math.floor((width - LABEL_WIDTH) / 90));
    for (let tick = 0; tick < ticks; tick++) {
      const index = Math.round((tick / ticks) * (this.media.count - 1));
      context.fillText(clock(this.media.seconds(index)), this.placeOf(index), RULER_HEIGHT / 2 - 1);
    }
  }

  _resize() {
    const ratio = window.devicePixelRatio || 1;
    const height = RULER_HEIGHT + this.tracks.length * ROW_HEIGHT + 4;
    this.scroller.style.height = `${Math.min(height, 320)}px`;
    const view = [this.scroller.clientWidth, Math.min(height, this.scroller.clientHeight)];
    this.canvas.style.width = `${view[0]}px`;
    this.canvas.style.height = `${view[1]}px`;
    this.canvas.width = Math.round(view[0] * ratio);
    this.canvas.height = Math.round(view[1] * ratio);
    this.spacer.style.height = `${Math.max(0, height - view[1])}px`;
    this.draw();
  }

  _press(event) {
    const y = event.offsetY;
    const row = Math.floor((y - RULER_HEIGHT + this.scroller.scrollTop) / ROW_HEIGHT);
    const track = y < RULER_HEIGHT ? null : this.tracks[row] || null;
    this._dragging = event.offsetX >= LABEL_WIDTH;
    if (this._dragging) this.canvas.setPointerCapture(event.pointerId);
    this._seek(event, track);
  }

  _seek(event, track) {
    const width = this.scroller.clientWidth - LABEL_WIDTH - 8;
    const share = (event.offsetX - LABEL_WIDTH) / width;
    const onLabel = share < 0 && !this._dragging;
    const index = onLabel
      ? (track ? track.spans[0]?.[0] ?? this.index : this.index)
      : Math.min(this.media.count - 1, Math.max(0, Math.floor(share * this.media.count)));
    const detail = { index, track, isAdding: event.shiftKey || event.ctrlKey || event.metaKey };
    this.dispatchEvent(new CustomEvent("seek", { detail }));
  }
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** Seconds as m:ss.cc, or h:mm:ss.cc. */
function clock(seconds) {
  const sign = seconds < 0 ? "-" : "";
  const hundredths = Math.round(Math.abs(seconds) * 100);
  const two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(hundredths / 6000), hours = Math.floor(minutes / 60);
  const rest = `${two(Math.floor(hundredths / 100) % 60)}.${two(hundredths % 100)}`;
  return sign + (hours ? `${hours}:${two(minutes % 60)}:${rest}` : `${minutes}:${rest}`);
}

/** A new element with these properties; text goes in as text, never as HTML. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
