// The view of the learning curves: a chart per metric. Only charts on the screen are asked for and drawn.

import { get } from "./api.js";
import { createCell } from "./cell.js";
import { leftOut } from "./content.js";
import { el, keep, settled, text } from "./dom.js";
import { noRuns } from "./model.js";
import { createOutcomes } from "./outcomes.js";
import { change, chosen, state } from "./state.js";
import { ACROSS, number, some } from "./text.js";

const SMOOTH = [1, 5, 10, 20, 50, 100, 200, 500, 1000];
const FIRST = ["episodes.reward", "evaluations.mean_return"];
const WITHOUT_NOISE = new Set(["epsilon", "learning_rate", "target_syncs"]);
const AT_ONCE = 2; // questions under way
const LEAST_WAIT = 500; // milliseconds between two answers to the same chart while runs grow

/** Rows in the moving average of a metric. Its lines are a fraction of the episodes', and less noisy. */
function smoothing(name) {
  const [log, metric] = name.split(".");
  if (log === "evaluations" || WITHOUT_NOISE.has(metric)) return 1;
  return log === "episodes" ? state.smooth : Math.ceil(state.smooth / 5);
}

/** What x is in the chart of a metric: metrics know no episodes. */
const xOf = (name) => (name.startsWith("metrics.") ? "env_steps" : state.x);

/** The view in ``host``: ``update(model, changed)`` where the ids of ``changed`` grew (null: all may be different). */
export function createCurves(host) {
  const tools = createTools();
  const notices = el("ul", { class: "notices" });
  const nobody = el("p", { class: "empty" });
  const grid = el("div", { class: "grid" });
  const outcomes = createOutcomes();
  host.append(tools.element, notices, nobody, grid, outcomes.element);
  let model = null;
  let across = state.x; // of the readings under the cursor
  let left = []; // words on the runs that are in no band
  let asked = ""; // ids, smoothing and the like, of which the charts show the answer
  const cells = []; // {cell, visible, stale, busy, next}
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries)
        cells.find((one) => one.cell.element === entry.target).visible = entry.isIntersecting;
      pump();
    },
    { rootMargin: "120px" },
  );

  async function start() {
    const names = await get("/api/names");
    const all = Object.entries(names).flatMap(([log, metrics]) => metrics.map((metric) => `${log}.${metric}`));
    const sorted = [...FIRST.filter((name) => all.includes(name)), ...all.filter((name) => !FIRST.includes(name))];
    for (const name of sorted) {
      const cell = createCell(name, { zoom, cursor });
      cells.push({ cell, visible: false, stale: true, busy: false, next: 0 });
      grid.append(cell.element);
      seen.observe(cell.element);
    }
  }
  let starting = null;

  function wholeRange(kind) {
    const counts = chosen().map((id) => model.byId.get(id)?.[kind === "episode" ? "episodes" : "env_steps"] ?? 0);
    return [0, Math.max(1, ...counts) * 1.02];
  }

  const rangeOf = (name) => state[xOf(name)] ?? wholeRange(xOf(name));

  function zoom(name, range) {
    const kind = xOf(name);
    const [least, most] = wholeRange(kind);
    if (range !== null) {
      const width = Math.max(Math.min(range[1] - range[0], most - least), (most - least) * 1e-5, 1);
      const from = Math.min(Math.max(range[0], least), most - width);
      range = width >= most - least ? null : [from, from + width];
    }
    change({ [kind]: range });
  }

  let pointed = null; // [name, x], until the next picture: a mouse moves more often than that
  function cursor(name, x) {
    if (pointed === null) requestAnimationFrame(point);
    pointed = [name, x];
  }

  function point() {
    const [name, x] = pointed;
    pointed = null;
    for (const { cell, visible } of cells) {
      if ((visible || x === null) && xOf(cell.name) === xOf(name)) cell.point(x);
    }
  }

  let waiting = 0;
  function pump() {
    clearTimeout(waiting);
    if (host.hidden || !model || !chosen().length) return;
    const now = performance.now();
    const due = cells.filter((one) => one.visible && one.stale && !one.busy);
    for (const one of due.filter(({ next }) => next <= now)) {
      if (cells.filter(({ busy }) => busy).length >= AT_ONCE) return;
      ask(one);
    }
    const next = Math.min(...due.filter((one) => !one.busy).map((one) => one.next));
    if (Number.isFinite(next)) waiting = setTimeout(pump, Math.max(20, next - now));
  }

  async function ask(one) {
    const { name } = one.cell;
    const [from, to] = state[xOf(name)] ?? [null, null];
    const edge = from === null ? 0 : (to - from) * 0.05; // so that lines go on beyond the picture
    const smooth = smoothing(name);
    Object.assign(one, { busy: true, stale: false });
    const [began, question] = [performance.now(), asked];
    try {
      const answer = await get("/api/series", {
        id: chosen(),
        name,
        x: xOf(name),
        smooth,
        band: state.bands ? 1 : null,
        from: from === null ? null : from - edge,
        to: to === null ? null : to + edge,
        points: Math.round(Math.min(600, Math.max(120, 6000 / chosen().length))),
      });
      if (question === asked) {
        one.cell.show(answer, rangeOf(name), model, smooth);
        left = state.bands ? leftOut(answer, model) : [];
        updateNotices(notices, model, left);
      }
      tools.problem("");
    } catch (error) {
      if (question === asked) tools.problem(error.message);
    }
    const took = performance.now() - began;
    Object.assign(one, {
      busy: false,
      next: question === asked ? performance.now() + Math.max(LEAST_WAIT, 3 * took) : 0,
    });
    pump();
  }

  const refine = settled(() => {
    for (const one of cells) Object.assign(one, { stale: true, next: 0 });
    pump();
  }, 150);

  return async function update(next, changed) {
    model = next;
    tools.update(state.env_steps !== null || state.episode !== null);
    if (!state.bands || chosen().length === 0) left = [];
    updateNotices(notices, model, left);
    nobody.hidden = chosen().length > 0;
    grid.hidden = chosen().length === 0;
    text(
      nobody,
      model.runs.length ? "No run is chosen. Tick one in the list of runs to see its curves." : noRuns(model),
    );
    outcomes.update(model);
    if (chosen().length === 0) tools.problem(""); // nothing is asked for that could take it back
    if (across !== state.x) for (const { cell } of cells) cell.point(null); // it was read off at another x
    across = state.x;
    try {
      await (starting ??= start());
    } catch (error) {
      starting = null; // and once more with the next update
      return tools.problem(error.message);
    }
    const question = JSON.stringify([chosen(), state.smooth, state.bands, state.x, state.env_steps, state.episode]);
    const sameLines = question === asked;
    asked = question;
    if (!sameLines) {
      for (const { cell, visible } of cells) if (visible) cell.range(rangeOf(cell.name)); // at once, of what is known
      refine();
    } else if (changed === null || changed.some((id) => chosen().includes(id))) {
      for (const one of cells) one.stale = true;
    }
    pump();
  };
}

