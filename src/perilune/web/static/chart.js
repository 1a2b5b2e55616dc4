// One chart. uPlot draws the axes and the grid, and handles the cursor and the selection. drawing.js draws the lines,
// because each run has its own x values and uPlot expects the same x values for all lines.

import uPlot from "./vendor/uPlot.esm.js";
import { draw } from "./drawing.js";
import { ink } from "./palette.js";
import { brief, duration, percent } from "./text.js";

const EMPTY = { lines: [], areas: [], marks: [], rings: [], x: [0, 1], log: false, time: false, share: false };
const MIN_DRAG = 5; // pixels
const FLAT_DRAG = 24; // pixels; a drag that is narrower than this in one direction zooms only in the other
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const TIMES = [
  ...[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE],
  ...[1, 2, 3, 6, 12, 24, 48, 120, 240, 480, 1200, 2400].map((hours) => hours * HOUR),
]; // seconds between ticks

/** Return uPlot's axes and scales for ``content``. ``ratio`` enlarges all sizes, and ``labels`` are the axis titles. */
function axesAndScales(content, ratio, labels = []) {
  const [x, y] = labels;
  const font = `${Math.round(11 * ratio)}px system-ui, sans-serif`; // uPlot supports only whole pixels
  const axis = {
    font,
    labelFont: font,
    labelSize: 18 * ratio,
    stroke: () => ink("muted"),
    ticks: { show: false },
  };
  const { log, time, share } = content();
  const all = (_, ticks) => ticks; // uPlot's own filter omits most labels within a decade
  return {
    scales: {
      x: { time: false, range: () => content().x },
      y: { distr: log ? 3 : 1, range: () => content().y },
    },
    axes: [
      {
        ...axis,
        label: x,
        grid: { show: false },
        size: 26 * ratio,
        gap: 4 * ratio,
        space: (time ? 80 : 60) * ratio,
        values: (_, ticks) => ticks.map(time ? duration : tick),
        ...(time ? { incrs: TIMES } : {}),
      },
      {
        ...axis,
        label: y,
        grid: { stroke: () => ink("grid"), width: ratio, filter: all },
        size: 46 * ratio,
        gap: 6 * ratio,
        space: 32 * ratio,
        values: (_, ticks) => ticks.map(share ? percent : tick),
        ...(log ? { splits: logarithmicTicks(ratio), filter: all } : {}),
      },
    ],
    series: [{}, { paths: () => null, points: { show: false } }],
    legend: { show: false },
    padding: [8 * ratio, 16 * ratio, 0, 0],
  };
}

/**
 * Create a chart that fills ``host``. ``on`` contains the handlers: ``zoom({x, y})`` with the selected ranges,
 * ``whole()``, ``cursor(x, y)`` (null: the pointer has left) and ``pick(x)`` (a click).
 *
 * Its content is plain data: ``lines`` {x, y, color, dash, width, alpha, dots}, ``areas`` {x, low, high, color, alpha},
 * ``marks`` {y, label}, ``rings`` {x, y, color}, ``x`` and ``y`` as [from, to]; ``log`` for a logarithmic y, ``time`` for
 * an x in seconds, and ``share`` for a y in percent.
 */
