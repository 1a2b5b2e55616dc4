// Panels beside the video: Q-values as bars and lines, and each entry of the observation over time.

import { extent } from "./content.js";
import { el, keep, text } from "./dom.js";
import { ink, look, swatch } from "./palette.js";
import { number } from "./text.js";

/**
 * Return Q-values or, with ``advantage``, Q-values minus their mean over actions: ``values`` [frame][action], and the
 * ``content`` of a chart with the range ``y``.
 */
export function qLines(telemetry, fps, advantage) {
  const values = telemetry.q_values.map((row) => {
    const known = row.filter((q) => q !== null);
    const mean = advantage && known.length ? known.reduce((sum, q) => sum + q, 0) / known.length : 0;
    return row.map((q) => (q === null ? null : q - mean));
  });
  let [low, high] = extent(values.flat());
  if (!(low <= high)) [low, high] = [0, 1];
  const room = high > low ? (high - low) * 0.06 : Math.max(1e-6, Math.abs(high) * 0.1);
  const x = values.map((_, index) => index / fps);
  const lines = telemetry.action_names.map((_, action) => ({
    x,
    y: values.map((row) => row[action] ?? null),
    width: 1.6,
    ...look(action),
  }));
  const y = [low - room, high + room];
  return { values, y, content: { lines, x: [0, Math.max(x.at(-1) ?? 0, 1e-3)], y } };
}

/**
 * Create one bar per action, from 0 to its Q-value. ``set(actions, values)`` shows another video, with one scale that
 * includes 0 and all values. ``show(frame, chosen)`` shows a frame.
 */
export function createBars() {
  const bars = el("ul", { class: "bars" });
  const ends = el("p", { class: "ends", "aria-hidden": "true" });
  const element = el("div", {}, bars, ends);
  let values = [];
  let [low, high] = [0, 1];
  const position = (value) => (value - low) / (high - low);
  return {
    element,
    set(actions, next) {
      values = next;
      [low, high] = extent([0, ...values.flat()]);
      if (low === high) high = 1;
      const marked = [low, 0, high].filter((value) => value === 0 || Math.abs(position(value) - position(0)) > 0.15);
      ends.replaceChildren(...[...new Set(marked)].map((value) => at(el("span", {}, number(value)), position(value))));
      bars.replaceChildren(
        ...actions.map((name, action) => {
          const fill = el("span", { class: `fill c${action % 6}` });
          const zero = at(el("span", { class: "zero" }), position(0));
          return el(
            "li",
            {},
            swatch(action),
            el("span", { class: "name" }, name),
            el("span", { class: "track", "aria-hidden": "true" }, fill, zero),
            el("b"),
            el("span", { class: "chosen" }),
          );
        }),
      );
    },
    show(frame, chosen) {
      const now = values[frame] ?? [];
      const greatest = Math.max(...now.filter((q) => q !== null));
      const lower = (action) => now[action] !== null && now[action] < greatest;
      for (const [action, item] of [...bars.children].entries()) {
        const q = now[action] ?? null;
        const [, , track, value, mark] = item.children;
        const [from, to] = [Math.min(q, 0), Math.max(q, 0)].map(position); // null gives no bar
        track.firstElementChild.style.transform = `translateX(${100 * from}%) scaleX(${to - from})`;
        text(value, q === null ? "–" : q.toFixed(Math.abs(q) >= 1000 ? 0 : 2).replace("-", "−"));
        const highest = q === greatest;
        if (action === chosen) text(mark, lower(action) ? "chosen, not the highest" : "chosen");
        else text(mark, highest && lower(chosen) ? "highest" : "");
        item.classList.toggle("is-chosen", action === chosen);
        item.classList.toggle("is-highest", highest);
      }
    },
  };
}

/** Place an element at a fraction of its parent's width without leaving the parent. */
function at(element, part) {
  element.style.left = `${100 * part}%`;
  element.style.transform = `translateX(${-100 * part}%)`;
  return element;
}

const MAX_PLOTS = 24; // entries of the observation that are plotted

/**
 * Select the entries of the observation to plot, and write a note about the others. If every entry is always 0 or 1,
 * the panel plots none and lists the entries that are 1. If there are too many entries, it plots the first that change.
 */
function select({ obs_names, obs }) {
  const all = obs_names.map((_, index) => index);
  const coded = obs_names.length > 2 && obs.every((row) => row.every((value) => value === 0 || value === 1));
  if (coded) return { shown: [], coded, note: `${number(all.length)} entries, each 0 or 1` };
  if (all.length <= MAX_PLOTS) return { shown: all, coded, note: "" };
  const changing = all.filter((index) => obs.some((row) => row[index] !== obs[0][index]));
  const shown = changing.slice(0, MAX_PLOTS);
  const note = `${number(shown.length)} of ${number(changing.length)} changing entries, ${number(all.length)} in total`;
  return { shown, coded, note };
}

/**
 * Create a panel with a plot of each entry of the observation. ``set(telemetry)`` shows another video, ``show(frame)``
 * shows a frame, and ``note`` displays the note of ``select``.
 */
export function createObservation() {
  const gauges = el("ul", { class: "gauges" });
  const ones = el("p", { class: "ones" });
  const note = el("span", { class: "note" });
  const element = el("div", {}, gauges, ones);
  let obs = [];
  let names = [];
  let now = { shown: [], coded: false };
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", () => drawAll());

  function drawAll() {
    for (const [place, item] of [...gauges.children].entries()) plot(item.parts.canvas, obs, now.shown[place]);
  }
  new ResizeObserver(() => drawAll()).observe(element);

  return {
    element,
    note,
    set(telemetry) {
      ({ obs, obs_names: names } = telemetry);
      now = select(telemetry);
      text(note, now.note);
      ones.hidden = !now.coded;
      keep(
        gauges,
        now.shown.map((index) => names[index]),
        (name) => name,
        makeGauge,
        () => {},
      );
      drawAll();
    },
    show(frame) {
      if (now.coded) text(ones, listOnes(names.filter((_, index) => obs[frame]?.[index] === 1)));
      for (const [place, item] of [...gauges.children].entries()) {
        const value = obs[frame]?.[now.shown[place]];
        text(item.parts.value, value === undefined || value === null ? "–" : value.toFixed(3).replace("-", "−"));
        item.parts.needle.style.left = `${(100 * frame) / Math.max(1, obs.length - 1)}%`;
      }
    },
  };
}

function listOnes(names) {
  if (names.length === 0) return "All entries are 0.";
  const more = names.length - MAX_PLOTS;
  const listed = names.slice(0, MAX_PLOTS).join(", ") + (more > 0 ? ` and ${number(more)} more` : "");
  return `${listed} ${names.length === 1 ? "is" : "are"} 1.`;
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
    el("span", { class: "sparkline" }, canvas, needle),
  );
  item.parts = { canvas, value, needle };
  return item;
}

/** Plot one entry of the observation over time, with a line at 0 if it changes sign. */
function plot(canvas, obs, index) {
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
  context.strokeStyle = ink("plain");
  context.lineWidth = 1.4 * ratio;
  context.lineJoin = "round";
  context.beginPath();
  for (const [frame, value] of values.entries())
    context.lineTo((frame / Math.max(1, values.length - 1)) * width, y(value));
  context.stroke();
}
