// What is drawn on a chart, between its axes. Everything is in the canvas's own pixels.

import { ink } from "./palette.js";

const FEW = 30; // points; so few are dots as well

/** Draw ``content`` on a chart of uPlot's. */
export function draw(u, content) {
  const { ctx, bbox } = u;
  const place = placing(u, content);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.lineJoin = "round";
  drawMarks(ctx, bbox, place, content.marks);
  for (const area of content.areas) drawArea(ctx, place, area);
  for (const line of content.lines) drawLine(ctx, place, line, content.x);
  for (const ring of content.rings) drawRing(ctx, place, ring);
  drawWords(ctx, bbox, place, content);
  ctx.restore();
}

/** From values to the canvas's pixels, and ``back`` to an x. */
function placing(u, { x, y, log }) {
  const { left, top, width, height } = u.bbox;
  const along = width / (x[1] - x[0]);
  const level = log ? Math.log10 : (value) => value;
  const up = height / (level(y[1]) - level(y[0]));
  const base = level(y[0]);
  return {
    x: (value) => left + (value - x[0]) * along,
    y: (value) => top + height - (level(value) - base) * up,
    back: (pixel) => x[0] + (pixel - left) / along,
  };
}

function drawLine(ctx, place, line, range) {
  const { x, y } = line;
  const first = Math.max(0, before(x, range[0]) - 1);
  const last = Math.min(x.length - 1, before(x, range[1]) + 1);
  const ratio = devicePixelRatio;
  ctx.globalAlpha = line.alpha ?? 1;
  ctx.strokeStyle = ctx.fillStyle = line.colour;
  ctx.lineWidth = (line.width ?? 2) * ratio;
  ctx.setLineDash((line.dash ?? []).map((length) => length * ratio));
  ctx.beginPath();
  let open = false;
  for (let index = first; index <= last; index += 1) {
    if (y[index] === null) open = false;
    else if (open) ctx.lineTo(place.x(x[index]), place.y(y[index]));
    else ctx.moveTo(place.x(x[index]), place.y(y[index]));
    open = y[index] !== null;
  }
  ctx.stroke();
  ctx.setLineDash([]);
  if (line.dots || last - first < FEW) {
    const radius = (line.dots ?? (line.width ?? 2) * 0.9) * ratio;
    for (let index = first; index <= last; index += 1) {
      if (y[index] !== null) dot(ctx, place.x(x[index]), place.y(y[index]), radius);
    }
  }
  ctx.globalAlpha = 1;
}

function dot(ctx, x, y, radius) {
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fill();
}

function drawArea(ctx, place, { x, low, high, colour }) {
  ctx.globalAlpha = 0.2;
  ctx.fillStyle = colour;
  ctx.beginPath();
  const known = [...x.keys()].filter((index) => low[index] !== null && high[index] !== null);
  for (const index of known) ctx.lineTo(place.x(x[index]), place.y(high[index]));
  for (const index of known.reverse()) ctx.lineTo(place.x(x[index]), place.y(low[index]));
  ctx.closePath();
  ctx.fill();
  ctx.globalAlpha = 1;
}

function drawMarks(ctx, bbox, place, marks) {
  const ratio = devicePixelRatio;
  ctx.strokeStyle = ink("muted");
  ctx.lineWidth = ratio;
  ctx.setLineDash([5 * ratio, 4 * ratio]);
  ctx.beginPath();
  for (const { y } of marks) {
    const level = Math.round(place.y(y)) + 0.5;
    ctx.moveTo(bbox.left, level);
    ctx.lineTo(bbox.left + bbox.width, level);
  }
  ctx.stroke();
  ctx.setLineDash([]);
}

/** What the marks are, over the lines: at the end and on the side of each where the fewest of them pass. */
function drawWords(ctx, bbox, place, { marks, lines }) {
  const ratio = devicePixelRatio;
  const height = 16 * ratio;
  let last = Infinity;
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.fillStyle = ink("muted");
  ctx.strokeStyle = ink("surface");
  ctx.lineWidth = 4 * ratio;
  for (const { y, words } of marks) {
    const level = Math.round(place.y(y)) + 0.5;
    const near = Math.abs(level - last) < 34 * ratio; // or they would cover one another
    last = level;
    if (near) continue;
    const { width } = ctx.measureText(words);
    const ends = [bbox.left + bbox.width - width - 6 * ratio, bbox.left + 6 * ratio];
    const boxes = [level - height, level + ratio]
      .filter((top) => top >= bbox.top && top + height <= bbox.top + bbox.height)
      .flatMap((top) => ends.map((left) => ({ left, top, width, height })));
    if (boxes.length === 0) continue;
    const covered = (box) => lines.reduce((sum, line) => sum + (line.alpha ?? 1) * inside(line, box, place), 0);
    const inTheWay = boxes.map(covered);
    const { left, top } = boxes[inTheWay.indexOf(Math.min(...inTheWay))];
    ctx.strokeText(words, left, top + height / 2);
    ctx.fillText(words, left, top + height / 2);
  }
}

const LOOKS = 12; // across a box

/** At how many places across a box a line is in it. */
function inside({ x, y }, { left, top, width, height }, place) {
  let many = 0;
  for (let look = 0; look <= LOOKS; look += 1) {
    const at = left + (width * look) / LOOKS;
    const after = before(x, place.back(at));
    if (after === 0 || after === x.length || y[after] === null || y[after - 1] === null) continue;
    const [from, to] = [place.x(x[after - 1]), place.x(x[after])];
    const part = to > from ? (at - from) / (to - from) : 1;
    const level = place.y(y[after - 1]) * (1 - part) + place.y(y[after]) * part;
    if (level >= top && level <= top + height) many += 1;
  }
  return many;
}

function drawRing(ctx, place, { x, y, colour }) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  ctx.arc(place.x(x), place.y(y), 6 * devicePixelRatio, 0, 2 * Math.PI);
  ctx.stroke();
}

/** How many of the sorted ``x`` are below ``value``. */
export function before(x, value) {
  let low = 0;
  let high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
