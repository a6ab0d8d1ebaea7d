// The engine of the page: forward and backward over flat arrays, in the order and by the rules of the package.
const number = x => typeof x === "string" ? Number(x.replace("inf", "Infinity")) : x;

class Model {
  constructor(data, rows) {
    this.data = data;
    const n = this.count = data.count;
    this.scalar = data.scalar;
    this.op = Int32Array.from(data.op);
    const parents = data.parents || data.op.map((op, i) => op < 0 ? [] : data.b[i] < 0 ? [data.a[i]] : [data.a[i], data.b[i]]);
    this.intoStart = new Int32Array(n + 1);  // the edges into node i are intoStart[i] ... intoStart[i + 1] - 1
    const parent = [], child = [];
    parents.forEach((those, i) => {
      for (const p of those) { parent.push(p); child.push(i); }
      this.intoStart[i + 1] = parent.length;
    });
    this.parent = Int32Array.from(parent);
    this.child = Int32Array.from(child);
    this.edges = parent.length;
    // The edges out of every node, its last child first: the order in which the engine adds up
    this.outStart = new Int32Array(n + 1);
    for (const p of parent) this.outStart[p + 1]++;
    for (let i = 0; i < n; i++) this.outStart[i + 1] += this.outStart[i];
    this.out = new Int32Array(this.edges);
    const next = this.outStart.slice();
    for (let i = n - 1; i >= 0; i--)
      for (let e = this.intoStart[i]; e < this.intoStart[i + 1]; e++) this.out[next[parent[e]]++] = e;
    this.order = Int32Array.from(data.order);
    this.rank = new Int32Array(n);
    this.order.forEach((node, place) => { this.rank[node] = place; });
    this.local = new Float64Array(this.edges);
    this.contribution = new Float64Array(this.edges);
    this.adjoint = new Float64Array(n);
    this.output = n - 1;
    this.missing = Object.entries(data.missing);
    this.live = this.scalar && !this.missing.length;
    if (!this.scalar) {
      this.contribution = Float64Array.from(data.norms, number);
      return;
    }
    this.recorded = Float64Array.from(data.values, number);
    this.value = this.recorded.slice();
    this.rows = data.operations.map(o => rows[o.row]);
    this.constant = new Float64Array(n);
    for (const [node, c] of Object.entries(data.constants)) this.constant[node] = number(c);
    if (!this.live) this.local = Float64Array.from(data.locals, number);
    this.run();
    this.first = { value: this.value.slice(), adjoint: this.adjoint.slice() };
  }

  // All values, local derivatives and adjoints from the numbers of the leaves
  run() {
    const { value, local, adjoint, contribution, intoStart, parent, constant, data } = this;
    for (let i = 0; this.live && i < this.count; i++) {
      if (this.op[i] < 0) continue;
      const row = this.rows[this.op[i]], side = data.operations[this.op[i]].side, e = intoStart[i];
      let y, a, b;
      if (side === "left") { a = constant[i]; b = value[parent[e]]; }
      else { a = value[parent[e]]; b = side === "right" ? constant[i] : e + 1 < intoStart[i + 1] ? value[parent[e + 1]] : undefined; }
      y = value[i] = row.f(a, b);
      if (side === "left") local[e] = row.db(y, a, b);
      else {
        local[e] = row.da(y, a, b);
        if (e + 1 < intoStart[i + 1]) local[e + 1] = row.db(y, a, b);
      }
    }
    adjoint.fill(0);
    adjoint[this.output] = 1;
    for (let i = this.output; i >= 0; i--)
      for (let e = intoStart[i]; e < intoStart[i + 1]; e++) {
        contribution[e] = adjoint[i] * local[e];
        adjoint[parent[e]] += contribution[e];
      }
  }

  // The largest relative difference between what the page and what the package computed
  drift() {
    let worst = 0, where = -1;
    for (let i = 0; this.scalar && i < this.count; i++) {
      const x = this.first.value[i], y = this.recorded[i];
      if (x === y || (x !== x && y !== y)) continue;
      const gap = Math.abs(x - y) / Math.max(Math.abs(x), Math.abs(y), 1e-300);
      if (!(gap <= worst)) { worst = gap; where = i; }
    }
    return { worst, where };
  }

  set(leaf, x) { this.value[leaf] = x; this.run(); }
  edited() {
    const found = [];
    for (let i = 0; this.live && i < this.count; i++)
      if (this.op[i] < 0 && !Object.is(this.value[i], this.recorded[i])) found.push(i);
    return found;
  }

  // --- steps: 1 to N compute the nodes in order, N + 1 to 2 N hand on their adjoints, from the last to the first ---

  get steps() { return 2 * this.count; }
  current(step) { return step === 0 ? -1 : step <= this.count ? this.order[step - 1] : this.order[2 * this.count - step]; }
  isBackward(step) { return step > this.count; }
  computed(i, step) { return this.op[i] < 0 || this.rank[i] < step; }
  handed(i, step) { return step > this.count && 2 * this.count - step <= this.rank[i]; }
  stepOf(i, backward) { return backward ? 2 * this.count - this.rank[i] : this.rank[i] + 1; }

