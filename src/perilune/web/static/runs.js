// The table of runs: their state and results, the settings that differ between them, and the selection.

import { columnsOf, describe, sorted } from "./columns.js";
import { confined, el, keep, text } from "./dom.js";
import { EMPTY } from "./model.js";
import { paint, placeOf, swatch } from "./palette.js";
import { change, chosen, state } from "./state.js";
import { count, number, shortened } from "./text.js";

const LONGEST = 48; // characters of a name

/** Create the table in ``host`` and return ``update(model)``. */
export function createRuns(host) {
  const fold = el(
    "button",
    { type: "button", id: "fold", "aria-controls": "run-table", click: () => change({ folded: !state.folded }) },
    "Runs",
  );
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
  const every = el("input", {
    type: "checkbox",
    "aria-label": "All listed runs",
    change: () => choose(listed(model).map((run) => run.id), every.checked),
  });
  const head = el("tr", {});
  const body = el("tbody", {});
  const table = el("table", {}, el("caption", { class: "hidden" }, "Runs"), el("thead", {}, head), body);
  const scroll = el(
    "div",
    { class: "scroll", id: "run-table", tabIndex: 0, role: "region", "aria-label": "Table of runs" },
    table,
  );
  const searches = el("p", { class: "searches" });
  host.append(el("header", {}, el("h2", {}, fold), total, searches, filter), scroll);
  let model = EMPTY;

  return function update(next) {
    model = next;
    host.hidden = model.runs.length === 0;
    const runs = listed(model);
    const { columns, hidden } = columnsOf(runs, model);
    if (filter.value !== state.filter) filter.value = state.filter;
    text(total, summary(model, runs, hidden));
    searches.hidden = model.searches.length === 0;
    keep(searches, model.searches, (name) => name, linkToSearch, (link, name) => text(link, searchTitle(name, model)));
    fold.setAttribute("aria-expanded", String(!state.folded));
    filter.hidden = state.folded || (model.runs.length < 2 && state.filter === "");
    scroll.hidden = state.folded || runs.length === 0;
    if (state.folded) return;
    const ticked = runs.filter((run) => isChosen(run.id)).length;
    every.checked = ticked > 0 && ticked === runs.length;
    every.indeterminate = ticked > 0 && ticked < runs.length;
    const focused = document.activeElement;
    const key = ({ key }) => key;
    keep(head, columns, key, (column) => makeHead(column, every), updateHead);
    const rows = sorted(runs, columns, model);
    keep(body, rows, ({ id }) => id, () => el("tr", {}), (row, run) => {
      row.classList.toggle("chosen", isChosen(run.id));
      const update = (cell, column) => confined(cell, () => updateCell(cell, column, run, model));
      keep(row, columns, key, (column) => makeCell(column, run), update);
    });
    if (focused !== document.activeElement && host.contains(focused)) focused.focus(); // its row has moved
  };
}

function linkToSearch(name) {
  return el("a", { href: `/search?${new URLSearchParams({ id: name })}`, target: "_blank", class: "search" });
}

function searchTitle(name, { root }) {
  return `Report of the search ${shortened(name === "." ? root : name, LONGEST)}`;
}

function summary(model, runs, hidden) {
  if (runs.length === 0) return "No run matches the filter.";
  const all = model.runs.length;
  const shown = runs.length < all ? `${number(runs.length)} of ${count(all, "run")} listed` : count(all, "run");
  const more = hidden > 0 ? `; ${count(hidden, "more setting")} ${hidden === 1 ? "differs" : "differ"}` : "";
  return `${shown}, ${number(chosen().length)} selected${more}`;
}

/** Return the runs that match the filter. */
function listed({ runs }) {
  const parts = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  return runs.filter((run) => {
    const about = `${run.id} ${run.environment} ${run.state} seed ${run.seed}`.toLowerCase();
    return parts.every((part) => about.includes(part));
  });
}

const isChosen = (id) => chosen().includes(id);

function choose(ids, on) {
  const others = chosen().filter((id) => on || !ids.includes(id));
  change({ runs: on ? [...new Set([...others, ...ids])] : others });
}

function makeHead(column, every) {
  const click = () => change({ sort: nextSort(column) });
  const sort = el("button", { type: "button", class: "sort", click }, column.title);
  const cell = el("th", { scope: "col", class: kindOf(column), title: column.note ?? "" });
  cell.append(...(column.key === "name" ? [every] : []), sort);
  return cell;
}

/** Return the sort order after a click: numbers and dates start with the greatest, texts with the first. */
function nextSort({ key, descending }) {
  if (state.sort === key) return `-${key}`;
  if (state.sort === `-${key}`) return key;
  return descending ? `-${key}` : key;
}

function updateHead(cell, { key }) {
  const order = { [key]: "ascending", [`-${key}`]: "descending" }[state.sort];
  if (order) cell.setAttribute("aria-sort", order);
  else cell.removeAttribute("aria-sort");
}

const kindOf = ({ key, descending }) =>
  ["name", "status", "environment"].includes(key) ? key : descending ? "number" : "";

function makeCell(column, run) {
  if (column.key === "name") return makeName(run);
  if (column.key === "status") return makeStatus(run);
  return el("td", { class: kindOf(column) });
}

function updateCell(cell, column, run, model) {
  if (column.key === "name") return updateName(cell, run, model);
  if (column.key === "status") return updateStatus(cell, run);
  const { content, title } = describe(column, run);
  text(cell, content);
  if (cell.title !== title) cell.title = title;
}

function makeName({ id }) {
  const box = el("input", { type: "checkbox", change: () => choose([id], box.checked) });
  const only = el(
    "button",
    { type: "button", class: "quiet", "aria-label": `Only ${id}`, click: () => change({ runs: [id] }) },
    "only",
  );
  const seeds = el("button", { type: "button", class: "quiet", click: () => change({ runs: seeds.ids }) });
  const label = el("label", {}, box, swatch(null), el("span", { class: "name", title: id }));
  return el("th", { scope: "row", class: "name" }, label, el("span", { class: "choose" }, only, seeds));
}

function updateName(cell, { id, group }, model) {
  const [label, { lastElementChild: seeds }] = cell.children;
  const [box, line, name] = label.children;
  const [shown, same] = [model.label(id), model.groups.get(group)];
  box.checked = isChosen(id);
  paint(line, placeOf(id));
  text(name, shortened(shown, LONGEST));
  seeds.ids = same.map((run) => run.id);
  seeds.hidden = !model.groupsOfSeeds(seeds.ids).has(group);
  text(seeds, `all ${same.length} seeds`);
  seeds.setAttribute("aria-label", `Only all ${same.length} seeds of ${shown}`);
}

function makeStatus({ id }) {
  const bar = el("progress", { max: 1, "aria-label": `Progress of ${id}` });
  return el("td", { class: "status" }, el("span", {}), bar, el("p", { class: "error" }));
}

function updateStatus(cell, run) {
  const [mark, bar, error] = cell.children;
  mark.className = `state ${run.state}`;
  const used = run.progress === null ? "" : `${Math.floor(100 * run.progress)}%`;
  text(mark, run.state === "running" && used ? `running, ${used}` : run.state);
  mark.title = run.message ?? "";
  bar.hidden = run.progress === null || run.progress >= 1 || ["unreadable", "finished"].includes(run.state);
  bar.value = run.progress ?? 0;
  bar.title = `${used} of the budget`;
  bar.setAttribute("aria-valuetext", bar.title);
  error.hidden = run.error === null;
  text(error, run.error ?? "");
  error.title = run.message ?? "";
}
