// Keeps a page of ours up to date: a stream says that it has changed, then the page is read again and the parts
// that differ are replaced. Without a stream the page is read every few seconds. No text reaches the page as
// markup but what the server rendered.
(function () {
  "use strict";

  const POLL_MS = 5000, LEAST_MS = 900, RETRY_MS = 30000;
  const PARTS = "[data-part], .rlm-job > header, .rlm-job > .budget, .rlm-job > .warnings, .rlm-job > .qa, article.turn, .outline ol, section[aria-labelledby=\"costs\"]";
  const root = document.querySelector("[data-live]");

  for (const time of document.querySelectorAll("time[data-ms]")) localTime(time);
  if (!root) return;

  let source = null, poll = null, reading = false, again = false, last = 0, ended = false;
  const seen = new Map();
  for (const [key, element] of parts(document)) seen.set(key, element.outerHTML);

  function localTime(time) {
    time.dateTime = new Date(+time.dataset.ms).toISOString();
    time.textContent = new Date(+time.dataset.ms).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }

  function parts(page) {
    const found = [];
    for (const element of page.querySelectorAll("main " + PARTS.split(", ").join(", main "))) {
      const key = element.dataset.part || element.id || element.parentElement.className + " " + element.tagName + "." + element.className;
      found.push([key, element]);
    }
    return found;
  }

  function say(state, text) {
    for (const place of document.querySelectorAll("[data-live-state]")) {
      if (place.dataset.liveState !== state) { place.dataset.liveState = state; place.textContent = text; }
    }
  }

  async function read() {
    if (reading) { again = true; return; }
    reading = true;
    const wait = last + LEAST_MS - Date.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    last = Date.now();
    try {
      const address = new URL(location.href);
      for (const [name, value] of new URLSearchParams(root.dataset.liveQuery || "")) address.searchParams.set(name, value);
      const answer = await fetch(address, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) throw new Error(answer.status);
      update(new DOMParser().parseFromString(await answer.text(), "text/html"));
      say("live", ended ? "" : "live");
    } catch (error) {
      say("away", "not up to date");
    }
    reading = false;
    if (again) { again = false; read(); }
  }

  function update(page) {
    const shown = new Map(parts(document));
    let before = null, rebuilt = false;
    for (const [key, element] of parts(page)) {
      const text = element.outerHTML, old = shown.get(key);
      if (old && seen.get(key) !== text) replace(old, element);
      else if (!old && before) before.after(document.importNode(element, true));
      else if (!old && element.matches("article.turn")) firstTurn(element);
      rebuilt = rebuilt || seen.get(key) !== text;
      seen.set(key, text);
      before = new Map(parts(document)).get(key) || before;
    }
    for (const time of document.querySelectorAll("time[data-ms]")) if (!time.dateTime) localTime(time);
    say("live", ended ? "" : "live");
    if (rebuilt && document.getElementById("rlm-job")) rebuild(page);
  }

  function firstTurn(element) {
    const title = document.getElementById("turns-title");
    const none = title.parentElement.querySelector(":scope > p.dim");
    if (none) none.remove();
    title.parentElement.append(document.importNode(element, true));
  }

  // Keeps what is unfolded, what has the focus and how far a table was scrolled.
  function replace(old, element) {
    const fresh = document.importNode(element, true);
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    fresh.querySelectorAll("details").forEach((one, at) => { if (open[at]) one.open = true; });
    const scrolls = [...old.querySelectorAll(".scroll, pre")].map((one) => [one.scrollLeft, one.scrollTop]);
    const active = old.contains(document.activeElement) ? [...old.querySelectorAll("a, button, input, [tabindex]")].indexOf(document.activeElement) : -1;
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll, pre").forEach((one, at) => { if (scrolls[at]) [one.scrollLeft, one.scrollTop] = scrolls[at]; });
    const focused = active >= 0 && fresh.querySelectorAll("a, button, input, [tabindex]")[active];
    if (focused) focused.focus({ preventScroll: true });
  }

  // The timeline and the tables of sub-calls are drawn again, unless someone is looking into them.
  function rebuild(page) {
    const hosts = ["rlm-timeline", "rlm-calls"].map((id) => document.getElementById(id));
    const busy = hosts.some((host) => host && (host.contains(document.activeElement) || host.querySelector(".detail:not([hidden])")));
    if (busy || !window.rlmViewer || !page.querySelector("script.rlm-rows, #rlm-spans")) return;
    for (const old of document.querySelectorAll("script.rlm-rows, script.rlm-texts")) old.remove();
    for (const rows of page.querySelectorAll("script.rlm-rows, script.rlm-texts")) document.querySelector("main").append(document.importNode(rows, true));
    const spans = document.getElementById("rlm-spans"), fresh = page.getElementById("rlm-spans");
    if (spans && fresh) spans.textContent = fresh.textContent;
    for (const host of hosts) if (host) host.replaceChildren();
    for (const host of document.querySelectorAll(".calls-host")) host.replaceChildren();
    window.rlmViewer.start();
  }

  function follow() {
    if (ended || source || document.hidden) return;
    source = new EventSource(root.dataset.live);
    source.addEventListener("changed", read);
    source.addEventListener("final", () => { ended = true; stop(); read(); });
    source.onopen = () => { clearInterval(poll); poll = null; say("live", "live"); };
    source.onerror = () => {
      if (!poll) poll = setInterval(read, POLL_MS);
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(follow, RETRY_MS); }
    };
  }

  function stop() {
    if (source) source.close();
    source = null;
    clearInterval(poll);
    poll = null;
  }

  document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else follow(); });
  follow();
})();
