// The view of the videos: a strip of all recorded videos, and the player.

import { get, videoUrl } from "./api.js";
import { confined, el, keep, text } from "./dom.js";
import { noRuns } from "./model.js";
import { createPlayer } from "./player.js";
import { change, chosen, state } from "./state.js";
import { brief, count, number } from "./text.js";
import { createThumbnails } from "./thumbnails.js";

/** Create the view in ``host``. Return ``update(model, changed)``; ``changed`` are ids of runs (null: any run). */
export function createVideos(host) {
  const select = el("select", { id: "source", change: () => change({ source: select.value, video: null }) });
  const strip = el("ul", { class: "strip", "aria-label": "Videos" });
  const empty = el("p", { class: "empty" });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const missing = el("p", { class: "problem", role: "status", hidden: true });
  const player = createPlayer();
  const thumbnails = createThumbnails();
  host.append(el("div", { class: "tools" }, el("label", {}, "Run", select)), problem, missing, strip, empty, player.element);
  let videos = [];
  let source = null; // id of the run that ``videos`` belong to
  const old = new Set(); // videos that existed when the run was first shown, or that the user has opened
  let shown = null; // the video in the player

  function draw(model) {
    const requested = videos.find((video) => video.name === state.video);
    const current = requested ?? videos[0] ?? null;
    missing.hidden = source === null || source !== state.source || state.video === null || requested !== undefined;
    const instead = current === null ? "" : ` Showing ${current.title} instead.`;
    text(missing, missing.hidden ? "" : `${model.label(source)} has no video ${state.video}.${instead}`);
    keep(
      strip,
      videos,
      (video) => `${source}/${video.name}`,
      makeItem,
      (item, video) => confined(item, () => updateItem(item, video, video === current)),
    );
    strip.hidden = videos.length === 0;
    empty.hidden = videos.length > 0;
    const run = model.byId.get(state.source);
    text(
      empty,
      model.runs.length === 0
        ? noRuns(model)
        : !run
          ? "No run is selected. Select one in the table of runs to see its videos."
          : run.state === "running"
            ? "No videos yet. The first video will appear here when it is recorded."
            : `This run has no videos. Record one with perilune video ${model.root}/${state.source}, ` +
              "or during training with --video-every.",
    );
    show(current);
  }

  function makeItem(video) {
    const parts = {
      picture: el("canvas", { width: 168, height: 112, "aria-hidden": "true" }),
      title: el("span", { class: "name" }),
      result: el("span", { class: "note" }),
    };
    parts.button = el(
      "button",
      {
        type: "button",
        click: () => {
          old.add(`${source}/${video.name}`);
          change({ source, video: video.name });
        },
      },
      parts.picture,
      parts.title,
      parts.result,
    );
    const item = el("li", {}, parts.button);
    item.parts = parts;
    return item;
  }

  function updateItem(item, video, current) {
    const { button, picture, title, result } = item.parts;
    if (current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    text(title, video.title);
    const facts = [video.outcome, video.reward === null ? null : number(Math.round(video.reward))].filter(Boolean);
    text(result, facts.join(", ") || (video.env_steps === null ? "" : `after ${brief(video.env_steps)} steps`));
    item.classList.toggle("new", !old.has(`${source}/${video.name}`));
    thumbnails.request(picture, videoUrl(source, video.name), video.bytes);
  }

  async function show(video) {
    const now = video === null ? null : `${source}/${video.name}/${video.bytes}`;
    if (now === shown) return;
    shown = now;
    if (video === null) return player.clear();
    let telemetry = null;
    if (video.telemetry) {
      try {
        telemetry = await get("/api/telemetry", { id: source, name: video.name });
      } catch (error) {
        setProblem(error.message);
      }
    }
    if (now !== shown) return;
    try {
      player.show(videoUrl(source, video.name), video, telemetry);
    } catch (error) {
      console.error(error);
      setProblem(`The page cannot show this video: ${error}. Please report this error.`);
    }
  }

  function setProblem(message) {
    problem.hidden = message === "";
    text(problem, message);
  }

  return async function update(model, changed) {
    const runs = chosen()
      .map((id) => model.byId.get(id))
      .filter(Boolean);
    if (!chosen().includes(state.source)) {
      const first = runs.find((run) => run.videos > 0) ?? runs[0];
      if (first) return change({ source: first.id, video: state.source === null ? state.video : null }); // calls update again
    }
    if (changed === null && player.failed()) shown = null; // the server is available again: retry
    keep(
      select,
      runs,
      (run) => run.id,
      (run) => el("option", { value: run.id }),
      (option, run) => text(option, `${model.label(run.id)} (${count(run.videos, "video")})`),
    );
    select.value = state.source ?? "";
    const id = runs.length ? state.source : null;
    if (id !== source || changed === null || changed.includes(id)) {
      try {
        const answer = id === null ? [] : await get("/api/videos", { id });
        if (id !== null && id !== state.source) return; // the user has changed the selection
        if (id !== source) for (const video of answer) old.add(`${id}/${video.name}`);
        videos = answer;
        source = id;
        setProblem("");
      } catch (error) {
        setProblem(error.message);
      }
    }
    draw(model);
  };
}
