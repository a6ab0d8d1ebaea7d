// The picture: boxes and arrows as SVG, of which a step redraws only what it changed.
const esc = text => String(text).replace(/[&<>"']/g, sign => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[sign]);

class Picture {
  constructor(data, model, host, map) {
    Object.assign(this, { data, model, host, map });
    this.world = host.querySelector("#world");
    this.sheet = host.querySelector("#sheet");  // moved as a whole: were the drawing moved in it, all texts would be set anew
    this.camera = { x: 0, y: 0, k: 1 };
    this.open = new Set();
    this.shownStep = 0;
    this.selected = null;
    this.heavy = new Set();
  }

  // Draws a level afresh, with what is open in it
  draw(level) {
    this.level = level;
    const { data, model } = this;
    const view = data.levels.find(one => one.name === level).view;
    const at = this.at = arranged(data, model, view, id => this.open.has(id));
    const marks = this.marks = this.marksOf();
    const frames = at.frames.map(frame => `<g class="frame" data-box="${frame.id}" transform="translate(${frame.x} ${frame.y})">
      <rect width="${frame.w}" height="${frame.h}" rx="10"/><text x="14" y="24">${esc(this.boxName(frame.id))}</text>
      <g class="fold" transform="translate(${frame.w - 30} 10)"><rect width="20" height="20" rx="4"/><path d="M5 10h10"/></g></g>`);
    const arrows = at.arrows.map((arrow, k) => `<g class="arrow" data-arrow="${k}"><path class="halo" d="${arrow.path}"/><path class="line" d="${arrow.path}"/>` +
      (arrow.end ? `<path class="head" d="M${fixed(arrow.end)}l-11 -4.6v9.2z"/>` : "") +
      (arrow.label && this.hasLabel(arrow) ? `<g class="label" transform="translate(${fixed(arrow.label)})"><rect x="-29" y="-9" width="58" height="18" rx="4"/><text y="4.3"></text></g>` : "") + "</g>");
    const boxes = at.boxes.map(box => this.boxSource(box, marks.get(box.id)));
    this.world.innerHTML = `<g id="frames">${frames.join("")}</g><g id="arrows" aria-hidden="true">${arrows.join("")}</g><g id="boxes">${boxes.join("")}</g>`;
    this.boxOf = new Map();  // node -> the box that shows it
    this.parts = at.boxes.map((box, k) => {
      const el = this.world.querySelector("#boxes").children[k];
      const members = box.id < 0 ? data.groups[-1 - box.id].all : [box.id];
      for (const node of members) this.boxOf.set(node, box);
      const texts = el.querySelectorAll("text[data-row]");
      return { box, el, members, outputs: box.id < 0 ? data.groups[-1 - box.id].outputs : [box.id], texts, shown: ["", "", "", "", ""] };
    });
    this.partOf = new Map(this.parts.map(part => [part.box.id, part]));
    this.lines = at.arrows.map((arrow, k) => {
      const el = this.world.querySelector("#arrows").children[k];
      return { arrow, el, line: el.querySelector(".line"), label: el.querySelector(".label"), text: el.querySelector(".label text"), shown: "", wide: "", said: null };
    });
    this.sheet.setAttribute("width", at.width);
    this.sheet.setAttribute("height", at.height);
    this.stop = this.parts[0];
    this.stop.el.setAttribute("tabindex", "0");
    this.linesOf = new Map();
    for (const line of this.lines) for (const e of line.arrow.edges) this.linesOf.has(e) ? this.linesOf.get(e).push(line) : this.linesOf.set(e, [line]);
    this.map.querySelector("svg").setAttribute("viewBox", `0 0 ${at.width} ${at.height}`);
    this.map.querySelector("#dots").setAttribute("d", at.boxes.map(b => `M${(b.x - b.w / 2).toFixed(0)} ${(b.y - b.h / 2).toFixed(0)}h${b.w.toFixed(0)}v${b.h.toFixed(0)}h${(-b.w).toFixed(0)}z`).join(""));
    this.weigh();
    document.querySelector("#legend .mixed").hidden = !at.arrows.some(arrow => arrow.edges.length > 1);
  }

  boxName(id) { return id < 0 ? this.data.groups[-1 - id].name : this.model.label(id); }

  kind(id) {
    const { data, model } = this;
    if (id < 0) return data.groups[-1 - id].outputs.includes(model.output) ? "output" : "operation";
    if (id === model.output) return "output";
    return model.op[id] >= 0 ? "operation" : data.isParameter.has(id) ? "parameter" : "input";
  }

  boxSource({ id, x, y, w, h, name, tag }, mark) {
    const group = id < 0;
    const stack = group ? 5 : 0, W = w - stack, H = h - stack, kind = this.kind(id);
    const round = kind === "parameter" || kind === "input" ? 12 : 3;
    const wide = tag.length * 7.3 + 10;
    const row = (k, caption) => `<text x="10" y="${stack + 41 + 18 * k}" class="caption" data-row="${2 * k}">${caption}</text><text x="${W - 10}" y="${stack + 41 + 18 * k}" class="figure" data-row="${2 * k + 1}"></text>`;
    return `<g class="box ${kind}${group ? " group" : ""}${mark ? " " + mark : ""}" data-box="${id}" tabindex="-1" role="button" transform="translate(${(x - w / 2).toFixed(1)} ${(y - h / 2).toFixed(1)})">` +
      (group ? `<rect class="sheet" x="${stack}" width="${W}" height="${H}" rx="${round}"/>` : "") +
      `<rect class="ring" x="-5" y="${stack - 5}" width="${W + 10}" height="${H + 10}" rx="${round + 5}"/>` +
      `<rect class="body" y="${stack}" width="${W}" height="${H}" rx="${round}"/>` +
      `<path class="band" d="M0 ${stack + 25}v${round - 25}a${round} ${round} 0 0 1 ${round} ${-round}h${W - 2 * round}a${round} ${round} 0 0 1 ${round} ${round}v${25 - round}z"/>` +
      `<rect class="border" y="${stack}" width="${W}" height="${H}" rx="${round}"/>` +
      `<text x="10" y="${stack + 17.5}" class="name">${esc(name)}</text>` +
      (tag ? `<rect class="pill" x="${W - wide - 6}" y="${stack + 4}" width="${wide}" height="17" rx="8"/><text class="tag" x="${W - wide / 2 - 6}" y="${stack + 16.7}">${esc(tag)}</text>` : "") +
      row(0, "value") + row(1, "grad") +
      (mark ? `<text class="mark" x="${W / 2}" y="${stack - 9}">${{ "first cause": "✗ first wrong step", cause: "✗ wrong step", inherited: "inherits", right: "✓ right" }[mark]}</text>` : "") + "</g>";
  }

  // {box: "cause", "inherited" or "right"} of a doctor's report; the worst that one of its nodes has
  marksOf() {
    const doctor = this.data.doctor, found = new Map();
    if (!doctor) return found;
    const boxes = new Map();
    for (const box of this.at.boxes) for (const node of box.id < 0 ? this.data.groups[-1 - box.id].all : [box.id]) boxes.set(node, box.id);
    const put = (nodes, mark) => { for (const node of nodes) if (boxes.has(node)) found.set(boxes.get(node), mark); };
    for (const [, nodes] of doctor.right) put(nodes, "right");
    for (const [, nodes] of doctor.inherited) put(nodes, "inherited");
    for (const cause of [...doctor.causes].reverse()) put(cause.nodes, cause === doctor.causes[0] ? "first cause" : "cause");
    return found;
  }

  // Between boxes of one number each an arrow has a derivative: local, or total through the box that it leads to
  hasLabel({ tail, head, edges }) {
    const outputs = id => id < 0 ? this.data.groups[-1 - id].outputs.length : 1;
    return this.model.scalar && edges.length > 0 && outputs(tail) === 1 && outputs(head) === 1;
  }
  derivative({ tail, head, edges }) {
    if (head >= 0) return this.model.local[edges[0]];
    const { all, outputs } = this.data.groups[-1 - head];
    const below = new Map([[outputs[0], 1]]);
    for (let k = all.length - 1; k >= 0; k--) {
      const upstream = below.get(all[k]);
      if (upstream === undefined) continue;
      for (const e of this.model.into(all[k])) {
        const parent = this.model.parent[e];
        below.set(parent, (below.get(parent) || 0) + upstream * this.model.local[e]);
      }
    }
    const from = tail < 0 ? this.data.groups[-1 - tail].outputs[0] : tail;
    return below.get(from) ?? 0;
  }

  // The widths of arrows: their share of the largest contribution in the picture
  weigh() {
    this.stale = true;
    const weights = this.lines.map(line => this.model.weight(line.arrow.edges));
    const largest = Math.max(0, ...weights.filter(Number.isFinite));
    this.lines.forEach((line, k) => {
      line.width = !weights[k] ? 1 : Number.isFinite(weights[k]) ? 1.4 + 3.6 * Math.sqrt(weights[k] / largest) : 5;
      line.sign = this.model.sign(line.arrow.edges);
      line.alarm = !Number.isFinite(weights[k]);
      line.derivative = line.text ? this.derivative(line.arrow) : null;
    });
  }

  // Brings boxes and arrows to a step; looks only at what may have changed, and touches only what looks different.
  // select: the box that is chosen; heavy: the edges of the paths to mark. What is not given stays.
  show(step, { select = this.selected, heavy = this.heavy } = {}) {
    const { model } = this, backward = model.isBackward(step), current = model.current(step);
    const near = Math.abs(step - this.shownStep) <= 40 && !this.stale;
    let parts = this.parts, lines = this.lines;
    if (near) {
      parts = new Set([this.partOf.get(this.selected), this.partOf.get(select)]);
      lines = new Set();
      for (let s = Math.min(step, this.shownStep); s <= Math.max(step, this.shownStep); s++) {
        const node = model.current(s);
        if (node < 0) continue;
        const { id } = this.boxOf.get(node);
        parts.add(this.partOf.get(id));
        if (id < 0 && this.data.groups[-1 - id].outputs[0] === node) for (const line of this.lines) if (line.arrow.head === id) lines.add(line);
        for (let e = model.intoStart[node]; e < model.intoStart[node + 1]; e++) {
          parts.add(this.partOf.get(this.boxOf.get(model.parent[e]).id));
          for (const line of this.linesOf.get(e) || []) lines.add(line);
        }
      }
      if (heavy !== this.heavy) for (const e of [...heavy, ...this.heavy]) for (const line of this.linesOf.get(e) || []) lines.add(line);
      parts.delete(undefined);
    }
    const chosen = this.partOf.get(select);
    if (chosen && chosen !== this.stop) {  // the one box that Tab comes to
      this.stop?.el.setAttribute("tabindex", "-1");
      this.stop = chosen;
      chosen.el.setAttribute("tabindex", "0");
    }
    Object.assign(this, { shownStep: step, selected: select, heavy, stale: false, here: select >= 0 ? select : current });
    for (const part of parts) this.showBox(part, step, current);
    for (const line of lines) this.showLine(line, step, current);
    const at = current >= 0 && this.boxOf.get(current);
    const mark = this.map.querySelector("#here");
    mark.setAttribute("d", at ? `M${at.x - at.w / 2} ${at.y - at.h / 2}h${at.w}v${at.h}h${-at.w}z` : "");
    mark.setAttribute("class", backward ? "backward" : "");
  }

  showLine(line, step, current) {
    const { model } = this, { edges, head, stub } = line.arrow;
    let computed = false, handed = false, active = false, heavy = false;
    for (const e of edges) {
      const child = model.child[e];
      computed ||= model.computed(child, step);
      handed ||= model.handed(child, step);
      active ||= child === current;
      heavy ||= this.heavy.has(e);
    }
    const whole = computed && (!(head < 0) || model.computed(this.data.groups[-1 - head].outputs[0], step));
    const sign = line.alarm ? "alarm" : ["negative", "zero", "positive", "mixed"][line.sign + 1];
    const look = `arrow ${handed ? "handed " + sign : computed ? "computed" : "future"}${active ? " active" : ""}${heavy ? " heavy" : ""}${stub ? " stub" : ""}`;
    if (look !== line.shown) line.el.setAttribute("class", line.shown = look);
    const wide = handed ? line.width.toFixed(1) : active ? "2.4" : "";
    if (wide !== line.wide) line.line.style.strokeWidth = line.wide = wide;
    if (!line.text) return;
    const text = !whole || line.derivative === 1 ? "" : short(line.derivative);
    if (text === line.said) return;
    line.text.textContent = line.said = text;
    line.label.classList.toggle("bare", !text);
    const room = text.length * 7.3 + 8;
    line.label.firstChild.setAttribute("width", room);
    line.label.firstChild.setAttribute("x", -room / 2);
  }

  showBox(part, step, current) {
    const { model } = this, backward = model.isBackward(step);
    let computed = 0, handed = 0, arrived = 0, all = 0, here = false;
    for (const node of part.members) {
      computed += model.computed(node, step);
      handed += model.handed(node, step);
      here ||= node === current;
    }
    const sums = part.outputs.map(node => model.gathered(node, step));
    for (const sum of sums) { arrived += sum.arrived; all += sum.all; }
    const one = part.outputs.length === 1;
    const ready = part.outputs.every(node => model.computed(node, step));
    const value = !ready ? "–" : one ? model.valueText(part.outputs[0]) : model.scalar ? spread(part.outputs.map(i => model.value[i])) : `${part.outputs.length} arrays`;
    const grad = !arrived ? "–" : one ? model.gradText(part.outputs[0], step)
      : model.scalar ? short(Math.sqrt(sums.reduce((s, x) => s + x.sum * x.sum, 0))) : "…";
    const state = here ? "current" : !computed ? "future" : computed < part.members.length ? "begun" : "computed";
    const look = `box ${this.kind(part.box.id)}${part.box.id < 0 ? " group" : ""} ${this.marks.get(part.box.id) || ""} ${state}` +
      `${backward && here ? " backward" : ""}${arrived && arrived < all ? " partial" : arrived ? " complete" : ""}${handed === part.members.length && handed ? " handed" : ""}` +
      `${this.selected === part.box.id ? " selected" : ""}${/inf|nan/.test(value) ? " alarm-value" : ""}${/inf|nan/.test(grad) ? " alarm-grad" : ""}`;
    const caption = (one ? "grad" : "‖grad‖") + (arrived && arrived < all ? ` ${arrived}/${all}` : "");
    const now = [look, "value" + (one ? "" : "s"), value, caption, grad];
    if (now[0] !== part.shown[0]) part.el.setAttribute("class", now[0]);
    for (let k = 1; k < 5; k++) if (now[k] !== part.shown[k]) part.texts[k - 1].textContent = now[k];
    if (now.some((text, k) => text !== part.shown[k])) {
      const sum = arrived && arrived < all ? `, ${arrived} of ${all} contributions have arrived` : "";
      part.el.setAttribute("aria-label", `${this.boxName(part.box.id)}, ${part.box.id < 0 ? part.members.length + " nodes" : this.kind(part.box.id)}; value ${value === "–" ? "not yet computed" : value}; gradient ${grad === "–" ? "not yet" : grad}${sum}`);
      part.shown = now;
    }
  }

  // --- the camera ---

  look({ x, y, k }, smooth) {
    this.camera = { x, y, k };
    this.sheet.classList.toggle("smooth", Boolean(smooth));
    this.sheet.style.transform = `translate(${x}px, ${y}px) scale(${k})`;
    const { width, height } = this.room();
    const eye = this.map.querySelector("#eye");
    for (const [name, number] of Object.entries({ x: -x / k, y: -y / k, width: width / k, height: height / k })) eye.setAttribute(name, number);
    const here = this.boxOf?.get(this.here), right = here && (here.x + here.w / 2) * k + x, top = here && (here.y - here.h / 2) * k + y;
    this.map.classList.toggle("aside", Boolean(here) && right > width - Math.min(0.26 * width, 250) - 20 && top < 112);
    this.map.hidden = -x / k <= 0 && -y / k <= 0 && (width - x) / k >= this.at.width && (height - y) / k >= this.at.height;
  }
  // The size of the picture; measured only when it changed, for to measure is to lay out the page
  room() { return this.size ||= this.host.getBoundingClientRect(); }
  fit(smooth = true) {
    const { width, height } = this.room(), margin = 26;
    const k = Math.min((width - 2 * margin) / this.at.width, (height - 2 * margin) / this.at.height, 2.2);
    this.look({ x: (width - k * this.at.width) / 2, y: (height - k * this.at.height) / 2, k }, smooth);
  }
  // Where a reader begins: the whole, or of a picture too wide to be read its left end
  begin() {
    this.fit(false);
    const { width, height } = this.room(), k = Math.min(1, height / (this.at.height + 52), width / 900);
    if (this.camera.k < 0.5) this.look({ x: 26, y: (height - Math.max(k, 0.75) * this.at.height) / 2, k: Math.max(k, 0.75) });
  }
  zoom(factor, cx, cy) {
    const { width, height } = this.room(), { x, y, k } = this.camera;
    cx ??= width / 2; cy ??= height / 2;
    const to = Math.min(Math.max(k * factor, 0.02), 6), f = to / k;
    this.look({ x: cx - f * (cx - x), y: cy - f * (cy - y), k: to });
  }
  // The current box and all that it is joined with, at a size that can be read; stays where it is if that holds already
  follow(node, smooth = true) {
    const box = this.boxOf.get(node);
    if (!box) return;
    const { width, height } = this.room();
    const near = new Set([box]);
    for (const e of [...this.model.into(node), ...this.model.from(node)]) {
      const other = this.boxOf.get(this.model.parent[e] === node ? this.model.child[e] : this.model.parent[e]);
      if (other) near.add(other);
    }
    const edges = rectangle(near), least = Math.min(1.5, Math.max(1, width / 1100)), margin = 34;
    const fits = Math.min((width - 2 * margin) / (edges.right - edges.left), (height - 2 * margin) / (edges.bottom - edges.top));
    const { x, y, k } = this.camera;
    const seen = r => k * r.left + x >= 8 && k * r.right + x <= width - 8 && k * r.top + y >= 22 && k * r.bottom + y <= height - 8;
    if (k >= least * 0.98 && k <= 2.3 && seen(fits >= least ? edges : rectangle([box]))) return;
    const whole = Math.min((width - 52) / this.at.width, (height - 52) / this.at.height);
    if (whole >= 0.72) {  // all of it can be read: nothing needs to move
      if (k < whole * 0.98 || !seen({ left: 0, right: this.at.width, top: 0, bottom: this.at.height })) this.fit(smooth);
      return;
    }
    const to = Math.min(Math.max(fits, least), Math.max(least, Math.min(k, 1.8)));
    const target = fits >= least ? edges : rectangle([box]);
    const cx = (target.left + target.right) / 2, cy = (target.top + target.bottom) / 2;
    const within = (at, room, size) => size * to + 2 * margin <= room ? (room - size * to) / 2 : Math.min(margin, Math.max(room - margin - size * to, at));
    this.look({ x: within(width / 2 - to * cx, width, this.at.width), y: within(height / 2 - to * cy, height, this.at.height), k: to }, smooth);
  }
}

function rectangle(boxes) {
  const r = { left: Infinity, right: -Infinity, top: Infinity, bottom: -Infinity };
  for (const b of boxes) {
    r.left = Math.min(r.left, b.x - b.w / 2); r.right = Math.max(r.right, b.x + b.w / 2);
    r.top = Math.min(r.top, b.y - b.h / 2); r.bottom = Math.max(r.bottom, b.y + b.h / 2);
  }
  return r;
}
function spread(numbers) {
  let least = Infinity, greatest = -Infinity;
  for (const x of numbers) {
    if (x !== x) return "nan";
    least = Math.min(least, x); greatest = Math.max(greatest, x);
  }
  return greatest - least <= 5e-3 * Math.max(Math.abs(least), Math.abs(greatest)) ? short(greatest) : `${short(least)} … ${short(greatest)}`;
}
