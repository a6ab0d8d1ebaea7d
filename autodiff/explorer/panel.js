// The panel beside the picture: what the chosen node is, the receipt of its gradient, what-if, and the doctor.
const math = (inner, block) => `<math${block ? ' display="block"' : ""}>${inner}</math>`;
const figure = (x, bracket) => {
  const text = long(x), [mantissa, exponent] = text.split("e");
  const sign = mantissa.startsWith("−");
  const digits = `<mn>${mantissa.replace("−", "")}</mn>` + (exponent === undefined ? "" : `<mo>⋅</mo><msup><mn>10</mn>${exponent.startsWith("−") ? `<mrow><mo>−</mo><mn>${exponent.slice(1)}</mn></mrow>` : `<mn>${exponent}</mn>`}</msup>`);
  const whole = (sign ? '<mo form="prefix">−</mo>' : "") + digits;
  return sign && bracket ? fenced(whole) : `<mrow>${whole}</mrow>`;
};
const fenced = inner => `<mrow><mo form="prefix">(</mo>${inner}<mo form="postfix">)</mo></mrow>`;
const row = (left, relation, right) => `<mtr><mtd class="left">${left}</mtd><mtd>${relation && `<mo>${relation}</mo>`}</mtd><mtd class="right">${right}</mtd></mtr>`;
const bareText = formula => formula.replace(/<[^>]*>/g, "");
const ATOM = 4, PRODUCT = 2, SUM = 1;

class Panel {
  constructor(data, model, root, actions) { Object.assign(this, { data, model, root, actions }); }

  // {m: MathML, binds: how tightly it holds together} of a node's symbol
  symbol(i) {
    const m = this.data.formulas[i];
    if (m !== undefined) return { m, binds: this.data.binds[i] ?? ATOM };
    const operation = this.data.operations[this.model.op[i]];
    if (i in this.data.labels && this.data.spelled && operation?.y) {  // it is called by its formula
      return { m: this.filled(operation.y, i).m, binds: operation.binds };
    }
    if (i in this.data.labels) return { m: `<mtext>${esc(this.data.labels[i])}</mtext>`, binds: ATOM };
    return { m: `<msub><mi>${this.data.letter}</mi><mn>${i}</mn></msub>`, binds: ATOM };
  }

  // A formula of the table with the symbols of a node's operands in their places
  filled(template, i) {
    const { model } = this, side = this.data.operations[model.op[i]].side, e = model.intoStart[i];
    const of = {
      y: () => this.symbol(i),
      a: () => this.symbol(model.parent[e]),
      b: () => this.symbol(model.parent[e + 1]),
      c: () => ({ m: figure(model.constant[i]), binds: model.constant[i] < 0 ? SUM : ATOM }),
    };
    const alone = /^\{([yabc])\d\}$/.exec(template);
    if (alone) return of[alone[1]]();
    const m = template.replace(/\{([yabc])(\d)\}/g, (_, letter, need) => {
      const { m, binds } = of[letter]();
      return binds < Number(need) ? fenced(m) : m;
    });
    return { m, binds: null };
  }

  equation(i) {
    const operation = this.data.operations[this.model.op[i]];
    if (!operation || !operation.y) return "";
    return this.filled(operation.y, i).m;
  }

  // The local derivative of an edge in symbols
  local(e) {
    const child = this.model.child[e], operation = this.data.operations[this.model.op[child]];
    if (!operation.d) return null;
    const [template, binds] = operation.d[e - this.model.intoStart[child]];
    const found = this.filled(template, child);
    return { m: found.m, binds: found.binds ?? binds };
  }

  partial(below, above = this.model.output) {
    const part = i => { const { m, binds } = this.symbol(i); return `<mrow><mo>∂</mo>${binds < ATOM ? fenced(m) : m}</mrow>`; };
    return `<mfrac>${part(above)}${part(below)}</mfrac>`;
  }

  show(id, step, pinned) {
    this.id = id;
    this.ways = [];
    if (id === null) { this.root.innerHTML = this.welcome(); return; }
    const focus = document.activeElement?.dataset?.keep;
    this.root.innerHTML = id < 0 ? this.group(id, step) : this.node(id, step, pinned);
    if (focus) this.root.querySelector(`[data-keep="${focus}"]`)?.focus();
  }

  welcome() {
    const { data, model } = this;
    return `<h2>${esc(data.title)}</h2><p>${model.count.toLocaleString("en")} nodes, ${model.edges.toLocaleString("en")} edges. The forward pass computes a value at every node, the backward pass brings every node its gradient, the derivative of ${math(this.symbol(model.output).m)} with respect to it.</p>
    <p><kbd>→</kbd> one step, <kbd>←</kbd> a step back, <kbd>space</kbd> plays. Click a box for its receipt; <kbd>?</kbd> lists all keys.</p>` + this.notes() + this.doctor();
  }

