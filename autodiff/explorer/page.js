// The page: steps, keys, pointer, address. Everything is computed here, from the data above; nothing is asked for.
const data = JSON.parse(document.getElementById("data").textContent);
data.named = new Set(Object.keys(data.labels).map(Number));
data.isParameter = new Set(data.parameters);
for (const group of data.groups) {
  group.all = [];
  for (let k = 0; k < group.members.length; k += 2) for (let j = 0; j < group.members[k + 1]; j++) group.all.push(group.members[k] + j);
}
const $ = id => document.getElementById(id);
const model = new Model(data, ROWS);
const picture = new Picture(data, model, $("picture"), $("map"));
const panel = new Panel(data, model, $("panel"), { isOpen: id => picture.open.has(id), around });
const state = { step: 0, level: data.start, pinned: null, playing: 0, follow: true };
const SPEEDS = [0.5, 1, 2, 4, 8, 16, 60];
const still = matchMedia("(prefers-reduced-motion: reduce)");
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

// --- state to screen ---

function render(moved = true) {
  const { step } = state, current = model.current(step);
  const chosen = state.pinned ?? (current >= 0 ? current : null);
  const box = chosen === null ? null : chosen < 0 ? chosen : picture.boxOf.get(chosen)?.id ?? null;
  if (moved) showPanel(chosen);
  const marked = state.pinned !== null && chosen >= 0 && panel.ways ? marks(panel.ways.slice(0, 1)) : NONE;
  picture.show(step, { select: box, heavy: moved ? marked : picture.heavy });
  $("slider").value = step;
  const half = model.count, phase = step === 0 ? "start" : step <= half ? "forward" : "backward";
  const place = step === 0 ? "0" : step <= half ? `${step} of ${half}` : `${step - half} of ${half}`;
  $("phase").textContent = phase;
  document.body.dataset.phase = phase;
  $("said").textContent = place;
  $("live").textContent = sentence(step, current);
  $("slider").setAttribute("aria-valuetext", `${phase} ${place}`);
  for (const [id, off] of [["first", step === 0], ["back", step === 0], ["next", step === model.steps], ["last", step === model.steps]]) $(id).disabled = off;
  $("play").textContent = state.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", state.playing ? "pause" : "play");
  $("live").setAttribute("aria-live", state.playing ? "off" : "polite");
  address();
}

let scrolled = false;
$("panel").addEventListener("scroll", () => { scrolled = true; });
function showPanel(chosen) {
  const scroll = scrolled && chosen === panel.id ? $("panel").scrollTop : 0;
  panel.way = undefined;
  panel.show(chosen, state.step, state.pinned !== null);
  if (scrolled) $("panel").scrollTop = scroll;
  scrolled = scroll > 0;
}
const NONE = new Set();
const marks = ways => new Set(ways.flatMap(way => way.edges));

function sentence(step, i) {
  if (i < 0) return data.doctor ? "Nothing is computed yet; the marks are the doctor's." : "Nothing is computed yet, but for the leaves, which are given.";
  const name = model.label(i), value = model.valueText(i);
  if (!model.isBackward(step)) return model.op[i] < 0 ? `${name} is given: ${value}` : `${name} = ${value}, computed from ${listed(model.into(i).map(e => model.label(model.parent[e])))}`;
  const grad = model.gradText(i, step), start = i === model.output ? `${name} starts with gradient 1` : `the gradient of ${name} is complete: ${grad}`;
  if (model.op[i] < 0) return start;
  return `${start}; it hands its share to ${listed(model.into(i).map(e => model.label(model.parent[e])))}`;
}
function listed(names) {
  const unique = [...new Set(names)];
  return unique.length > 4 ? `${unique.slice(0, 3).join(", ")} and ${unique.length - 3} more` : unique.join(" and ");
}

let waiting = 0;
function address() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const parts = [`step=${state.step}`];
    if (state.level !== data.start) parts.push(`view=${state.level}`);
    if (state.pinned !== null) parts.push(`${state.pinned < 0 ? "group" : "node"}=${called(state.pinned)}`);
    if (picture.open.size) parts.push(`open=${[...picture.open].map(called).join(",")}`);
    const edited = model.edited();
    if (edited.length && edited.length <= 50) parts.push(`set=${edited.map(i => `${called(i)}:${model.value[i]}`).join(",")}`);
    try { history.replaceState(null, "", "#" + parts.join("&")); } catch { /* a frame without an address of its own */ }
  }, 120);
}

