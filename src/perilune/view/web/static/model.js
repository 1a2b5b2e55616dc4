// What is known of the runs, with names for them and for their groups.

/** The model before anything is known. */
export const NOTHING = modelOf({ root: "", words: null, runs: [] });

/** From the server's list of runs: ``byId``, and ``label(id)`` and ``groupLabel(group)``, short names for people. */
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
  return { root, words, runs, byId: new Map(runs.map((run) => [run.id, run])), label, groupLabel };
}

/** How many parts all paths begin with. */
function inCommon([first, ...others]) {
  const apart = first.findIndex((part, place) => others.some((path) => path[place] !== part));
  return apart < 0 ? first.length : apart;
}

/** What to say where there are no runs. */
export function noRuns({ root, words }) {
  return words ?? `No runs in ${root} yet. perilune train LunarLander-v3 makes one.`;
}
