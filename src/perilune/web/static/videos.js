// The view of the films: a strip of all that were recorded, and the player.

import { film as address, get } from "./api.js";
import { el, keep, text } from "./dom.js";
import { noRuns } from "./model.js";
import { createPlayer } from "./player.js";
import { change, chosen, state } from "./state.js";
import { brief, count, number } from "./text.js";
import { createThumbnails } from "./thumbnails.js";

/** The view in ``host``: ``update(model, changed)`` where the ids of ``changed`` grew (null: all may be different). */
export function createFlights(host) {
  const which = el("select", { id: "flight", change: () => change({ flight: which.value, film: null }) });
  const strip = el("ul", { class: "strip", "aria-label": "Films" });
  const empty = el("p", { class: "empty" });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const missing = el("p", { class: "problem", role: "status", hidden: true });
  const player = createPlayer();
  const thumbnails = createThumbnails();
  host.append(el("div", { class: "tools" }, el("label", {}, "Run", which)), problem, missing, strip, empty, player.element);
  let films = [];
  let of = null; // whose films these are
  const old = new Set(); // films that were there when the run was first shown, or have been looked at
  let shown = null; // the film in the player

  function draw(model) {
    const { flight } = state;
    const asked = films.find((film) => film.name === state.film);
    const current = asked ?? films[0] ?? null;
    missing.hidden = of === null || of !== flight || state.film === null || asked !== undefined;
    const instead = current === null ? "" : ` Shown instead: ${current.title}.`;
    text(missing, missing.hidden ? "" : `${model.label(of)} has no film ${state.film}.${instead}`);
    keep(
      strip,
      films,
      (film) => `${of}/${film.name}`,
      makeFilm,
      (item, film) => {
        const { button, picture, title, about } = item.parts;
        if (film === current) button.setAttribute("aria-current", "true");
        else button.removeAttribute("aria-current");
        text(title, film.title);
        const said = [film.outcome, film.reward === null ? null : number(Math.round(film.reward))].filter(Boolean);
        text(about, said.join(", ") || (film.env_steps === null ? "" : `after ${brief(film.env_steps)} steps`));
        item.classList.toggle("new", !old.has(`${of}/${film.name}`));
        thumbnails.ask(picture, address(of, film.name), film.bytes);
      },
    );
    strip.hidden = films.length === 0;
    empty.hidden = films.length > 0;
    const run = model.byId.get(flight);
    text(
      empty,
      model.runs.length === 0
        ? noRuns(model)
        : !run
          ? "No run is chosen. Tick one in the list of runs to see its flights."
          : run.state === "training"
            ? "No film yet: the first is on its way. It appears here when it is recorded."
            : "This run has no films. perilune video " +
              `${model.root}/${flight}` +
              " makes one; a training films every so many episodes with --video-every.",
    );
    show(current);
  }

  function makeFilm(film) {
    const parts = {
      picture: el("canvas", { width: 168, height: 112, "aria-hidden": "true" }),
      title: el("span", { class: "name" }),
      about: el("span", { class: "note" }),
    };
    parts.button = el(
      "button",
      {
        type: "button",
        click: () => {
          old.add(`${of}/${film.name}`);
          change({ flight: of, film: film.name });
        },
      },
      parts.picture,
      parts.title,
      parts.about,
    );
    const item = el("li", {}, parts.button);
    item.parts = parts;
    return item;
  }

  async function show(film) {
    const now = film === null ? null : `${of}/${film.name}/${film.bytes}`;
    if (now === shown) return;
    shown = now;
    if (film === null) return player.clear();
    let telemetry = null;
    if (film.telemetry) {
      try {
        telemetry = await get("/api/telemetry", { id: of, name: film.name });
      } catch (error) {
        complain(error.message);
      }
    }
    if (now === shown) player.show(address(of, film.name), film, telemetry);
  }

  function complain(words) {
    problem.hidden = words === "";
    text(problem, words);
  }

  return async function update(model, changed) {
    const runs = chosen()
      .map((id) => model.byId.get(id))
      .filter(Boolean);
    if (!chosen().includes(state.flight)) {
      const first = runs.find((run) => run.videos > 0) ?? runs[0];
      if (first) return change({ flight: first.id, film: state.flight === null ? state.film : null }); // and so here again
    }
    if (changed === null && player.failed()) shown = null; // once more, now that the server is there again
    keep(
      which,
      runs,
      (run) => run.id,
      (run) => el("option", { value: run.id }),
      (option, run) => text(option, `${model.label(run.id)} (${count(run.videos, "film")})`),
    );
    which.value = state.flight ?? "";
    const id = runs.length ? state.flight : null;
    if (id !== of || changed === null || changed.includes(id)) {
      try {
        const answer = id === null ? [] : await get("/api/videos", { id });
        if (id !== null && id !== state.flight) return; // another was chosen meanwhile
        if (id !== of) for (const film of answer) old.add(`${id}/${film.name}`);
        films = answer;
        of = id;
        complain("");
      } catch (error) {
        complain(error.message);
      }
    }
    draw(model);
  };
}