function readAddress() {
  const given = {};
  for (const part of location.hash.slice(1).split("&")) {
    const [key, text = ""] = part.split("=");
    given[key] = text;
  }
  const plain = text => { try { return decodeURIComponent(text); } catch { return text; } };
  if (given.view && data.levels.some(level => level.name === given.view)) state.level = given.view;
  for (const name of (given.open || "").split(",").filter(Boolean)) {
    const k = groupNamed(plain(name));
    if (k >= 0 && data.groups[k].view >= 0) picture.open.add(-1 - k);
  }
  if (model.live) for (const pair of (given.set || "").split(",").filter(Boolean)) {
    const cut = pair.lastIndexOf(":"), i = named(plain(pair.slice(0, cut))), x = Number(pair.slice(cut + 1));
    if (i >= 0 && model.op[i] < 0 && x === x) model.value[i] = x;
  }
  if (model.live && given.set) model.run();
  if (given.step !== undefined && Number.isFinite(Number(given.step))) state.step = clamp(Math.round(Number(given.step)), 0, model.steps);
  if (given.node !== undefined) { const i = named(plain(given.node)); if (i >= 0) state.pinned = i; }
  if (given.group !== undefined) { const k = groupNamed(plain(given.group)); if (k >= 0) state.pinned = -1 - k; }
}
// A node or a group in an address: its name, or @ and its number where others have the name too
function called(id) {
  const [name, found, place] = id < 0 ? [data.groups[-1 - id].name, groupNamed, -1 - id] : [model.label(id), named, id];
  return found(name) === place ? encodeURIComponent(name) : `@${place}`;
}
function numbered(name, count) { return /^@\d+$/.test(name) && Number(name.slice(1)) < count ? Number(name.slice(1)) : -1; }
function named(name) {
  for (let i = 0; i < model.count; i++) if (model.label(i) === name) return i;
  return numbered(name, model.count);
}
function groupNamed(name) {
  const k = data.groups.findIndex(group => group.name === name);
  return k >= 0 ? k : numbered(name, data.groups.length);
}

// --- what can be done ---

function go(step, smooth = true) {
  state.step = clamp(step, 0, model.steps);
  render(true);
  const current = model.current(state.step);
  if (state.follow && current >= 0) picture.follow(current, smooth && !still.matches);
}
function walk(by) { stop(); state.pinned = null; go(state.step + by); }
function pin(id, look) {
  state.pinned = id;
  render();
  if (look && id !== null) id >= 0 ? picture.follow(id, !still.matches) : null;
}
function setLevel(level) {
  state.level = level;
  picture.draw(level);
  for (const button of $("levels").children) button.setAttribute("aria-pressed", button.dataset.level === level);
  picture.selected = null;
  render();
  picture.begin();
  const target = state.pinned ?? model.current(state.step);
  if (state.follow && target >= 0) picture.follow(target, false);
}
function fold(id) {
  const group = data.groups[-1 - id];
  if (group.view < 0) { pin(id); return; }
  picture.open.has(id) ? picture.open.delete(id) : picture.open.add(id);
  picture.draw(state.level);
  picture.selected = null;
  if (state.pinned !== null && state.pinned < 0 && !picture.partOf.has(state.pinned)) panel.id = null;
  render();
  const shape = picture.at.frames.find(frame => frame.id === id);
  const target = shape ? { x: shape.x + shape.w / 2, y: shape.y + shape.h / 2, w: shape.w, h: shape.h } : picture.partOf.get(id)?.box;
  if (!target) return picture.fit();
  const { width, height } = picture.room(), k = clamp(Math.min((width - 60) / target.w, (height - 80) / target.h), 0.25, shape ? 1.3 : 1);
  picture.look({ x: width / 2 - k * target.x, y: height / 2 - k * target.y, k }, !still.matches);
}
function change(leaf, x, settle = true) {
  if (!model.live || x !== x) return;
  model.set(leaf, x);
  picture.weigh();
  if (settle) render();
  else { picture.show(state.step); address(); }
}
function play() {
  if (state.playing) return stop();
  if (state.step >= model.steps) state.step = 0;
  state.pinned = null;
  let before = performance.now(), owed = 0;
  const speed = () => SPEEDS[$("speed").value];
  const tick = now => {
    if (!state.playing) return;
    owed += (now - before) / 1000 * speed();
    before = now;
    const steps = Math.floor(owed);
    if (steps) {
      owed -= steps;
      go(state.step + steps, speed() <= 4);
      if (state.step >= model.steps) return stop();
    }
    state.playing = requestAnimationFrame(tick);
  };
  state.playing = requestAnimationFrame(tick);
  go(state.step + 1);
}
function stop() { if (state.playing) cancelAnimationFrame(state.playing); state.playing = 0; $("play").textContent = "▶"; $("play").setAttribute("aria-label", "play"); }

