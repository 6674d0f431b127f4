"use strict";
/* Keyboard shortcuts of a page, and the list of them. */

const REPEATED = /Arrow|Backspace|^[[\]jJuU,.]$/; // keys that act again while they are held down
const TYPING = "input:not([type=checkbox]), select, textarea, dialog[open]";
const PRESSED = "button, summary, a[href], input[type=checkbox]"; // by the space bar or Enter

/** Calls the action of a binding, [key, help, action], when its key is pressed. */
class Keyboard {
  constructor(root) {
    this.bindings = [["?", "this list", () => this.showList()]];
    this.list = element("dialog", { className: "player-help" });
    root.append(this.list);
    document.addEventListener("keydown", (event) => this._press(event));
    // After a click, the space bar plays instead of repeating the click. The element has the focus
    // only after this event, a label's once it has been clicked.
    document.addEventListener("pointerup", () => setTimeout(() => {
      const focused = document.activeElement;
      if (focused?.matches(PRESSED) && !focused.closest("dialog")) focused.blur();
    }));
  }

  /** Add bindings before the others, which lose keys that both have. */
  add(bindings) {
    this.bindings.unshift(...bindings);
  }

  /** Call the action of a key. */
  press(key) {
    return this.bindings.find(([other]) => other === key)?.[2]();
  }

  showList() {
    const rows = this.bindings.map(([key, about]) =>
      element("tr", {}, element("th", {}, key === " " ? "space" : key), element("td", {}, about)));
    const close = element("button", { type: "button", textContent: "close" });
    close.onclick = () => this.list.close();
    this.list.replaceChildren(element("table", {}, ...rows), close);
    this.list.showModal();
  }

  _press(event) {
    if (event.altKey || event.defaultPrevented || event.target.closest?.(TYPING)) return;
    if ([" ", "Enter"].includes(event.key) && event.target.closest?.(PRESSED)) return;
    const isCommand = event.ctrlKey || event.metaKey;
    const name = event.key.length === 1 && !isCommand ? event.key
      : [isCommand && "Ctrl", event.shiftKey && "Shift", event.key].filter(Boolean).join("+");
    if (!this.bindings.some(([key]) => key === name)) return;
    event.preventDefault();
    if (!event.repeat || REPEATED.test(name)) this.press(name);
  }
}