  // {sum, arrived, all} of the contributions that have come to a node, added in the engine's order
  gathered(i, step) {
    let sum = 0, arrived = 0;
    const from = this.outStart[i], to = this.outStart[i + 1];
    for (let k = from; k < to; k++) {
      const e = this.out[k];
      if (this.handed(this.child[e], step)) { sum += this.contribution[e]; arrived++; }
    }
    if (i === this.output) return this.isBackward(step) ? { sum: 1, arrived: 1, all: 1 } : { sum: 0, arrived: 0, all: 1 };
    return { sum, arrived, all: to - from };
  }
  into(i) { return range(this.intoStart[i], this.intoStart[i + 1]); }
  from(i) { return Array.from(this.out.subarray(this.outStart[i], this.outStart[i + 1])); }

  // --- texts ---

  label(i) { return this.data.labels[i] ?? this.data.letter + i; }
  valueText(i) { return this.scalar ? short(this.value[i]) : this.data.shown[i]; }
  gradText(i, step) {
    const { sum, arrived, all } = this.gathered(i, step);
    if (!arrived) return "–";
    if (this.scalar) return short(sum);
    return this.data.grads[i][Math.min(arrived, this.data.grads[i].length) - 1];
  }
  finite(i) { return !this.scalar || Number.isFinite(this.value[i]); }
  // 1, -1, 0, or 2 for both signs, of what some edges add together
  sign(edges) {
    if (!this.scalar) return edges.reduce((s, e) => s === 0 || s === this.data.signs[e] ? this.data.signs[e] : 2, 0);
    let above = false, below = false;
    for (const e of edges) { above ||= this.contribution[e] > 0; below ||= this.contribution[e] < 0; }
    return above && below ? 2 : above ? 1 : below ? -1 : 0;
  }
  weight(edges) {
    let largest = 0, sum = 0;
    for (const e of edges) largest = Math.max(largest, Math.abs(this.contribution[e]));
    if (!(largest > 0 && largest < Infinity)) return largest;
    for (const e of edges) sum += (this.contribution[e] / largest) ** 2;  // the squares alone could leave the floats
    return largest * Math.sqrt(sum);
  }

  // The k ways from a node to the output whose local derivatives have the largest product: [{edges, product}]
  heaviest(start, k) {
    if (!this.scalar) return [];
    const best = new Map([[this.output, [{ size: 1, product: 1, edge: -1, rest: null }]]]);
    const below = new Set([start]);
    for (let i = start; i < this.count; i++)
      if (below.has(i)) for (let j = this.outStart[i]; j < this.outStart[i + 1]; j++) below.add(this.child[this.out[j]]);
    for (let i = this.output - 1; i >= start; i--) {
      if (!below.has(i)) continue;
      const ways = [];
      for (let j = this.outStart[i]; j < this.outStart[i + 1]; j++) {
        const e = this.out[j];
        for (const way of best.get(this.child[e]) || []) {
          const product = way.product * this.local[e];
          ways.push({ size: Math.abs(product), product, edge: e, rest: way });
        }
      }
      ways.sort((x, y) => y.size - x.size);
      best.set(i, ways.slice(0, k));
    }
    if (start === this.output) return [];
    return best.get(start).map(way => {
      const edges = [];
      for (let at = way; at.edge >= 0; at = at.rest) edges.push(at.edge);
      return { edges, product: way.product };
    });
  }
}

function range(from, to) { return Array.from({ length: to - from }, (_, k) => from + k); }

// x with so many significant digits; a tie goes to the even digit, as in Python
function digits(x, count) {
  let text = x.toPrecision(count);
  const exact = Math.abs(x) < 1e21 ? Math.abs(x).toPrecision(60).replace(".", "").replace(/^0+/, "").replace(/e.*/, "") : "";
  if (/^50*$/.test(exact.slice(count)) && exact.length > count && "13579".includes(exact[count - 1]) === false)
    text = (x - Math.sign(x) * Math.abs(x) * 10 ** -(count + 2)).toPrecision(count);
  return text;
}

// As the pictures print a number: 3 significant digits, whole numbers below a million in full, a true minus sign
function short(x, count = 3) {
  if (x !== x) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "−inf";
  if (x === 0) return "0";
  if (Math.abs(x) < 1e6 && x === Math.round(x)) return String(x).replace("-", "−");
  let [mantissa, exponent] = digits(x, count).split("e");
  const size = Math.floor(Math.log10(Math.abs(Number(digits(x, count)))) + 1e-12);
  if (exponent === undefined && size < -4) {
    [mantissa, exponent] = Number(digits(x, count)).toExponential(count - 1).split("e");
  }
  if (exponent !== undefined && Number(exponent) > 0 && Math.abs(x) < 1e6) {
    mantissa = String(Number(mantissa + "e" + exponent));
    exponent = undefined;
  }
  if (mantissa.includes(".")) mantissa = mantissa.replace(/\.?0+$/, "");
  return (mantissa + (exponent === undefined ? "" : "e" + Number(exponent))).replaceAll("-", "−");
}
const long = x => short(x, 6);
