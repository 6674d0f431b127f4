"use strict";
/* The panel: buttons and keyboard shortcuts, conflicts and export. */

const CLICK = 300; // milliseconds within which a click ends
const SELECT_TWO = "select two tracks: click one, and Shift-click the other";

function button(text, key, onclick) {
  const result = element("button", { type: "button", onclick }, text);
  if (key) result.append(" ", element("kbd", {}, key));
  return result;
}

function section(id, title, ...children) {
  document.getElementById(id).replaceChildren(element("h2", {}, title), ...children);
}

class Panel {
  constructor(review, editor) {
    Object.assign(this, { review, editor, player: review.player });
    this.queue = new Queue(review);
    const keys = [
      ["m", "merge the selected tracks into the one selected first", () => this.merge()],
      ["s", "split the selected track at this frame", () => this.one((track) =>
        this._split(track))],
      ["w", "swap two selected tracks from this frame on", () => this.swap()],
      ["x", "delete the selected tracks", () => this.all((track) =>
        review.act({ action: "delete", track }))],
      ["X", "delete the selected tracks in this frame, or in the marked range", () =>
        this.all((track) => review.act({ action: "delete", track, frames: this.frames() }))],
      ["g", "interpolate the selected tracks in this frame, or in the marked range", () =>
        this.all((track) => review.act({ action: "fill", track, frames: this.frames() }))],
      ["u", "undo", () => review.act({ action: "undo" })],
      ["Ctrl+z", "undo", () => review.act({ action: "undo" })],
      ["U", "redo", () => review.act({ action: "redo" })],
      ["Ctrl+Shift+Z", "redo", () => review.act({ action: "redo" })],
      ["c", "change the class", () => this.focus("class")],
      ["n", "name the identity", () => this.focus("name")],
      ["k", "check the selected tracks, or uncheck them", () => this.all((track) =>
        review.act({ action: "check", track, checked: !review.tracks.get(track).is_checked }))],
      ["f", "check this frame or the marked range, or uncheck it", () => this.checkFrames()],
      ["F", "check all frames", () => review.act({ action: "check" })],
      ["i", "start of the marked range", () => this.mark(0)],
      ["o", "end of the marked range", () => this.mark(1)],
      ["d", "draw a region of the selected track, or of a new one", () => this.draw()],
      ["e", "correct the region of the selected track", () => this.one((track) =>
        this.correct(track))],
      ["Enter", "save the drawing", () => this.saveDrawing()],
      ["Backspace", "remove the last point", () => this.editor.isVisible && this.editor.removeLast()],
      ["Escape", "cancel drawing or merging; clear the selection", () => this.escape()],
      ["a", "accept the suggestion", () => this.queue.accept()],
      ["r", "dismiss (reject) the suggestion", () => this.queue.dismiss()],
      ["j", "next suggestion", () => this.queue.go(1)],
      ["J", "previous suggestion", () => this.queue.go(-1)],
    ];
    this.player.keyboard.add(keys);
    this.player.layers.push((context, scale, ratio) => this._drawRange(context, ratio));
    for (const target of [review, editor]) target.addEventListener("change", () => this.update());
    this.player.addEventListener("select", () => this.update());
    this.player.addEventListener("frame", () => this._updateFrames());
    this._buildExport();
    this.update();
  }

  /** Call a function for each selected track. */
  async all(apply) {
    if (!this.review.selected.length) return setStatus("select a track first: click on it", true);
    for (const track of [...this.review.selected]) await apply(track);
  }

  /** Call a function for the only selected track. */
  one(apply) {
    const { selected } = this.review;
    if (selected.length !== 1) return setStatus("select one track: click on it", true);
    return apply(selected[0]);
  }

  async merge() {
    const [first, ...others] = this.review.selected;
    if (!others.length) return setStatus(SELECT_TWO, true);
    for (const second of others)
      if (!(await this.review.act({ action: "merge", first, second }))) return;
    this.player.select(first);
  }

  async _split(track) {
    const result = await this.review.act({ action: "split", track, frame: this.player.index });
    if (result) this.player.select([track, ...result.created]);
  }

  swap() {
    const [first, second, ...others] = this.review.selected;
    if (second === undefined || others.length)
      return setStatus(SELECT_TWO, true);
    return this.review.act({ action: "swap", first, second, frame: this.player.index });
  }

  /** The marked range, or this frame, as `frames` of an action. */
  frames() {
    return [this.review.range || [this.player.index, this.player.index]];
  }

  mark(end) {
    const { review, player } = this, range = review.range || [player.index, player.index];
    range[end] = player.index;
    if (range[0] > range[1]) range[1 - end] = player.index;
    review.range = range;
    this._updateFrames();
    player.draw();
  }

  checkFrames() {
    const checked = !this.review.isChecked(this.player.index);
    return this.review.act({ action: "check", frames: this.frames(), checked });
  }

