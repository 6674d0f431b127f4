"use strict";
/* The page for correcting tracks. Every action is on the server's disk before the page shows it. */

const KEEPING = ["check", "name"]; // actions that leave regions and classes as they are

/**
 * The tracks of a review, and their actions.
 *
 * Events: "change" after every action; "edit" with the ids of the tracks that it has changed.
 */
class Review extends EventTarget {
  constructor(data, player, media) {
    super();
    Object.assign(this, { data, player, media, range: null, conflict: null });
    this.tracks = new Map();
    this._update(data);
    this.pending = Promise.resolve();
  }

  /** Ids of the selected tracks, in the order of selection. */
  get selected() {
    return this.player.selected;
  }

  /** Apply an action after all earlier ones; resolves to its result, or null if it failed. */
  act(action) {
    const record = { ...action, id: crypto.randomUUID() };
    this.pending = this.pending.then(() => this._apply(record));
    return this.pending;
  }

  async _apply(record) {
    try {
      const content = { ...record, state: this.data.state };
      const changes = await (await request("action", content)).json();
      this.conflict = null;
      for (const id of changes.removed) this.tracks.delete(id);
      this._update(changes);
      this.media.clearRegions();
      this._show();
      await this.player.refresh();
      setStatus(`saved: ${record.action}`);
      const edited = [...changes.removed, ...changes.tracks.map((track) => track.track_id)];
      if (!KEEPING.includes(record.action))
        this.dispatchEvent(new CustomEvent("edit", { detail: edited }));
      this.dispatchEvent(new CustomEvent("change"));
      return changes.result;
    } catch (error) {
      if (error.isStale) location.reload();
      if (error.conflict) {
        this.conflict = { ...error.conflict, record };
        setStatus("the tracks share frames: choose which region to keep", true);
        this.dispatchEvent(new CustomEvent("change"));
      } else setStatus(error.message, true);
      return null;
    }
  }

  /** Update tracks, classes and marks from a response. */
  _update(content) {
    for (const track of content.tracks) this.tracks.set(track.track_id, track);
    for (const key of ["classes", "checked", "canUndo", "canRedo", "state"])
      this.data[key] = content[key];
  }

  _show() {
    this.player.setTracks(this.shown());
  }

  /** The tracks as expected by Player. */
  shown() {
    return [...this.tracks.values()].sort((a, b) => a.track_id - b.track_id).map((track) => ({
      id: track.track_id,
      title: `#${track.track_id} ${track.class_name}${track.name ? ` ${track.name}` : ""}`,
      colour: track.colour,
      spans: track.spans.map(([first, stop]) => [first, stop - 1]),
      marks: track.drawn,
      checked: track.is_checked,
    }));
  }

  isChecked(index) {
    return this.data.checked.some(([first, stop]) => first <= index && index < stop);
  }

  checkedFrames() {
    return this.data.checked.reduce((sum, [first, stop]) => sum + stop - first, 0);
  }
}

/** Show a message at the top of the page. */
function setStatus(text, isError = false) {
  const status = document.getElementById("status");
  status.textContent = text;
  status.classList.toggle("error", isError);
}

async function start() {
  history.replaceState(null, "", "/"); // the secret is in a cookie from now on
  const data = await (await request("review")).json();
  document.title = `Review of ${data.name}`;
  document.getElementById("title").textContent = data.name;
  const media = new ServedMedia(data);
  const player = new Player(document.getElementById("player"), media, []);
  const review = new Review(data, player, media);
  player.setTracks(review.shown());
  const key = `queryinst-vis ${data.results}`;
  player.addEventListener("frame", ({ detail }) => localStorage.setItem(key, detail));
  await player.seek(Number(localStorage.getItem(key)) || 0); // actions need a frame
  const panel = new Panel(review, new Editor(player));
  document.getElementById("panel").hidden = false;
  setStatus(data.hasVideo ? "every action is saved immediately; press ? for keyboard shortcuts"
    : "the path of the video is unknown: restart with --video FILE to see it", !data.hasVideo);
  window.review = Object.assign(review, { panel }); // for the browser console
  await panel.queue.load();
}

start().catch((error) => setStatus(error.message, true));
