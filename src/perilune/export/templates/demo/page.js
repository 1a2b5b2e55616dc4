// The page: the loop, the controls and the tables. `policy` is the exported module, and `game` the environment.

const SPEEDS = [0.25, 0.5, 1, 2, 4, 8];
const BETWEEN = 1.6; // seconds between two episodes
const PUSH = 0.5; // seconds in which the arrow of a disturbance is drawn
const KEYS = {
  arrowleft: "left", arrowright: "right", arrowup: "up", arrowdown: "down",
  a: "left", d: "right", w: "up", s: "down",
};
const SYMBOLS = { left: "←", right: "→", up: "↑", down: "↓" };

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas");
const context = canvas.getContext("2d");

let paused = matchMedia("(prefers-reduced-motion: reduce)").matches;
let user = false; // whether the user plays
let speed = 1;
let seed = 1;
let episode = 1;
let count = 0; // steps of the episode
let total = 0; // return of the episode
let end = ""; // outcome of the episode, once it has ended
let wait = 0; // seconds until the next episode
let due = 0; // steps that are due
let push = { direction: 0, seconds: 0 };
let held = []; // directions that the user holds, the latest last
let extent = 1e-6; // largest |Q - mean| so far, which decays
let colors = {};
let changed = true; // whether the tables are out of date

/** Return a generator of numbers in [0, 1): xorshift32 (Marsaglia, 2003). */
function generator(start) {
  let x = Math.imul(start + 1, 0x9e3779b1) || 1;
  const next = () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 8; i++) next();
  return next;
}

function start() {
  game.reset(generator(seed));
  [count, total, end, due] = [0, 0, "", 0];
  push = { direction: 0, seconds: 0 };
  changed = true;
}

function chosenAction() {
  if (!user) return policy.act(game.observe());
  const direction = held.at(-1);
  return direction === undefined ? game.idle[count % game.idle.length] : game.keys[direction];
}

function advance() {
  const { reward, terminated } = game.step(chosenAction());
  count++;
  total += reward;
  changed = true;
  if (!terminated && count < game.maxSteps) return;
  end = game.outcome(terminated);
  wait = BETWEEN / Math.max(1, speed);
  addToHistory();
}

function next() {
  seed++;
  episode++;
  start();
}

function disturb(direction) {
  if (end) return;
  game.disturb(direction);
  push = { direction, seconds: PUSH };
  changed = true;
}

let before = performance.now();
function frame(now) {
  requestAnimationFrame(frame);
  const seconds = Math.min((now - before) / 1000, 0.1); // a hidden page does not catch up
  before = now;
  if (!paused) {
    push.seconds -= seconds;
    if (end) {
      wait -= seconds;
      if (wait <= 0) next();
    } else {
      due += seconds * speed * game.stepsPerSecond;
      while (due >= 1 && !end) {
        due--;
        advance();
      }
    }
  }
  if (changed) showTables();
  if (changed || !paused) drawScene();
  changed = false;
}

// Drawing

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "surface", "ink", "muted", "edge", "accent", "agent", "flag", "soil"];
  colors = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  changed = true;
}

function resize() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  drawScene(); // a new size clears the canvas, and the observer runs after the frame was drawn
}

function drawScene() {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
  context.clearRect(0, 0, width, height);
  const blend = end || paused ? 1 : Math.min(due, 1);
  game.draw(context, width, height, { colors, blend, push: push.seconds > 0 ? push.direction : 0 });
}

// Tables

const number = (value, digits) => value.toFixed(digits).replace("-", "\u2212");

function cells(row, ...texts) {
  row.replaceChildren(
    ...texts.map((text, index) => {
      const cell = document.createElement(index ? "td" : "th");
      if (!index) cell.scope = "row";
      cell.textContent = text;
      return cell;
    }),
  );
  row.lastChild.className = "number";
  return row;
}

const qRows = policy.actions.map((name) => {
  const row = cells(byId("q-values").tBodies[0].insertRow(), name, "", "");
  row.cells[1].innerHTML = '<span class="track"><span class="fill"></span></span>';
  return { row, fill: row.querySelector(".fill"), figure: row.cells[2] };
});
const inputRows = policy.observations.map(({ name }) => {
  return cells(byId("observation").tBodies[0].insertRow(), name, "").cells[1];
});