/** Show what there is to say of the chosen runs, after ``words`` on all of them. */
function updateNotices(list, model, words) {
  const whose = new Map(); // the same words of many runs are said once
  for (const id of chosen()) {
    const { notices = [], words } = model.byId.get(id) ?? {};
    for (const said of words ? [...notices, words] : notices)
      whose.set(said, [...(whose.get(said) ?? []), model.label(id)]);
  }
  const said = [...words, ...[...whose].map(([its, names]) => `${some(names)}: ${its}`)];
  const first = said.length > 5 ? [...said.slice(0, 4), `There are ${said.length - 4} more notices.`] : said;
  keep(
    list,
    first,
    (words) => words,
    (words) => el("li", {}, words),
    () => {},
  );
  list.hidden = said.length === 0;
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
    ...Object.entries(ACROSS).map(([x, words]) => el("option", { value: x }, words)),
  );
  const bands = el("input", { type: "checkbox", id: "bands", change: () => change({ bands: bands.checked }) });
  const whole = el(
    "button",
    { type: "button", id: "whole", click: () => change({ env_steps: null, episode: null }) },
    "Whole range",
  );
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const bar = el(
    "div",
    { class: "tools" },
    el("label", {}, "Smoothing", slider),
    output,
    el("label", {}, "Over", over),
    el(
      "label",
      { title: "The mean of the middle half of the seeds, and their lowest and highest" },
      bands,
      "Bands over seeds",
    ),
    whole,
  );
  return {
    element: el("div", {}, bar, problem),
    problem(words) {
      problem.hidden = words === "";
      text(problem, words);
    },
    update(zoomed) {
      const place = SMOOTH.findIndex((rows) => rows >= state.smooth);
      slider.value = String(place < 0 ? SMOOTH.length - 1 : place);
      const words = state.smooth === 1 ? "off" : `mean of ${number(state.smooth)} episodes`;
      slider.setAttribute("aria-valuetext", words);
      text(output, words);
      over.value = state.x;
      bands.checked = state.bands;
      whole.hidden = !zoomed;
    },
  };
}