// From box to box: along arrows, or up and down among those at the same distance from the left
function neighbour(way) {
  const parts = picture.parts, at = picture.partOf.get(picture.selected)?.box || parts[0].box;
  let best = null, least = Infinity;
  for (const { box } of parts) {
    if (box === at) continue;
    const dx = box.x - at.x, dy = box.y - at.y;
    const along = { left: -dx, right: dx, up: -dy, down: dy }[way], across = way === "left" || way === "right" ? Math.abs(dy) : Math.abs(dx);
    if (along <= 1) continue;
    const cost = along + 3 * across;
    if (cost < least) { least = cost; best = box; }
  }
  if (!best) return;
  pin(best.id);
  const part = picture.partOf.get(best.id);
  picture.follow(best.id < 0 ? part.members[0] : best.id, !still.matches);
  part.el.focus({ preventScroll: true });
}

const KEYS = {
  ArrowRight: () => walk(1), ArrowLeft: () => walk(-1), PageDown: () => walk(10), PageUp: () => walk(-10),
  Home: () => walk(-Infinity), End: () => walk(Infinity), " ": play, m: () => { stop(); state.pinned = null; go(model.count); },
  "+": () => picture.zoom(1.25), "=": () => picture.zoom(1.25), "-": () => picture.zoom(0.8), 0: () => { follow(false); picture.fit(); },
  f: () => follow(!state.follow), j: () => $("jump").focus(), "/": () => $("jump").focus(), "?": () => $("help").showModal(),
  o: () => { const id = picture.selected ?? null; if (id !== null && id < 0) fold(id); else closeAround(id); },
  Escape: () => { stop(); state.pinned = null; render(); }, d: theme, b: () => $("doctor").hidden || $("doctor").click(),
};
// The group to close around a node: the innermost open one, or at the finest level its neuron
function around(id) {
  const size = g => data.groups[-1 - g].all.length;
  const holding = [...picture.open].filter(g => picture.at.frames.some(frame => frame.id === g) && data.groups[-1 - g].all.includes(id)).sort((x, y) => size(x) - size(y));
  if (holding.length) return holding[0];
  const neurons = data.levels.find(level => level.name === "neurons");
  if (state.level !== data.levels[data.levels.length - 1].name || !neurons) return null;
  return data.views[neurons.view].boxes.find(box => box < 0 && data.groups[-1 - box].view >= 0 && data.groups[-1 - box].all.includes(id)) ?? null;
}
function closeAround(id) {
  const group = id === null ? null : around(id);
  if (group === null) return;
  if (state.pinned !== null) state.pinned = group;
  if (picture.open.has(group) && picture.at.frames.some(frame => frame.id === group)) return fold(group);
  const { view } = data.levels.find(level => level.name === "neurons");  // its neuron closed, and all others open
  picture.open = new Set(data.views[view].boxes.filter(box => box < 0 && box !== group));
  setLevel("neurons");
}
function follow(on) {
  state.follow = on;
  $("follow").setAttribute("aria-pressed", on);
  const current = model.current(state.step);
  if (on && current >= 0) picture.follow(current, !still.matches);
}
function theme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const at = event.target;
  if (at.matches("input:not([type=range]), select, textarea") || (at.dataset?.leaf && at.type === "range")) {
    if (event.key === "Escape") at.blur();
    return;
  }
  if (event.key === " " && at.matches("button:not(.box)")) return;
  if (event.key === "Enter" && at.closest(".box")) { const id = Number(at.closest(".box").dataset.box); id < 0 ? fold(id) : pin(id); event.preventDefault(); return; }
  if (event.shiftKey && event.key.startsWith("Arrow")) { neighbour(event.key.slice(5).toLowerCase()); event.preventDefault(); return; }
  const level = data.levels[Number(event.key) - 1];
  if (level && event.key !== "0") { setLevel(level.name); event.preventDefault(); return; }
  const act = KEYS[event.key];
  if (act) { act(); event.preventDefault(); }
});

