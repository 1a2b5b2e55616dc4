// Save the charts as pictures and as tables.

import { drawOnCanvas } from "./chart.js";
import { bandLabel } from "./content.js";
import { before } from "./drawing.js";
import { ink, look } from "./palette.js";

const SIZE = [760, 380]; // of the chart
const RATIO = 2; // pixels of the picture for a pixel of the chart
const MARGIN = 18;
const TITLE = 52; // height of the title and the note
const ROW = 20; // height of a row of the legend
const MAX_LEGEND = 30; // lines
const FONT = "system-ui, sans-serif";

/**
 * Return a canvas with the chart ``content``. ``about`` contains ``title``, ``note``, ``labels`` of the x and the y axis,
 * and ``legend`` as [{place, label}].
 */
export async function picture(content, { title, note, labels, legend }) {
  const chart = await drawOnCanvas(content, labels, SIZE, RATIO);
  const canvas = document.createElement("canvas");
  const ctx = canvas.getContext("2d");
  ctx.font = `12px ${FONT}`;
  const items = arranged(ctx, legend);
  const width = SIZE[0] + 2 * MARGIN;
  const height = TITLE + SIZE[1] + ROW * (1 + items.at(-1).row) + 2 * MARGIN;
  Object.assign(canvas, { width: width * RATIO, height: height * RATIO });
  ctx.fillStyle = ink("surface");
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.drawImage(chart, MARGIN * RATIO, (MARGIN + TITLE) * RATIO);
  ctx.scale(RATIO, RATIO);
  ctx.textBaseline = "middle";
  ctx.fillStyle = ink("ink");
  ctx.font = `600 16px ${FONT}`;
  ctx.fillText(title, MARGIN, MARGIN + 10, SIZE[0]);
  ctx.fillStyle = ink("muted");
  ctx.font = `12px ${FONT}`;
  ctx.fillText(note, MARGIN, MARGIN + 32, SIZE[0]);
  const top = MARGIN + TITLE + SIZE[1] + ROW / 2 + 6;
  for (const { left, row, place, label } of items) {
    const y = top + row * ROW;
    if (place !== null) drawSwatch(ctx, left, y, look(place));
    ctx.fillStyle = ink("ink");
    ctx.fillText(label, left + (place === null ? 0 : 28), y);
  }
  return canvas;
}

/** Return the items of the legend with their places ``left`` and ``row``. */
function arranged(ctx, legend) {
  const more = legend.length - MAX_LEGEND;
  const items = more > 0 ? [...legend.slice(0, MAX_LEGEND), { place: null, label: `and ${more} more` }] : legend;
  let [left, row] = [MARGIN, 0];
  return items.map((item) => {
    const width = ctx.measureText(item.label).width + 28;
    if (left > MARGIN && left + width > MARGIN + SIZE[0]) [left, row] = [MARGIN, row + 1];
    const placed = { ...item, left, row };
    left += width + 20;
    return placed;
  });
}

function drawSwatch(ctx, left, y, { color, dash }) {
  ctx.strokeStyle = color;
  ctx.lineWidth = 2.6;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(left, y);
  ctx.lineTo(left + 20, y);
  ctx.stroke();
  ctx.setLineDash([]);
}

/**
 * Return the response for a series as CSV: one row for each point of each run between x[0] and x[1], and then of each
 * band over seeds. ``smooth`` is the number of rows in the moving averages.
 */
export function csv({ name, x: by, series, bands }, x, smooth, model) {
  const metric = name.split(".")[1];
  const averaged = metric === "outcome" ? `share_of_${smooth}_episodes` : `${metric}_mean_of_${smooth}`;
  const center = smooth > 1 ? averaged : metric;
  const points = (one, run, values) => {
    const [first, last] = x.map((end) => before(one.x, end));
    return one.x.slice(first, last + (one.x[last] === x[1])).map((at, index) => ({
      run,
      ...(one.outcome ? { outcome: one.outcome } : {}),
      [by]: at,
      ...values(first + index),
    }));
  };
  const ofRun = (one) => (row) => ({
    ...(metric === "outcome" ? {} : { [metric]: one.y[row] }),
    ...(smooth > 1 ? { [averaged]: one.mean[row] } : {}),
  });
  const ofBand = (one) => (row) => ({
    [`${center}_over_seeds`]: one.mean[row],
    [`${center}_minimum`]: one.low[row],
    [`${center}_maximum`]: one.high[row],
  });
  const rows = [
    ...series.flatMap((one) => points(one, one.id, ofRun(one))),
    ...bands.flatMap((one) => points(one, bandLabel(one, model), ofBand(one))),
  ];
  const names = [...new Set(rows.flatMap(Object.keys))];
  return [names, ...rows.map((row) => names.map((column) => row[column] ?? ""))]
    .map((row) => `${row.map(quoted).join(",")}\r\n`)
    .join("");
}

/** Quote a value of a CSV file if necessary. */
function quoted(value) {
  const written = String(value);
  return /[",\r\n]/.test(written) ? `"${written.replaceAll('"', '""')}"` : written;
}

/** Let the browser save ``blob`` as a file. */
export function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
