// Requests to the server: get JSON, and follow the stream of changes.

/** Return the JSON response to a query, or throw an Error with a message for the user. */
export async function get(path, query = {}, signal = undefined) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null) parameters.append(name, one);
  }
  let response;
  try {
    response = await fetch(parameters.size ? `${path}?${parameters}` : path, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server is not responding. Check that perilune watch is still running.", { cause: error });
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Error(body?.error ?? `The server answered ${path} with status ${response.status}.`);
  if (body === null) throw new Error(`The server's response to ${path} is not JSON.`);
  return body;
}

/** Return the URL of a video. */
export function videoUrl(id, name) {
  return `/video?${new URLSearchParams({ id, name })}`;
}

const MAX_WAIT = 5000; // milliseconds between two attempts
const MAX_SILENCE = 25000; // milliseconds; the server sends something at least every 10 seconds

/**
 * Receive changes from the server, and always reconnect after a failure. ``onRuns(changed)`` gets the ids of changed
 * runs, or null if any run may have changed (at the start and after an interruption). ``onConnection(status)`` gets
 * "live" or "reconnecting".
 */
export function follow(onRuns, onConnection) {
  let wait = 500;
  function connect() {
    const source = new EventSource("/api/events");
    let first = true;
    let silence = setTimeout(reconnect, MAX_SILENCE);
    function heard() {
      clearTimeout(silence);
      silence = setTimeout(reconnect, MAX_SILENCE);
    }
    function reconnect() {
      clearTimeout(silence);
      source.close();
      onConnection("reconnecting");
      setTimeout(connect, wait);
      wait = Math.min(MAX_WAIT, wait * 1.6);
    }
    source.addEventListener("runs", (event) => {
      heard();
      wait = 500;
      onConnection("live");
      onRuns(first ? null : JSON.parse(event.data).changed);
      first = false;
    });
    // The browser does not retry after some errors, and waits a long time after others. A connection can also break
    // without an error, for example when a tunnel fails or a machine is suspended. The page therefore has its own
    // timeout.
    source.addEventListener("error", reconnect);
  }
  connect();
}