for (const [id, act] of [["first", () => walk(-Infinity)], ["back", () => walk(-1)], ["next", () => walk(1)], ["last", () => walk(Infinity)], ["middle", KEYS.m],
  ["play", play], ["follow", () => follow(!state.follow)], ["fit", KEYS["0"]], ["closer", KEYS["+"]], ["further", KEYS["-"]], ["theme", theme],
  ["keys", () => $("help").showModal()]]) $(id).addEventListener("click", act);
$("slider").max = model.steps;
$("slider").addEventListener("input", event => { stop(); state.pinned = null; go(Number(event.target.value), false); });
$("jump").addEventListener("change", event => {
  const i = named(event.target.value.trim());
  $("jump").setCustomValidity(i < 0 && event.target.value ? "no node has this name" : "");
  $("jump").reportValidity();
  if (i < 0) return;
  stop();
  pin(i, true);
  event.target.value = "";
  picture.partOf.get(picture.boxOf.get(i)?.id)?.el.focus({ preventScroll: true });
});
{
  const names = [];
  for (let i = 0; i < model.count && names.length < 3000; i++) if (data.named.has(i) || model.count <= 3000) names.push(model.label(i));
  $("names").innerHTML = names.map(name => `<option value="${esc(name)}">`).join("");
  if (data.levels.length > 1) $("levels").innerHTML = data.levels.map((level, k) => `<button data-level="${esc(level.name)}" title="key ${k + 1}">${esc(level.name)}</button>`).join("");
  $("levels").hidden = data.levels.length < 2;
  $("levels").addEventListener("click", event => { if (event.target.dataset.level) setLevel(event.target.dataset.level); });
  $("doctor").hidden = !data.doctor;
  $("doctor").addEventListener("click", () => {
    stop();
    const first = data.doctor.causes.flatMap(cause => cause.nodes)[0];
    if (first !== undefined) pin(first, true);
    $("panel").innerHTML = panel.doctor();
    panel.id = undefined;
  });
}

$("panel").addEventListener("click", event => {
  const at = event.target.closest("[data-go], [data-way], [data-put], #undo, #fold, #close");
  if (!at) return;
  if (at.id === "undo") { for (const i of model.edited()) model.value[i] = model.recorded[i]; model.run(); picture.weigh(); render(); }
  else if (at.id === "close") closeAround(Number(at.dataset.node));
  else if (at.id === "fold") fold(Number(at.dataset.box));
  else if (at.dataset.put !== undefined) change(Number(at.dataset.leaf), Number(at.dataset.put));
  else if (at.dataset.way !== undefined) {
    const k = Number(at.dataset.way);
    panel.way = panel.way === k ? undefined : k;
    picture.show(state.step, { heavy: panel.way === undefined ? NONE : marks([panel.ways[k]]) });
    for (const button of $("panel").querySelectorAll("[data-way]")) button.setAttribute("aria-pressed", Number(button.dataset.way) === panel.way);
  } else { stop(); pin(Number(at.dataset.go), true); }
});
$("panel").addEventListener("input", event => {
  const leaf = event.target.dataset.leaf;
  if (leaf === undefined || event.target.value === "") return;
  const keep = event.target, x = Number(keep.value);
  change(Number(leaf), x, keep.type !== "range");
  if (keep.type === "range") {  // a slider that is redrawn would be lost to the hand that holds it
    const other = $("panel").querySelector(`input[type=number][data-leaf="${leaf}"]`);
    if (other) other.value = x;
    refreshNumbers();
  }
});
$("panel").addEventListener("change", event => { if (event.target.type === "range") render(); });
let refreshing = 0;
function refreshNumbers() {
  cancelAnimationFrame(refreshing);
  refreshing = requestAnimationFrame(() => {
    const section = $("panel").querySelector(".effects"), text = panel.effects();
    if (section) section.outerHTML = text;
    else $("panel").querySelector(".whatif")?.insertAdjacentHTML("afterend", text);
  });
}

// --- pointer ---

