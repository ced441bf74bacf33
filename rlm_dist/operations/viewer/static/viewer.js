// The pages of rlm-dist: tables of any length, the timeline and the search over turns.
// Data comes from elements <script type="application/json">, and reaches the page as text only, never as markup.
(function () {
  "use strict";

  const ROW_PX = 30, SPARE_ROWS = 8;
  const HIDDEN = new RegExp(
    "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e" +
    "\\u2060-\\u2064\\u2066-\\u206f\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}\\p{Surrogate}]", "gu");
  const NAMES = {
    0: "NUL", 7: "BEL", 8: "BS", 11: "VT", 12: "FF", 13: "CR", 14: "SO", 15: "SI", 27: "ESC", 127: "DEL", 155: "CSI",
    0xad: "SHY", 0x61c: "ALM", 0x200b: "ZWSP", 0x200e: "LRM", 0x200f: "RLM", 0x2028: "LSEP", 0x2029: "PSEP",
    0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2066: "LRI", 0x2067: "RLI",
    0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM",
  };

  // ---- Elements and texts ------------------------------------------------------------------------------------

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  // Shows a text with its control characters as small boxes, as the server does.
  function show(element, text) {
    let end = 0;
    for (const match of text.matchAll(HIDDEN)) {
      element.append(text.slice(end, match.index));
      const code = match[0].codePointAt(0), hex = "U+" + code.toString(16).toUpperCase().padStart(4, "0");
      element.append(make("span", { class: "hidden-char", title: hex }, NAMES[code] || hex));
      end = match.index + match[0].length;
    }
    element.append(text.slice(end));
    return element;
  }

  function json(element) { return element ? JSON.parse(element.textContent) : null; }

  function grouped(number) { return number === null || number === undefined ? "–" : number.toLocaleString("en"); }

  function time(ms) {
    if (ms === null || ms === undefined) return "–";
    if (Math.abs(ms) < 1000) return Math.round(ms) + " ms";
    if (Math.abs(ms) < 60000) return (ms / 1000).toFixed(ms < 10000 ? 2 : 1) + " s";
    const seconds = Math.round(ms / 1000), minutes = Math.floor(seconds / 60);
    return minutes < 60 ? minutes + " min " + (seconds % 60) + " s" : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
  }

  function money(nanousd) {
    if (nanousd === null || nanousd === undefined) return "unknown";
    return nanousd === 0 ? "$0" : "$" + (nanousd / 1e9).toFixed(nanousd < 1e7 ? 6 : 4);
  }

  // ---- A table of which only the visible rows are in the document ---------------------------------------------

  // columns: [{name, label, text(row), sort(row), kind, wide}]; open(row) is called with the row that is chosen.
  class RowTable {
    constructor(host, { label, columns, rows, open }) {
      this.columns = columns;
      this.rows = rows;
      this.open = open;
      this.active = -1;
      this.sorted = null;
      this.id = "grid-" + (RowTable.made = (RowTable.made || 0) + 1);
      this.head = make("thead");
      this.body = make("tbody");
      this.table = make("table", { role: "grid", tabindex: "0", class: "rows", "aria-label": label, id: this.id },
        this.head, this.body);
      this.scroller = make("div", { class: "rows-scroll" }, this.table);
      host.append(this.scroller);
      this.makeHead();
      this.scroller.addEventListener("scroll", () => this.soon());
      this.table.addEventListener("keydown", (event) => this.key(event));
      this.table.addEventListener("focus", () => { if (this.active < 0 && this.rows.length) this.activate(0); });
      this.body.addEventListener("click", (event) => {
        const line = event.target.closest("tr[data-at]");
        if (line && !event.target.closest("a")) { this.activate(+line.dataset.at); this.open(this.rows[this.active]); }
      });
      if (window.ResizeObserver) new ResizeObserver(() => this.soon()).observe(this.scroller);
      this.set(rows);
    }

    makeHead() {
      const line = make("tr", { "aria-rowindex": 1 });
      for (const column of this.columns) {
        const button = make("button", { type: "button", tabindex: "-1" }, column.label);
        button.addEventListener("click", () => this.sort(column));
        const cell = make("th", { scope: "col", class: this.classes(column), "aria-sort": "none" }, button);
        column.head = cell;
        line.append(cell);
      }
      this.head.append(line);
    }

    classes(column) { return "col-" + column.name + (column.kind === "num" ? " num" : "") + (column.wide ? " wide" : ""); }

    set(rows) {
      this.rows = rows.slice();
      this.active = Math.min(this.active, this.rows.length - 1);
      this.table.setAttribute("aria-rowcount", this.rows.length + 1);
      if (this.sorted) this.order();
      this.draw();
    }

    sort(column) {
      const down = this.sorted && this.sorted.column === column ? !this.sorted.down : column.kind === "num";
      for (const other of this.columns) other.head.setAttribute("aria-sort", "none");
      column.head.setAttribute("aria-sort", down ? "descending" : "ascending");
      this.sorted = { column, down };
      this.order();
      this.draw();
    }

    // Rows without a value come last, whichever way the others are ordered.
    order() {
      const { column, down } = this.sorted, sign = down ? -1 : 1;
      const lacks = (value) => value === null || value === undefined;
      this.rows.sort((one, other) => {
        const a = column.sort(one), b = column.sort(other);
        if (lacks(a) || lacks(b)) return lacks(a) - lacks(b);
        return a < b ? -sign : a > b ? sign : 0;
      });
    }

    soon() {
      if (this.waits) return;
      this.waits = true;
      requestAnimationFrame(() => { this.waits = false; this.draw(); });
    }

    draw() {
      const height = this.scroller.clientHeight || 400;
      const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW_PX) - SPARE_ROWS);
      const last = Math.min(this.rows.length, first + Math.ceil(height / ROW_PX) + 2 * SPARE_ROWS);
      const lines = [this.gap(first)];
      for (let at = first; at < last; at++) lines.push(this.line(at));
      lines.push(this.gap(this.rows.length - last));
      this.body.replaceChildren(...lines);
      this.point();
    }

    gap(count) {
      const cell = make("td", { colspan: this.columns.length });
      cell.style.height = count * ROW_PX + "px";
      const line = make("tr", { class: "gap", "aria-hidden": "true" }, cell);
      line.hidden = count === 0;
      return line;
    }

    line(at) {
      const row = this.rows[at];
      const line = make("tr", { "aria-rowindex": at + 2, "data-at": at, id: this.id + "-" + at, "aria-selected": String(at === this.active) });
      for (const column of this.columns) {
        const cell = make("td", { class: this.classes(column) });
        const text = column.text(row);
        if (column.link) cell.append(show(make("a", { href: column.link(row), tabindex: "-1" }), text));
        else if (column.badge) cell.append(make("span", { class: "badge state-" + text.replace(/[^a-z]+/g, "-") }, text));
        else show(cell, text);
        line.append(cell);
      }
      return line;
    }

    // Says which row is active. No row is replaced here: a click ends on the element on which it began.
    point() {
      const line = this.active >= 0 && document.getElementById(this.id + "-" + this.active);
      for (const other of this.body.children) if (!other.classList.contains("gap")) other.setAttribute("aria-selected", String(other === line));
      if (line) this.table.setAttribute("aria-activedescendant", line.id);
      else this.table.removeAttribute("aria-activedescendant");
    }

    activate(at) {
      this.active = at;
      const top = at * ROW_PX, view = this.scroller, room = view.clientHeight - 2 * ROW_PX;
      if (top < view.scrollTop) view.scrollTop = top;
      else if (top > view.scrollTop + room) view.scrollTop = top - room;
      if (document.getElementById(this.id + "-" + at)) this.point();
      else this.draw();
    }

    key(event) {
      const page = Math.max(1, Math.floor(this.scroller.clientHeight / ROW_PX) - 2), end = this.rows.length - 1;
      const to = { ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page,
        PageUp: this.active - page, Home: 0, End: end }[event.key];
      if (end < 0) return;
      if (to !== undefined) this.activate(Math.max(0, Math.min(end, to)));
      else if ((event.key === "Enter" || event.key === " ") && event.target === this.table && this.active >= 0) {
        this.open(this.rows[this.active]);
      } else return;
      event.preventDefault();
    }
  }

  // ---- Sub-calls ----------------------------------------------------------------------------------------------

  // Rows as objects, read from the elements of a page; the texts of a row are parsed when it is opened.
  class Rows {
    constructor() {
      this.columns = json(document.getElementById("rlm-columns")) || [];
      this.all = [];
      const chunks = document.querySelectorAll("script.rlm-rows");
      const seen = new Set();
      chunks.forEach((chunk, number) => {
        json(chunk).forEach((values, place) => {
          const row = { chunk: number, place };
          this.columns.forEach((name, index) => { row[name] = values[index]; });
          if (!seen.has(row.id)) { seen.add(row.id); this.all.push(row); }
        });
      });
    }

    texts(row) {
      const chunk = document.querySelectorAll("script.rlm-texts")[row.chunk];
      if (!chunk) return null;
      if (!this.read || this.read.number !== row.chunk) this.read = { number: row.chunk, texts: json(chunk) };
      return this.read.texts[row.place];
    }
  }

  function callColumns(withBlock) {
    const value = (name) => (row) => row[name];
    const number = (name, label, text, wide) => ({ name, label, kind: "num", wide, text: (row) => text(row[name]), sort: value(name) });
    const word = (name, label, wide) => ({ name, label, wide, text: (row) => row[name] || "–", sort: value(name) });
    return [
      number("n", "No.", (n) => String(n)),
      ...(withBlock ? [{ name: "cell", label: "Block", kind: "num", wide: true, text: blockName, sort: value("cell") }] : []),
      { ...word("state", "State"), badge: true },
      number("started_ms", "Start", time, true),
      number("latency_ms", "Latency", time),
      word("worker", "Worker", true),
      word("model", "Model", true),
      word("tier", "Tier", true),
      number("input", "In", grouped, true),
      number("cached", "Cached", grouped, true),
      number("output", "Out", grouped, true),
      number("nanousd", "Cost", money),
      number("attempts", "Tries", grouped, true),
    ];
  }

  function blockName(row) {
    const title = document.getElementById("block-" + row.cell + "-title");
    const turn = title && title.closest(".turn");
    return turn ? turn.id.slice(5) + "." + title.textContent.replace(/\D+/g, "") : "–";
  }

  function callTable(host, rows, shown, label, withBlock) {
    const detail = make("section", { class: "detail", tabindex: "-1", "aria-label": "The sub-call that was chosen" });
    detail.hidden = true;
    const table = new RowTable(host, { label, columns: callColumns(withBlock), rows: shown,
      open: (row) => openCall(detail, rows, row, () => table.table.focus()) });
    host.append(detail);
    return table;
  }

  function openCall(detail, rows, row, back) {
    const close = make("button", { type: "button" }, "Close");
    const hide = () => { detail.hidden = true; back(); };
    close.addEventListener("click", hide);
    detail.onkeydown = (event) => { if (event.key === "Escape") hide(); };
    const facts = [["State", row.state], ["Worker", row.worker], ["Model", row.model], ["Tier", row.tier],
      ["Started", row.started_ms === null ? null : "after " + time(row.started_ms)],
      ["Latency", row.latency_ms === null ? null : time(row.latency_ms) + (row.waited_ms > 0 ? ", of which it waited " + time(row.waited_ms) : "")],
      ["Tokens", row.input === null ? null : grouped(row.input) + " in (" + grouped(row.cached) + " cached), " + grouped(row.output) + " out"],
      ["Cost", money(row.nanousd)], ["Attempts", grouped(row.attempts)],
      ["Failed attempts", row.failed_attempts.join(", ")], ["Abandoned by workers", row.lapsed ? String(row.lapsed) : null],
      ["Failure", row.failure], ["Id", row.id]];
    const list = make("dl", { class: "pairs" });
    for (const [name, text] of facts) if (text) list.append(make("div", {}, make("dt", {}, name), show(make("dd"), text)));
    detail.replaceChildren(make("p", { class: "detail-head" }, make("strong", {}, "Sub-call " + row.n), close), list);
    const texts = rows.texts(row);
    ["Prompt", "Answer", "Failure"].forEach((name, at) => {
      if (!texts || texts[at] === null) return;
      const label = name + ", " + grouped(texts[at].length) + " characters";
      detail.append(make("p", { class: "label" }, label),
        make("pre", { class: "text", tabindex: "0", "aria-label": label }, show(make("bdi"), texts[at])));
    });
    detail.hidden = false;
    detail.focus();
  }

  function choices(label, id, values) {
    const select = make("select", { id });
    for (const [value, text] of values) select.append(make("option", { value }, text));
    return [make("span", { class: "field" }, make("label", { for: id }, label), select), select];
  }

  // A table with a filter for each of some columns and a search over others; the filters are built from the rows.
  function filtered(host, name, all, filters, searched, makeTable) {
    const bar = make("form", { class: "filters", role: "search", "aria-label": "Filter " + name });
    const selects = filters.map(([column, label]) => {
      const values = [...new Set(all.map((row) => row[column]).filter((value) => value !== null))].sort();
      const [field, select] = choices(label, "filter-" + column, [["", "all"], ...values.map((value) => [value, value])]);
      bar.append(field);
      return [column, select];
    });
    const words = make("input", { type: "search", id: "filter-text", autocomplete: "off" });
    const found = make("output", { class: "dim" });
    bar.append(make("span", { class: "field" }, make("label", { for: "filter-text" }, "Search"), words), found);
    host.append(bar);
    const table = makeTable(all);
    const apply = () => {
      const text = words.value.toLowerCase();
      const rows = all.filter((row) =>
        selects.every(([column, select]) => !select.value || String(row[column]) === select.value) &&
        (!text || searched.some((column) => String(row[column] === null ? "" : row[column]).toLowerCase().includes(text))));
      table.scroller.scrollTop = 0;
      table.set(rows);
      found.textContent = grouped(rows.length) + " of " + grouped(all.length);
    };
    bar.addEventListener("input", apply);
    bar.addEventListener("submit", (event) => event.preventDefault());
    apply();
    return table;
  }

  function startCalls(rows) {
    rows.all.sort((a, b) => a.cell - b.cell || a.n - b.n);
    const byCell = new Map();
    for (const row of rows.all) {
      if (!byCell.has(row.cell)) byCell.set(row.cell, []);
      row.n = byCell.get(row.cell).push(row);
    }
    for (const details of document.querySelectorAll("details.calls")) {
      const own = byCell.get(+details.dataset.cell) || [];
      details.addEventListener("toggle", () => {
        const host = details.querySelector(".calls-host");
        if (!details.open || host.firstChild) return;
        if (own.length) callTable(host, rows, own, "Sub-calls of this block", false);
        else host.append(make("p", { class: "dim" }, "Which calls these are was not recorded: see all sub-calls below."));
      });
    }
    const host = document.getElementById("rlm-calls");
    if (!host) return;
    if (!rows.all.length) { host.append(make("p", { class: "dim" }, document.getElementById("children") ? "It made no sub-calls itself." : "It made no sub-calls.")); return; }
    filtered(host, "sub-calls", rows.all, [["state", "State"], ["worker", "Worker"], ["model", "Model"]],
      ["id", "worker", "model", "failure"], (all) => callTable(host, rows, all, "All sub-calls", true));
  }

  function startJobs(rows) {
    const host = document.getElementById("rlm-jobs");
    if (!host) return;
    const value = (name) => (row) => row[name];
    const number = (name, label, text, wide) => ({ name, label, kind: "num", wide, text: (row) => text(row[name]), sort: value(name) });
    const columns = [
      number("index", "No.", (n) => String(n + 1), true),
      { name: "custom_id", label: "Job", text: value("custom_id"), sort: value("custom_id"), link: value("file") },
      { name: "state", label: "State", text: value("state"), sort: value("state"), badge: true },
      number("turns", "Turns", grouped, true), number("calls", "Sub-calls", grouped, true),
      number("tokens", "Tokens", grouped, true), number("nanousd", "Cost", money), number("ran_ms", "Time", time),
      { name: "note", label: "Answer or error", wide: true, text: (row) => row.note || "", sort: value("note") },
    ];
    filtered(host, "jobs", rows.all, [["state", "State"]], ["custom_id", "id", "note"], (all) =>
      new RowTable(host, { label: "Jobs", columns, rows: all, open: (row) => { location.href = row.file; } }));
  }

  // ---- The timeline -------------------------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg", MOST_BARS = 1500, MOST_LANES = 16, MOST_ROWS = 64;

  function svg(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  class Timeline {
    constructor(host, spans, calls) {
      this.host = host;
      this.spans = spans;
      this.calls = calls.filter((row) => row.started_ms !== null && row.latency_ms !== null).map((row) => ({
        row, at: row.started_ms, ms: Math.max(1, row.latency_ms - row.waited_ms), lane: row.worker || "unknown worker",
      })).sort((a, b) => a.at - b.at);
      const starts = [...spans, ...this.calls.map((call) => ({ at_ms: call.at, ms: call.ms }))];
      let low = Infinity, high = 1;
      for (const span of starts) { low = Math.min(low, span.at_ms); high = Math.max(high, span.at_ms + span.ms); }
      this.whole = [Math.min(0, low === Infinity ? 0 : low), high];
      this.view = this.whole;
      this.controls();
      this.frame = make("div", { class: "timeline-frame" });
      this.readout = make("p", { class: "readout dim" });
      host.append(this.frame, this.readout);
      this.hint = calls.length > this.calls.length
        ? grouped(calls.length - this.calls.length) + " sub-calls have no known time and are not drawn." : "Drag to look closer.";
      this.frame.addEventListener("pointermove", (event) => this.tell(event.target));
      this.frame.addEventListener("focusin", (event) => this.tell(event.target));
      this.dragging();
      if (window.ResizeObserver) new ResizeObserver(() => this.draw()).observe(this.frame);
      this.draw();
    }

    controls() {
      const bar = make("div", { class: "controls", role: "group", "aria-label": "Part of the timeline" });
      const button = (label, step) => {
        const made = make("button", { type: "button" }, label);
        made.addEventListener("click", () => { this.zoom(...step()); });
        bar.append(made);
      };
      const part = (from, to) => () => {
        const [a, b] = this.view, length = b - a;
        return [a + from * length, a + to * length];
      };
      button("Closer", part(0.25, 0.75));
      button("Wider", part(-0.5, 1.5));
      button("Earlier", part(-0.5, 0.5));
      button("Later", part(0.5, 1.5));
      button("Whole job", () => this.whole);
      this.host.append(bar);
    }

    zoom(from, to) {
      const [low, high] = this.whole, length = Math.min(Math.max(20, to - from), high - low);
      const start = Math.max(low, Math.min(from, high - length));
      this.view = [start, start + length];
      this.draw();
    }

    dragging() {
      let from = null;
      const at = (event) => {
        const box = this.frame.getBoundingClientRect();
        return this.view[0] + (event.clientX - box.left) / box.width * (this.view[1] - this.view[0]);
      };
      this.frame.addEventListener("pointerdown", (event) => { if (!event.target.closest("a")) from = [event.clientX, at(event)]; });
      this.frame.addEventListener("pointerup", (event) => {
        if (from && Math.abs(event.clientX - from[0]) > 10) {
          const ends = [from[1], at(event)].sort((a, b) => a - b);
          this.zoom(...ends);
        }
        from = null;
      });
    }

    tell(target) {
      const shown = target.closest("[data-tip]");
      this.readout.textContent = shown ? shown.dataset.tip : this.hint;
    }

    x(ms) { return (ms - this.view[0]) / (this.view[1] - this.view[0]) * this.width; }

    draw() {
      const width = Math.max(280, this.frame.clientWidth);
      this.width = width;
      this.y = 0;
      const total = this.calls.length;
      const label = "Timeline of " + time(this.whole[1]) + ": " + this.spans.length + " replies, blocks and child jobs, " + grouped(total) + " sub-calls";
      this.drawing = svg("svg", { width, role: "group", "aria-label": label });
      this.axis();
      this.named("Root model", this.spans.filter((span) => span.kind === "root"));
      this.named("Blocks", this.spans.filter((span) => span.kind === "block"));
      this.named("Child jobs", this.spans.filter((span) => span.kind === "child"));
      for (const [name, calls] of this.lanes()) this.lane(name, calls);
      this.drawing.setAttribute("height", this.y + 4);
      this.frame.replaceChildren(this.drawing);
      this.tell(this.frame);
    }

    axis() {
      const [from, to] = this.view, rough = (to - from) / Math.max(2, this.width / 110);
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
      for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
        const x = this.x(tick);
        if (x > this.width - 56) continue;
        this.drawing.append(svg("line", { x1: x, x2: x, y1: 0, y2: 4000, class: "tick" }),
          svg("text", { x: x + 3, y: 11, class: "tick-text" }, time(tick)));
      }
      this.y = 18;
    }

    title(text) {
      this.drawing.append(svg("text", { x: 6, y: this.y + 12, class: "lane-text" }, text));
      this.y += 17;
    }

    named(name, spans) {
      if (!spans.length) return;
      this.title(name);
      const ends = []; // of the bars in each row: those of several samples or children lie side by side
      for (const span of spans) {
        let row = ends.findIndex((end) => end <= span.at_ms + 20);
        if (row < 0) row = Math.min(ends.length, MOST_ROWS - 1);
        ends[row] = span.at_ms + span.ms;
        if (span.at_ms + span.ms < this.view[0] || span.at_ms > this.view[1]) continue;
        const tip = span.label + ", " + time(span.ms) + ", after " + time(span.at_ms) + (span.failed ? ", with an error" : "");
        const x = this.x(Math.max(span.at_ms, this.view[0])), end = this.x(Math.min(span.at_ms + span.ms, this.view[1]));
        this.drawing.append(svg("a", { href: "#" + span.target, "aria-label": tip, "data-tip": tip },
          svg("rect", { x, y: this.y + 14 * row, width: Math.max(2, end - x), height: 12, rx: 2, class: "bar-" + span.kind + (span.failed ? " bad" : "") })));
      }
      this.y += 4 + 14 * ends.length;
    }

    lanes() {
      const groups = new Map();
      for (const call of this.calls) {
        if (call.at + call.ms < this.view[0] || call.at > this.view[1]) continue;
        if (!groups.has(call.lane)) groups.set(call.lane, []);
        groups.get(call.lane).push(call);
      }
      const sorted = [...groups].sort((a, b) => a[0] < b[0] ? -1 : 1);
      if (sorted.length <= MOST_LANES) return sorted;
      const rest = sorted.slice(MOST_LANES - 1);
      return [...sorted.slice(0, MOST_LANES - 1),
        [rest.length + " other workers", rest.flatMap(([, calls]) => calls).sort((a, b) => a.at - b.at)]];
    }

    lane(name, calls) {
      this.title(name + " – " + grouped(calls.length) + (calls.length === 1 ? " call" : " calls"));
      const rows = this.packed(calls);
      if (rows && calls.length * this.lanes().length <= MOST_BARS) this.bars(calls, rows);
      else this.area(calls);
    }

    // The row of each call, so that none covers another; null if there are too many rows.
    packed(calls) {
      const ends = [], rows = [];
      for (const call of calls) {
        let row = ends.findIndex((end) => end <= call.at);
        if (row < 0) row = ends.length;
        if (row >= MOST_ROWS) return null;
        ends[row] = call.at + call.ms;
        rows.push(row);
      }
      return { rows, count: ends.length };
    }

    bars(calls, { rows, count }) {
      const size = count > 20 ? 3 : 7;
      calls.forEach((call, number) => {
        const { row } = call, x = this.x(Math.max(call.at, this.view[0])), end = this.x(Math.min(call.at + call.ms, this.view[1]));
        const tip = "sub-call " + row.n + " of block " + blockName(row) + ": " + row.state + ", " + time(call.ms) + ", after " + time(call.at);
        this.drawing.append(svg("rect", { x, y: this.y + rows[number] * size, width: Math.max(1.5, end - x), height: size - 1, rx: 1,
          class: "bar-call" + (row.state === "failed" ? " bad" : ""), "data-tip": tip }));
      });
      this.y += count * size + 6;
    }

    // How many calls were in flight at once, for each few pixels.
    area(calls) {
      const bins = Math.max(1, Math.floor(this.width / 3)), change = new Float64Array(bins + 1), bad = new Uint32Array(bins);
      const bin = (ms) => Math.max(0, Math.min(bins - 1, Math.floor(this.x(ms) / 3)));
      for (const call of calls) {
        change[bin(call.at)] += 1;
        change[bin(call.at + call.ms) + 1] -= 1;
        if (call.row.state === "failed") bad[bin(call.at + call.ms)] += 1;
      }
      let now = 0, most = 1;
      const counts = Array.from({ length: bins }, (_, at) => { now += change[at]; most = Math.max(most, now); return now; });
      const height = 44, group = svg("g", {});
      counts.forEach((n, at) => {
        if (!n) return;
        const size = n / most * height, from = this.view[0] + at / bins * (this.view[1] - this.view[0]);
        const tip = grouped(n) + " sub-calls at once, after " + time(from) + (bad[at] ? "; " + grouped(bad[at]) + " failed" : "");
        group.append(svg("rect", { x: at * 3, y: this.y + height - size, width: 3, height: size, class: "bar-area", "data-tip": tip }));
        if (bad[at]) group.append(svg("rect", { x: at * 3, y: this.y + height - 3, width: 3, height: 3, class: "bar-area bad", "data-tip": tip }));
      });
      this.drawing.append(group, svg("text", { x: this.width - 6, y: this.y - 5, class: "tick-text", "text-anchor": "end" }, "up to " + grouped(most) + " at once"));
      this.y += height + 8;
    }
  }

  // ---- Turns --------------------------------------------------------------------------------------------------

  function startSearch() {
    const field = document.getElementById("turn-search"), found = document.getElementById("turn-found");
    if (!field) return;
    const turns = [...document.querySelectorAll("article.turn")];
    field.addEventListener("input", () => {
      const words = field.value.trim().toLowerCase();
      let count = 0;
      for (const turn of turns) {
        const matches = !words || turn.textContent.toLowerCase().includes(words);
        turn.hidden = !matches;
        count += matches;
        const link = document.querySelector('.outline a[href="#' + turn.id + '"]');
        if (link) link.parentElement.hidden = !matches;
        for (const fold of turn.querySelectorAll("details.fold")) {
          if (words && fold.textContent.toLowerCase().includes(words)) fold.open = true;
        }
      }
      found.textContent = words ? count + " of " + turns.length + " turns" : "";
      mark(words ? turns.filter((turn) => !turn.hidden) : [], words);
    });
  }

  // Marks what was searched for, where the browser can do so without a change of the document.
  function mark(elements, words) {
    if (!window.Highlight || !CSS.highlights) return;
    CSS.highlights.delete("rlm-found");
    const ranges = [];
    for (const element of elements) {
      const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
      while (walker.nextNode() && ranges.length < 2000) {
        const text = walker.currentNode.data.toLowerCase();
        for (let at = text.indexOf(words); at >= 0; at = text.indexOf(words, at + words.length)) {
          const range = new Range();
          range.setStart(walker.currentNode, at);
          range.setEnd(walker.currentNode, Math.min(at + words.length, walker.currentNode.data.length));
          ranges.push(range);
        }
      }
    }
    if (ranges.length) CSS.highlights.set("rlm-found", new Highlight(...ranges));
  }

  function startOutline() {
    if (!window.IntersectionObserver) return;
    const seen = new Set();
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
      let first = true;
      for (const link of document.querySelectorAll(".outline a")) {
        const here = first && seen.has(link.hash.slice(1));
        if (here) { link.setAttribute("aria-current", "true"); first = false; } else link.removeAttribute("aria-current");
      }
    });
    for (const turn of document.querySelectorAll("article.turn")) observer.observe(turn);
  }

  // A link into a folded or filtered part opens it.
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const turn = target && target.closest("article.turn");
    if (turn) turn.hidden = false;
  }

  function start() {
    const rows = new Rows();
    startJobs(rows);
    if (!document.getElementById("rlm-job")) return;
    startCalls(rows);
    const host = document.getElementById("rlm-timeline"), spans = json(document.getElementById("rlm-spans")) || [];
    if (spans.length || rows.all.length) new Timeline(host, spans, rows.all);
    else host.append(make("p", { class: "dim" }, "Nothing has happened yet."));
    startSearch();
    startOutline();
    addEventListener("hashchange", reveal);
  }

  window.rlmViewer = { start };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
