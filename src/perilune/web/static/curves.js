// The view of the learning curves: one chart per series. Visible charts are requested first. The others follow once, so
// that they are there for print and screenshots, and again when they become visible.

import { get } from "./api.js";
import { createCell } from "./cell.js";
import { ignoredRuns } from "./content.js";
import { debounced, el, keep, text } from "./dom.js";
import { noRuns } from "./model.js";
import { createOutcomes } from "./outcomes.js";
import { change, chosen, state, WHOLE } from "./state.js";
import { number, some, X_LABELS } from "./text.js";

const SMOOTH = [null, 1, 5, 10, 20, 50, 100, 200, 500, 1000]; // null: automatic
const OUTCOME = "episodes.outcome";
const FIRST = ["episodes.reward", OUTCOME, "evaluations.mean_return"];
const LEAST_SHARED = 20; // episodes, of which the outcomes are a share
const NOT_SMOOTHED = new Set(["epsilon", "learning_rate", "target_syncs"]);
const MAX_REQUESTS = 2; // at the same time
const MIN_WAIT = 500; // milliseconds between two requests for the same chart while runs grow

/** Return the episodes in the moving averages: those that the user chose, or those that suit the longest run. */
const windowOf = (model) => state.smooth ?? Math.max(1, ...chosen().map((id) => model.byId.get(id)?.window ?? 1));

/** Return the rows in the moving average of a series. Metrics have fewer rows and less noise than episodes. */
function smoothing(name, window) {
  const [log, metric] = name.split(".");
  if (log === "evaluations" || NOT_SMOOTHED.has(metric)) return 1;
  if (name === OUTCOME) return Math.max(window, LEAST_SHARED);
  return log === "episodes" ? window : Math.ceil(window / 5);
}

/** Return the x axis of a series. Metrics use environment steps instead of episodes, because their rows have none. */
const xOf = (name) => (name.startsWith("metrics.") && state.x === "episode" ? "env_steps" : state.x);

/** Return a list of [chart, ...] with another item for the chart ``name``; without it if ``values`` is empty. */
const replaced = (list, name, values) => [
  ...list.filter(([chart]) => chart !== name),
  ...(values.length ? [[name, ...values]] : []),
];

/** Create the view in ``host``. Return ``update(model, changed)``; ``changed`` are ids of runs (null: any run). */
export function createCurves(host) {
  const tools = createTools();
  const warnings = el("ul", { class: "warnings" });
  const empty = el("p", { class: "empty" });
  const grid = el("div", { class: "grid" });
  const outcomes = createOutcomes();
  host.append(tools.element, warnings, empty, grid, outcomes.element);
  let model = null;
  let x = state.x; // of the values at the cursor
  let ignored = []; // messages about selected runs that are not drawn
  let view = ""; // ranges of y, scales and so on
  let query = ""; // what the charts show: ids, smoothing and so on
  const cells = []; // {cell, visible, stale, busy, next, query}; the query of its data
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries)
        cells.find((one) => one.cell.element === entry.target).visible = entry.isIntersecting;
      pump();
    },
    { rootMargin: "120px" },
  );

  async function start() {
    const columns = await get("/api/columns");
    const all = Object.entries(columns).flatMap(([log, names]) => names.map((name) => `${log}.${name}`));
    const sorted = [...FIRST.filter((name) => all.includes(name)), ...all.filter((name) => !FIRST.includes(name))];
    for (const name of sorted) {
      const cell = createCell(name, { zoom, cursor, scale, outcome: (label) => change({ outcome: label }) });
      cells.push({ cell, visible: false, stale: true, busy: false, next: 0, query: null });
      grid.append(cell.element);
      seen.observe(cell.element);
    }
  }
  let starting = null;

  function wholeRange(kind) {
    const counts = chosen().map((id) => model.byId.get(id)?.[kind === "episode" ? "episodes" : kind] ?? 0);
    return [0, Math.max(1, ...counts) * 1.02];
  }

  const viewOf = (name) => ({
    by: xOf(name),
    x: state[xOf(name)] ?? wholeRange(xOf(name)),
    y: state.y.find(([chart]) => chart === name)?.slice(1) ?? null,
    scale: state.scale.find(([chart]) => chart === name)?.[1] ?? null,
    outcome: state.outcome,
  });

  function zoom(name, { x: range, y }) {
    const values = y === undefined ? {} : { y: replaced(state.y, name, y ?? []) };
    if (range === undefined) return change(values);
    const kind = xOf(name);
    const [least, most] = wholeRange(kind);
    if (range !== null) {
      const width = Math.max(Math.min(range[1] - range[0], most - least), (most - least) * 1e-5, 1);
      const from = Math.min(Math.max(range[0], least), most - width);
      range = width >= most - least ? null : [from, from + width];
    }
    change({ ...values, [kind]: range });
  }

  function scale(name, wanted) {
    change({ scale: replaced(state.scale, name, [wanted]), y: replaced(state.y, name, []) });
  }

  let pointed = null; // [name, x] to show at the next animation frame; the mouse moves more often
  function cursor(name, at) {
    if (pointed === null) requestAnimationFrame(point);
    pointed = [name, at];
  }

  function point() {
    const [name, at] = pointed;
    pointed = null;
    for (const { cell, visible } of cells) {
      if ((visible || at === null) && xOf(cell.name) === xOf(name)) cell.point(at);
    }
  }

  let waiting = 0;
  function pump() {
    clearTimeout(waiting);
    if (host.hidden || !model || !chosen().length) return;
    const now = performance.now();
    const due = cells.filter((one) => one.stale && !one.busy && !one.cell.element.hidden && (one.visible || one.query !== query));
    due.sort((a, b) => b.visible - a.visible);
    for (const one of due.filter(({ next }) => next <= now)) {
      if (cells.filter(({ busy }) => busy).length >= MAX_REQUESTS) return;
      request(one);
    }
    const next = Math.min(...due.filter((one) => !one.busy).map((one) => one.next));
    if (Number.isFinite(next)) waiting = setTimeout(pump, Math.max(20, next - now));
  }

  async function request(one) {
    const { name } = one.cell;
    const [from, to] = state[xOf(name)] ?? [null, null];
    const smooth = smoothing(name, windowOf(model));
    const [start, requested] = [performance.now(), query];
    Object.assign(one, { busy: true, stale: false, query });
    try {
      const answer = await get("/api/series", {
        id: chosen(),
        name,
        x: xOf(name),
        smooth,
        band: state.bands ? 1 : null,
        from,
        to,
        points: Math.round(Math.min(600, Math.max(120, 6000 / chosen().length))),
      });
      if (requested === query) {
        one.cell.show(answer, model, smooth, viewOf(name));
        ignored = ignoredRuns(answer, model, state.bands);
        updateWarnings(warnings, model, ignored);
      }
    } catch (error) {
      if (requested === query) one.cell.fail(error.message);
    }
    const took = performance.now() - start;
    Object.assign(one, {
      busy: false,
      next: requested === query ? performance.now() + Math.max(MIN_WAIT, 3 * took) : 0,
    });
    pump();
  }

  const refine = debounced(() => {
    for (const one of cells) Object.assign(one, { stale: true, next: 0 });
    pump();
  }, 150);

  return async function update(next, changed) {
    model = next;
    tools.update(windowOf(model), Object.keys(WHOLE).some((name) => state[name]?.length > 0));
    if ((!state.bands && state.x !== "seconds") || chosen().length === 0) ignored = [];
    updateWarnings(warnings, model, ignored);
    empty.hidden = chosen().length > 0;
    grid.hidden = chosen().length === 0;
    text(
      empty,
      model.runs.length ? "No run is selected. Select one in the table of runs to see its curves." : noRuns(model),
    );
    outcomes.update(model);
    if (x !== state.x) for (const { cell } of cells) cell.point(null); // the cursor belongs to another x axis
    x = state.x;
    try {
      await (starting ??= start());
      tools.problem("");
    } catch (error) {
      starting = null; // try again with the next update
      return tools.problem(error.message);
    }
    const shares = cells.find(({ cell }) => cell.name === OUTCOME)?.cell.element;
    if (shares) shares.hidden = !chosen().some((id) => model.byId.get(id)?.outcomes);
    const { bands, x: by } = state;
    const requested = JSON.stringify([chosen(), windowOf(model), bands, by, state[by], state.env_steps]);
    const sameLines = requested === query;
    query = requested;
    const sameView = JSON.stringify([state.y, state.scale, state.outcome]);
    if (!sameLines || view !== sameView) for (const { cell } of cells) cell.view(viewOf(cell.name)); // known data, at once
    view = sameView;
    if (!sameLines) refine();
    else if (changed === null || changed.some((id) => chosen().includes(id))) {
      for (const one of cells) one.stale = true;
    }
    pump();
  };
}

