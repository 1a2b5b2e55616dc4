// A chart with a title, the values at the cursor, keyboard controls, and a description for screen readers.

import { createChart } from "./chart.js";
import { canBeLogarithmic, chartContent, describe, readings } from "./content.js";
import { announce, el, keep, text } from "./dom.js";
import { csv, picture, save } from "./exports.js";
import { paint, swatch } from "./palette.js";
import { comparedOutcome, outcomesOf } from "./shares.js";
import { count, duration, number, percent, shortened, title, X_LABELS } from "./text.js";

const LONGEST = 48; // characters of a name
const MIN_PART = 1e-5; // of the whole range of y
const SLACK = 0.01; // share of the x axis; the cursor reads a line that starts or ends this close to it

let cells = 0;

/**
 * Create the chart of the series ``name``. ``on`` contains the handlers ``zoom(name, {x, y})`` with new ranges (null: the
 * whole range), ``cursor(name, x)``, ``scale(name, scale)`` and ``outcome(label)``.
 *
 * Return ``element``; ``show(answer, model, smooth, view)``; ``fail(message)``, which shows an error in this chart;
 * ``view(view)``, which shows known data in another way; and ``point(x)``, which moves the cursor. ``view`` contains ``by``, the x axis, ``x``, its range, and the last
 * argument of ``chartContent``.
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
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const note = el("p", { class: "note" }, subtitle);
  const log = el(
    "button",
    { type: "button", class: "quiet", click: () => on.scale(name, content.log ? "linear" : "log"), hidden: true },
    "log",
  );
  const outcome = el("select", { "aria-label": "Outcome", change: () => on.outcome(outcome.value), hidden: true });
  const file = (kind, save) =>
    el("button", { type: "button", class: "quiet", "aria-label": `${kind} of ${heading}`, click: save }, kind);
  const actions = el("div", { class: "actions", hidden: true }, outcome, log, file("PNG", savePicture), file("CSV", saveTable));
  const description = el("p", { class: "hidden", id: `description-${index}` });
  const list = el("ul", { class: "readings" });
  const axis = el("p", { class: "axis" });
  const where = el("span", { class: "where" });
  const rest = el("span", { class: "rest" });
  const head = el("header", {}, el("h3", {}, heading), el("code", {}, name), note, actions);
  const foot = el("div", { class: "foot" }, where, list, rest);
  const element = el("section", { class: "chart" }, head, el("div", { class: "stage" }, problem, plot, nothing, axis), foot, description);
  element.id = `chart-${name}`;

  const chart = createChart(plot, {
    zoom,
    whole: () => on.zoom(name, { x: null, y: null }),
    cursor: (x, y) => {
      pointer = y;
      on.cursor(name, x);
    },
  });
  let shown = null; // {answer, model, smooth}
  let content = null;
  let view = { x: [0, 1] };
  let cursor = null;
  let announced = true; // whether the values at the cursor were announced to screen readers
  let pointer = null; // y of the pointer if it is on this chart

  function fail(message) {
    text(problem, message);
    problem.hidden = message === "";
    nothing.hidden ||= message !== "";
  }

  /** Draw the data. An error concerns only this chart. */
  function draw() {
    fail("");
    try {
      drawAll();
    } catch (error) {
      console.error(error);
      fail(`The page cannot draw this chart: ${error}. Please report this error.`);
    }
  }

  function drawAll() {
    const { answer, model } = shown;
    content = chartContent(answer, view.x, model, view);
    chart.set(content);
    if (cursor !== null) chart.point(cursor); // new data may have moved the axis
    nothing.hidden = content.strong.length > 0;
    text(nothing, content.time ? "The training time is known after the first evaluation." : "no data yet");
    text(description, describe(content.strong, format()));
    text(axis, X_LABELS[answer.x]);
    text(note, about());
    note.title = note.textContent;
    actions.hidden = content.strong.length === 0;
    log.hidden = !canBeLogarithmic(name);
    log.setAttribute("aria-pressed", String(content.log));
    log.setAttribute("aria-label", `log axis of ${heading}`);
    const labels = outcomesOf(answer);
    outcome.hidden = labels.length === 0 || content.stacked;
    keep(outcome, labels, (label) => label, (label) => el("option", {}, label), () => {});
    outcome.value = comparedOutcome(answer, view.outcome) ?? "";
    read();
  }

  const format = () => (content.share ? percent : number);

  /** Describe what the lines show. */
  function about() {
    const { answer, smooth } = shown;
    return [
      content.share ? `share of the last ${smooth} episodes` : smooth > 1 ? `${subtitle}, mean of ${smooth}` : subtitle,
      answer.bands.length > 0 && "band: minimum to maximum",
      content.hidden > 0 && `${count(content.hidden, "value")} ≤ 0 not shown`,
      view.scale === "log" && !content.log && "no value > 0 for a log axis",
    ]
      .filter(Boolean)
      .join("; ");
  }

  async function savePicture() {
    const { strong } = content;
    const chosen = outcome.hidden ? "" : `: ${outcome.value}`;
    const canvas = await picture(content, {
      title: `${heading}${chosen}`,
      note: about(),
      labels: [X_LABELS[shown.answer.x], content.share ? "share of episodes" : heading],
      legend: strong.map((line) => ({ place: line.place, label: shortened(line.label, LONGEST) })),
    });
    canvas.toBlob((blob) => save(`${name}.png`, blob));
  }

  function saveTable() {
    const table = csv(shown.answer, view.x, shown.smooth, shown.model);
    save(`${name}.csv`, new Blob([table], { type: "text/csv" }));
  }

  function read() {
    if (content === null) return;
    const at = readings(content.strong, cursor, pointer, SLACK * (view.x[1] - view.x[0]), format());
    const place = () => (content.time ? duration(cursor) : number(Math.round(cursor)));
    text(where, cursor === null ? "latest" : `at ${place()}`);
    keep(list, [...at.listed.entries()], ([place]) => place, makeReading, (item, [, one]) =>
      updateReading(item, one, format()),
    );
    text(rest, at.rest);
  }

  function keyed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || content === null) return;
    const { x } = view;
    const width = x[1] - x[0];
    const middle = cursor !== null && cursor > x[0] && cursor < x[1] ? cursor : (x[0] + x[1]) / 2;
    const around = (factor) => ({ x: [middle - (middle - x[0]) * factor, middle + (x[1] - middle) * factor] });
    const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const up = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (event.key === "+" || event.key === "=") on.zoom(name, around(0.5));
    else if (event.key === "-") on.zoom(name, around(2));
    else if (event.key === "0") on.zoom(name, { x: null, y: null });
    else if (event.key === "y") zoom({ y: moved(0.5, 0) });
    else if (event.key === "Y") zoom({ y: moved(2, 0) });
    else if (event.key === "l" && !log.hidden) log.click();
    else if (up && view.y) zoom({ y: moved(1, up / 5) });
    else if (along && event.shiftKey) {
      on.cursor(name, Math.min(x[1], Math.max(x[0], (cursor ?? middle) + (along * width) / 50)));
      announced = false;
    } else if (along) on.zoom(name, { x: [x[0] + (along * width) / 5, x[1] + (along * width) / 5] });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Zoom unless the range of y would be too narrow for its labels. */
  function zoom(ranges) {
    const { whole } = content;
    if (!ranges.y || ranges.y[1] - ranges.y[0] > MIN_PART * (whole[1] - whole[0])) on.zoom(name, ranges);
  }

  /** Return the range of y after a zoom around its middle and a shift, both relative; null for the whole range. */
  function moved(factor, shift) {
    const { log: isLog, y, whole } = content;
    const [to, from] = isLog ? [Math.log10, (level) => 10 ** level] : [(value) => value, (level) => level];
    const [low, high] = y.map(to);
    const middle = (low + high) / 2 + shift * (high - low);
    const half = ((high - low) / 2) * factor;
    return middle - half <= to(whole[0]) && middle + half >= to(whole[1])
      ? null
      : [from(middle - half), from(middle + half)];
  }

  return {
    element,
    name,
    fail,
    show(answer, model, smooth, next) {
      shown = { answer, model, smooth };
      view = next;
      draw();
    },
    view(next) {
      view = next;
      if (shown !== null && shown.answer.x === next.by) draw(); // else data for this x axis will follow
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

function updateReading(item, { place, label, value, low, high }, format) {
  const [line, name, content] = item.children;
  paint(line, place);
  text(name, shortened(label, LONGEST));
  name.title = label;
  text(content, low === null ? format(value) : `${format(value)} (${format(low)} to ${format(high)})`);
}
