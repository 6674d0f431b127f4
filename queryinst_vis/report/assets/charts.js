"use strict";

/** Draws the page's charts in the colours of its light or dark form. */
function drawCharts() {
  const style = getComputedStyle(document.documentElement);
  const [text, faint, line] = ["--text", "--faint", "--line"].map((name) => style.getPropertyValue(name));
  const words = { labelColor: text, titleColor: text };
  const options = {
    ast: true, // interprets expressions, since the page's policy forbids eval
    renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false },
    config: {
      background: "transparent",
      axis: { ...words, gridColor: line, domainColor: faint, tickColor: faint, grid: false, labelLimit: 260 },
      legend: words,
      title: { color: text, anchor: "start", fontSize: 12, fontWeight: "normal" },
      text: { color: text },
      rule: { color: faint },
      view: { stroke: null },
    },
  };
  const charts = JSON.parse(document.getElementById("page-charts").textContent);
  for (const element of document.querySelectorAll(".chart")) {
    const spec = charts[element.dataset.chart];
    window.vegaEmbed(element, { width: "container", autosize: { type: "fit-x", contains: "padding" }, ...spec }, options);
  }
}

drawCharts();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
