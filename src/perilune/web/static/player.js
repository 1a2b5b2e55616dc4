// The video player, with the Q-values and the observation of the current frame.

import { createChart } from "./chart.js";
import { el, text } from "./dom.js";
import { createBars, createObservation, qLines } from "./panels.js";
import { clock, number } from "./text.js";

const STAGES =
  "The agent at several stages of its training, side by side, from the same start state. Each caption shows how many " +
  "environment steps the agent had trained for.";
const WITHOUT = {
  "stages.mp4": `${STAGES} With --overlay, perilune video --stages also draws the Q-values of each stage.`,
  "stages-overlay.mp4": `${STAGES} The panel of each stage shows its Q-values.`,
  telemetry: "This video has no telemetry, so the page cannot show Q-values or observations.",
};
const SPEEDS = [0.25, 0.5, 1, 2, 4];

/**
 * Create the player: ``element``; ``show(url, video, telemetry)``, with null for no telemetry; ``clear()``; and
 * ``failed()``, which returns whether an error is shown.
 */
export function createPlayer() {
  const video = el("video", { muted: true, playsInline: true, preload: "auto", tabIndex: -1, "aria-label": "Video" });
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
  const observation = createObservation();
  const trace = el("div", { class: "trace", "aria-hidden": "true" }); // keyboard users have the slider
  const needle = el("div", { class: "needle" });
  const chart = createChart(trace, { pick: (seconds) => seek(Math.round(seconds * fps)) });
  const qCard = el(
    "section",
    { class: "card" },
    el("header", {}, el("h3", {}, "Q-values"), el("label", { class: "note" }, difference, "advantage (Q - mean)")),
    bars.element,
  );
  const traceCard = el(
    "section",
    { class: "card" },
    el("header", {}, el("h3", {}, "Q-values over time"), el("span", { class: "note" }, "seconds; click to seek")),
    el("div", { class: "stage" }, trace),
  );
  const observationCard = el(
    "section",
    { class: "card" },
    el("header", {}, el("h3", {}, "Observation"), observation.note),
    observation.element,
  );
  const without = el("p", { class: "without", hidden: true });
  const full = el("button", { type: "button", class: "full", click: toggleFullScreen }, "Full screen");
  const controls = el("div", { class: "controls" }, play, scrub, time, speed);
  const viewer = el(
    "div",
    { class: "viewer" },
    el("header", {}, title, labels, full),
    problem,
    el("div", { class: "screen" }, video),
    controls,
    without,
  );
  const element = el(
    "div",
    { class: "player", hidden: true },
    viewer,
    el("div", { class: "details" }, qCard, observationCard),
    el("div", { class: "over" }, traceCard),
  );
  let telemetry = null;
  let current = null;
  let fps = 30;
  let frames = 1;
  let frame = -1;

  function toggle() {
    if (!video.paused) return video.pause();
    if (video.ended) video.currentTime = 0;
    video.play().catch((error) => {
      if (error.name !== "AbortError") setProblem(`The video cannot be played: ${error.message}`);
    });
  }

  /** Enter or leave full screen. Some phones support it only for the video itself. */
  function toggleFullScreen() {
    if (document.fullscreenElement) return document.exitFullscreen();
    if (!viewer.requestFullscreen) return video.webkitEnterFullscreen?.();
    viewer.requestFullscreen().catch((error) => setProblem(`Full screen is not available: ${error.message}`));
  }
  viewer.addEventListener("fullscreenchange", () =>
    text(full, document.fullscreenElement ? "Leave full screen" : "Full screen"),
  );

  /** Seek to the middle of a frame, so that rounding cannot select the previous one. Update the page at once. */
  function seek(to) {
    at(Math.round(to));
    video.currentTime = (frame + 0.5) / fps;
  }

  /** Handle the keyboard shortcuts of the view, unless the focused control uses the key itself. */
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !element.checkVisibility()) return;
    if (event.target.closest("select, textarea, dialog, input:not(.scrub, [type=checkbox])")) return;
    const step = event.shiftKey ? fps : 1;
    const act = {
      " ": () => !event.target.closest("button, input[type=checkbox]") && toggle(), // these handle Space themselves
      ArrowLeft: () => seek(frame - step),
      ArrowRight: () => seek(frame + step),
      Home: () => seek(0),
      End: () => seek(frames - 1),
      f: toggleFullScreen,
    }[event.key];
    if (act === undefined || act() === false) return;
    event.preventDefault();
  }
  addEventListener("keydown", onKey);

  function draw() {
    if (telemetry === null) return;
    const lines = qLines(telemetry, fps, difference.checked);
    bars.set(telemetry.action_names, lines.values);
    chart.set(lines.content);
    trace.querySelector(".u-over").append(needle);
    const now = frame;
    frame = -1;
    at(now);
  }

  /** Show the values of a frame. */
  function at(next) {
    next = Math.min(frames - 1, Math.max(0, next));
    if (next === frame) return;
    frame = next;
    scrub.value = String(frame);
    const facts = [clock(frame / fps)];
    if (telemetry !== null) {
      const { action, reward, step } = telemetry;
      bars.show(frame, action[frame]);
      observation.show(frame);
      needle.style.transform = `translateX(${(needle.parentElement.clientWidth * frame) / Math.max(1, frames - 1)}px)`;
      facts.push(`step ${number(step[frame])}`, `return ${reward[frame].toFixed(1).replace("-", "−")}`);
    }
    text(time, facts.join(" · "));
    scrub.setAttribute("aria-valuetext", facts.join(", "));
  }

  /** Show the frame at this time, unless the video is still seeking. */
  function atTime(seconds) {
    if (!video.seeking) at(Math.floor(seconds * fps + 0.05));
  }
  if ("requestVideoFrameCallback" in video) {
    const shown = (_, { mediaTime }) => {
      if (!video.paused) atTime(mediaTime); // when paused, an older frame may be reported after a seek
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
    if (!video.ended && video.readyState > 0) seek(frame); // the time is ahead of the picture
  });
  for (const name of ["play", "pause", "ended"]) {
    video.addEventListener(name, () => text(play, video.paused ? "Play" : "Pause"));
  }
  video.addEventListener("loadedmetadata", () => {
    video.playbackRate = Number(speed.value);
    if (telemetry === null) frames = Math.max(1, Math.round(video.duration * fps));
    else fps = frames / video.duration; // telemetry has one line per frame
    scrub.max = String(frames - 1);
    draw();
    if (frame > 0) seek(frame); // requested before the frame rate was known
  });
  video.addEventListener("error", () => {
    if (video.hasAttribute("src"))
      setProblem("The video cannot be shown: it may be damaged, or the server is not responding.");
  });
  new ResizeObserver(() => {
    const now = frame;
    frame = -1;
    at(now);
  }).observe(trace);

  function setProblem(message) {
    problem.hidden = message === "";
    text(problem, message);
  }

  return {
    element,
    show(url, info, timesteps) {
      const same = current?.name === info.name && video.getAttribute("src")?.startsWith(url);
      [current, telemetry, fps, frame] = [info, timesteps, 30, -1]; // fps until the duration is known
      frames = Math.max(1, timesteps?.action.length ?? 1);
      setProblem("");
      text(title, info.title);
      const facts = [
        info.outcome,
        info.reward === null ? null : `return ${number(info.reward)}`,
        info.env_steps === null ? null : `after ${number(info.env_steps)} steps`,
      ];
      labels.replaceChildren(...facts.filter(Boolean).map((fact) => el("span", { class: "label" }, fact)));
      video.setAttribute("aria-label", `Video: ${info.title}`);
      const playing = !video.paused && !video.ended;
      element.hidden = false;
      video.src = same ? `${url}&again=${info.bytes}` : url; // best.mp4 may have been replaced
      if (playing) toggle(); // keep playing from one video to the next
      scrub.max = String(frames - 1);
      element.classList.toggle("alone", telemetry === null);
      without.hidden = telemetry !== null;
      text(without, WITHOUT[info.name] ?? WITHOUT.telemetry);
      if (telemetry !== null) observation.set(telemetry);
      frame = 0;
      draw();
      frame = -1;
      at(0);
    },
    failed: () => !problem.hidden,
    clear() {
      [current, telemetry] = [null, null];
      element.hidden = true;
      video.removeAttribute("src");
      video.load();
    },
  };
}