/** Show ``messages`` and the warnings of the selected runs. */
function updateWarnings(list, model, messages) {
  const labels = new Map(); // message -> runs, so that each message is shown once
  for (const id of chosen()) {
    const { warnings = [], message } = model.byId.get(id) ?? {};
    for (const one of message ? [...warnings, message] : warnings)
      labels.set(one, [...(labels.get(one) ?? []), model.label(id)]);
  }
  const all = [...messages, ...[...labels].map(([message, names]) => `${some(names)}: ${message}`)];
  const shown = all.length > 5 ? [...all.slice(0, 4), `${all.length - 4} more warnings.`] : all;
  keep(
    list,
    shown,
    (message) => message,
    (message) => el("li", {}, message),
    () => {},
  );
  list.hidden = all.length === 0;
}

function createTools() {
  const slider = el("input", {
    type: "range",
    id: "smooth",
    min: "0",
    max: String(SMOOTH.length - 1),
    step: "1",
    input: () => change({ smooth: SMOOTH[Number(slider.value)] }),
  });
  const output = el("output", { for: "smooth" });
  const over = el(
    "select",
    { id: "x", change: () => change({ x: over.value }) },
    ...Object.entries(X_LABELS).map(([x, label]) => el("option", { value: x }, label)),
  );
  const bands = el("input", { type: "checkbox", id: "bands", change: () => change({ bands: bands.checked }) });
  const whole = el(
    "button",
    { type: "button", id: "whole", click: () => change(WHOLE) },
    "Whole range",
  );
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const bar = el(
    "div",
    { class: "tools" },
    el("label", {}, "Smoothing", slider),
    output,
    el("label", {}, "x axis", over),
    el(
      "label",
      { title: "Interquartile mean, minimum and maximum of the seeds" },
      bands,
      "Bands over seeds",
    ),
    whole,
  );
  return {
    element: el("div", {}, bar, problem),
    problem(message) {
      problem.hidden = message === "";
      text(problem, message);
    },
    update(window, zoomed) {
      const place = SMOOTH.findIndex((rows) => rows !== null && rows >= state.smooth);
      slider.value = String(state.smooth === null ? 0 : place < 0 ? SMOOTH.length - 1 : place);
      const mean = window === 1 ? "off" : `mean of ${number(window)} episodes`;
      const label = state.smooth === null ? `automatic: ${mean}` : mean;
      slider.setAttribute("aria-valuetext", label);
      text(output, label);
      over.value = state.x;
      bands.checked = state.bands;
      whole.hidden = !zoomed;
    },
  };
}
