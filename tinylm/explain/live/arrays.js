// Arrays and the functions of neural networks on them.
//
// An array is {shape, data}, data a Float32Array with the rows one after the other. A matrix within one is {data, start, rows,
// columns, step}: row i begins at start + i step. T: positions, C: width, H: heads, D: a head's width.

function array(shape, data = new Float32Array(shape.reduce((a, b) => a * b, 1))) {
  return {shape, data};
}

function matrix(a) {
  const [rows, columns] = a.shape;
  return {data: a.data, start: 0, rows, columns, step: columns};
}

// Matrix number h of an array (H, T, D).
function head(a, h) {
  const [, rows, columns] = a.shape;
  return {data: a.data, start: h * rows * columns, rows, columns, step: columns};
}

// The given columns of a matrix (rows, C).
function columnsOf(a, start, columns) {
  const [rows, step] = a.shape;
  return {data: a.data, start, rows, columns, step};
}

// y[i, j] = scale Σ_k a[i, k] b[j, k]. Four rows of b at once: four sums that do not wait for each other.
function product(a, b, y, scale = 1) {
  const A = a.data, B = b.data, Y = y.data;
  for (let i = 0; i < a.rows; i++) {
    const p = a.start + i * a.step, out = y.start + i * y.step;
    let j = 0;
    for (; j + 4 <= b.rows; j += 4) {
      const q0 = b.start + j * b.step, q1 = q0 + b.step, q2 = q1 + b.step, q3 = q2 + b.step;
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      for (let k = 0; k < a.columns; k++) {
        const v = A[p + k];
        s0 += v * B[q0 + k];
        s1 += v * B[q1 + k];
        s2 += v * B[q2 + k];
        s3 += v * B[q3 + k];
      }
      Y[out + j] = scale * s0;
      Y[out + j + 1] = scale * s1;
      Y[out + j + 2] = scale * s2;
      Y[out + j + 3] = scale * s3;
    }
    for (; j < b.rows; j++) {
      const q = b.start + j * b.step;
      let s = 0;
      for (let k = 0; k < a.columns; k++) s += A[p + k] * B[q + k];
      Y[out + j] = scale * s;
    }
  }
}

// y[t, d] = Σ_s weights[t, s] v[s, d]: each row is a mixture of the rows of v.
function mixture(weights, v, y) {
  for (let t = 0; t < weights.rows; t++) {
    const out = y.start + t * y.step;
    for (let s = 0; s < weights.columns; s++) {
      const w = weights.data[weights.start + t * weights.step + s];
      if (w === 0) continue; // the positions after t
      const row = v.start + s * v.step;
      for (let d = 0; d < v.columns; d++) y.data[out + d] += w * v.data[row + d];
    }
  }
}

// y = x Wᵀ + b:  x (T, I), W (O, I), b (O) or undefined -> (T, O).
function linear(x, W, b) {
  const y = array([x.shape[0], W.shape[0]]);
  product(matrix(x), matrix(W), matrix(y));
  return b === undefined ? y : addRow(y, b);
}

// a + b, element by element.
function add(a, b) {
  return array(a.shape, a.data.map((v, i) => v + b.data[i]));
}

// Each row of x (T, C) plus b (C).
function addRow(x, b) {
  const C = b.data.length;
  return array(x.shape, x.data.map((v, i) => v + b.data[i % C]));
}

function apply(f, x) {
  return array(x.shape, x.data.map(v => f(v)));
}

// Rows ids[t] of a table (V, C) -> (T, C).
function rowsOf(table, ids) {
  const C = table.shape[1], y = array([ids.length, C]);
  ids.forEach((id, t) => y.data.set(table.data.subarray(id * C, (id + 1) * C), t * C));
  return y;
}

// p[s] = e^x[s] / Σ_r e^x[r] over the first `count` of each row, which begins every `step`; 0 for the others. Less the largest
// x, so that no e^x overflows.
function softmaxRow(x, start, count, y) {
  let largest = -Infinity, sum = 0;
  for (let s = start; s < start + count; s++) largest = Math.max(largest, x[s]);
  for (let s = start; s < start + count; s++) sum += Math.exp(x[s] - largest);
  for (let s = start; s < start + count; s++) y[s] = Math.exp(x[s] - largest) / sum;
}

// The softmax of each row of scores (H, T, S); causal: of the positions up to t, those after it get 0.
function softmax(scores, causal) {
  const [H, T, S] = scores.shape, y = array(scores.shape);
  for (let row = 0; row < H * T; row++) softmaxRow(scores.data, row * S, causal ? (row % T) + 1 : S, y.data);
  return y;
}

// y = weight (x - mean) / √(variance + eps) + bias, over each row of x (T, C).
function layerNorm(x, weight, bias, eps) {
  const [T, C] = x.shape, y = array(x.shape);
  for (let t = 0; t < T; t++) {
    const row = x.data.subarray(t * C, (t + 1) * C);
    const mean = row.reduce((sum, v) => sum + v, 0) / C;
    const variance = row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / C;
    const scale = 1 / Math.sqrt(variance + eps);
    for (let c = 0; c < C; c++) y.data[t * C + c] = weight.data[c] * (row[c] - mean) * scale + (bias === undefined ? 0 : bias.data[c]);
  }
  return y;
}

// y = weight x / √(mean(x²) + eps), over each row of x (T, C).
function rmsNorm(x, weight, eps) {
  const [T, C] = x.shape, y = array(x.shape);
  for (let t = 0; t < T; t++) {
    const row = x.data.subarray(t * C, (t + 1) * C);
    const scale = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / C + eps);
    for (let c = 0; c < C; c++) y.data[t * C + c] = weight.data[c] * row[c] * scale;
  }
  return y;
}

const sigmoid = x => 1 / (1 + Math.exp(-x));
const relu = x => Math.max(x, 0);
const silu = x => x * sigmoid(x);
const gelu = x => 0.5 * x * (1 + erf(x / Math.SQRT2));
const geluTanh = x => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

// erf(x) = 2/√π e^(-x²) Σ_n 2^n x^(2n+1) / (1·3·5···(2n+1)), whose terms all have one sign: exact to the last digits.
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
