// Q-values as bars and lines, and the readings of the state, each with its course over the flight.

import { extent } from "./content.js";
import { el, keep, text } from "./dom.js";
import { ink, look, swatch } from "./palette.js";

/** The Q-values of a flight, or what they are above their mean: ``values`` [frame][action], and a chart's content. */
export function qLines(telemetry, fps, difference) {
  const values = telemetry.q_values.map((row) => {
    const known = row.filter((q) => q !== null);
    const mean = difference && known.length ? known.reduce((sum, q) => sum + q, 0) / known.length : 0;
    return row.map((q) => (q === null ? null : q - mean));
  });
  let [low, high] = extent(values.flat());
  if (!(low <= high)) [low, high] = [0, 1];
  const room = high > low ? (high - low) * 0.06 : Math.max(1e-6, Math.abs(high) * 0.1);
  const x = values.map((_, index) => index / fps);
  const lines = telemetry.actions.map((_, action) => ({
    x,
    y: values.map((row) => row[action] ?? null),
    width: 1.6,
    ...look(action),
  }));
  const y = [low - room, high + room];
  return { values, y, content: { lines, x: [0, Math.max(x.at(-1) ?? 0, 1e-3)], y } };
}

/** Bars, one per action: ``set(actions, lines)`` for a flight, ``at(frame, chosen)`` for an instant. */
export function createBars() {
  const element = el("ul", { class: "bars" });
  let values = [];
  let [low, high, zero] = [0, 1, 0];
  return {
    element,
    set(actions, lines) {
      values = lines.values;
      [low, high] = lines.y;
      zero = Math.min(high, Math.max(low, 0)); // bars begin at 0 where that is on the scale
      element.replaceChildren(
        ...actions.map((name, action) => {
          const fill = el("span", { class: `fill c${action % 6}` });
          const origin = el("span", { class: "origin" });
          origin.style.left = `${(100 * (zero - low)) / (high - low)}%`;
          return el(
            "li",
            {},
            swatch(action),
            el("span", { class: "name" }, name),
            el("span", { class: "track", "aria-hidden": "true" }, fill, origin),
            el("b"),
            el("span", { class: "chosen" }),
          );
        }),
      );
    },
    at(frame, chosen) {
      for (const [action, item] of [...element.children].entries()) {
        const q = values[frame]?.[action] ?? null;
        const [, , track, words, mark] = item.children;
        const from = q === null ? zero : Math.min(q, zero);
        const to = q === null ? zero : Math.max(q, zero);
        const width = high - low;
        track.firstElementChild.style.transform = `translateX(${(100 * (from - low)) / width}%) scaleX(${(to - from) / width})`;
        text(words, q === null ? "–" : q.toFixed(Math.abs(q) >= 1000 ? 0 : 2).replace("-", "−"));
        text(mark, action === chosen ? "chosen" : "");
        item.classList.toggle("is-chosen", action === chosen);
      }
    },
  };
}

/** The readings by name: ``set(telemetry)`` for a flight, ``at(frame)`` for an instant. */
export function createReadings() {
  const element = el("ul", { class: "gauges" });
  let obs = [];
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", () => drawAll());

  function drawAll() {
    for (const [index, item] of [...element.children].entries()) course(item.parts.canvas, obs, index);
  }
  new ResizeObserver(() => drawAll()).observe(element);

  return {
    element,
    set(telemetry) {
      obs = telemetry.obs;
      keep(
        element,
        telemetry.readings,
        (name) => name,
        makeGauge,
        () => {},
      );
      drawAll();
    },
    at(frame) {
      for (const [index, item] of [...element.children].entries()) {
        const value = obs[frame]?.[index];
        text(item.parts.value, value === undefined || value === null ? "–" : value.toFixed(3).replace("-", "−"));
        item.parts.needle.style.left = `${(100 * frame) / Math.max(1, obs.length - 1)}%`;
      }
    },
  };
}

function makeGauge(name) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  const value = el("b");
  const needle = el("span", { class: "needle", "aria-hidden": "true" });
  const item = el(
    "li",
    {},
    el("span", { class: "name" }, name),
    value,
    el("span", { class: "course" }, canvas, needle),
  );
  item.parts = { canvas, value, needle };
  return item;
}

/** Draw the course of one reading, with a line at 0 where it passes there. */
function course(canvas, obs, index) {
  const ratio = devicePixelRatio;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
  Object.assign(canvas, { width, height });
  const values = obs.map((row) => row[index]);
  const [low, high] = extent(values);
  const context = canvas.getContext("2d");
  const room = 3 * ratio;
  const y = (value) => (high > low ? height - room - ((value - low) / (high - low)) * (height - 2 * room) : height / 2);
  if (low < 0 && high > 0) {
    context.fillStyle = ink("grid");
    context.fillRect(0, Math.round(y(0)), width, ratio);
  }
  context.strokeStyle = ink("course");
  context.lineWidth = 1.4 * ratio;
  context.lineJoin = "round";
  context.beginPath();
  for (const [frame, value] of values.entries())
    context.lineTo((frame / Math.max(1, values.length - 1)) * width, y(value));
  context.stroke();
}
