// Q-values as bars and lines, and the readings of the state, each with its course over the flight.

import { extent } from "./content.js";
import { el, keep, text } from "./dom.js";
import { ink, look, swatch } from "./palette.js";
import { number } from "./text.js";

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

/**
 * Bars, one per action, from 0 to the value: ``set(actions, values)`` for a flight, whose scale has all of its values
 * and 0; ``show(frame, chosen)`` for an instant.
 */
export function createBars() {
  const bars = el("ul", { class: "bars" });
  const ends = el("p", { class: "ends", "aria-hidden": "true" });
  const element = el("div", {}, bars, ends);
  let values = [];
  let [low, high] = [0, 1];
  const along = (value) => (value - low) / (high - low);
  return {
    element,
    set(actions, next) {
      values = next;
      [low, high] = extent([0, ...values.flat()]);
      if (low === high) high = 1;
      const told = [low, 0, high].filter((value) => value === 0 || Math.abs(along(value) - along(0)) > 0.15);
      ends.replaceChildren(...[...new Set(told)].map((value) => at(el("span", {}, number(value)), along(value))));
      bars.replaceChildren(
        ...actions.map((name, action) => {
          const fill = el("span", { class: `fill c${action % 6}` });
          const zero = at(el("span", { class: "zero" }), along(0));
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
        const [, , track, words, mark] = item.children;
        const [from, to] = [Math.min(q, 0), Math.max(q, 0)].map(along); // null is 0, so no bar
        track.firstElementChild.style.transform = `translateX(${100 * from}%) scaleX(${to - from})`;
        text(words, q === null ? "–" : q.toFixed(Math.abs(q) >= 1000 ? 0 : 2).replace("-", "−"));
        const highest = q === greatest;
        if (action === chosen) text(mark, lower(action) ? "chosen, not the highest" : "chosen");
        else text(mark, highest && lower(chosen) ? "highest" : "");
        item.classList.toggle("is-chosen", action === chosen);
        item.classList.toggle("is-highest", highest);
      }
    },
  };
}

/** Put an element at a part of its parent's width: all to the left of it at 1, and all to the right at 0. */
function at(element, part) {
  element.style.left = `${100 * part}%`;
  element.style.transform = `translateX(${-100 * part}%)`;
  return element;
}

const MOST = 24; // readings with a course each

/**
 * Which readings have a course, and words for the rest. A code of zeros and ones has none: it is said which are 1.
 * Of very many readings the first are shown that change.
 */
function selected({ readings, obs }) {
  const every = readings.map((_, index) => index);
  const coded = readings.length > 2 && obs.every((row) => row.every((value) => value === 0 || value === 1));
  if (coded) return { shown: [], coded, rest: `${number(every.length)}, each 0 or 1` };
  if (every.length <= MOST) return { shown: every, coded, rest: "" };
  const changing = every.filter((index) => obs.some((row) => row[index] !== obs[0][index]));
  const shown = changing.slice(0, MOST);
  const rest = `${number(shown.length)} of ${number(changing.length)} that change; there are ${number(every.length)}`;
  return { shown, coded, rest };
}

/** The readings by name, with ``rest``, words on those left out: ``set(telemetry)`` for a flight, ``show(frame)``. */
export function createReadings() {
  const gauges = el("ul", { class: "gauges" });
  const ones = el("p", { class: "ones" });
  const rest = el("span", { class: "note" });
  const element = el("div", {}, gauges, ones);
  let obs = [];
  let readings = [];
  let now = { shown: [], coded: false };
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", () => drawAll());

  function drawAll() {
    for (const [place, item] of [...gauges.children].entries()) course(item.parts.canvas, obs, now.shown[place]);
  }
  new ResizeObserver(() => drawAll()).observe(element);

  return {
    element,
    rest,
    set(telemetry) {
      ({ obs, readings } = telemetry);
      now = selected(telemetry);
      text(rest, now.rest);
      ones.hidden = !now.coded;
      keep(
        gauges,
        now.shown.map((index) => readings[index]),
        (name) => name,
        makeGauge,
        () => {},
      );
      drawAll();
    },
    show(frame) {
      if (now.coded) text(ones, said(readings.filter((_, index) => obs[frame]?.[index] === 1)));
      for (const [place, item] of [...gauges.children].entries()) {
        const value = obs[frame]?.[now.shown[place]];
        text(item.parts.value, value === undefined || value === null ? "–" : value.toFixed(3).replace("-", "−"));
        item.parts.needle.style.left = `${(100 * frame) / Math.max(1, obs.length - 1)}%`;
      }
    },
  };
}

function said(names) {
  if (names.length === 0) return "All are 0.";
  const more = names.length - MOST;
  const words = names.slice(0, MOST).join(", ") + (more > 0 ? ` and ${number(more)} more` : "");
  return `${words} ${names.length === 1 ? "is" : "are"} 1.`;
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
