// What the episodes of a training came to: a line per run, a bar per label.

import { el } from "./dom.js";
import { slot, swatch } from "./palette.js";
import { chosen } from "./state.js";
import { number } from "./words.js";

/** The panel ``element``; ``update(model)`` fills it with the chosen runs that have labels, or hides it. */
export function createOutcomes() {
  const tables = el("div", { class: "outcomes" });
  const title = el(
    "header",
    {},
    el("h3", {}, "What the episodes came to"),
    el("span", { class: "note" }, "share of all so far"),
  );
  const element = el("section", { class: "panel", id: "outcomes" }, title, tables);
  let before = "";
  return {
    element,
    update(model) {
      const runs = chosen()
        .map((id) => model.byId.get(id))
        .filter((run) => run?.outcomes && Object.keys(run.outcomes).length);
      const now = JSON.stringify(runs.map((run) => [run.id, slot(run.id), run.outcomes]));
      if (now === before) return;
      before = now;
      element.hidden = runs.length === 0;
      const environments = [...new Set(runs.map((run) => run.environment))];
      tables.replaceChildren(
        ...environments.map((name) =>
          table(
            name,
            runs.filter((run) => run.environment === name),
            model,
          ),
        ),
      );
    },
  };
}

function table(environment, runs, model) {
  const labels = [...new Set(runs.flatMap((run) => Object.keys(run.outcomes)))];
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, environment),
    ...labels.map((label) => el("th", { scope: "col" }, label)),
  );
  const rows = runs.map((run) => {
    const all = Object.values(run.outcomes).reduce((sum, many) => sum + many, 0);
    const name = el("th", { scope: "row" }, swatch(slot(run.id)), el("span", {}, model.label(run.id)));
    return el("tr", {}, name, ...labels.map((label) => share(label, run.outcomes[label] ?? 0, all)));
  });
  const whole = el(
    "table",
    {},
    el("caption", { class: "hidden" }, `Outcomes in ${environment}`),
    el("thead", {}, head),
    el("tbody", {}, ...rows),
  );
  return el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": `Outcomes in ${environment}` }, whole);
}

function share(label, many, all) {
  const words = `${number(many)} of ${number(all)} episodes`;
  const meter = el("meter", { min: 0, max: 1, value: all ? many / all : 0, "aria-label": `${label}: ${words}` });
  return el("td", { title: words }, el("b", {}, all ? `${Math.round((100 * many) / all)} %` : "–"), meter);
}