  notes() {
    const { data, model } = this, notes = [];
    if (data.left_out) notes.push(esc(data.left_out));
    if (!model.scalar) notes.push("The nodes of this graph are arrays. Their numbers were computed in Python, so leaves cannot be changed here; the same code on <code>scalars(array)</code> makes a graph of numbers.");
    for (const [name, why] of model.missing) notes.push(`Leaves cannot be changed here: the operation <b>${esc(name)}</b> has no JavaScript, for ${esc(why)}.`);
    if (model.live) {
      const { worst, where } = model.drift();
      if (worst > 1e-9) notes.push(`<b>The numbers that Python recorded are others than these</b>: at ${esc(model.label(where))} by ${short(worst)} of their size. Leaves were changed after the forward pass, or a jump such as that of mod or floor lies within rounding.`);
    }
    return notes.map(note => `<p class="note">${note}</p>`).join("");
  }

  node(i, step, pinned) {
    const { model, data } = this, symbol = this.symbol(i);
    const kind = i === model.output ? "the output" : model.op[i] >= 0 ? `operation ${esc(data.operations[model.op[i]].row)}` : data.isParameter.has(i) ? "a parameter" : "an input";
    const equation = this.equation(i), sum = model.gathered(i, step);
    const shape = model.scalar ? "" : ` <span class="faint">${esc(data.shapes[i])}</span>`;
    let text = `<h2>${math(symbol.m)} <small>${kind}${shape}${pinned ? "" : " · this step"}</small></h2>`;
    const group = this.actions.around(i);
    if (group !== null) text += `<p class="within">in ${esc(data.groups[-1 - group].name)} <button id="close" data-node="${i}">Collapse it</button></p>`;
    const same = bareText(equation) === bareText(symbol.m), whole = data.equations[i];
    const sides = [whole, same || (whole && bareText(whole) === bareText(equation)) ? "" : equation].filter(Boolean);
    if (model.computed(i, step)) sides.push(model.scalar ? figure(model.value[i]) : `<mtext>${esc(data.shown[i])}</mtext>`);
    const long_ = (whole?.match(/<m[ino][ >]/g) || []).length > 24;
    text += `<div class="formula${long_ ? " wide" : ""}">${sides.length > 1 ? math(`<mtable displaystyle="true">${sides.map((side, k) => row(k ? "" : symbol.m, "=", side)).join("")}</mtable>`, true)
      : math(symbol.m + sides.map(side => `<mo>=</mo>${side}`).join(""), true)}</div>`;
    text += this.claim(i);
    if (model.op[i] < 0 && model.live) text += this.whatIf(i) + this.effects();
    if (model.op[i] < 0 && !model.live) text += this.notes();
    text += `<h3>Its gradient: the total derivative</h3>`;
    text += i === model.output ? `<div class="formula">${math(this.partial(i) + "<mo>=</mo><mn>1</mn>", true)}</div><p>Backward starts here, with 1.</p>` : this.receipt(i, step, sum);
    if (model.op[i] >= 0) text += this.handsOn(i, step);
    if (i !== model.output && model.scalar) text += `<div id="paths">${this.paths(i)}</div>`;
    return model.op[i] < 0 ? text : text + this.effects();
  }

  receipt(i, step, sum) {
    const { model } = this, edges = model.from(i), many = edges.length > 6;
    const listed = many ? [...edges.slice(0, 3), null, ...edges.slice(-2)] : edges;
    const arrived = e => model.handed(model.child[e], step);
    if (!model.scalar) return this.arrayReceipt(i, step, edges, sum);
    const symbols = listed.map(e => {
      if (e === null) return "<mo>⋯</mo>";
      const local = this.local(e);
      return `${this.partial(model.child[e])}<mo>⋅</mo>${local.binds < PRODUCT ? fenced(local.m) : local.m}`;
    });
    const numbers = listed.map((e, k) => e === null ? "<mo>⋯</mo>" : !arrived(e) ? '<mtext class="waits">…</mtext>'
      : `${figure(model.adjoint[model.child[e]], k > 0)}<mo>⋅</mo>${figure(model.local[e], true)}`);
    let rows = "";
    symbols.forEach((term, k) => { rows += row(k ? "" : this.partial(i), k ? "+" : "=", term); });
    if (numbers.length === 1) rows += row("", "=", numbers.join("<mo>+</mo>"));
    else numbers.forEach((term, k) => { rows += row("", k ? "+" : "=", term); });
    const done = sum.arrived === sum.all;
    rows += row("", "=", done ? `<mrow class="total">${figure(sum.sum)}</mrow>` : sum.arrived ? `${figure(sum.sum)}<mtext> so far</mtext>` : '<mtext class="waits">not yet</mtext>');
    return `<div class="formula receipt">${math(`<mtable displaystyle="true">${rows}</mtable>`, true)}</div>` + this.table(
      ["child", "upstream", "local", "contribution"], listed.map(e => e === null ? null : {
        target: model.child[e], waits: !arrived(e), edge: e,
        cells: [math(this.symbol(model.child[e]).m), arrived(e) ? long(model.adjoint[model.child[e]]) : "waits",
          model.computed(model.child[e], step) ? long(model.local[e]) : "–", arrived(e) ? long(model.contribution[e]) : ""],
      }), edges.length - listed.length + (many ? 1 : 0), [done ? "sum" : `sum of ${sum.arrived} of ${sum.all}`, "", "", sum.arrived ? long(sum.sum) : "–"]);
  }

