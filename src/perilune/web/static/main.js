// The page of perilune watch: the table of runs, then the curves, videos or settings of the selected runs.

import { follow, get } from "./api.js";
import { createCurves } from "./curves.js";
import { text } from "./dom.js";
import { defaultRuns, EMPTY, modelOf } from "./model.js";
import { assign } from "./palette.js";
import { createRuns } from "./runs.js";
import { createSettings } from "./settings.js";
import { change, chosen, onChange, state, WHOLE } from "./state.js";
import { some } from "./text.js";
import { createVideos } from "./videos.js";

const VIEWS = { curves: createCurves, videos: createVideos, settings: createSettings };
const TITLES = { curves: "Curves", videos: "Videos", settings: "Settings" };
const PAUSE = 800; // milliseconds between two requests for the list of runs
const $ = (id) => document.getElementById(id);

let model = EMPTY;
const views = Object.fromEntries(Object.entries(VIEWS).map(([name, create]) => [name, create($(name))]));
const table = createRuns($("runs"));
let loaded = false; // whether the list of runs has been read
const seen = new Set(); // ids of all runs so far, including removed runs
let changed = new Set(); // ids of runs that changed since they were read; null: any run may have changed
let reading = false;

/** Read the list of runs and show changes. Make one request at a time, at least PAUSE apart. */
async function refresh() {
  if (reading) return;
  reading = true;
  while (changed === null || changed.size > 0) {
    const now = changed;
    changed = new Set();
    let problem = "";
    try {
      model = modelOf(await get("/api/runs"));
      loaded = true;
    } catch (error) {
      problem = error.message;
    }
    $("loading").hidden ||= problem !== "";
    report("server", problem);
    if (problem === "") show(now === null ? null : [...now]);
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  reading = false;
}

const problems = new Map(); // part of the page -> message

function report(part, message) {
  problems.set(part, message);
  setMessage("problem", [...problems.values()].filter(Boolean).join(" "));
}

/** Draw a part of the page. If that fails, report it and leave the other parts as they are. */
async function attempt(part, action) {
  try {
    await action();
    report(part, "");
  } catch (error) {
    console.error(error);
    report(part, `The page cannot show the ${part}: ${error}. Please report this error.`);
  }
}

/** Update the page after the runs ``ids`` changed (null: any run; empty: only the selection changed). */
function show(ids) {
  attempt("page", () => draw(ids));
}

function draw(ids) {
  $("loading").hidden = true;
  for (const { id } of model.runs) seen.add(id);
  const missing = chosen().filter((id) => !model.byId.has(id));
  if (missing.length > 0 || (state.runs === null && model.runs.length > 0)) {
    const there = chosen().filter((id) => model.byId.has(id));
    const runs = there.length > 0 ? there : model.runs.length > 0 ? defaultRuns(model) : null;
    change({ runs }); // calls show again
    setMessage("missing", missing.length > 0 ? aboutMissing(missing, there) : "");
  }
  const banded = state.bands ? model.groupsOfSeeds(chosen()) : new Set();
  assign(model.runs, chosen(), banded);
  attempt("runs", () => table(model));
  for (const button of $("views").children) {
    const current = button.dataset.view === state.view;
    if (current) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  for (const name of Object.keys(views)) $(name).hidden = name !== state.view;
  document.title = `${TITLES[state.view]} – ${model.root} – Perilune`;
  attempt(TITLES[state.view].toLowerCase(), () => views[state.view](model, ids));
}

/** Return a message about selected runs that do not exist. ``there`` are the ids of the other selected runs. */
function aboutMissing(missing, there) {
  const removed = missing.every((id) => seen.has(id));
  const others = there.length === 0 ? chosen().map(model.label).join(", ") : "";
  const instead = others && ` Showing ${others} instead.`;
  const verb = missing.length === 1 ? (removed ? "was" : "is") : removed ? "were" : "are";
  return `${some(missing)} ${verb} ${removed ? "removed from" : "not in"} ${model.root}.${instead}`;
}

function setMessage(id, message) {
  text($(id), message);
  $(id).hidden = message === "";
}

onChange((changed) => {
  if (changed.includes("runs")) setMessage("missing", ""); // the user has changed the selection
  if (loaded) show([]);
});

follow(
  (ids) => {
    if (ids === null || changed === null) changed = null;
    else for (const id of ids) changed.add(id);
    refresh();
  },
  (status) => {
    text($("connection"), status);
    $("connection").className = status === "live" ? "live" : "lost";
  },
);

for (const button of $("views").children) button.addEventListener("click", () => change({ view: button.dataset.view }));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the URL's fragment holds the state
  $("main").focus();
});
$("help").addEventListener("click", () => $("keys").showModal());

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox], [type=range]), select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.fullscreenElement) return;
  const act = {
    1: () => change({ view: "curves" }),
    2: () => change({ view: "videos" }),
    3: () => change({ view: "settings" }),
    0: () => change(WHOLE),
    "?": () => $("keys").showModal(),
    "/": () => {
      change({ folded: false });
      $("filter").focus();
    },
  }[event.key];
  if (act === undefined) return;
  event.preventDefault();
  act();
});
