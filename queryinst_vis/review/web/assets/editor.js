"use strict";
/* Drawing and editing outlines on the player's canvas. */

const GRIP = 9; // screen pixels around a point or an edge within which it is grabbed

/**
 * Edits polygons in video pixels: click to add a point, drag to move one, click an edge to insert
 * one, Alt-click to remove one. While another frame is shown, the outlines are hidden.
 *
 * Events: "change" when editing starts or ends.
 */
class Editor extends EventTarget {
  constructor(player) {
    super();
    this.player = player;
    this.target = null;
    player.layers.push((context, scale, ratio) => this._draw(context, scale, ratio));
    const listen = (type, handle) => player.canvas.addEventListener(type, (event) => {
      if (!this.target) return;
      event.stopImmediatePropagation();
      event.preventDefault();
      if (this.isVisible) handle(event);
    }, { capture: true });
    listen("pointerdown", (event) => this._press(event));
    listen("pointermove", (event) => this._drag(event));
    listen("pointerup", () => (this.grip = null));
    listen("click", () => {});
  }

  /** Start editing polygons, [[x, y, ...], ...], for a target, {track, frame}. */
  begin(target, polygons) {
    this.target = target;
    this.outlines = polygons.map((flat) => pairsOf(flat));
    this.isOpen = !polygons.length;
    if (this.isOpen) this.outlines.push([]);
    this.grip = null;
    this._changed();
  }

  /** Whether the player shows the frame of the target. */
  get isVisible() {
    return this.target !== null && this.player.index === this.target.frame;
  }

  /** The outlines with at least three points, as [[x, y, ...], ...]. */
  polygons() {
    return this.outlines.filter((outline) => outline.length > 2)
      .map((outline) => outline.flat().map((value) => Math.round(value * 10) / 10));
  }

  /** Start another outline of the same region. */
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
      near.outline.splice(near.index, 1);
    } else if (near) {
      if (this.isOpen && near.outline === this.outlines[this.outlines.length - 1] &&
          near.index === 0 && near.outline.length > 2) this.isOpen = false;
      this.grip = near;
    } else {
      const edge = this._edgeAt(point, reach);
      if (edge) {
        edge.outline.splice(edge.index, 0, point);
        this.grip = edge;
      } else if (this.isOpen) {
        const outline = this.outlines[this.outlines.length - 1];
        outline.push(point);
        this.grip = { outline, index: outline.length - 1 };
      }
    }
    this.player.draw();
  }

  _drag(event) {
    if (!this.grip) return;
    this.grip.outline[this.grip.index] = this.player.pointOf(event);
    this.player.draw();
  }

  _reach() {
    return (GRIP * this.player.media.width) / this.player.canvas.clientWidth;
  }

  _pointAt([x, y], reach) {
    for (const outline of this.outlines)
      for (let index = 0; index < outline.length; index++)
        if (Math.hypot(outline[index][0] - x, outline[index][1] - y) < reach)
          return { outline, index };
    return null;
  }

  _edgeAt(point, reach) {
    for (const outline of this.outlines) {
      const isClosed = !this.isOpen || outline !== this.outlines[this.outlines.length - 1];
      for (let index = 0; isClosed && index < outline.length; index++)
        if (distance(point, outline[index], outline[(index + 1) % outline.length]) < reach)
          return { outline, index: index + 1 };
    }
    return null;
  }

  _draw(context, [sx, sy], ratio) {
    if (!this.isVisible) return;
    context.lineWidth = 2 * ratio;
    context.strokeStyle = "#fff";
    context.fillStyle = "rgba(255, 255, 255, 0.2)";
    for (const outline of this.outlines) {
      context.beginPath();
      outline.forEach(([x, y], index) =>
        (index ? context.lineTo(x * sx, y * sy) : context.moveTo(x * sx, y * sy)));
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
  for (let i = 0; i + 1 < flat.length; i += 2) pairs.push([flat[i], flat[i + 1]]);
  return pairs;
}

/** The distance of a point from the line segment between two others. */
function distance([x, y], [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const share = Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x0 - share * dx, y - y0 - share * dy);
}
