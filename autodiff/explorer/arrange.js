// Where everything goes: a view of the page with any of its groups opened in place.
// An opened group needs room. Space is stretched where it stands, and everything else keeps its order: whatever passed
// above it still does, and lines bend with the space they are drawn in.
const FRAME = { side: 46, top: 38, bottom: 18 };

// x -> where x goes, when every interval [from, to, extra] grows by at least its extra
function stretched(intervals) {
  const cuts = [...new Set(intervals.flatMap(([from, to]) => [from, to]))].sort((x, y) => x - y);
  const ends = [0];
  const slopes = [];
  for (let k = 0; k + 1 < cuts.length; k++) {
    const slope = Math.max(0, ...intervals.filter(([from, to]) => from <= cuts[k] && cuts[k + 1] <= to).map(([from, to, extra]) => extra / (to - from)));
    slopes.push(slope);
    ends.push(ends[k] + slope * (cuts[k + 1] - cuts[k]));
  }
  return x => {
    let k = 0;
    while (k < slopes.length && cuts[k + 1] <= x) k++;
    if (!cuts.length || x <= cuts[0]) return x;
    return k >= slopes.length ? x + ends[k] : x + ends[k] + slopes[k] * (x - cuts[k]);
  };
}

// {boxes, arrows, frames, width, height} of a view, all in its own coordinates
function arranged(data, model, number, isOpen) {
  const view = data.views[number];
  const place = new Map();  // node -> which box of this view it is in
  const base = view.boxes.map((id, k) => {
    const members = id < 0 ? data.groups[-1 - id].all : [id];
    for (const node of members) place.set(node, k);
    const [x, y, w, h] = view.at.slice(4 * k, 4 * k + 4);
    const inner = id < 0 && isOpen(id) && data.groups[-1 - id].view >= 0
      ? arranged(data, model, data.groups[-1 - id].view, isOpen) : null;
    return {
      id, x, y, w, h, inner, name: view.names[k] || (id < 0 ? data.groups[-1 - id].name : model.label(id)), tag: view.tags[k],
      W: inner ? inner.width + 2 * FRAME.side : w,
      H: inner ? inner.height + FRAME.top + FRAME.bottom : h,
    };
  });
  const opened = base.filter(box => box.inner);
  const toX = stretched(opened.map(box => [box.x - box.w / 2, box.x + box.w / 2, Math.max(box.W - box.w, 0)]));
  const toY = stretched(opened.map(box => [box.y - box.h / 2, box.y + box.h / 2, Math.max(box.H - box.h, 0)]));
  for (const box of base) {
    box.X = (toX(box.x - box.w / 2) + toX(box.x + box.w / 2)) / 2;
    box.Y = (toY(box.y - box.h / 2) + toY(box.y + box.h / 2)) / 2;
  }
  const port = (box, y) => box.Y + (y - box.y) * (box.inner ? box.H / box.h : 1);

  // Which edges of the graph an arrow stands for
  const arrows = [];
  const between = new Map();
  for (let k = 0; k < view.curves.length; k++) {
    const [tail, head] = view.arrows.slice(2 * k, 2 * k + 2);
    const arrow = { tail: base[tail], head: base[head], edges: [], curve: walked(view.curves[k]), label: view.labels.slice(2 * k, 2 * k + 2) };
    arrows.push(arrow);
    const key = tail * base.length + head;
    if (!between.has(key)) between.set(key, []);
    between.get(key).push(arrow);
  }
  const seen = new Map();
  for (const [node, head] of place)
    for (let e = model.intoStart[node]; e < model.intoStart[node + 1]; e++) {
      const tail = place.get(model.parent[e]);
      if (tail === undefined || tail === head) continue;
      const key = tail * base.length + head, those = between.get(key) || [];
      const turn = those.length > 1 ? seen.get(key) || 0 : 0;  // x * x has two arrows
      seen.set(key, turn + 1);
      those[Math.min(turn, those.length - 1)]?.edges.push(e);
    }
  const found = { boxes: [], arrows: [], frames: [], width: toX(view.size[0]), height: toY(view.size[1]) };
  for (const arrow of arrows) {
    const c = arrow.curve, last = c.length - 2, points = [];
    for (let k = 0; k < c.length; k += 2) points.push(toX(c[k]), toY(c[k + 1]));
    const start = [arrow.tail.X + arrow.tail.W / 2, port(arrow.tail, c[1])];
    const end = [arrow.head.X - arrow.head.W / 2, port(arrow.head, c[last + 1])];
    arrow.start = start;
    arrow.end = end;
    let path = `M${fixed(start)}`;
    if (Math.hypot(points[0] - start[0], points[1] - start[1]) > 2) path += joint(start, points);
    else { points[0] = start[0]; points[1] = start[1]; }
    const far = Math.hypot(points[last] - end[0], points[last + 1] - end[1]) > 2;
    if (!far) { points[last] = end[0] - 7; points[last + 1] = end[1]; }
    for (let k = 2; k < points.length; k += 6) path += `C${fixed(points.slice(k, k + 6))}`;
    if (far) path += joint(points.slice(last), [end[0] - 7, end[1]]);
    found.arrows.push({
      edges: arrow.edges, path, end, tail: arrow.tail.id, head: arrow.head.id,
      label: [toX(arrow.label[0]), toY(arrow.label[1])],
    });
  }
  for (const box of base) {
    if (!box.inner) {
      found.boxes.push({ ...box, x: box.X, y: box.Y });
      continue;
    }
    const left = box.X - box.W / 2, top = box.Y - box.H / 2;
    const dx = left + FRAME.side, dy = top + FRAME.top;
    found.frames.push({ id: box.id, x: left, y: top, w: box.W, h: box.H });
    for (const inner of box.inner.boxes) found.boxes.push({ ...inner, x: inner.x + dx, y: inner.y + dy });
    for (const frame of box.inner.frames) found.frames.push({ ...frame, x: frame.x + dx, y: frame.y + dy });
    for (const arrow of box.inner.arrows) found.arrows.push(moved(arrow, dx, dy));
    // What crosses the frame runs on to the boxes inside
    const inside = new Map();
    for (const one of box.inner.boxes)
      for (const node of one.id < 0 ? data.groups[-1 - one.id].all : [one.id]) inside.set(node, one);
    for (const arrow of arrows) {
      const into = arrow.head === box;
      if (!into && arrow.tail !== box) continue;
      const ends = new Map();
      for (const e of arrow.edges) {
        const target = inside.get(into ? model.child[e] : model.parent[e]);
        if (!ends.has(target)) ends.set(target, []);
        ends.get(target).push(e);
      }
      for (const [target, edges] of ends) {
        const y = target.y + dy;
        const from = into ? arrow.end : [target.x + dx + target.w / 2, y];
        const to = into ? [target.x + dx - target.w / 2, y] : arrow.start;
        found.arrows.push({ edges, path: `M${fixed(from)}` + joint(from, [to[0] - (into ? 7 : 0), to[1]]), end: into ? to : null, label: null, stub: true });
      }
    }
  }
  return found;
}

function moved(arrow, dx, dy) {
  const shift = (text, at) => Number(text) + (at % 2 ? dy : dx);
  const path = arrow.path.replace(/[MC][^MC]*/g, part => part[0] + part.slice(1).split(" ").map(shift).map(x => x.toFixed(1)).join(" "));
  return {
    ...arrow, path,
    end: arrow.end && [arrow.end[0] + dx, arrow.end[1] + dy],
    label: arrow.label && [arrow.label[0] + dx, arrow.label[1] + dy],
  };
}

// A curve that is written down as steps from point to point
function walked(steps) {
  const found = [];
  steps.forEach((step, k) => { found.push(k < 2 ? step : found[k - 2] + step); });
  return found;
}

const fixed = numbers => numbers.map(x => x.toFixed(1)).join(" ");

// An S-curve that leaves and arrives level
function joint([x0, y0], [x1, y1]) {
  const bend = Math.max(Math.abs(x1 - x0) / 2, 1) * Math.sign(x1 - x0 || 1);
  return `C${fixed([x0 + bend, y0, x1 - bend, y1, x1, y1])}`;
}