function showTables() {
  const obs = game.observe();
  const q = policy.qValues(obs);
  const chosen = chosenAction() - policy.firstAction;
  const mean = q.reduce((a, b) => a + b) / q.length;
  extent = Math.max(0.998 * extent, ...q.map((value) => Math.abs(value - mean)));
  qRows.forEach(({ row, fill, figure }, action) => {
    const share = (q[action] - mean) / extent;
    row.className = action === chosen ? "chosen" : "";
    fill.className = share > 0 ? "fill positive" : "fill";
    fill.style.transform = `scaleX(${Math.abs(share)})`;
    figure.textContent = number(q[action], 2);
  });
  inputRows.forEach((cell, index) => (cell.textContent = number(obs[index], 3)));
  byId("episode").textContent = episode;
  byId("step").textContent = count;
  byId("return").textContent = number(total, Number.isInteger(total) ? 0 : 1);
  byId("seed").textContent = seed;
  const text = end ? `${end[0].toUpperCase()}${end.slice(1)}` : paused && !count ? "Paused" : "";
  if (byId("banner").textContent !== text) byId("banner").textContent = text;
}

function addToHistory() {
  const body = byId("history").tBodies[0];
  if (episode === 1 || body.querySelector(".none")) body.replaceChildren();
  const player = user ? `${end} (you)` : end;
  cells(body.insertRow(0), episode, player, number(total, Number.isInteger(total) ? 0 : 1));
  while (body.rows.length > 5) body.deleteRow(-1);
}

// Controls

function setPaused(value) {
  paused = value;
  byId("pause").innerHTML = `${paused ? "Play" : "Pause"}<kbd>Space</kbd>`;
  changed = true;
}

function hold(direction, isHeld) {
  held = held.filter((each) => each !== direction);
  if (isHeld) held.push(direction);
  for (const button of byId("hands").children) button.classList.toggle("held", held.includes(button.dataset.direction));
}

/** Show a button for each push, or for each action while the user plays. */
function showHands() {
  const directions = user ? Object.keys(game.keys) : ["left", "right"];
  held = [];
  byId("hands").replaceChildren(
    ...directions.map((direction) => {
      const button = document.createElement("button");
      const label = user ? policy.actions[game.keys[direction] - policy.firstAction] : `Push ${direction}`;
      button.type = "button";
      button.dataset.direction = direction;
      button.textContent = `${label[0].toUpperCase()}${label.slice(1)}`;
      const key = document.createElement("kbd");
      key.textContent = SYMBOLS[direction];
      button.append(key);
      if (user) holdWith(button, direction);
      else button.addEventListener("click", () => disturb(direction === "left" ? -1 : 1));
      return button;
    }),
  );
}

/** Hold an action while a pointer, the space bar or Enter presses its button. */
function holdWith(button, direction) {
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId);
    hold(direction, true);
  });
  for (const name of ["pointerup", "pointercancel", "blur"]) button.addEventListener(name, () => hold(direction, false));
  const isPress = (event) => event.key === " " || event.key === "Enter";
  button.addEventListener("keydown", (event) => isPress(event) && hold(direction, true));
  button.addEventListener("keyup", (event) => isPress(event) && hold(direction, false));
  button.addEventListener("contextmenu", (event) => event.preventDefault());
}

function setUser(value) {
  user = value;
  byId("user").checked = value;
  showHands();
  changed = true;
}

function restart() {
  if (end) episode++;
  start();
}

function newSeed() {
  seed = Math.floor(10_000 * Math.random());
  restart();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select")) return;
  const key = event.key.toLowerCase();
  const direction = KEYS[key];
  if (direction !== undefined && (user ? direction in game.keys : direction === "left" || direction === "right")) {
    if (user) hold(direction, true);
    else if (!event.repeat) disturb(direction === "left" ? -1 : 1);
    event.preventDefault(); // the page does not scroll
  } else if (key === " " && !event.target.closest("button, input, summary")) {
    if (!event.repeat) setPaused(!paused);
    event.preventDefault();
  } else if (!event.repeat) {
    if (key === "r") restart();
    if (key === "n") newSeed();
    if (key === "i") setUser(!user);
  }
});
document.addEventListener("keyup", (event) => {
  const direction = KEYS[event.key.toLowerCase()];
  if (user && direction !== undefined) hold(direction, false);
});
window.addEventListener("blur", () => held.forEach((direction) => hold(direction, false)));

byId("pause").addEventListener("click", () => setPaused(!paused));
byId("restart").addEventListener("click", restart);
byId("new-seed").addEventListener("click", newSeed);
byId("user").addEventListener("change", (event) => setUser(event.target.checked));
byId("speed").append(...SPEEDS.map((each) => new Option(`${each}×`, each, each === 1, each === 1)));
byId("speed").addEventListener("change", (event) => (speed = Number(event.target.value)));
byId("goal").textContent = game.goal;
byId("physics").textContent = game.physics;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColors);
new ResizeObserver(resize).observe(canvas);

byId("inputs").open = window.innerWidth > 860;
readColors();
start();
resize();
setPaused(paused);
setUser(false);
requestAnimationFrame(frame);