  arrayReceipt(i, step, edges, sum) {
    const { model, data } = this, arrived = e => model.handed(model.child[e], step);
    return this.table(["child", "local", "contribution"], edges.map(e => ({
      target: model.child[e], waits: !arrived(e), edge: e,
      cells: [math(this.symbol(model.child[e]).m), esc(data.locals[e]), arrived(e) ? esc(data.parts[e]) : "waits"],
    })), 0, ["sum", "", esc(model.gradText(i, step))]);
  }

  handsOn(i, step) {
    const { model } = this, done = model.handed(i, step);
    if (!model.scalar) return "";
    return `<h3>What it hands to its operands</h3>` + this.table(["operand", "local", "", "contribution"], model.into(i).map(e => ({
      target: model.parent[e], edge: e, waits: !done,
      cells: [math(this.symbol(model.parent[e]).m), math(this.local(e).m), model.computed(i, step) ? long(model.local[e]) : "–", done ? long(model.contribution[e]) : "waits"],
    })), 0);
  }

  table(heads, rows, hidden, foot) {
    const line = row => row === null ? `<tr class="gap"><td colspan="${heads.length}">… ${hidden.toLocaleString("en")} more …</td></tr>`
      : `<tr data-go="${row.target}" data-edge="${row.edge ?? ""}" class="${row.waits ? "waits" : ""}">${row.cells.map((cell, k) => k ? `<td>${cell}</td>` : `<th scope="row"><button class="link" data-go="${row.target}">${cell}</button></th>`).join("")}</tr>`;
    return `<table><thead><tr>${heads.map(head => `<th scope="col">${head}</th>`).join("")}</tr></thead><tbody>${rows.map(line).join("")}</tbody>${foot ? `<tfoot><tr>${foot.map((cell, k) => k ? `<td>${cell}</td>` : `<th scope="row">${cell}</th>`).join("")}</tr></tfoot>` : ""}</table>`;
  }

  paths(i) {
    const { model } = this, ways = this.ways = model.heaviest(i, 3);
    if (!ways.length) return "";
    const list = ways.map((way, k) => {
      const names = [i, ...way.edges.map(e => model.child[e])];
      const shown = names.length > 6 ? [...names.slice(0, 3), null, ...names.slice(-2)] : names;
      return `<li><button class="link" data-way="${k}" aria-pressed="${this.way === k}">${shown.map(n => n === null ? "…" : math(this.symbol(n).m)).join(" → ")}</button> <span class="number">${long(way.product)}</span></li>`;
    });
    return `<h3>Its heaviest paths to the output</h3><ol class="paths">${list.join("")}</ol>`;
  }

  whatIf(i) {
    const { model } = this, x = model.value[i], base = model.recorded[i], reach = Math.max(1, 2 * Math.abs(base));
    const finite = Number.isFinite(base) ? base : 0;
    return `<fieldset class="whatif"><legend>What if it were …</legend>
      <input type="number" step="any" data-leaf="${i}" data-keep="number" aria-label="value of ${esc(model.label(i))}" value="${Number.isFinite(x) ? x : ""}">
      <button data-put="0" data-leaf="${i}">0</button><button data-put="${-x}" data-leaf="${i}">±</button><button data-put="${base}" data-leaf="${i}" ${Object.is(x, base) ? "disabled" : ""}>back to ${long(base)}</button>
      <input type="range" min="${finite - reach}" max="${finite + reach}" step="${reach / 200}" value="${x}" data-leaf="${i}" data-keep="range" aria-label="slide the value of ${esc(model.label(i))}"></fieldset>`;
  }

