"use strict";
/* The page on which tracks are corrected. Every action is on the server's disk before it shows. */

/** The tracks of a review, and what is done to them. Events: "change" after every action. */
class Review extends EventTarget {
  constructor(data, player, media) {
    super();
    Object.assign(this, { data, player, media, range: null, conflict: null });
    this.tracks = new Map();
    this._take(data);
    this.doing = Promise.resolve();
  }

  /** Ids of the selected tracks, the one that was selected first in front. */
  get selected() {
    return this.player.selected;
  }

  /** Do an action after those before; resolves with the server's result, or null if refused. */
  act(action) {
    const record = { ...action, id: crypto.randomUUID() };
    this.doing = this.doing.then(() => this._act(record));
    return this.doing;
  }

  async _act(record) {
    try {
      const answer = await (await ask("action", record)).json();
      this.conflict = null;
      for (const id of answer.removed) this.tracks.delete(id);
      this._take(answer);
      this.media.forget();
      this._show();
      await this.player.refresh();
      say(`saved: ${record.action}`);
      this.dispatchEvent(new CustomEvent("change"));
      return answer.result;
    } catch (error) {
      if (error.conflict) {
        this.conflict = { ...error.conflict, record };
        say("both tracks are in the same frames: decide which one stays", true);
        this.dispatchEvent(new CustomEvent("change"));
      } else say(error.message, true);
      return null;
    }
  }

  /** Take over what the server says of tracks, classes and marks. */
  _take(answer) {
    for (const track of answer.tracks) this.tracks.set(track.track_id, track);
    for (const key of ["classes", "checked", "canUndo", "canRedo"]) this.data[key] = answer[key];
  }

  _show() {
    this.player.setTracks(this.shown());
  }

  /** The tracks as Player takes them. */
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

/** Say something at the top of the page. */
function say(text, isError = false) {
  const status = document.getElementById("status");
  status.textContent = text;
  status.classList.toggle("error", isError);
}

async function begin() {
  history.replaceState(null, "", "/"); // the secret is in a cookie from now on
  const data = await (await ask("review")).json();
  document.title = `Review of ${data.name}`;
  document.getElementById("title").textContent = data.name;
  const media = new ServedMedia(data);
  const player = new Player(document.getElementById("player"), media, []);
  const review = new Review(data, player, media);
  player.setTracks(review.shown());
  const place = `queryinst-vis ${data.results}`;
  player.seek(Number(localStorage.getItem(place)) || 0);
  player.addEventListener("frame", ({ detail }) => localStorage.setItem(place, detail));
  const panel = new Panel(review, new Editor(player));
  document.getElementById("panel").hidden = false;
  say(data.hasPictures ? "every action is saved at once; ? shows the keys"
    : "nothing says where the video is: start again with --video FILE to see it", !data.hasPictures);
  window.review = Object.assign(review, { panel }); // for the console
  await panel.queue.load();
}

begin().catch((error) => say(error.message, true));
