"use strict";
/* What can be done: buttons and keys, conflicts, and what is written. */

function button(text, key, act) {
  const made = element("button", { type: "button", onclick: act }, text);
  if (key) made.append(" ", element("kbd", {}, key));
  return made;
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
      ["g", "fill the selected tracks by interpolation in this frame, or in the marked range", () =>
        this.all((track) => review.act({ action: "fill", track, frames: this.frames() }))],
      ["u", "undo", () => review.act({ action: "undo" })],
      ["Ctrl+z", "undo", () => review.act({ action: "undo" })],
      ["U", "redo", () => review.act({ action: "redo" })],
      ["Ctrl+Shift+Z", "redo", () => review.act({ action: "redo" })],
      ["c", "change the class", () => this.focus("class")],
      ["n", "name the identity", () => this.focus("name")],
      ["k", "mark the selected tracks as checked, or not", () => this.all((track) =>
        review.act({ action: "check", track, checked: !review.tracks.get(track).is_checked }))],
      ["f", "mark this frame, or the marked range, as checked or not", () => this.checkFrames()],
      ["F", "mark all frames as checked", () => review.act({ action: "check" })],
      ["i", "the marked range begins here", () => this.mark(0)],
      ["o", "the marked range ends here", () => this.mark(1)],
      ["d", "draw a region: of the selected track, or of a new one", () => this.draw()],
      ["e", "correct the region of the selected track", () => this.one((track) =>
        this.correct(track))],
      ["Enter", "save what is drawn", () => this.saveDrawing()],
      ["Backspace", "take the last point back", () => this.editor.target && this.editor.removeLast()],
      ["Escape", "end drawing without saving; select nothing", () => this.escape()],
      ["a", "accept the suggestion", () => this.queue.accept()],
      ["r", "reject (dismiss) the suggestion", () => this.queue.dismiss()],
      ["j", "next suggestion", () => this.queue.go(1)],
      ["J", "previous suggestion", () => this.queue.go(-1)],
    ];
    this.player.keys.unshift(...keys);
    this.player.layers.push((context, scale, ratio) => this._drawRange(context, ratio));
    for (const target of [review, editor]) target.addEventListener("change", () => this.update());
    this.player.addEventListener("select", () => this.update());
    this.player.addEventListener("frame", () => this._updateFrames());
    this._buildExport();
    this.update();
  }

  /** Do something to each selected track. */
  async all(act) {
    if (!this.review.selected.length) return say("select a track first: click on it", true);
    for (const track of [...this.review.selected]) await act(track);
  }

  one(act) {
    const { selected } = this.review;
    if (selected.length !== 1) return say("select one track: click on it", true);
    return act(selected[0]);
  }

  async merge() {
    const [first, ...others] = this.review.selected;
    if (!others.length) return say("select two tracks: click one, and Shift-click the other", true);
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
      return say("select two tracks: click one, and Shift-click the other", true);
    return this.review.act({ action: "swap", first, second, frame: this.player.index });
  }

  /** The marked range, or this frame, as actions have it. */
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
      const polygons = await (await ask(`outlines/${frame}/${track}`)).json();
      this.editor.begin({ track, frame }, polygons);
    } catch (error) {
      say(error.status === 404 ? "the track is not in this frame: draw it" : error.message, true);
    }
  }

  async saveDrawing() {
    const { target } = this.editor;
    if (!target) return;
    const polygons = this.editor.polygons();
    if (!polygons.length) return say("a region needs three points", true);
    const action = { action: "draw", frame: target.frame, polygons, fill: this.fill.value };
    if (target.track === null) action.class_name = this.newClass.value;
    else action.track = target.track;
    const result = await this.review.act(action);
    if (!result) return;
    this.editor.end();
    if (result.created.length) this.player.select(result.created[0]);
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

  focus(what) {
    const field = document.querySelector(`#selection [data-field="${what}"]`);
    if (!field) return say("select a track first: click on it", true);
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
    const { review, editor } = this, does = (key) => () => this.player.keys.find(([k]) => k === key)[2]();
    if (editor.target) return this._updateDrawing();
    const rows = review.selected.map((id) => this._row(review.tracks.get(id)));
    const one = review.selected.length === 1, two = review.selected.length > 1;
    const buttons = [
      two && button("merge", "m", does("m")),
      review.selected.length === 2 && button("swap from here", "w", does("w")),
      one && button("split here", "s", does("s")),
      one && button("correct", "e", does("e")),
      (one || !review.selected.length) && button(one ? "draw" : "draw a new track", "d", does("d")),
      review.selected.length > 0 && button("delete", "x", does("x")),
      review.selected.length > 0 && button("delete here", "X", does("X")),
      review.selected.length > 0 && button("checked", "k", does("k")),
    ];
    const hint = review.selected.length ? [] : [element("p", { className: "note" },
      "Click a track to select it, Shift-click for more.")];
    const undo = button("undo", "u", does("u")), redo = button("redo", "U", does("U"));
    undo.disabled = !review.data.canUndo;
    redo.disabled = !review.data.canRedo;
    section("selection", "Tracks", ...rows, ...hint, ...buttons.filter(Boolean),
      element("div", {}, undo, redo));
  }

  _row(track) {
    const classes = element("select", {});
    classes.dataset.field = "class";
    classes.setAttribute("aria-label", `class of track ${track.track_id}`);
    for (const name of [...this.review.data.classes, "another ..."])
      classes.append(element("option", { textContent: name, value: name }));
    classes.value = track.class_name;
    classes.onchange = () => this._setClass(track, classes);
    const name = element("input", { type: "text", value: track.name, size: 14, placeholder: "name" });
    name.dataset.field = "name";
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

  _updateDrawing() {
    const { target } = this.editor;
    this.fill = element("select", {});
    for (const [value, text] of [["gaps", "fill frames without a region"], ["all", "fill all frames"],
      ["none", "fill nothing"]]) this.fill.append(element("option", { value, textContent: text }));
    this.fill.setAttribute("aria-label", "between drawn frames");
    this.newClass = element("select", {});
    this.newClass.setAttribute("aria-label", "class of the new track");
    for (const name of this.review.data.classes)
      this.newClass.append(element("option", { textContent: name, value: name }));
    section("selection", target.track === null ? "Drawing a new track" : `Drawing #${target.track}`,
      element("p", { className: "note" }, "Click adds a point, the first point closes the outline, " +
        "drag moves a point, a click on an edge puts one in, Alt-click takes one away."),
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
      element("p", {}, `${review.checkedFrames()} of ${review.data.count} checked; this one is ` +
        `${here ? "" : "not "}checked.`),
      element("p", {}, range ? `Marked: ${number(range[0])} to ${number(range[1])}. ` : "",
        button("from here", "i", () => this.mark(0)), button("to here", "o", () => this.mark(1))),
      button(here ? "not checked" : "checked", "f", () => this.checkFrames()),
      button("all checked", "F", () => review.act({ action: "check" })));
  }

  _drawRange(context, ratio) {
    const { range } = this.review, { index } = this.player;
    if (!range || index < range[0] || index > range[1]) return;
    context.strokeStyle = "#ffd021";
    context.lineWidth = 4 * ratio;
    context.strokeRect(0, 0, context.canvas.width, context.canvas.height);
  }

  _updateConflict() {
    const { conflict } = this.review, place = document.getElementById("conflict");
    place.hidden = !conflict;
    if (!conflict) return;
    const { first, second, frames, record } = conflict;
    const choices = [["keep first", `keep #${first}`], ["keep second", `keep #${second}`],
      ["drop both", "drop both"]];
    const decided = frames.map(() => element("select", {}));
    const rows = frames.map(([start, last], row) => {
      decided[row].append(element("option", { value: "", textContent: "decide" }));
      for (const [value, text] of choices)
        decided[row].append(element("option", { value, textContent: text }));
      const [a, b] = [start, last].map((index) => this.player.media.number(index));
      return element("li", {}, button(a === b ? `frame ${a}` : `frames ${a} to ${b}`, "", () => {
        this.player.pause();
        this.player.select([first, second]);
        this.player.seek(start);
      }), decided[row]);
    });
    const repeat = (more) => this.review.act({ ...record, ...more }).then((result) =>
      result && this.player.select(first));
    section("conflict", `#${first} and #${second} are both there`,
      element("p", {}, "Which one stays in these frames?"),
      element("ul", { className: "ranges" }, ...rows),
      button("do as decided", "", () => {
        if (decided.some((choice) => !choice.value)) return say("decide about every range", true);
        repeat({ decide_frames: frames.map((range, row) => [...range, decided[row].value]) });
      }),
      element("p", {}, "In all of them: ", ...choices.map(([value, text]) =>
        button(text, "", () => repeat({ decide: value })))),
      button("do not merge", "Esc", () => this.escape()));
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
    const write = button("write", "", async () => {
      write.disabled = true;
      message.textContent = "writing ...";
      try {
        const answer = await ask("export", { format: formats.value, frames: frames.value });
        message.textContent = (await answer.json()).message;
      } catch (error) {
        message.textContent = error.message;
      }
      write.disabled = false;
    });
    section("export", "Write", element("p", {}, formats, " ", frames, " ", write), message);
  }
}
