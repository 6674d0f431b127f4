"use strict";

/** Pictures of the same things after one step and another: a slider chooses the step. */
for (const sheets of document.querySelectorAll(".sheets")) {
  const slider = sheets.querySelector("input");
  const pictures = [...sheets.querySelectorAll("img")];
  const show = () => {
    for (const [index, picture] of pictures.entries()) picture.hidden = index !== Number(slider.value);
    sheets.querySelector("output").value = pictures[Number(slider.value)].dataset.step;
  };
  slider.addEventListener("input", show);
  show();
}
