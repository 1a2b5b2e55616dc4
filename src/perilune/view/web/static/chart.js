// One chart. uPlot draws axes and grid and handles cursor and selection; the lines are drawn here, because every run
// has its own x and uPlot wants one for all.

import uPlot from "./vendor/uPlot.esm.js";
import { ink } from "./palette.js";
import { brief } from "./words.js";

const FONT = "11px system-ui, sans-serif";
const FEW = 30; // points; so few are dots as well
const NOTHING = { lines: [], areas: [], marks: [], rings: [], x: [0, 1], log: false };

/**
 * A chart in ``host``, whose size it takes. ``on`` has what the reader does: ``zoom([from, to])``, ``whole()``,
 * ``cursor(x, y)`` (null: gone), ``pick(x)`` (a click).
 *
 * What it shows is plain data: ``lines`` {x, y, colour, dash, width, alpha, dots}, ``areas`` {x, low, high, colour},
 * ``marks`` {y, words}, ``rings`` {x, y, colour}, ``x`` and ``y`` as [from, to], and ``log`` for a logarithmic y.
 */
export function createChart(host, on) {
  let content = NOTHING;
  let plot = null;

  function options() {
    const axis = { font: FONT, stroke: () => ink("muted"), ticks: { show: false } };
    const decades = (_, ticks) =>
      ticks.map((value) => (Number.isInteger(Math.round(Math.log10(value) * 1e6) / 1e6) ? value : null));
    const grid = { stroke: () => ink("grid"), width: 1, ...(content.log ? { filter: decades } : {}) };
    const { width, height } = size();
    return {
      width,
      height,
      padding: [8, 16, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => on.whole?.() },
      },
      scales: {
        x: { time: false, range: () => content.x },
        y: { distr: content.log ? 3 : 1, range: () => content.y },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 26, gap: 4, space: 60, values: (_, ticks) => ticks.map(tick) },
        { ...axis, grid, size: 46, gap: 6, space: content.log ? 24 : 32, values: (_, ticks) => ticks.map(tick) },
      ],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: {
        draw: [draw],
        setSelect: [selected],
      },
    };
  }

  function size() {
    return { width: Math.max(120, host.clientWidth), height: Math.max(80, host.clientHeight) };
  }

  function selected(u) {
    const { left, width } = u.select;
    if (width > 0) u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (width < 5) return;
    on.zoom?.([u.posToVal(left, "x"), u.posToVal(left + width, "x")]);
  }

  function draw(u) {
    const { ctx, bbox } = u;
    const place = placing(u, content);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.lineJoin = "round";
    for (const mark of content.marks) drawMark(ctx, bbox, place, mark);
    for (const area of content.areas) drawArea(ctx, place, area);
    for (const line of content.lines) drawLine(ctx, place, line, content.x);
    for (const ring of content.rings) drawRing(ctx, place, ring);
    ctx.restore();
  }

  const watcher = new ResizeObserver(() => {
    const now = size();
    const hidden = host.clientWidth === 0;
    if (plot !== null && !hidden && (now.width !== plot.width || now.height !== plot.height)) plot.setSize(now);
  });
  watcher.observe(host);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => plot?.redraw(false, true);
  scheme.addEventListener("change", repaint);

  return {
    /** Show this. */
    set(next) {
      const other = plot === null || next.log !== content.log;
      content = { ...NOTHING, ...next };
      const data = [content.x, content.y];
      if (!other) return plot.setData(data);
      plot?.destroy();
      plot = new uPlot(options(), data, host);
      const { over } = plot; // whose own events are the reader's; uPlot's hooks are also called for what the page does
      over.addEventListener("mousemove", (event) =>
        on.cursor?.(plot.posToVal(event.offsetX, "x"), plot.posToVal(event.offsetY, "y")),
      );
      over.addEventListener("mouseleave", () => on.cursor?.(null, null));
      over.addEventListener("click", (event) => on.pick?.(plot.posToVal(event.offsetX, "x")));
      dragByTouch(plot);
    },
    /** Put the cursor at x, or away where it is null. */
    point(x) {
      const inside = x !== null && x >= content.x[0] && x <= content.x[1];
      plot?.setCursor(inside ? { left: plot.valToPos(x, "x"), top: 0 } : { left: -10, top: -10 }, false);
    },
    destroy() {
      watcher.disconnect();
      scheme.removeEventListener("change", repaint);
      plot?.destroy();
    },
  };
}

const tick = (value) => (value === null ? "" : brief(value)); // a logarithmic axis has ticks without a number

/** From values to the canvas's pixels. */
function placing(u, { x, y, log }) {
  const { left, top, width, height } = u.bbox;
  const along = width / (x[1] - x[0]);
  const level = log ? Math.log10 : (value) => value;
  const up = height / (level(y[1]) - level(y[0]));
  const base = level(y[0]);
  return { x: (value) => left + (value - x[0]) * along, y: (value) => top + height - (level(value) - base) * up };
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

function drawMark(ctx, bbox, place, { y, words }) {
  const ratio = devicePixelRatio;
  const level = Math.round(place.y(y)) + 0.5;
  ctx.strokeStyle = ctx.fillStyle = ink("muted");
  ctx.lineWidth = ratio;
  ctx.setLineDash([5 * ratio, 4 * ratio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, level);
  ctx.lineTo(bbox.left + bbox.width, level);
  ctx.stroke();
  ctx.setLineDash([]);
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = level - bbox.top < 18 * ratio ? "top" : "bottom";
  ctx.fillText(words, bbox.left + 6 * ratio, level + (ctx.textBaseline === "top" ? 4 : -3) * ratio);
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

/** uPlot knows the mouse alone: let one finger that moves sideways select, and leave up and down to the page. */
function dragByTouch(plot) {
  let start = null;
  const along = (event) => event.clientX - plot.over.getBoundingClientRect().left;
  plot.over.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch") start = along(event);
  });
  plot.over.addEventListener("pointermove", (event) => {
    if (start === null || event.pointerType !== "touch") return;
    const now = along(event);
    plot.setSelect(
      { left: Math.min(start, now), width: Math.abs(now - start), top: 0, height: plot.over.clientHeight },
      false,
    );
  });
  plot.over.addEventListener("pointerup", () => {
    if (start !== null) plot.setSelect({ ...plot.select }, true);
    start = null;
  });
  plot.over.addEventListener("pointercancel", () => {
    start = null;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  });
}
