// One chart. uPlot draws the axes and the grid, and handles the cursor and the selection. drawing.js draws the lines,
// because each run has its own x values and uPlot expects the same x values for all lines.

import uPlot from "./vendor/uPlot.esm.js";
import { draw } from "./drawing.js";
import { ink } from "./palette.js";
import { brief } from "./text.js";

const FONT = "11px system-ui, sans-serif";
const EMPTY = { lines: [], areas: [], marks: [], rings: [], x: [0, 1], log: false };

/**
 * Create a chart that fills ``host``. ``on`` contains the handlers: ``zoom([from, to])``, ``whole()``, ``cursor(x, y)``
 * (null: the pointer has left) and ``pick(x)`` (a click).
 *
 * Its content is plain data: ``lines`` {x, y, color, dash, width, alpha, dots}, ``areas`` {x, low, high, color},
 * ``marks`` {y, label}, ``rings`` {x, y, color}, ``x`` and ``y`` as [from, to], and ``log`` for a logarithmic y.
 */
export function createChart(host, on) {
  let content = EMPTY;
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
        {
          ...axis,
          grid,
          size: 46,
          gap: 6,
          space: content.log ? 24 : 32,
          values: (_, ticks) => ticks.map(content.log ? roundTick : tick),
        },
      ],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: {
        draw: [(u) => draw(u, content)],
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
      const rebuild = plot === null || next.log !== content.log;
      content = { ...EMPTY, ...next };
      const data = [content.x, content.y];
      if (!rebuild) return plot.setData(data);
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
      plot?.setCursor(inside ? { left: plot.valToPos(x, "x"), top: 0 } : { left: -10, top: -10 }, false);
    },
  };
}

const roundTick = (value) =>
  value !== null && Number(value.toPrecision(1)) === Number(value.toPrecision(6)) ? tick(value) : "";
const tick = (value) => (value === null ? "" : brief(value)); // on a logarithmic axis, ticks may be null

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
