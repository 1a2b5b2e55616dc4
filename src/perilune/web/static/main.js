// The page of perilune watch: runs at the left; curves, flights and settings at the right.

import { follow, get } from "./api.js";
import { createCurves } from "./curves.js";
import { text } from "./dom.js";
import { createFlights } from "./videos.js";
import { modelOf, NOTHING } from "./model.js";
import { assign } from "./palette.js";
import { createSettings } from "./settings.js";
import { createSidebar, unasked } from "./sidebar.js";
import { change, chosen, onChange, state } from "./state.js";
import { some } from "./text.js";

const VIEWS = { curves: createCurves, flights: createFlights, settings: createSettings };
const TITLES = { curves: "Curves", flights: "Flights", settings: "Settings" };
const REST = 800; // milliseconds between two looks at a growing directory
const $ = (id) => document.getElementById(id);

let model = NOTHING;
const views = Object.fromEntries(Object.entries(VIEWS).map(([name, create]) => [name, create($(name))]));
const sidebar = createSidebar($("runs"));
let known = false; // whether the runs have been read once
const met = new Set(); // ids of all runs that there were
let changed = new Set(); // ids that have changed since they were read; null: maybe all
let reading = false;

/** Read the list of runs again, and show what changed: never twice at once, and not more often than REST. */
async function refresh() {
  if (reading) return;
  reading = true;
  while (changed === null || changed.size > 0) {
    const now = changed;
    changed = new Set();
    let problem = "";
    try {
      model = modelOf(await get("/api/runs"));
      known = true;
    } catch (error) {
      problem = error.message;
    }
    say("problem", problem);
    if (problem === "") show(now === null ? null : [...now]);
    await new Promise((resolve) => setTimeout(resolve, REST));
  }
  reading = false;
}

/** Bring the page up to date, after ``ids`` changed (null: maybe all; empty: only what the reader chose). */
function show(ids) {
  for (const { id } of model.runs) met.add(id);
  const missing = chosen().filter((id) => !model.byId.has(id));
  if (missing.length > 0 || (state.runs === null && model.runs.length > 0)) {
    const there = chosen().filter((id) => model.byId.has(id));
    change({ runs: there.length > 0 ? there : model.runs.length > 0 ? unasked(model.runs) : null }); // comes here again
    say("missing", missing.length > 0 ? aboutMissing(missing, there) : "");
  }
  const banded = state.bands ? model.groupsOfSeeds(chosen()) : new Set();
  assign(chosen(), (id) => (banded.has(model.byId.get(id)?.group) ? model.byId.get(id).group : id));
  sidebar(model);
  for (const button of $("views").children) {
    const current = button.dataset.view === state.view;
    if (current) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  for (const name of Object.keys(views)) $(name).hidden = name !== state.view;
  text($("fold"), `Runs (${chosen().length} of ${model.runs.length})`);
  document.title = `${TITLES[state.view]} – ${model.root} – Perilune`;
  views[state.view](model, ids);
}

/** A sentence on chosen runs that are not there, maybe no longer; ``there`` are the others that were chosen. */
function aboutMissing(missing, there) {
  const gone = missing.every((id) => met.has(id)) ? " any more" : "";
  const others = there.length === 0 ? chosen().map(model.label).join(", ") : "";
  const instead = others && ` Shown instead: ${others}.`;
  return `${some(missing)} ${missing.length === 1 ? "is" : "are"} not in ${model.root}${gone}.${instead}`;
}

function say(place, words) {
  text($(place), words);
  $(place).hidden = words === "";
}

onChange((changed) => {
  if (changed.includes("runs")) say("missing", ""); // somebody has chosen since
  if (known) show([]);
});

follow(
  (ids) => {
    if (ids === null || changed === null) changed = null;
    else for (const id of ids) changed.add(id);
    refresh();
  },
  (words) => {
    text($("connection"), words);
    $("connection").className = words === "live" ? "live" : "lost";
  },
);

for (const button of $("views").children) button.addEventListener("click", () => change({ view: button.dataset.view }));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the state's
  $("main").focus();
});
$("help").addEventListener("click", () => $("keys").showModal());
$("fold").addEventListener("click", () => {
  const open = document.body.classList.toggle("open");
  $("fold").setAttribute("aria-expanded", String(open));
});

addEventListener("keydown", (event) => {
  const folds = document.body.classList.contains("open") && $("fold").checkVisibility();
  const itsOwn = event.target.closest("dialog") || (event.target === $("filter") && $("filter").value);
  if (event.key === "Escape" && folds && !itsOwn) {
    $("fold").click();
    $("fold").focus();
    return;
  }
  const typing = event.target.closest("input:not([type=checkbox], [type=range]), select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.fullscreenElement) return;
  const act = {
    1: () => change({ view: "curves" }),
    2: () => change({ view: "flights" }),
    3: () => change({ view: "settings" }),
    0: () => change({ env_steps: null, episode: null }),
    "?": () => $("keys").showModal(),
    "/": () => {
      if (getComputedStyle($("runs")).display === "none") $("fold").click();
      $("filter").focus();
    },
  }[event.key];
  if (act === undefined) return;
  event.preventDefault();
  act();
});
