// Talks to the server: JSON by GET, and the stream of what has changed.

/** The answer to a question, or an Error whose message is a sentence for people. */
export async function get(path, questions = {}, signal = undefined) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(questions)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null) words.append(name, one);
  }
  let answer;
  try {
    answer = await fetch(words.size ? `${path}?${words}` : path, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is perilune watch still running?", { cause: error });
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(body?.error ?? `The server answers ${answer.status} to ${path}.`);
  if (body === null) throw new Error(`The server's answer to ${path} is no JSON.`);
  return body;
}

/** Address of a film. */
export function film(id, name) {
  return `/video?${new URLSearchParams({ id, name })}`;
}

const LONGEST_WAIT = 5000; // milliseconds between two attempts
const LONGEST_SILENCE = 25000; // of a server that says every ten seconds that it is there

/**
 * Follow the server for good. ``onRuns(changed)`` gets the ids that changed, or null where everything may have (at
 * the start and after each break); ``onConnection`` gets "live" or "lost, trying again".
 */
export function follow(onRuns, onConnection) {
  let wait = 500;
  function connect() {
    const source = new EventSource("/api/events");
    let first = true;
    let silence = setTimeout(again, LONGEST_SILENCE);
    function heard() {
      clearTimeout(silence);
      silence = setTimeout(again, LONGEST_SILENCE);
    }
    function again() {
      clearTimeout(silence);
      source.close();
      onConnection("lost, trying again");
      setTimeout(connect, wait);
      wait = Math.min(LONGEST_WAIT, wait * 1.6);
    }
    source.addEventListener("beat", heard);
    source.addEventListener("runs", (event) => {
      heard();
      wait = 500;
      onConnection("live");
      onRuns(first ? null : JSON.parse(event.data).changed);
      first = false;
    });
    // The browser's own retry gives up on some errors and waits long on others. And a connection may be dead in
    // silence: a tunnel whose other end is gone, a machine that sleeps.
    source.addEventListener("error", again);
  }
  connect();
}
