// The outcomes of training episodes: for each run, one bar per outcome, in the order that the environment defines.

import { confined, el } from "./dom.js";
import { slot, swatch } from "./palette.js";
import { chosen } from "./state.js";
import { number } from "./text.js";

/** Create the panel ``element``. ``update(model)`` shows the selected runs that have outcomes, or hides the panel. */
export function createOutcomes() {
  const tables = el("div", { class: "outcomes" });
  const title = el(
    "header",
    {},
    el("h3", {}, "Outcomes"),
    el("span", { class: "note" }, "share of all episodes so far"),
  );
  const element = el("section", { class: "panel", id: "outcomes" }, title, tables);
  let before = "";
  return {
    element,
    update(model) {
      const runs = chosen()
        .map((id) => model.byId.get(id))
        .filter((run) => run?.outcomes);
      const now = JSON.stringify(runs.map((run) => [run.id, model.label(run.id), slot(run.id), run.outcomes]));
      if (now === before) return;
      before = now;
      element.hidden = runs.length === 0;
      tables.replaceChildren(...runs.map((run) => table(run, model.label(run.id))));
    },
  };
}

function table({ id, outcomes }, label) {
  const element = el("table", {});
  confined(element, () => {
    const all = outcomes.reduce((sum, [, many]) => sum + many, 0);
    element.append(
      el("caption", { title: id }, swatch(slot(id)), el("span", { class: "name" }, label)),
      el("tbody", {}, ...outcomes.map(([label, many]) => row(label, many, all))),
    );
  });
  return element;
}

function row(label, many, all) {
  const fill = el("span", { class: "fill" });
  fill.style.width = `${(100 * many) / all}%`;
  return el(
    "tr",
    {},
    el("th", { scope: "row", title: label }, label),
    el("td", { class: "bar" }, el("span", { class: "track", "aria-hidden": "true" }, fill)),
    el("td", {}, `${Math.round((100 * many) / all)}%`),
    el("td", { class: "note", title: `${number(many)} of ${number(all)} episodes` }, number(many)),
  );
}
