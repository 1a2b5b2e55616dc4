// The list of runs on the left, with their progress and the selection of runs to compare.

import { brief, count, number, shortened } from "./text.js";
import { el, keep, text } from "./dom.js";
import { countSeeds, EMPTY, noRuns } from "./model.js";
import { paint, slot, swatch } from "./palette.js";
import { change, chosen, state } from "./state.js";

const MAX_DEFAULT = 6; // runs
const LONGEST = 60; // characters of a name

/** Return the runs to show before the user selects any: all if there are few, else runs in training, else the first. */
export function defaultRuns(runs) {
  const readable = runs.filter((run) => run.state !== "unreadable");
  const training = readable.filter((run) => run.state === "training");
  const some = readable.length <= MAX_DEFAULT ? readable : training.length ? training : readable.slice(0, 1);
  return some.slice(0, MAX_DEFAULT).map((run) => run.id);
}

/** Create the sidebar in ``host`` and return ``update(model)``. */
export function createSidebar(host) {
  const filter = el("input", {
    type: "search",
    id: "filter",
    placeholder: "Filter runs",
    autocomplete: "off",
    "aria-label": "Filter runs",
    spellcheck: false,
    input: () => change({ filter: filter.value }),
  });
  const total = el("p", { class: "total", role: "status" });
  const every = el(
    "button",
    { type: "button", class: "quiet", click: () => choose(shown(model).map((run) => run.id)) },
    "Compare all",
  );
  const none = el("button", { type: "button", class: "quiet", click: () => change({ runs: [] }) }, "None");
  const list = el("div", { class: "groups" });
  host.append(filter, el("div", { class: "row" }, total, every, none), list);
  let model = EMPTY;

  return function update(next) {
    model = next;
    if (filter.value !== state.filter) filter.value = state.filter;
    const runs = shown(model);
    text(total, summary(model, runs));
    every.hidden = runs.length < 2;
    none.hidden = chosen().length === 0;
    keep(
      list,
      grouped(runs),
      (group) => group.name,
      makeGroup,
      (section, group) => updateGroup(section, group, model),
    );
  };
}

function summary(model, shown) {
  const { runs } = model;
  if (runs.length === 0) return noRuns(model);
  if (shown.length === 0) return "No run matches the filter.";
  return shown.length < runs.length
    ? `${shown.length} of ${count(runs.length, "run")}`
    : `${count(runs.length, "run")}, ${chosen().length} selected`;
}

function shown({ runs }) {
  const parts = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  return runs.filter((run) => {
    const about = `${run.id} ${run.environment} ${run.state} seed ${run.seed}`.toLowerCase();
    return parts.every((part) => about.includes(part));
  });
}

/** Group the runs. Runs of a group differ only in the seed. */
function grouped(runs) {
  const groups = new Map();
  for (const run of runs) {
    if (!groups.has(run.group)) groups.set(run.group, { name: run.group, runs: [] });
    groups.get(run.group).runs.push(run);
  }
  return [...groups.values()];
}

const isChosen = (id) => chosen().includes(id);

function choose(ids, on = true) {
  const others = chosen().filter((id) => on || !ids.includes(id));
  change({ runs: on ? [...new Set([...others, ...ids])] : others });
}

function makeGroup() {
  const box = el("input", { type: "checkbox" });
  const head = el("label", { class: "group" }, box, el("span", { class: "name" }), el("span"));
  const section = el("section", {}, head, el("ul"));
  box.addEventListener("change", () => choose(section.ids, box.checked));
  return section;
}

function updateGroup(section, { name, runs }, model) {
  const [head, list] = section.children;
  section.ids = runs.map((run) => run.id);
  head.hidden = runs.length < 2;
  const ticked = section.ids.filter(isChosen).length;
  const box = head.firstElementChild;
  box.checked = ticked === runs.length;
  box.indeterminate = ticked > 0 && ticked < runs.length;
  const many = countSeeds(runs);
  text(head.children[1], shortened(model.groupLabel(name), LONGEST));
  text(head.lastElementChild, count(many, "seed") + (many < runs.length ? ` in ${count(runs.length, "run")}` : ""));
  head.title = many > 1 ? "These runs differ only in the seed" : "These runs have the same settings and the same seed";
  keep(
    list,
    runs,
    (run) => run.id,
    makeRun,
    (item, run) => updateRun(item, run, model.label(run.id), runs.length > 1),
  );
}

function makeRun({ id }) {
  const parts = {
    box: el("input", { type: "checkbox", change: () => choose([id], parts.box.checked) }),
    swatch: swatch(null),
    state: el("span", { class: "state" }),
    about: el("span", { class: "about" }),
    best: el("span", { class: "best" }),
    bar: el("progress", { max: 1, "aria-label": `Progress of ${id}` }),
    only: el(
      "button",
      { type: "button", class: "quiet only", "aria-label": `Only ${id}`, click: () => change({ runs: [id] }) },
      "only",
    ),
  };
  parts.name = el("span", { class: "name", title: id });
  const label = el("label", {}, parts.box, parts.swatch, parts.name);
  const item = el("li", {}, label, parts.best, el("p", {}, parts.about, parts.state), parts.only, parts.bar);
  item.parts = parts;
  return item;
}

function updateRun(item, run, label, grouped) {
  const { box, name, swatch: line, state: mark, about, best, bar } = item.parts;
  const ticked = isChosen(run.id);
  text(name, shortened(label, LONGEST));
  box.checked = ticked;
  item.classList.toggle("chosen", ticked);
  paint(line, ticked ? slot(run.id) : null);
  mark.className = `state ${run.state}`;
  text(mark, run.state);
  mark.title = run.message ?? "";
  const facts = [
    `seed ${run.seed}`,
    run.env_steps > 0 ? `${brief(run.env_steps)} steps` : null,
    grouped ? null : run.environment, // after the shorter facts, because a narrow list may cut it off
    run.warnings.length ? count(run.warnings.length, "warning") : null,
  ];
  text(about, run.state === "unreadable" ? (run.message ?? "Cannot be read.") : facts.filter(Boolean).join(", "));
  text(best, run.best ? `best ${number(run.best.mean_return)}` : "");
  bar.hidden = run.progress === null || run.progress >= 1 || run.state === "unreadable";
  bar.value = run.progress ?? 0;
  bar.title = `${Math.floor(100 * bar.value)} % of the budget`;
  bar.setAttribute("aria-valuetext", bar.title);
}
