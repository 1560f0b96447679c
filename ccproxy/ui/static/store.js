// The live fleet, requests to the server, and the page's own settings.

import { useEffect, useState } from "./ui.js";

const TOKEN = "ccproxy.token";
const MAX_FINISHED = 500;
const RETRY_MS = 2000;

// Control and format characters, such as those that change the text direction, are shown as escapes.
// Joiners are format characters too, but many scripts need them.
const HARMFUL = /(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const escaped = (char) => `\\u${char.codePointAt(0).toString(16).padStart(4, "0")}`;
const clean = (_, value) => (typeof value === "string" ? value.replace(HARMFUL, escaped) : value);
const read = (text) => JSON.parse(text, clean);

class Store {
  constructor() {
    this.fleet = { at: 0, rows: [], today: {}, running: [], running_total: 0, finished: [], received: 0 };
    this.connection = "connecting"; // connecting, live, lost, signed_out
    this.listeners = new Set();
  }

  change() {
    for (const listener of this.listeners) listener();
  }

  take(message) {
    const { finished, first, ...rest } = message;
    const before = first ? [] : this.fleet.finished;
    const added = first ? finished : finished.filter((one) => !before.some((old) => same(old, one)));
    this.fleet = { ...rest, finished: [...added, ...before].slice(0, MAX_FINISHED), received: Date.now() };
    this.connection = "live";
    this.change();
  }

  lose(state) {
    this.connection = state;
    this.change();
  }
}

export const same = (one, other) => one.id === other.id && one.label === other.label;
export const store = new Store();

// Renders the caller whenever the store changes.
export function useStore() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = () => redraw((count) => count + 1);
    store.listeners.add(listener);
    return () => store.listeners.delete(listener);
  }, []);
  return store;
}

// Requests.

const headers = () => ({ "x-ccproxy-ui-token": localStorage.getItem(TOKEN) || "" });

async function answerOf(response) {
  const text = await response.text();
  const content = text.startsWith("{") ? read(text) : { error: text };
  if (response.status === 401) store.lose("signed_out");
  if (!response.ok) throw new Error(content.error || String(response.status));
  return content;
}

export async function get(view, query = {}) {
  const filled = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = new URLSearchParams(filled).toString();
  return answerOf(await fetch(`/api/${view}${search && `?${search}`}`, { headers: headers() }));
}

export async function post(command, body) {
  return answerOf(await fetch(`/api/${command}`, {
    method: "POST",
    headers: { ...headers(), "content-type": "application/json" },
    body: JSON.stringify(body),
  }));
}

// After the reload, `/` is the sign-in page, which uses a code in the fragment.
export async function signOut() {
  localStorage.removeItem(TOKEN);
  await fetch("/session", { method: "DELETE" });
  location.reload();
}

// EventSource cannot send a header, so the stream is parsed here.
export async function follow() {
  for (;;) {
    try {
      const response = await fetch("/api/events", { headers: headers() });
      if (response.status === 401) return store.lose("signed_out");
      if (!response.ok) throw new Error(String(response.status));
      await readEvents(response.body.getReader());
    } catch {
      // The server has exited, or the computer was asleep.
    }
    store.lose("lost");
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
}

async function readEvents(reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (text + decoder.decode(value, { stream: true })).split("\n\n");
    text = events.pop();
    for (const event of events) store.take(read(event.replace(/^data: /, "")));
  }
}

// Loads a view, and reloads it `seconds` after each answer unless 0; the old content stays until then.
export function useView(view, query, seconds = 0) {
  const [result, setResult] = useState({ content: null, error: "" });
  const name = JSON.stringify([view, query]);
  useEffect(() => {
    let isCurrent = true;
    let timer;
    const load = async () => {
      const found = await outcome(view, query);
      if (!isCurrent) return;
      setResult(found);
      if (seconds) timer = setTimeout(load, seconds * 1000);
    };
    load();
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [name, seconds]);
  return [result, () => outcome(view, query).then(setResult)];
}

const outcome = (view, query) =>
  get(view, query).then((content) => ({ content, error: "" }), (error) => ({ content: null, error: error.message }));

// Settings of the page.

export function setting(name, fallback) {
  return localStorage.getItem(`ccproxy.${name}`) || fallback;
}

export function keepSetting(name, value) {
  localStorage.setItem(`ccproxy.${name}`, value);
  store.change();
}
