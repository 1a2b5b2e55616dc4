// Small pictures of films: one hidden video visits them in turn and leaves a picture of the end of each.

const AT = 0.97; // of the film: how it came out

/** ``ask(canvas, address, bytes)`` puts the picture on the canvas when its turn comes, once for each film. */
export function createThumbnails() {
  const waiting = [];
  const video = document.createElement("video");
  Object.assign(video, { muted: true, preload: "auto", playsInline: true });
  let current = null;

  function next() {
    current = waiting.shift() ?? null;
    if (current === null) video.removeAttribute("src");
    else video.src = current.address;
  }

  video.addEventListener("loadedmetadata", () => {
    if (current !== null) video.currentTime = video.duration * AT;
  });
  video.addEventListener("seeked", () => {
    if (current === null) return;
    const { canvas } = current;
    const scale = Math.max(canvas.width / video.videoWidth, canvas.height / video.videoHeight); // fill it
    const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
    canvas.getContext("2d").drawImage(video, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    canvas.classList.add("ready");
    next();
  });
  video.addEventListener("error", () => {
    if (current !== null) next(); // an empty picture; the player says what is wrong when it is chosen
  });

  return {
    ask(canvas, address, bytes) {
      if (canvas.dataset.of === `${address}/${bytes}`) return;
      canvas.dataset.of = `${address}/${bytes}`;
      waiting.push({ canvas, address });
      if (current === null) next();
    },
  };
}