  draw() {
    const [track] = this.review.selected;
    this.player.pause();
    this.editor.begin({ track: track ?? null, frame: this.player.index }, []);
  }

  async correct(track) {
    this.player.pause();
    const frame = this.player.index;
    try {
      const polygons = await (await request(`outlines/${frame}/${track}`)).json();
      this.editor.begin({ track, frame }, polygons);
    } catch (error) {
      const isMissing = error.status === 404;
      setStatus(isMissing ? "the track is not in this frame: draw it" : error.message, true);
    }
  }

  async saveDrawing() {
    const { target, isVisible } = this.editor;
    if (!target || target.isSaving) return; // saving a new track twice would make two of them
    if (!isVisible) return this._backToDrawing();
    const polygons = this.editor.polygons();
    if (!polygons.length) return setStatus("an outline needs at least three points", true);
    const action = { action: "draw", frame: target.frame, polygons, fill: this.fill.value };
    if (target.track === null) action.class_name = this.newClass.value;
    else action.track = target.track;
    target.isSaving = true;
    const result = await this.review.act(action);
    target.isSaving = false;
    if (!result) return;
    if (this.editor.target === target) this.editor.end();
    if (result.created.length) this.player.select(result.created[0]);
  }

  /** Show the frame of the drawing again, which is hidden in other frames. */
  _backToDrawing() {
    const { frame } = this.editor.target;
    this.player.pause();
    this.player.seek(frame);
    setStatus(`back at frame ${this.player.media.number(frame)}, of the drawing`);
  }

  escape() {
    if (this.editor.target) return this.editor.end();
    if (this.review.conflict) {
      this.review.conflict = null;
      return this.update();
    }
    this.review.range = null;
    this.player.select([]);
    this._updateFrames();
  }

  focus(name) {
    const field = document.querySelector(`#selection [data-field="${name}"]`);
    if (!field) return setStatus("select a track first: click on it", true);
    field.focus();
    field.select?.();
  }

  update() {
    this._updateConflict();
    this._updateSelection();
    this._updateFrames();
    this.queue.update();
  }

  _updateSelection() {
    const { review, editor } = this;
    const press = (key) => () => this.player.keyboard.press(key);
    if (editor.target !== this.drawn) {
      this.drawn = editor.target;
      if (editor.target) this._buildDrawing();
    }
    if (editor.target) return;
    const typing = document.activeElement;
    if (typing.dataset.field === "name" && review.tracks.has(Number(typing.dataset.track))) {
      typing.onblur = () => setTimeout(() => this.update(), CLICK); // or the click would be lost
      return;
    }
    const rows = review.selected.map((id) => this._row(review.tracks.get(id)));
    const one = review.selected.length === 1, two = review.selected.length > 1;
    const buttons = [
      two && button("merge", "m", press("m")),
      review.selected.length === 2 && button("swap from here", "w", press("w")),
      one && button("split here", "s", press("s")),
      one && button("correct", "e", press("e")),
      (one || !review.selected.length) && button(one ? "draw" : "draw a new track", "d", press("d")),
      review.selected.length > 0 && button("delete", "x", press("x")),
      review.selected.length > 0 && button("delete here", "X", press("X")),
      review.selected.length > 0 && button("check / uncheck", "k", press("k")),
    ];
    const hint = review.selected.length ? [] : [element("p", { className: "note" },
      "Click a track to select it, Shift-click to add one.")];
    const undo = button("undo", "u", press("u")), redo = button("redo", "U", press("U"));
    undo.disabled = !review.data.canUndo;
    redo.disabled = !review.data.canRedo;
    section("selection", "Tracks", ...rows, ...hint, ...buttons.filter(Boolean),
      element("div", {}, undo, redo));
  }

  _row(track) {
    const classes = element("select", {});
    classes.dataset.field = "class";
    classes.setAttribute("aria-label", `class of track ${track.track_id}`);
    for (const name of [...this.review.data.classes, "new class ..."])
      classes.append(element("option", { textContent: name, value: name }));
    classes.value = track.class_name;
    classes.onchange = () => this._setClass(track, classes);
    const name = element("input", { type: "text", value: track.name, size: 14, placeholder: "name" });
    Object.assign(name.dataset, { field: "name", track: track.track_id });
    name.setAttribute("aria-label", `name of track ${track.track_id}`);
    name.onchange = () =>
      this.review.act({ action: "name", track: track.track_id, name: name.value.trim() });
    name.onkeydown = (event) => {
      if (event.key === "Enter") name.blur();
    };
    const row = element("div", { className: "track-row" }, `#${track.track_id} `, classes, " ", name,
      element("span", { className: "note" },
        ` ${track.frames} frames${track.is_checked ? ", checked" : ""}`));
    row.style.borderColor = `rgb(${track.colour})`;
    return row;
  }

  _setClass(track, classes) {
    const isNew = classes.selectedIndex === classes.options.length - 1;
    const name = isNew ? window.prompt("Name of the new class") : classes.value;
    if (!name) return this.update();
    const action = { action: "class", track: track.track_id, class_name: name };
    return this.review.act(isNew ? { ...action, is_new: true } : action);
  }

