"use strict";
/* Instance masks: COCO's compressed run lengths to small pictures of the pixels they hold. */

/** The run lengths of COCO's compressed form, background first, column by column. */
function decodeRuns(text) {
  const runs = [];
  let at = 0;
  while (at < text.length) {
    let value = 0, shift = 0, byte;
    do {
      byte = text.charCodeAt(at++) - 48;
      value |= (byte & 0x1f) << shift;
      shift += 5;
    } while (byte & 0x20 && at < text.length);
    if (byte & 0x10 && shift < 32) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/**
 * The pixels of a mask, cropped to their bounding box; null where there are none.
 *
 * Returns {x, y, width, height, pixels}, with pixels row by row, 1 where the mask is.
 */
function regionOf(counts, frameHeight) {
  const runs = decodeRuns(counts);
  const spans = []; // [column, first row, end row] of the mask, one column each
  let start = 0, top = frameHeight, bottom = 0;
  runs.forEach((length, index) => {
    const end = start + length;
    if (index % 2) {
      for (let at = start; at < end; ) {
        const column = Math.floor(at / frameHeight);
        const last = Math.min(end, (column + 1) * frameHeight);
        const span = [column, at - column * frameHeight, last - column * frameHeight];
        spans.push(span);
        top = Math.min(top, span[1]);
        bottom = Math.max(bottom, span[2]);
        at = last;
      }
    }
    start = end;
  });
  if (!spans.length) return null;
  const x = spans[0][0], width = spans[spans.length - 1][0] + 1 - x, height = bottom - top;
  const pixels = new Uint8Array(width * height);
  for (const [column, first, end] of spans)
    for (let row = first; row < end; row++) pixels[(row - top) * width + column - x] = 1;
  return { x, y: top, width, height, pixels };
}

/** A canvas of a region: tinted inside, opaque along its edge. */
function paintRegion(region, [red, green, blue], { fill = true, outline = true } = {}) {
  const { width, height, pixels } = region;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at++) {
      if (!pixels[at]) continue;
      const isInside = x > 0 && y > 0 && x < width - 1 && y < height - 1 &&
        pixels[at - 1] && pixels[at + 1] && pixels[at - width] && pixels[at + width];
      image.data.set([red, green, blue, outline && !isInside ? 255 : fill ? 105 : 0], 4 * at);
    }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Whether a pixel of the frame belongs to a region. */
function regionHas(region, x, y) {
  const column = Math.floor(x) - region.x, row = Math.floor(y) - region.y;
  return column >= 0 && row >= 0 && column < region.width && row < region.height &&
    region.pixels[row * region.width + column] === 1;
}