const tip = $("tip");
function edgeText(line) {
  const { edges } = line.arrow, step = state.step;
  if (edges.length === 1 && model.scalar) {
    const e = edges[0], child = model.child[e], name = `${model.label(model.parent[e])} → ${model.label(child)}`;
    if (!model.computed(child, step)) return `${name}: not yet computed`;
    const local = long(model.local[e]);
    return model.handed(child, step) ? `${name}\nlocal × upstream = contribution\n${local} × ${long(model.adjoint[child])} = ${long(model.contribution[e])}` : `${name}\nlocal derivative ${local}; upstream not yet known`;
  }
  if (edges.length === 1) { const e = edges[0]; return `${model.label(model.parent[e])} → ${model.label(model.child[e])}\n${data.locals[e]}` + (model.handed(model.child[e], step) ? `\ncontribution ${data.parts[e]}` : ""); }
  const total = line.derivative === null || line.arrow.head >= 0 ? "" : `total derivative through ${picture.boxName(line.arrow.head)}: ${long(line.derivative)}\n`;
  const done = edges.filter(e => model.handed(model.child[e], step));
  return `${total}${edges.length.toLocaleString("en")} edges` + (done.length ? `, ${done.length.toLocaleString("en")} have carried a contribution; norm ${long(model.weight(done))}` : "");
}
$("picture").addEventListener("pointermove", event => {
  const arrow = event.target.closest?.(".arrow");
  if (!arrow || dragging) { tip.hidden = true; return; }
  tip.textContent = edgeText(picture.lines[Number(arrow.dataset.arrow)]);
  tip.hidden = false;
  const { width } = document.body.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, width - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 16}px`;
});
$("picture").addEventListener("pointerleave", () => { tip.hidden = true; });
let dragging = null;
const fingers = new Map();
$("picture").addEventListener("pointerdown", event => {
  if (event.button) return;
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  dragging = { x: event.clientX, y: event.clientY, camera: { ...picture.camera }, far: false, target: event.target };
});
addEventListener("pointermove", event => {
  if (!dragging) return;
  if (fingers.size === 2 && fingers.has(event.pointerId)) {
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1], mine = fingers.get(event.pointerId), room = picture.room();
    const before = Math.hypot(mine[0] - other[0], mine[1] - other[1]), after = Math.hypot(event.clientX - other[0], event.clientY - other[1]);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    picture.zoom(after / Math.max(before, 1), other[0] - room.left, other[1] - room.top);
    dragging.far = true;
    return;
  }
  const dx = event.clientX - dragging.x, dy = event.clientY - dragging.y;
  if (!dragging.far && Math.hypot(dx, dy) < 5) return;
  dragging.far = true;
  $("picture").classList.add("dragging");
  picture.look({ x: dragging.camera.x + dx, y: dragging.camera.y + dy, k: dragging.camera.k });
});
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, event => {
  fingers.delete(event.pointerId);
  if (!dragging) return;
  const { far, target } = dragging;
  dragging = null;
  $("picture").classList.remove("dragging");
  if (far || kind === "pointercancel") return;
  const fold_ = target.closest?.(".fold"), box = target.closest?.("[data-box]");
  stop();
  if (fold_) fold(Number(box.dataset.box));
  else if (box) { pin(Number(box.dataset.box)); picture.partOf.get(Number(box.dataset.box))?.el.focus({ preventScroll: true }); }
  else { state.pinned = null; render(); }
});
$("picture").addEventListener("focusin", event => {
  const box = event.target.closest?.(".box");
  if (box && Number(box.dataset.box) !== state.pinned && !dragging && box.matches(":focus-visible")) { stop(); pin(Number(box.dataset.box)); }
});
$("picture").addEventListener("dblclick", event => { const box = event.target.closest?.("[data-box]"); if (box && Number(box.dataset.box) < 0) fold(Number(box.dataset.box)); });
$("picture").addEventListener("wheel", event => {
  event.preventDefault();
  const { left, top } = picture.room();
  if (event.ctrlKey || !event.shiftKey) picture.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.clientX - left, event.clientY - top);
}, { passive: false });
$("map").addEventListener("pointerdown", event => {
  const svg = $("map").querySelector("svg"), point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const { width, height } = picture.room(), { k } = picture.camera;
  picture.look({ x: width / 2 - k * point.x, y: height / 2 - k * point.y, k }, !still.matches);
});
let lastRoom = "";
new ResizeObserver(() => {
  picture.size = null;
  const { width, height } = picture.room(), now = `${width} ${height}`;
  if (lastRoom && now !== lastRoom) { const current = model.current(state.step); if (state.follow && current >= 0) picture.follow(current, false); else picture.fit(false); }
  lastRoom = now;
}).observe($("picture"));
addEventListener("hashchange", () => { state.pinned = null; readAddress(); setLevel(state.level); });
let before = null;
addEventListener("beforeprint", () => { before = { ...picture.camera }; picture.size = null; picture.fit(false); });
addEventListener("afterprint", () => { picture.size = null; if (before) picture.look(before); });

readAddress();
setLevel(state.level);
document.body.dataset.ready = Math.round(performance.now());  // ms since the page was asked for
