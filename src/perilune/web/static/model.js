// The list of runs and their groups, with short names.

/** The model before the list of runs has been read. */
export const EMPTY = modelOf({ root: "", message: null, runs: [], searches: [] });

/**
 * Index the server's list of runs. ``byId`` maps ids to runs; ``label(id)`` and ``groupLabel(group)`` return short
 * names; ``searches`` are the names of searches for settings; ``groups`` maps groups to runs; ``groupsOfSeeds(ids)``
 * returns the groups with more than one seed among ``ids``.
 */
export function modelOf({ root, message, runs, searches }) {
  const paths = runs.map((run) => run.id.split("/"));
  const names = new Set(paths.map((path) => path.at(-1)));
  const common = names.size === runs.length ? Infinity : commonParts(paths);
  const label = (id) =>
    id
      .split("/")
      .slice(Math.min(common, id.split("/").length - 1))
      .join("/");
  const groups = new Map();
  for (const run of runs) groups.set(run.group, [...(groups.get(run.group) ?? []), run]);
  const isAmbiguous = (environment) =>
    [...groups.values()].filter((runs) => runs.length > 1 && runs[0].environment === environment).length > 1;
  const groupLabel = (group) => {
    const [first] = groups.get(group) ?? [];
    const environment = first?.environment || "unknown environment";
    return isAmbiguous(environment) ? `${environment}, settings of ${label(first.id)}` : environment;
  };
  const byId = new Map(runs.map((run) => [run.id, run]));
  const groupsOfSeeds = (ids) => {
    const found = new Map(); // runs by group
    for (const run of ids.map((id) => byId.get(id)).filter(Boolean))
      found.set(run.group, [...(found.get(run.group) ?? []), run]);
    return new Set([...found.keys()].filter((group) => countSeeds(found.get(group)) > 1));
  };
  return { root, message, runs, searches, byId, groups, label, groupLabel, groupsOfSeeds };
}

/** Return the ids of the runs to show first: the newest run, or the newest that is running, with all seeds of its group. */
export function defaultRuns({ runs, groups }) {
  const readable = runs.filter((run) => run.state !== "unreadable");
  const running = readable.filter((run) => run.state === "running");
  const [newest] = (running.length > 0 ? running : readable).sort((a, b) => b.started - a.started);
  return newest === undefined ? [] : groups.get(newest.group).map((run) => run.id);
}

/** Return the number of different seeds of ``runs``. */
function countSeeds(runs) {
  return new Set(runs.map((run) => run.seed)).size;
}

/** Return the number of leading parts that all paths share. */
function commonParts([first, ...others]) {
  const apart = first.findIndex((part, place) => others.some((path) => path[place] !== part));
  return apart < 0 ? first.length : apart;
}

/** Return the message to show if there are no runs. */
export function noRuns({ root, message }) {
  const out = root === "runs" ? "" : ` --out ${root}/moon`;
  const command = `perilune train LunarLander-v3${out}`;
  return message ?? `There are no runs in ${root} yet. Start one with ${command}. It will appear here.`;
}
