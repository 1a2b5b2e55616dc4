// Draw the content of a chart between its axes. All sizes are in pixels of the canvas.

import { ink } from "./palette.js";

const MAX_DOTS = 30; // a line with fewer points on the chart also gets dots

/** Draw ``content`` on the uPlot chart ``u``, with ``ratio`` pixels of the canvas for a pixel of a line. */
export function draw(u, content, ratio) {
  const { ctx, bbox } = u;
  const place = placing(u, content, ratio);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.lineJoin = "round";
  for (const area of content.areas) drawArea(ctx, place, area);
  drawMarks(ctx, bbox, place, content.marks);
  for (const line of content.lines) drawLine(ctx, place, line, content.x);
  for (const ring of content.rings) drawRing(ctx, place, ring);
  drawLabels(ctx, bbox, place, content);
  ctx.restore();
}

/** Return functions that convert ``x`` and ``y`` to pixels of the canvas, and pixels ``back`` to x. */
function placing(u, { x, y, log }, ratio) {
  const { left, top, width, height } = u.bbox;
  const along = width / (x[1] - x[0]);
  const level = log ? Math.log10 : (value) => value;
  const up = height / (level(y[1]) - level(y[0]));
  const base = level(y[0]);
  return {
    ratio,
    x: (value) => left + (value - x[0]) * along,
    y: (value) => top + height - (level(value) - base) * up,
    back: (pixel) => x[0] + (pixel - left) / along,
  };
}

function drawLine(ctx, place, line, range) {
  const { x, y } = line;
  const first = Math.max(0, before(x, range[0]) - 1);
  const last = Math.min(x.length - 1, before(x, range[1]) + 1);
  const { ratio } = place;
  ctx.globalAlpha = line.alpha ?? 1;
  ctx.strokeStyle = ctx.fillStyle = line.color;
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
  const dots = line.dots ?? (last - first < MAX_DOTS ? (line.width ?? 2) * 0.9 : 0);
  if (dots > 0) {
    const radius = dots * ratio;
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

function drawArea(ctx, place, { x, low, high, color, alpha }) {
  ctx.globalAlpha = alpha ?? 0.2;
  ctx.fillStyle = color;
  ctx.beginPath();
  const known = [...x.keys()].filter((index) => low[index] !== null && high[index] !== null);
  for (const index of known) ctx.lineTo(place.x(x[index]), place.y(high[index]));
  for (const index of known.reverse()) ctx.lineTo(place.x(x[index]), place.y(low[index]));
  ctx.closePath();
  ctx.fill();
  ctx.globalAlpha = 1;
}

function drawMarks(ctx, bbox, place, marks) {
  const { ratio } = place;
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

const PLACES = 16; // candidate positions of a label along its line
const LABEL_COST = 1000; // of covering another label; a curve through the whole label costs 12
const RING_COST = 50;
const MARK_COST = 8;

/** Label each mark beside its line, where the label covers the least. Draw a halo around the letters. */
function drawLabels(ctx, bbox, place, content) {
  const { ratio } = place;
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.fillStyle = ink("muted");
  ctx.strokeStyle = ink("surface");
  ctx.lineWidth = 3 * ratio;
  const height = 15 * ratio;
  const taken = [];
  const labels = content.marks
    .map(({ y, label }) => {
      const width = ctx.measureText(label).width + 8 * ratio;
      return { label, boxes: candidates(bbox, place.y(y), { width, height }) };
    })
    .filter(({ boxes }) => boxes.length > 0) // otherwise its line is not on the chart
    .sort((a, b) => a.boxes.length - b.boxes.length); // labels with the fewest candidates first
  for (const { label, boxes } of labels) {
    const costs = boxes.map((box) => cost(box, content, place, taken));
    const box = boxes[costs.indexOf(Math.min(...costs))];
    taken.push(box);
    const at = [box.left + 4 * ratio, box.top + height / 2];
    ctx.strokeText(label, ...at);
    ctx.fillText(label, ...at);
  }
}

/** Return candidate boxes just above and below a level, from right to left. */
function candidates(bbox, level, { width, height }) {
  if (level < bbox.top || level > bbox.top + bbox.height) return [];
  const room = Math.max(0, bbox.width - width);
  return [level - height - 2, level + 2]
    .filter((top) => top >= bbox.top && top + height <= bbox.top + bbox.height)
    .flatMap((top) =>
      Array.from({ length: PLACES }, (_, step) => ({
        left: bbox.left + (room * (PLACES - 1 - step)) / (PLACES - 1),
        top,
        width,
        height,
      })),
    );
}

/** Return the cost of a label in ``box``: how much it would cover. */
function cost(box, { lines, rings, marks }, place, taken) {
  const radius = 8 * place.ratio;
  const overlap = (other) =>
    other.left < box.left + box.width &&
    box.left < other.left + other.width &&
    other.top < box.top + box.height &&
    box.top < other.top + other.height;
  const around = ({ x, y }) => ({
    left: place.x(x) - radius,
    top: place.y(y) - radius,
    width: 2 * radius,
    height: 2 * radius,
  });
  const passes = ({ y }) => place.y(y) > box.top && place.y(y) < box.top + box.height;
  return (
    lines.reduce((sum, line) => sum + (line.alpha ?? 1) * inside(line, box, place), 0) +
    RING_COST * rings.filter((ring) => overlap(around(ring))).length +
    MARK_COST * marks.filter(passes).length +
    LABEL_COST * taken.filter(overlap).length
  );
}

const SAMPLES = 12; // across a box

/** Count the samples across a box at which a line is inside the box. */
function inside({ x, y }, { left, top, width, height }, place) {
  let many = 0;
  for (let sample = 0; sample <= SAMPLES; sample += 1) {
    const at = left + (width * sample) / SAMPLES;
    const after = before(x, place.back(at));
    if (after === 0 || after === x.length || y[after] === null || y[after - 1] === null) continue;
    const [from, to] = [place.x(x[after - 1]), place.x(x[after])];
    const part = to > from ? (at - from) / (to - from) : 1;
    const level = place.y(y[after - 1]) * (1 - part) + place.y(y[after]) * part;
    if (level >= top && level <= top + height) many += 1;
  }
  return many;
}

function drawRing(ctx, place, { x, y, color }) {
  ctx.strokeStyle = color;
  ctx.lineWidth = 1.5 * place.ratio;
  ctx.beginPath();
  ctx.arc(place.x(x), place.y(y), 6 * place.ratio, 0, 2 * Math.PI);
  ctx.stroke();
}

/** Return the number of values in the sorted ``x`` that are below ``value``. */
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
