// The settings of the selected runs side by side. Settings that differ come first. Values that differ from the
// recommended settings are marked.

import { get } from "./api.js";
import { confined, el, text } from "./dom.js";
import { noRuns } from "./model.js";
import { slot, swatch } from "./palette.js";
import { change, chosen, state } from "./state.js";
import { number } from "./text.js";
import { withUnit } from "./values.js";

const MAX_REQUESTS = 4; // at the same time
const HIDDEN = new Set(["format", "made"]); // for Perilune itself
const SECTIONS = { agent: "Agent", train: "Training", host: "Machine and versions" }; // all other settings belong to "Run"

/** Create the view in ``host`` and return ``update(model, changed)``. */
export function createSettings(host) {
  const box = el("input", { type: "checkbox", id: "differs", change: () => change({ differs: box.checked }) });
  const note = el("span", { class: "note", role: "status" });
  const mark = el("b", { class: "changed" }, "changed");
  const legend = el("span", { class: "note" }, mark, " differs from the recommended settings");
  const tools = el("div", { class: "tools" }, el("label", {}, box, "Only differences"), note, legend);
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const table = el("table", {});
  const scroll = el(
    "div",
    { class: "scroll settings", tabIndex: 0, role: "region", "aria-label": "Settings of the selected runs" },
    table,
  );
  host.append(tools, problem, scroll);
  const known = new Map(); // id -> {values, recommended}
  let drawn = "";

  return async function update(model, changed) {
    box.checked = state.differs;
    if (changed === null) known.clear();
    const ids = [...chosen()];
    scroll.hidden = ids.length === 0;
    try {
      await readAll(ids, known);
      problem.hidden = true;
    } catch (error) {
      problem.hidden = false;
      text(problem, error.message);
    }
    if (String(ids) !== String(chosen())) return; // the user has changed the selection
    const there = ids.filter((id) => known.has(id));
    const now = JSON.stringify([there, there.map(slot), state.differs]);
    if (now === drawn && changed !== null) return;
    drawn = now;
    const rows = lines(there.map((id) => known.get(id)));
    const different = rows.filter((row) => row.differs).length;
    legend.hidden = !rows.some((row) => row.cells.some((cell) => cell.changed));
    text(
      note,
      model.runs.length === 0
        ? noRuns(model)
        : ids.length === 0
          ? "No run is selected. Select one in the table of runs to see its settings."
          : ids.length === 1
            ? "Select a second run to compare settings."
            : different === 0
              ? "No differences."
              : `${number(different)} of ${number(rows.length)} settings ${different === 1 ? "differs" : "differ"}.`,
    );
    draw(
      table,
      there.map((id) => ({ id, name: model.label(id) })),
      rows,
    );
  };
}

async function readAll(ids, known) {
  const missing = ids.filter((id) => !known.has(id));
  const failures = [];
  async function work() {
    for (let id = missing.shift(); id !== undefined; id = missing.shift()) {
      try {
        const { config, host, recommended, derived } = await get("/api/run", { id });
        known.set(id, {
          values: new Map([...flat(config ?? {}), ...flat({ host: host ?? {} })]),
          recommended: new Map(flat(recommended ?? {})),
          derived: new Set(derived),
        });
      } catch (error) {
        failures.push(error);
      }
    }
  }
  await Promise.all(Array.from({ length: MAX_REQUESTS }, work));
  if (failures.length > 0) throw failures[0];
}

/** Yield [path, value] for every value; a list is one value. */
function* flat(value, path = []) {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    for (const [name, inner] of Object.entries(value)) yield* flat(inner, [...path, name]);
  } else yield [path.join("."), value];
}

/** Return one row {section, path, cells, differs} per setting. Settings that differ come first. */
function lines(columns) {
  const paths = [...new Set(columns.flatMap(({ values }) => [...values.keys()]))].filter((path) => !HIDDEN.has(path));
  const rows = paths.map((path) => {
    const [first, ...rest] = path.split(".");
    const section = rest.length > 0 && first in SECTIONS ? SECTIONS[first] : "Run";
    const cells = columns.map((column) => cellOf(path, column));
    return { section, path, cells, differs: new Set(cells.map(({ key }) => key)).size > 1 };
  });
  const order = ["Run", ...Object.values(SECTIONS)];
  return rows.sort((a, b) => b.differs - a.differs || order.indexOf(a.section) - order.indexOf(b.section));
}

/** Return a value as ``key``, to compare it, and how to show it, and how it differs from the recommended settings. */
function cellOf(path, { values, recommended, derived }) {
  if (!values.has(path)) return { key: "", content: () => "not set", absent: true, changed: "" };
  const value = values.get(path);
  const key = derived.has(path) ? "derived" : JSON.stringify(value);
  const differs = recommended.has(path) && JSON.stringify(recommended.get(path)) !== JSON.stringify(value);
  const changed = differs ? `recommended: ${withUnit(recommended.get(path), path)}` : "";
  return { key, content: () => withUnit(value, path), changed };
}

function draw(table, runs, rows) {
  const shown = rows.filter((row) => row.differs || !state.differs);
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "Setting"),
    ...runs.map(({ id, name }) => el("th", { scope: "col", title: id }, swatch(slot(id)), el("span", {}, name))),
  );
  const bodies = [];
  let title = null;
  for (const row of shown) {
    const group = row.differs ? "Differences" : row.section;
    if (group !== title)
      bodies.push(el("tbody", {}, el("tr", {}, el("th", { scope: "rowgroup", colSpan: runs.length + 1 }, group))));
    title = group;
    const line = el(
      "tr",
      {},
      el("th", { scope: "row" }, el("code", {}, ...breakable(row.path))),
      ...row.cells.map((one) => makeCell(one, row)),
    );
    line.classList.toggle("differs", row.differs);
    bodies.at(-1).append(line);
  }
  table.replaceChildren(
    el("caption", { class: "hidden" }, "Settings of the selected runs"),
    el("thead", {}, head),
    ...bodies,
  );
}

function makeCell({ key, content, absent, changed }, row) {
  const cell = el("td", { class: key === row.cells[0].key ? "" : "other" }); // differs from the first run
  confined(cell, () => {
    const value = el("span", { class: absent ? "note" : "value", title: content() }, content());
    if (changed) cell.append(value, el("b", { class: "changed", title: changed }, "changed"));
    else cell.append(value);
  });
  return cell;
}

/** Split a path so that a line may break after each part. */
function breakable(path) {
  return path.split(/(?<=[._])/).flatMap((part) => [part, el("wbr")]);
}
