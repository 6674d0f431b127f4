"use strict";
/* Drawing and correcting outlines on the player's canvas. */

const GRIP = 9; // pixels of the screen around a point or an edge

/**
 * Edits polygons in pixels of the video: click adds a point, drag moves one, a click on an edge
 * puts one in, Alt-click takes one away.
 *
 * Events: "change" when editing begins or ends.
 */
class Editor extends EventTarget {
  constructor(player) {
    super();
    this.player = player;
    this.target = null;
    player.layers.push((context, scale, ratio) => this._draw(context, scale, ratio));
    const listen = (type, act) => player.canvas.addEventListener(type, (event) => {
      if (!this.target) return;
      event.stopImmediatePropagation();
      event.preventDefault();
      act(event);
    }, { capture: true });
    listen("pointerdown", (event) => this._press(event));
    listen("pointermove", (event) => this._drag(event));
    listen("pointerup", () => (this.grip = null));
    listen("click", () => {});
  }

  /** Begin to edit; target is what the polygons are for, polygons are [[x, y, ...], ...]. */
  begin(target, polygons) {
    this.target = target;
    this.outlines = polygons.map((flat) => pairsOf(flat));
    this.isOpen = !polygons.length;
    if (this.isOpen) this.outlines.push([]);
    this.grip = null;
    this._changed();
  }

  /** What was drawn, as [[x, y, ...], ...]; outlines of fewer than three points are left out. */
  polygons() {
    return this.outlines.filter((outline) => outline.length > 2)
      .map((outline) => outline.flat().map((value) => Math.round(value * 10) / 10));
  }

  /** Begin another outline of the same region. */
  addOutline() {
    this.outlines.push([]);
    this.isOpen = true;
    this.player.draw();
  }

  end() {
    this.target = null;
    this._changed();
  }

  removeLast() {
    const outline = this.outlines[this.outlines.length - 1];
    outline.pop();
    this.player.draw();
  }

  _changed() {
    this.player.canvas.classList.toggle("editing", this.target !== null);
    this.player.draw();
    this.dispatchEvent(new CustomEvent("change"));
  }

  _press(event) {
    const point = this.player.pointOf(event), reach = this._reach();
    this.player.canvas.setPointerCapture(event.pointerId);
    const near = this._pointAt(point, reach);
    if (near && event.altKey) {
      near.outline.splice(near.place, 1);
    } else if (near) {
      if (this.isOpen && near.outline === this.outlines[this.outlines.length - 1] &&
          near.place === 0 && near.outline.length > 2) this.isOpen = false;
      this.grip = near;
    } else {
      const edge = this._edgeAt(point, reach);
      if (edge) {
        edge.outline.splice(edge.place, 0, point);
        this.grip = edge;
      } else if (this.isOpen) {
        const outline = this.outlines[this.outlines.length - 1];
        outline.push(point);
        this.grip = { outline, place: outline.length - 1 };
      }
    }
    this.player.draw();
  }

  _drag(event) {
    if (!this.grip) return;
    this.grip.outline[this.grip.place] = this.player.pointOf(event);
    this.player.draw();
  }

  _reach() {
    return (GRIP * this.player.media.width) / this.player.canvas.clientWidth;
  }

  _pointAt([x, y], reach) {
    for (const outline of this.outlines)
      for (let place = 0; place < outline.length; place++)
        if (Math.hypot(outline[place][0] - x, outline[place][1] - y) < reach)
          return { outline, place };
    return null;
  }

  _edgeAt(point, reach) {
    for (const outline of this.outlines) {
      const isClosed = !this.isOpen || outline !== this.outlines[this.outlines.length - 1];
      for (let place = 0; isClosed && place < outline.length; place++)
        if (distance(point, outline[place], outline[(place + 1) % outline.length]) < reach)
          return { outline, place: place + 1 };
    }
    return null;
  }

  _draw(context, [sx, sy], ratio) {
    if (!this.target) return;
    context.lineWidth = 2 * ratio;
    context.strokeStyle = "#fff";
    context.fillStyle = "rgba(255, 255, 255, 0.2)";
    for (const outline of this.outlines) {
      context.beginPath();
      outline.forEach(([x, y], place) =>
        (place ? context.lineTo(x * sx, y * sy) : context.moveTo(x * sx, y * sy)));
      if (!this.isOpen || outline !== this.outlines[this.outlines.length - 1]) context.closePath();
      context.fill();
      context.stroke();
      for (const [x, y] of outline) {
        context.fillStyle = "#e8384f";
        context.fillRect(x * sx - 3 * ratio, y * sy - 3 * ratio, 6 * ratio, 6 * ratio);
        context.fillStyle = "rgba(255, 255, 255, 0.2)";
      }
    }
  }
}

function pairsOf(flat) {
  const pairs = [];
  for (let at = 0; at + 1 < flat.length; at += 2) pairs.push([flat[at], flat[at + 1]]);
  return pairs;
}

/** Of a point from a stretch between two others. */
function distance([x, y], [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const share = Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x0 - share * dx, y - y0 - share * dy);
}
