// What is known of the runs, with names for them and for their groups.

/** The model before anything is known. */
export const NOTHING = modelOf({ root: "", words: null, runs: [] });

/**
 * From the server's list of runs: ``byId``; ``label(id)`` and ``groupLabel(group)``, short names for people; and
 * ``groupsOfSeeds(ids)``, the groups of which there is more than one seed among ``ids``.
 */
export function modelOf({ root, words, runs }) {
  const paths = runs.map((run) => run.id.split("/"));
  const ends = new Set(paths.map((path) => path.at(-1)));
  const common = ends.size === runs.length ? Infinity : inCommon(paths);
  const label = (id) =>
    id
      .split("/")
      .slice(Math.min(common, id.split("/").length - 1))
      .join("/");
  const groups = new Map();
  for (const run of runs) groups.set(run.group, [...(groups.get(run.group) ?? []), run]);
  const several = (environment) =>
    [...groups.values()].filter((of) => of.length > 1 && of[0].environment === environment).length > 1;
  const groupLabel = (group) => {
    const [first] = groups.get(group) ?? [];
    const environment = first?.environment ?? "unknown environment";
    return several(environment) ? `${environment} like ${label(first.id)}` : environment;
  };
  const byId = new Map(runs.map((run) => [run.id, run]));
  const groupsOfSeeds = (ids) => {
    const some = new Map(); // by group
    for (const run of ids.map((id) => byId.get(id)).filter(Boolean))
      some.set(run.group, [...(some.get(run.group) ?? []), run]);
    return new Set([...some.keys()].filter((group) => seeds(some.get(group)) > 1));
  };
  return { root, words, runs, byId, label, groupLabel, groupsOfSeeds };
}

/** How many seeds there are among ``runs``: one may have been trained more than once. */
export function seeds(runs) {
  return new Set(runs.map((run) => run.seed)).size;
}

/** How many parts all paths begin with. */
function inCommon([first, ...others]) {
  const apart = first.findIndex((part, place) => others.some((path) => path[place] !== part));
  return apart < 0 ? first.length : apart;
}

/** What to say where there are no runs. */
export function noRuns({ root, words }) {
  const out = root === "runs" ? "" : ` --out ${root}/moon`;
  const remedy = `perilune train LunarLander-v3${out} makes one, which appears here by itself.`;
  return words ?? `No runs in ${root} yet. ${remedy}`;
}
