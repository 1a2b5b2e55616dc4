// The columns of the table of runs: what they contain, and how they sort.

import { state } from "./state.js";
import { duration, number } from "./text.js";
import { plain } from "./values.js";

const MAX_SETTINGS = 6; // columns; the view of the settings shows all
const DATE = new Intl.DateTimeFormat("en", {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});

const SCORE = numeric("score", "Score", "Mean return of the latest evaluation", (run) => run.latest);
const BEST = numeric("best", "Best", "Highest mean return of an evaluation", (run) => run.best?.mean_return ?? null);
const SOLVED = {
  ...numeric("solved", "Solved", "Environment steps until an evaluation reached the threshold", (run) => run.solved),
  show: (steps, run) => (steps !== null ? `at ${number(steps)}` : run.reward_threshold === null ? "–" : "no"),
  tip: (run) => (run.reward_threshold === null ? "" : `Threshold: ${number(run.reward_threshold)}`),
};
const ETA = {
  ...numeric("eta", "ETA", "Estimated training time until the budget is used", (run) => run.eta, duration),
  optional: true,
};
const date = (seconds) => DATE.format(1000 * seconds);

/**
 * ``value(run)`` is what a column sorts by, and ``show(value, run)`` its text. An ``optional`` column is hidden if no
 * listed run has a value.
 */
const COLUMNS = [
  { key: "name", title: "Run" },
  { key: "status", title: "Status", value: (run) => run.state },
  SCORE,
  BEST,
  SOLVED,
  numeric("steps", "Steps", "Environment steps", (run) => run.env_steps),
  numeric("time", "Time", "Training time without evaluations", (run) => run.seconds, duration),
  ETA,
  numeric("speed", "Steps/s", "Environment steps per second of training", (run) => run.speed),
  { key: "environment", title: "Environment", value: (run) => run.environment || null },
  numeric("started", "Started", "When training last started or resumed", (run) => run.started || null, date),
];

function numeric(key, title, note, value, show = number) {
  return { key, title, note, value, show: (found) => show(found), descending: true };
}

/** Return the ``columns`` for the listed runs, and the number of ``hidden`` columns of settings. */
export function columnsOf(runs, model) {
  const fixed = COLUMNS.filter((column) => !column.optional || runs.some((run) => column.value(run) !== null));
  const names = differing(runs);
  const settings = names.slice(0, MAX_SETTINGS).map((name) => ({
    key: `setting ${name}`,
    title: name.replace(/^(agent|train)\./, ""),
    note: name,
    value: (run) => run.settings[name] ?? null,
    show: (value) => plain(value, name),
    setting: name,
    descending: runs.every(({ settings }) => typeof (settings[name] ?? 0) === "number"),
  }));
  return { columns: [...fixed, ...settings], hidden: names.length - settings.length };
}

/**
 * Return the names of the settings that differ between listed runs of the same environment. Settings that follow from the
 * budget do not differ.
 */
function differing(runs) {
  const known = new Map(); // environment and name -> value as text
  const names = new Set();
  for (const { environment, state, settings, derived } of runs) {
    if (state === "unreadable") continue;
    for (const [name, value] of Object.entries(settings)) {
      const key = `${environment}\n${name}`;
      const now = derived.includes(name) ? "derived" : JSON.stringify(value);
      if (known.has(key) && known.get(key) !== now) names.add(name);
      known.set(key, now);
    }
  }
  return [...names].sort((a, b) => (b === "seed") - (a === "seed"));
}

const UNREADABLE = new Set(["status", "environment", "started"]); // columns of a run whose settings cannot be read

function valueOf(column, run) {
  return run.state !== "unreadable" || UNREADABLE.has(column.key) ? column.value(run) : null;
}

/** Return the ``content`` and the ``title`` of a cell. */
export function describe(column, run) {
  const value = valueOf(column, run);
  const absent = value === null && !Object.hasOwn(run.settings, column.setting);
  const content = absent && column.key !== "solved" ? "–" : (column.show?.(value, run) ?? String(value));
  return { content, title: column.tip?.(run) ?? "" };
}

/** Return the runs in the order of ``state.sort``. Runs without a value come last. */
export function sorted(runs, columns, model) {
  const descending = state.sort.startsWith("-");
  const column = columns.find(({ key }) => key === state.sort.slice(Number(descending)));
  if (column === undefined) return runs;
  const value = column.key === "name" ? (run) => model.label(run.id) : (run) => valueOf(column, run);
  const sign = descending ? -1 : 1;
  return [...runs].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * compare(x, y) || compare(a.id, b.id);
  });
}

function compare(x, y) {
  if (typeof x === "number" && typeof y === "number") return x - y;
  return plain(x).localeCompare(plain(y), "en", { numeric: true });
}
