// A film, and beside it what the agent saw and thought at the very frame that is on the screen.

import { createChart } from "./chart.js";
import { el, text } from "./dom.js";
import { createBars, createReadings, qLines } from "./panels.js";
import { clock, number } from "./text.js";

const STAGES =
  "The same start, flown side by side by the agent as it was at several stages of its training; beneath each " +
  "picture stands how many environment steps it had learned for.";
const WITHOUT = {
  "stages.mp4": `${STAGES} With --overlay, perilune video --stages draws the Q-values of each as well.`,
  "stages-overlay.mp4": `${STAGES} The Q-values in a picture are that stage's.`,
  telemetry: "There is no telemetry beside this film, so its Q-values and readings cannot be shown here.",
};
const SPEEDS = [0.25, 0.5, 1, 2, 4];

/** The player: ``element``; ``show(address, film, telemetry)``, telemetry null where there is none; ``clear()``; ``failed()`` whether it complains. */
export function createPlayer() {
  const video = el("video", { muted: true, playsInline: true, preload: "auto", tabIndex: -1, "aria-label": "Film" });
  const play = el("button", { type: "button", class: "play", click: toggle }, "Play");
  const scrub = el("input", {
    type: "range",
    class: "scrub",
    min: "0",
    step: "1",
    "aria-label": "Frame",
    input: () => seek(Number(scrub.value)),
  });
  const time = el("span", { class: "time" });
  const speed = el(
    "select",
    { "aria-label": "Speed", change: () => (video.playbackRate = Number(speed.value)) },
    ...SPEEDS.map((rate) => el("option", { value: String(rate), selected: rate === 1 }, `${rate}×`)),
  );
  const title = el("h3", { class: "title" });
  const labels = el("p", { class: "labels" });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const difference = el("input", { type: "checkbox", change: () => draw() });
  const bars = createBars();
  const readings = createReadings();
  const trace = el("div", { class: "trace", "aria-hidden": "true" }); // the slider does the same by keyboard
  const needle = el("div", { class: "needle" });
  const chart = createChart(trace, { pick: (seconds) => seek(Math.round(seconds * fps)) });
  const thoughts = el(
    "section",
    { class: "card" },
    el("header", {}, el("h3", {}, "Q-values"), el("label", { class: "note" }, difference, "less their mean")),
    bars.element,
  );
  const over = el(
    "section",
    { class: "card" },
    el("header", {}, el("h3", {}, "Over the flight"), el("span", { class: "note" }, "seconds; click to go there")),
    el("div", { class: "stage" }, trace),
  );
  const seen = el(
    "section",
    { class: "card" },
    el("header", {}, el("h3", {}, "Readings"), readings.rest),
    readings.element,
  );
  const without = el("p", { class: "without", hidden: true });
  const full = el("button", { type: "button", class: "full", click: fill }, "Full screen");
  const controls = el("div", { class: "controls" }, play, scrub, time, speed);
  const watching = el(
    "div",
    { class: "watching" },
    el("header", {}, title, labels, full),
    problem,
    el("div", { class: "screen" }, video),
    controls,
    without,
  );
  const element = el(
    "div",
    { class: "player", hidden: true },
    watching,
    el("div", { class: "thinking" }, thoughts, seen),
    el("div", { class: "along" }, over),
  );
  let telemetry = null;
  let film = null;
  let fps = 30;
  let frames = 1;
  let frame = -1;

  function toggle() {
    if (!video.paused) return video.pause();
    if (video.ended) video.currentTime = 0;
    video.play().catch((error) => {
      if (error.name !== "AbortError") complain(`The film cannot be played: ${error.message}`);
    });
  }

  /** Show the film and its controls on the whole screen, or no longer; a phone may be able to show only the film so. */
  function fill() {
    if (document.fullscreenElement) return document.exitFullscreen();
    if (!watching.requestFullscreen) return video.webkitEnterFullscreen?.();
    watching.requestFullscreen().catch((error) => complain(`There is no full screen here: ${error.message}`));
  }
  watching.addEventListener("fullscreenchange", () =>
    text(full, document.fullscreenElement ? "Leave full screen" : "Full screen"),
  );

  /** Go to a frame: to its middle, so that rounding cannot give the one before. What belongs to it is shown at once. */
  function seek(to) {
    at(Math.round(to));
    video.currentTime = (frame + 0.5) / fps;
  }

  /** The keys of the view, wherever the focus is but in a control that has its own use for them. */
  function keyed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !element.checkVisibility()) return;
    if (event.target.closest("select, textarea, dialog, input:not(.scrub, [type=checkbox])")) return;
    const leap = event.shiftKey ? fps : 1;
    const act = {
      " ": () => !event.target.closest("button, input[type=checkbox]") && toggle(), // which they do by themselves
      ArrowLeft: () => seek(frame - leap),
      ArrowRight: () => seek(frame + leap),
      Home: () => seek(0),
      End: () => seek(frames - 1),
      f: fill,
    }[event.key];
    if (act === undefined || act() === false) return;
    event.preventDefault();
  }
  addEventListener("keydown", keyed);

  function draw() {
    if (telemetry === null) return;
    const lines = qLines(telemetry, fps, difference.checked);
    bars.set(telemetry.actions, lines.values);
    chart.set(lines.content);
    trace.querySelector(".u-over").append(needle);
    const now = frame;
    frame = -1;
    at(now);
  }

  /** Show what belongs to a frame. */
  function at(next) {
    next = Math.min(frames - 1, Math.max(0, next));
    if (next === frame) return;
    frame = next;
    scrub.value = String(frame);
    const words = [clock(frame / fps)];
    if (telemetry !== null) {
      const { action, reward, episode } = telemetry;
      bars.show(frame, action[frame]);
      readings.show(frame);
      needle.style.transform = `translateX(${(needle.parentElement.clientWidth * frame) / Math.max(1, frames - 1)}px)`;
      const step = frame - episode.indexOf(episode[frame]);
      words.push(`step ${number(step)}`, `reward ${reward[frame].toFixed(1).replace("-", "−")}`);
    }
    text(time, words.join(" · "));
    scrub.setAttribute("aria-valuetext", words.join(", "));
  }

  /** The film is at this instant: while it is still on its way to another, that one is shown already. */
  function atTime(seconds) {
    if (!video.seeking) at(Math.floor(seconds * fps + 0.05));
  }
  if ("requestVideoFrameCallback" in video) {
    const shown = (_, { mediaTime }) => {
      if (!video.paused) atTime(mediaTime); // at rest the last frame's may come after a seek
      video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback(shown);
  } else {
    const tick = () => {
      atTime(video.currentTime);
      if (!video.paused) requestAnimationFrame(tick);
    };
    video.addEventListener("play", tick);
  }
  for (const name of ["seeked", "ended"]) video.addEventListener(name, () => atTime(video.currentTime));
  video.addEventListener("pause", () => {
    if (!video.ended && video.readyState > 0) seek(frame); // time is ahead of the picture
  });
  for (const name of ["play", "pause", "ended"]) {
    video.addEventListener(name, () => text(play, video.paused ? "Play" : "Pause"));
  }
  video.addEventListener("loadedmetadata", () => {
    video.playbackRate = Number(speed.value);
    if (telemetry === null) frames = Math.max(1, Math.round(video.duration * fps));
    else fps = frames / video.duration; // a line for every frame
    scrub.max = String(frames - 1);
    draw();
    if (frame > 0) seek(frame); // which was asked for before it was known where that is
  });
  video.addEventListener("error", () => {
    if (video.hasAttribute("src"))
      complain("The film cannot be shown: it may be damaged, or the server does not answer.");
  });
  new ResizeObserver(() => {
    const now = frame;
    frame = -1;
    at(now);
  }).observe(trace);

  function complain(words) {
    problem.hidden = words === "";
    text(problem, words);
  }

  return {
    element,
    show(address, about, its) {
      const same = film?.name === about.name && video.getAttribute("src")?.startsWith(address);
      [film, telemetry, fps, frame] = [about, its, 30, -1]; // until the film says how long it is
      frames = Math.max(1, its?.action.length ?? 1);
      complain("");
      text(title, about.title);
      const said = [
        about.outcome,
        about.reward === null ? null : `reward ${number(about.reward)}`,
        about.env_steps === null ? null : `after ${number(about.env_steps)} steps`,
      ];
      labels.replaceChildren(...said.filter(Boolean).map((words) => el("span", { class: "label" }, words)));
      video.setAttribute("aria-label", `Film: ${about.title}`);
      const playing = !video.paused && !video.ended;
      element.hidden = false;
      video.src = same ? `${address}&again=${about.bytes}` : address; // best.mp4 may have become another film
      if (playing) toggle(); // whoever looks at one film after the other need not start each
      scrub.max = String(frames - 1);
      element.classList.toggle("alone", telemetry === null);
      without.hidden = telemetry !== null;
      text(without, WITHOUT[about.name] ?? WITHOUT.telemetry);
      if (telemetry !== null) readings.set(telemetry);
      frame = 0;
      draw();
      frame = -1;
      at(0);
    },
    failed: () => !problem.hidden,
    clear() {
      [film, telemetry] = [null, null];
      element.hidden = true;
      video.removeAttribute("src");
      video.load();
    },
  };
}
