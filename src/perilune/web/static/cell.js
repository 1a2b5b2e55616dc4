// A chart with a title, the values at the cursor, keyboard controls, and a description for screen readers.

import { createChart } from "./chart.js";
import { chartContent, describe, readings } from "./content.js";
import { announce, el, keep, text } from "./dom.js";
import { paint, swatch } from "./palette.js";
import { number, shortened, title, X_LABELS } from "./text.js";

const LONGEST = 48; // characters of a name

let cells = 0;

/**
 * Create the chart of the series ``name``. ``on`` contains the handlers ``zoom(name, range)`` (null: the whole range) and
 * ``cursor(name, x)``. Return ``element``; ``show(answer, x, model, smooth)``; ``range(x)``, which shows another part;
 * and ``point(x)``, which moves the cursor.
 */
export function createCell(name, on) {
  const [heading, subtitle] = title(name);
  const index = (cells += 1);
  const plot = el("div", {
    class: "plot",
    tabIndex: 0,
    role: "group",
    "aria-label": `Chart: ${heading}`,
    "aria-roledescription": "chart",
    "aria-describedby": `description-${index} chart-keys`,
    keydown: keyed,
  });
  const nothing = el("p", { class: "nothing" }, "loading");
  const note = el("p", { class: "note" }, subtitle);
  const description = el("p", { class: "hidden", id: `description-${index}` });
  const list = el("ul", { class: "readings" });
  const axis = el("p", { class: "axis" });
  const where = el("span", { class: "where" });
  const rest = el("span", { class: "rest" });
  const head = el("header", {}, el("h3", {}, heading), el("code", {}, name), note);
  const foot = el("div", { class: "foot" }, where, list, rest);
  const element = el("section", { class: "chart" }, head, el("div", { class: "stage" }, plot, nothing), axis, foot, description);
  element.id = `chart-${name}`;

  const chart = createChart(plot, {
    zoom: (range) => on.zoom(name, range),
    whole: () => on.zoom(name, null),
    cursor: (x, y) => {
      pointer = y;
      on.cursor(name, x);
    },
  });
  let shown = null; // {answer, model}
  let content = null;
  let x = [0, 1];
  let cursor = null;
  let announced = true; // whether the values at the cursor were announced to screen readers
  let pointer = null; // y of the pointer if it is on this chart

  function draw() {
    content = chartContent(shown.answer, x, shown.model);
    chart.set(content);
    if (cursor !== null) chart.point(cursor); // new data may have moved the axis
    const empty = content.strong.length === 0;
    nothing.hidden = !empty;
    text(nothing, "no data yet");
    text(description, describe(content.strong));
    read();
  }

  function read() {
    if (content === null) return;
    const at = readings(content.strong, cursor, pointer);
    text(where, cursor === null ? "latest" : `at ${number(Math.round(cursor))}`);
    keep(list, [...at.listed.entries()], ([place]) => place, makeReading, updateReading);
    text(rest, at.rest);
  }

  function keyed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || content === null) return;
    const width = x[1] - x[0];
    const middle = cursor !== null && cursor > x[0] && cursor < x[1] ? cursor : (x[0] + x[1]) / 2;
    const around = (factor) => [middle - (middle - x[0]) * factor, middle + (x[1] - middle) * factor];
    const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "+" || event.key === "=") on.zoom(name, around(0.5));
    else if (event.key === "-") on.zoom(name, around(2));
    else if (event.key === "0") on.zoom(name, null);
    else if (along && event.shiftKey) {
      on.cursor(name, Math.min(x[1], Math.max(x[0], (cursor ?? middle) + (along * width) / 50)));
      announced = false;
    } else if (along) on.zoom(name, [x[0] + (along * width) / 5, x[1] + (along * width) / 5]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  return {
    element,
    name,
    show(answer, range, model, smooth) {
      shown = { answer, model };
      x = range;
      text(axis, X_LABELS[answer.x]);
      text(note, smooth > 1 ? `${subtitle}, mean of ${smooth}` : subtitle);
      draw();
    },
    range(next) {
      x = next;
      if (shown !== null) draw();
    },
    point(next) {
      if (next === cursor && pointer === null) return;
      cursor = next;
      chart.point(next);
      read();
      if (!announced) announce(`${where.textContent}: ${[...list.children].map((item) => item.textContent).join(", ")}`);
      announced = true;
    },
  };
}

function makeReading() {
  return el("li", {}, swatch(null), el("span", { class: "name" }), el("b"));
}

function updateReading(item, [, { place, label, value }]) {
  const [line, name, content] = item.children;
  paint(line, place);
  text(name, shortened(label, LONGEST));
  name.title = label;
  text(content, number(value));
}
