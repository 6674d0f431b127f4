"use strict";

/** What Python embedded for the scripts; null where there is nothing. */
function pageData() {
  const element = document.getElementById("page-data");
  return element === null ? null : JSON.parse(element.textContent);
}

/** Numbers by value with what is undefined last, text by the alphabet with numbers in it. */
function compareCells(a, b, direction) {
  if (a.dataset.value === undefined) {
    return direction * a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  }
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x === "" || y === "") return (x === "") - (y === "");
  return direction * (Number(x) - Number(y));
}

function sortBy(heading) {
  const ascending = heading.ariaSort !== "ascending";
  for (const other of heading.parentElement.children) other.ariaSort = null;
  heading.ariaSort = ascending ? "ascending" : "descending";
  const body = heading.closest("table").tBodies[0];
  const column = heading.cellIndex;
  const rows = [...body.rows];
  rows.sort((a, b) => compareCells(a.cells[column], b.cells[column], ascending ? 1 : -1));
  body.append(...rows);
}

function filterRows(input) {
  const word = input.value.trim().toLowerCase();
  for (const row of input.closest(".table").querySelector("tbody").rows) {
    row.hidden = !row.textContent.toLowerCase().includes(word);
  }
}

for (const button of document.querySelectorAll("th > button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}
for (const input of document.querySelectorAll("input.filter")) {
  input.addEventListener("input", () => filterRows(input));
}
