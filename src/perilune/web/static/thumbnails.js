// Thumbnails: one hidden video element loads the videos in turn and draws a frame near the end of each.

const AT = 0.97; // position of the frame, as a share of the duration

/** Return ``request(canvas, url, bytes)``, which queues a video and later draws its thumbnail, once per canvas. */
export function createThumbnails() {
  const waiting = [];
  const video = document.createElement("video");
  Object.assign(video, { muted: true, preload: "auto", playsInline: true });
  let current = null;

  function next() {
    current = waiting.shift() ?? null;
    if (current === null) video.removeAttribute("src");
    else video.src = current.url;
  }

  video.addEventListener("loadedmetadata", () => {
    if (current !== null) video.currentTime = video.duration * AT;
  });
  video.addEventListener("seeked", () => {
    if (current === null) return;
    const { canvas } = current;
    const scale = Math.max(canvas.width / video.videoWidth, canvas.height / video.videoHeight); // cover the canvas
    const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
    canvas.getContext("2d").drawImage(video, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    canvas.classList.add("ready");
    next();
  });
  video.addEventListener("error", () => {
    if (current !== null) next(); // no thumbnail; the player reports the error
  });

  return {
    request(canvas, url, bytes) {
      if (canvas.dataset.of === `${url}/${bytes}`) return;
      canvas.dataset.of = `${url}/${bytes}`;
      waiting.push({ canvas, url });
      if (current === null) next();
    },
  };
}
