// The forwards of the table for browsers, one under the name of each row; as kernels.py, but IEEE 754 answers corners.
const SELU_SCALE = 1.0507009873554805, SELU_ALPHA = 1.6732632423543772, SQRT_PI = Math.sqrt(Math.PI);

// a - b * round(a / b) with one rounding at the end: exact for b = 2
function remainder2(a) {
  const r = a % 2;
  return r > 1 ? r - 2 : r < -1 ? r + 2 : r;
}
function sinpi(a) {
  const x = remainder2(a), one = x < 0 ? -1 : 1;
  return Math.sin(Math.PI * (Math.abs(x) <= 0.5 ? x : one - x));
}
function cospi(a) {
  const x = Math.abs(remainder2(a));
  return x < 0.25 ? Math.cos(Math.PI * x) : Math.sin(Math.PI * (0.5 - x));
}
// exp(-x * x) by parts: the rounding of x * x would count 700 times for large x
function bell(x) {
  if (Math.abs(x) > 40) return 0;
  const high = Math.fround(x);
  return Math.exp(-high * high) * Math.exp(-(x - high) * (x + high));
}
// The function's power series times exp(-x * x): all terms have one sign
function erfSmall(x) {
  let term = x, sum = x;
  for (let k = 1; k < 60; k++) {
    term *= 2 * x * x / (2 * k + 1);
    sum += term;
  }
  return 2 / SQRT_PI * bell(x) * sum;
}
// Laplace's continued fraction, from its far end; x > 1
function erfcLarge(x) {
  let tail = x;
  for (let k = Math.ceil(30 + 200 / (x * x)); k > 0; k--) tail = x + k / 2 / tail;
  return bell(x) / SQRT_PI / tail;
}
// The derivative of sinc, divided by a: coefficients (-1)^k 2k pi^2k / (2k + 1)!, the smallest first
const SLOPE_SERIES = [];
{
  let power = 1;
  for (let k = 1; k < 12; k++) {
    power *= -Math.PI * Math.PI / (2 * k) / (2 * k + 1);
    SLOPE_SERIES.unshift(2 * k * power);
  }
}

const K = {
  sign(a) { return a > 0 ? 1 : a < 0 ? -1 : a + 0; },
  step(a) { return a > 0 ? 1 : a <= 0 ? 0 : a; },
  exceeds(a, b) { return a > b ? 1 : a === b ? 0.5 : a < b ? 0 : NaN; },
  floor(a) { return Math.floor(a); },
  ceil(a) { return Math.ceil(a); },
  round(a) {  // at a half, to even
    if (!(Math.abs(a) < 4503599627370496)) return a;
    const low = Math.floor(a), gap = a - low;
    const whole = gap < 0.5 ? low : gap > 0.5 ? low + 1 : low % 2 === 0 ? low : low + 1;
    return whole === 0 && (a < 0 || Object.is(a, -0)) ? -0 : whole;
  },
  floordiv(a, b) {
    if (b === 0 || b !== b || !Number.isFinite(a)) return b === 0 ? a / b : NaN;
    const r = a % b;
    const q = (a - r) / b - (r !== 0 && (r < 0) !== (b < 0) ? 1 : 0);
    if (q === 0) return a / b < 0 || Object.is(a / b, -0) ? -0 : 0;
    const low = Math.floor(q);
    return q - low > 0.5 ? low + 1 : low;
  },
  alias(a) { return a; },
  add(a, b) { return a + b; },
  sub(a, b) { return a - b; },
  mul(a, b) { return a * b; },
  div(a, b) { return a / b; },
  mod(a, b) {
    const r = a % b;
    if (r === 0) return b < 0 || Object.is(b, -0) ? -0 : 0;
    return (r < 0) !== (b < 0) ? r + b : r;
  },
  neg(a) { return -a; },
  abs(a) { return Math.abs(a); },
  reciprocal(a) { return 1 / a; },
  square(a) { return a * a; },
  sqrt(a) { return Math.sqrt(a); },
  cbrt(a) { return Math.cbrt(a); },
  hypot(a, b) { return Math.hypot(a, b); },
  exp(a) { return Math.exp(a); },
  expm1(a) { return Math.expm1(a); },
  exp2(a) { return Math.pow(2, a); },
  log(a) { return Math.log(a); },
  log1p(a) { return Math.log1p(a); },
  log2(a) { return Math.log2(a); },
  log10(a) { return Math.log10(a); },
  pow(a, b) {  // 1 ** b is 1 even for nan, and (-1) ** inf is 1
    return a === 1 || (a === -1 && (b === Infinity || b === -Infinity)) ? 1 : Math.pow(a, b);
  },
  sin(a) { return Math.sin(a); },
  cos(a) { return Math.cos(a); },
  tan(a) { return Math.tan(a); },
  arcsin(a) { return Math.asin(a); },
  arccos(a) { return Math.acos(a); },
  arctan(a) { return Math.atan(a); },
  arctan2(a, b) { return Math.atan2(a, b); },
  sinh(a) { return Math.sinh(a); },
  cosh(a) { return Math.cosh(a); },
  tanh(a) { return Math.tanh(a); },
  arcsinh(a) { return Math.asinh(a); },
  arccosh(a) { return Math.acosh(a); },
  arctanh(a) { return Math.atanh(a); },
  sinc_slope(a) {
    if (Math.abs(a) > 0.5) return (cospi(a) - K.sinc(a)) / a;
    let total = 0;
    for (const coefficient of SLOPE_SERIES) total = total * (a * a) + coefficient;
    return a * total;
  },
  sinc(a) { return Math.abs(a) > 1e-9 ? sinpi(a) / Math.PI / a : 1 + 0 * a; },
  sigmoid(a) {
    if (a >= 0) return 1 / (1 + Math.exp(-a));
    const e = Math.exp(a);
    return e / (1 + e);
  },
  softplus(a) { return Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a))); },
  logsigmoid(a) { return -K.softplus(-a); },
  logaddexp(a, b) { return a === b ? a + Math.LN2 : Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b))); },
  relu(a) { return a <= 0 ? 0 : a; },
  leaky_relu(a) { return a <= 0 ? 0.01 * a : a; },
  maximum(a, b) { return a >= b || a !== a ? a : b; },
  minimum(a, b) { return a <= b || a !== a ? a : b; },
  elu(a) { return a > 0 ? a : Math.expm1(a); },
  selu(a) { return SELU_SCALE * (a > 0 ? a : SELU_ALPHA * Math.expm1(a)); },
  erfc(a) { return a > 1 ? erfcLarge(a) : a < -1 ? 2 - erfcLarge(-a) : 1 - erfSmall(a); },
  erf(a) { return Math.abs(a) <= 1 ? erfSmall(a) : a > 1 ? 1 - erfcLarge(a) : a < -1 ? erfcLarge(-a) - 1 : a; },
  gelu(a) {
    const x = Math.max(a, -100);
    return 0.5 * x * K.erfc(-x * Math.SQRT1_2);
  },
  silu(a) {
    if (a >= -700) return a * K.sigmoid(a);
    const x = Math.max(a, -2000), root = Math.exp(0.5 * x);
    return x * root * root;
  },
};