  /** Built once per drawing: its choices must survive other updates. */
  _buildDrawing() {
    const { target } = this.editor;
    this.fill = element("select", {});
    for (const [value, text] of [["gaps", "interpolate frames without a region"],
      ["all", "interpolate all frames"], ["none", "do not interpolate"]])
      this.fill.append(element("option", { value, textContent: text }));
    this.fill.setAttribute("aria-label", "between drawn frames");
    this.newClass = element("select", {});
    this.newClass.setAttribute("aria-label", "class of the new track");
    for (const name of this.review.data.classes)
      this.newClass.append(element("option", { textContent: name, value: name }));
    const what = target.track === null ? "a new track" : `#${target.track}`;
    section("selection", `Drawing ${what} in frame ${this.player.media.number(target.frame)}`,
      element("p", { className: "note" }, "Click to add a point, click the first point to close " +
        "the outline, drag to move a point, click an edge to insert one, Alt-click to remove one."),
      element("p", {}, "Between drawn frames: ", this.fill),
      ...(target.track === null ? [element("p", {}, "Class: ", this.newClass)] : []),
      button("save", "Enter", () => this.saveDrawing()),
      button("another outline", "", () => this.editor.addOutline()),
      button("cancel", "Esc", () => this.escape()));
  }

  _updateFrames() {
    const { review, player } = this, { range } = review;
    const here = review.isChecked(player.index);
    const number = (index) => player.media.number(index);
    section("frames", "Frames",
      element("p", {}, `${review.checkedFrames()} of ${review.data.count} checked; this frame is ` +
        `${here ? "" : "not "}checked.`),
      element("p", {}, range ? `Marked: ${number(range[0])} to ${number(range[1])}. ` : "",
        button("from here", "i", () => this.mark(0)), button("to here", "o", () => this.mark(1))),
      button(here ? "uncheck" : "check", "f", () => this.checkFrames()),
      button("check all", "F", () => review.act({ action: "check" })));
  }

  _drawRange(context, ratio) {
    const { range } = this.review, { index } = this.player;
    if (!range || index < range[0] || index > range[1]) return;
    context.strokeStyle = "#ffd021";
    context.lineWidth = 4 * ratio;
    context.strokeRect(0, 0, context.canvas.width, context.canvas.height);
  }

  _updateConflict() {
    const { conflict } = this.review;
    document.getElementById("conflict").hidden = !conflict;
    if (!conflict) return;
    const { first, second, frames, record } = conflict;
    const choices = [["keep first", `keep #${first}`], ["keep second", `keep #${second}`],
      ["drop both", "drop both"]];
    const selects = frames.map(() => element("select", {}));
    const rows = frames.map(([start, last], row) => {
      selects[row].append(element("option", { value: "", textContent: "choose" }));
      for (const [value, text] of choices)
        selects[row].append(element("option", { value, textContent: text }));
      const [a, b] = [start, last].map((index) => this.player.media.number(index));
      return element("li", {}, button(a === b ? `frame ${a}` : `frames ${a} to ${b}`, "", () => {
        this.player.pause();
        this.player.select([first, second]);
        this.player.seek(start);
      }), selects[row]);
    });
    const retry = (decisions) => this.review.act({ ...record, ...decisions }).then((result) =>
      result && this.player.select(first));
    section("conflict", `Tracks #${first} and #${second} share frames`,
      element("p", {}, "Which region should be kept in these frames?"),
      element("ul", { className: "ranges" }, ...rows),
      button("merge as chosen", "", () => {
        if (selects.some((select) => !select.value))
          return setStatus("choose for every range", true);
        retry({ decide_frames: frames.map((range, row) => [...range, selects[row].value]) });
      }),
      element("p", {}, "In all of these frames: ", ...choices.map(([value, text]) =>
        button(text, "", () => retry({ decide: value })))),
      button("cancel", "Esc", () => this.escape()));
  }

  _buildExport() {
    const formats = element("select", {}), frames = element("select", {});
    formats.setAttribute("aria-label", "format");
    frames.setAttribute("aria-label", "which frames");
    for (const name of this.review.data.formats)
      formats.append(element("option", { value: name, textContent: name }));
    for (const [value, text] of [["checked", "checked frames"], ["all", "all frames"]])
      frames.append(element("option", { value, textContent: text }));
    const message = element("p", { className: "note" });
    message.setAttribute("role", "status");
    const write = button("export", "", async () => {
      write.disabled = true;
      message.textContent = "exporting ...";
      try {
        const response = await request("export", { format: formats.value, frames: frames.value });
        message.textContent = (await response.json()).message;
      } catch (error) {
        message.textContent = error.message;
      }
      write.disabled = false;
    });
    section("export", "Export", element("p", {}, formats, " ", frames, " ", write), message);
  }
}