export function createChart(host, on) {
  let content = EMPTY;
  let plot = null;

  function options() {
    const { width, height } = size();
    return {
      width,
      height,
      ...axesAndScales(() => content, 1),
      cursor: {
        y: false,
        points: { show: false },
        drag: { x: true, y: on.zoom !== undefined, uni: FLAT_DRAG, setScale: false },
        bind: { dblclick: () => () => on.whole?.() },
      },
      hooks: {
        draw: [(u) => draw(u, content, devicePixelRatio)],
        setSelect: [selected],
      },
    };
  }

  function size() {
    return { width: Math.max(120, host.clientWidth), height: Math.max(80, host.clientHeight) };
  }

  function selected(u) {
    const { left, top, width, height } = u.select;
    if (width > 0 || height > 0) u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    const part = {}; // a selection across the whole chart zooms only in the other direction
    if (width >= MIN_DRAG && width < u.over.clientWidth) part.x = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    if (height >= MIN_DRAG && height < u.over.clientHeight)
      part.y = [u.posToVal(top + height, "y"), u.posToVal(top, "y")];
    if (part.x || part.y) on.zoom?.(part);
  }

  new ResizeObserver(() => {
    const now = size();
    const hidden = host.clientWidth === 0;
    if (plot !== null && !hidden && (now.width !== plot.width || now.height !== plot.height)) plot.setSize(now);
  }).observe(host);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", () => plot?.redraw(false, true));

  return {
    /** Show the content ``next``. */
    set(next) {
      const before = content;
      content = { ...EMPTY, ...next };
      const same = ["log", "time", "share"].every((name) => content[name] === before[name]);
      const data = [content.x, content.y];
      if (plot !== null && same) return plot.setData(data);
      plot?.destroy();
      plot = new uPlot(options(), data, host);
      const { over } = plot; // for events from the user; uPlot's hooks also run when the page moves the cursor
      over.addEventListener("mousemove", (event) =>
        on.cursor?.(plot.posToVal(event.offsetX, "x"), plot.posToVal(event.offsetY, "y")),
      );
      over.addEventListener("mouseleave", () => on.cursor?.(null, null));
      over.addEventListener("click", (event) => on.pick?.(plot.posToVal(event.offsetX, "x")));
      dragByTouch(plot);
    },
    /** Move the cursor to x; null hides it. */
    point(x) {
      const inside = x !== null && x >= content.x[0] && x <= content.x[1];
      const top = Math.max(0, plot?.cursor.top); // stays where it is, because it is an end of a selection
      plot?.setCursor(inside ? { left: plot.valToPos(x, "x"), top } : { left: -10, top: -10 }, false);
    },
  };
}

/** Return a promise of a canvas with ``content`` and axis titles, ``width`` x ``height`` at ``ratio`` times the size. */
export function drawOnCanvas(content, labels, [width, height], ratio) {
  const whole = { ...EMPTY, ...content };
  const enlarged = ratio / devicePixelRatio; // uPlot multiplies all sizes by devicePixelRatio
  return new Promise((resolve) => {
    const options = {
      width: width * enlarged,
      height: height * enlarged,
      ...axesAndScales(() => whole, enlarged, labels),
      hooks: {
        draw: [
          (u) => {
            draw(u, whole, ratio);
            resolve(u.ctx.canvas);
          },
        ],
      },
    };
    new uPlot(options, [whole.x, whole.y], document.createElement("div"));
  });
}

/** Return a function of uPlot that returns ticks: within a decade equal steps, else digits times powers of ten. */
const logarithmicTicks = (ratio) => (u, axis, low, high) => {
  const exact = (value) => Number(value.toPrecision(12));
  if (high < 10 * low) {
    const unit = 10 ** Math.floor(Math.log10((high - low) / 5));
    const step = [1, 2, 5, 10].map((digit) => digit * unit).find((one) => high - low <= 6 * one);
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, index) => exact((first + index) * step));
  }
  const decade = Math.abs(u.valToPos(10, "y") - u.valToPos(1, "y")) / ratio; // in pixels
  const digits = decade >= 75 ? [1, 2, 5] : [1];
  const powers = Math.ceil(24 / decade); // between two ticks
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
    if (power % powers === 0) ticks.push(...digits.map((digit) => exact(digit * 10 ** power)));
  return ticks.filter((tick) => tick >= low && tick <= high);
};

const tick = (value) => (value === null ? "" : brief(value, 6)); // neighbors on a zoomed axis differ in few digits

/** Add touch to uPlot: dragging sideways selects a range, and dragging up or down scrolls the page. */
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