  // The total differential of all changes: predicted from the gradients at the start, against what happened
  effects() {
    const { model } = this, edited = model.edited();
    if (!edited.length) return "";
    const from = model.first.value[model.output], to = model.value[model.output];
    let predicted = 0;
    const rows = edited.map(i => {
      const step = model.value[i] - model.recorded[i], part = model.first.adjoint[i] * step;
      predicted += part;
      return { target: i, cells: [math(this.symbol(i).m), long(step), long(model.first.adjoint[i]), long(part)] };
    });
    const hidden = Math.max(0, rows.length - 8), y = this.symbol(model.output).m;
    return `<section class="effects"><h3>The total differential of the changes</h3>` +
      this.table(["changed", "step", math(`<mfrac><mrow><mo>∂</mo>${y}</mrow><mrow><mo>∂</mo><mo>·</mo></mrow></mfrac>`), "predicted"], hidden ? [...rows.slice(0, 8), null] : rows, hidden, ["sum", "", "", `<span id="predicted">${long(predicted)}</span>`]) +
      `<p>${math(y)}: ${long(from)} → <b>${long(to)}</b>; actual change <b id="actual">${long(to - from)}</b>, not predicted: ${long(to - from - predicted)}. <button id="undo">Undo all</button></p></section>`;
  }

  group(id, step) {
    const { model, data } = this, group = data.groups[-1 - id], open = this.actions.isOpen(id);
    const leaves = group.all.filter(i => model.op[i] < 0), outputs = group.outputs;
    const computed = group.all.filter(i => model.computed(i, step)).length, handed = group.all.filter(i => model.handed(i, step)).length;
    const button = group.view >= 0 ? `<p><button id="fold" data-box="${id}">${open ? "Close" : "Open in place"}</button> <kbd>o</kbd></p>` : `<p class="note">${esc(group.why || "")}</p>`;
    const list = (title, nodes) => nodes.length ? `<h3>${title}</h3>` + this.table(["node", "value", "gradient"], [...nodes.slice(0, 40).map(i => ({
      target: i, cells: [math(this.symbol(i).m), model.computed(i, step) ? model.valueText(i) : "–", model.gradText(i, step)],
    })), ...(nodes.length > 40 ? [null] : [])], nodes.length - 40) : "";
    return `<h2>${esc(group.name)} <small>a group of ${group.all.length.toLocaleString("en")} nodes</small></h2>${button}
      <p>${computed.toLocaleString("en")} computed, ${handed.toLocaleString("en")} have handed on their gradient. Its gradient is that of what others read from it, ${outputs.length.toLocaleString("en")} node${outputs.length > 1 ? "s" : ""}.</p>` +
      list("Others read", outputs) + list("Its leaves", leaves) + this.effects();
  }

  claim(i) {
    const doctor = this.data.doctor;
    if (!doctor) return "";
    let text = "";
    for (const cause of doctor.causes) if (cause.nodes.includes(i))
      text += `<div class="cause"><b>✗ ${esc(cause.place)}: ${cause === doctor.causes[0] ? "the first wrong step" : "wrong here"}.</b> ${esc(cause.message)}${this.details(cause)}</div>`;
    for (const [name, nodes] of doctor.inherited) if (nodes.includes(i)) text += `<p class="inherits">The claim for ${esc(name)} is wrong only because it inherits what came before.</p>`;
    const claim = doctor.claims.find(([node]) => node === i);
    if (claim) {
      const claimed = number(claim[1]), truth = this.model.adjoint[i], gap = claimed - truth;
      const agrees = Math.abs(gap) <= 1e-9 * Math.max(Math.abs(claimed), Math.abs(truth)) || gap === 0;
      text += `<p class="claim">Claimed ${long(claimed)}, true ${this.model.scalar ? long(truth) : "see the report"} ${!this.model.scalar ? "" : agrees ? "✓" : `<b>✗ off by ${long(gap)}</b>`}</p>`;
    }
    return text;
  }

  details(cause) { return cause.details.length ? `<dl>${cause.details.map(([what, said]) => `<dt>${esc(what)}</dt><dd>${esc(said)}</dd>`).join("")}</dl>` : ""; }

  doctor() {
    const doctor = this.data.doctor;
    if (!doctor) return "";
    const link = ([name, nodes]) => nodes.length ? `<button class="link" data-go="${nodes[0]}">${esc(name)}</button>` : esc(name);
    return `<h2>The doctor: ${esc(doctor.verdict || "claims")}</h2>` +
      doctor.causes.map(cause => `<div class="cause">${link([`✗ ${cause.place}`, cause.nodes])}: ${esc(cause.message)}${this.details(cause)}</div>`).join("") +
      (doctor.inherited.length ? `<p class="inherits">Inherits: ${doctor.inherited.map(link).join(", ")}</p>` : "") +
      (doctor.right.length ? `<p>Right, given what came before: ${doctor.right.map(link).join(", ")}</p>` : "") +
      doctor.notes.map(note => `<p class="note">${esc(note)}</p>`).join("");
  }
}
