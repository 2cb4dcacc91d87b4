"use strict";
// Makes the pages live: they are complete without this file.
(() => {
  const parse = (text) => new DOMParser().parseFromString(text, "text/html");

  // Turns one tree into another in place, so that focus, scroll, open menus and followed logs stay.
  function morph(now, next) {
    if (now.isEqualNode(next) || now.nodeType !== Node.ELEMENT_NODE && next.nodeType === now.nodeType && (now.data = next.data, true)) return;
    if (now.nodeName !== next.nodeName || now.id !== next.id) { now.replaceWith(next); return; }
    for (const { name } of [...now.attributes])
      if (!next.hasAttribute(name) && !(name === "open" && now.nodeName === "DETAILS")) now.removeAttribute(name);
    for (const { name, value } of next.attributes)
      if (now.getAttribute(name) !== value && !(name === "open" && now.nodeName === "DETAILS")) now.setAttribute(name, value);
    if (now.hasAttribute("data-log")) return;
    const byId = new Map([...now.children].filter((child) => child.id).map((child) => [child.id, child]));
    let place = now.firstChild;
    for (const child of [...next.childNodes]) {
      const same = child.id ? byId.get(child.id) : place && !place.id && place.nodeName === child.nodeName ? place : null;
      if (!same) { now.insertBefore(child, place); continue; }
      if (same === place) place = place.nextSibling; else now.insertBefore(same, place);
      morph(same, child);
    }
    while (place) { const gone = place; place = place.nextSibling; gone.remove(); }
  }

  function show(page, whole) {
    const focused = document.activeElement;
    for (const id of whole ? ["main", "places", "said"] : ["main", "places"]) {
      const now = document.getElementById(id), next = page.getElementById(id);
      if (now && next) morph(now, next);
    }
    document.title = page.title;
    if (focused && focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
    follow();
    find();
  }

  // A long list can be searched.
  const box = document.createElement("input");
  function find() {
    const rows = [...document.querySelectorAll("li.reference")];
    if (!box.isConnected && rows.length > 8) {
      Object.assign(box, { type: "search", className: "find", placeholder: "Find a title, branch, author or commit" });
      box.setAttribute("aria-label", box.placeholder);
      box.addEventListener("input", find);
      document.getElementById("main").before(box);
    }
    const words = box.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.classList.toggle("unfound", !words.every((word) => text.includes(word)));
    }
  }

  // One look at a time; what changes meanwhile is one more look.
  let looking = false, again = false;
  async function look() {
    if (looking) { again = true; return; }
    looking = true;
    try {
      const answer = await fetch(location.href, { headers: { "sidestage-live": "1" } });
      if (answer.status === 401) location.reload();
      else if (answer.ok || answer.status === 404) show(parse(await answer.text()), false);
    } catch { /* the controller restarts; the events say when it is back */ }
    looking = false;
    if (again) { again = false; setTimeout(look, 250); }
  }

  const link = document.getElementById("link");
  function connect() {
    const events = new EventSource("/api/v1/events");
    events.addEventListener("view", look);
    events.onopen = () => { link.hidden = false; link.textContent = "live"; link.className = "link"; };
    events.onerror = () => {
      link.textContent = "reconnecting"; link.className = "link lost";
      if (events.readyState === EventSource.CLOSED) { look(); setTimeout(connect, 3000); }
    };
  }

  // Buttons answer in place.
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.hasAttribute("data-live")) return;
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    form.closest("details.menu")?.removeAttribute("open");
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (answer.status === 401) { location.reload(); return; }
      show(parse(await answer.text()), true);
    } catch {
      const line = document.createElement("p");
      line.className = "said bad";
      line.textContent = "The controller does not answer. Try again in a moment.";
      document.getElementById("said").replaceChildren(line);
    }
    button.disabled = false;
  });

  // One menu at a time; Escape and a click elsewhere close it.
  const close = (but) => document.querySelectorAll("details.menu[open]").forEach((menu) => { if (menu !== but) menu.open = false; });
  document.addEventListener("click", (event) => close(event.target.closest("details.menu")));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) { close(null); menu.querySelector("summary").focus(); }
  });

  // Open logs are read in place and followed to their end.
  async function read(log) {
    const out = document.createElement("pre");
    out.tabIndex = 0;
    out.setAttribute("aria-label", "log " + log.querySelector("summary").textContent);
    log.append(out);
    try {
      const answer = await fetch(log.dataset.log + "?follow=1");
      if (!answer.ok) { out.textContent = (await answer.json()).error; return; }
      const text = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await text.read();
        if (done) break;
        const atEnd = out.scrollTop + out.clientHeight >= out.scrollHeight - 4;
        out.append(value);
        if (atEnd) out.scrollTop = out.scrollHeight;
      }
    } catch { out.append("\n[the log broke off; close and open it to read it again]"); }
  }
  function follow() {
    for (const log of document.querySelectorAll("details[data-log]")) {
      if (log.dataset.bound) continue;
      log.dataset.bound = "1";
      const begin = () => { if (log.open && !log.querySelector("pre")) read(log); };
      log.addEventListener("toggle", begin);
      begin();
    }
  }

  // What is under way counts on; the server's clock decides.
  setInterval(() => {
    for (const span of document.querySelectorAll("[data-since]")) {
      span.skew ??= Number(span.dataset.now) - Date.now();
      const s = Math.max(0, Math.floor((Date.now() + span.skew - Number(span.dataset.since)) / 1000));
      const two = (n) => String(n).padStart(2, "0"), m = Math.floor(s / 60), h = Math.floor(m / 60);
      span.textContent = s < 60 ? s + " s" : h ? h + ":" + two(m % 60) + ":" + two(s % 60) : m + ":" + two(s % 60);
    }
  }, 1000);
  // Ages grow without an event.
  setInterval(() => { if (!document.hidden) look(); }, 30000);

  follow();
  find();
  connect();
})();
