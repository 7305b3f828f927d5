// Recurrent networks: an RNN, LSTM or GRU reads one token after the other, and keeps what it needs in its state.
//
// keep and weights are as in transformer.js. keep.steps(name, T, H) writes an activation down step by step: put(t, j, value)
// sets unit j of step t, and returns it, changed if the reader has changed it.

// logits = W_d h_t + b_d, with h_t of the last layer.
function recurrentModel(kind, config, weights, ids, keep) {
  const h = layers(kind, config, weights, keep("embed", rowsOf(weights("encoder.weight"), ids)), keep);
  return keep("logits", recurrentHead.output(weights, h));
}

const recurrentHead = {
  norm: (config, weights, x) => x,
  output: (weights, x) => linear(x, weights("decoder.weight"), weights("decoder.bias")),
};

// logit = w · max_t [h_t, h'_t] + b, with h of an LSTM that reads the text forwards and h' of one that reads it backwards.
function lstmClassifier(config, weights, ids, keep) {
  const h = layers("lstm", config, weights, keep("embed", rowsOf(weights("encoder.weight"), ids)), keep);
  const [, C] = h.shape, pooled = array([C], new Float32Array(C).fill(-Infinity));
  h.data.forEach((v, i) => (pooled.data[i % C] = Math.max(pooled.data[i % C], v)));
  return decided(keep("pooled", pooled), weights, keep);
}

// Each layer reads the outputs of the one before it, those of both directions side by side:  x (T, I) -> (T, H) or (T, 2H).
function layers(kind, config, weights, x, keep) {
  for (let i = 0; i < config.n_layer; i++) {
    const forwards = direction(kind, config, weights, x, `_l${i}`, `rnn.${i}`, keep);
    x = config.bidirectional
      ? sideBySide(forwards, direction(kind, config, weights, x, `_l${i}_reverse`, `rnn.${i}.reverse`, keep))
      : forwards;
  }
  return x;
}

// One layer in one direction. What comes from its inputs is one product for all steps; what comes from the state is computed
// at each step:  a = W_i x_t + b_i,  s = W_h h_(t-1) + b_h.
function direction(kind, config, weights, x, suffix, at, keep) {
  const single = weights(`rnn.bias_h${suffix}`); // an RNN may have one bias in the place of two
  const a = linear(x, weights(`rnn.weight_ih${suffix}`), single ?? weights(`rnn.bias_ih${suffix}`));
  const W_h = weights(`rnn.weight_hh${suffix}`), b_h = weights(`rnn.bias_hh${suffix}`);
  const [T, width] = a.shape, H = W_h.shape[1], backwards = suffix.endsWith("_reverse");
  const {h, step} = CELLS[kind](T, H, at, config, keep);
  let state = array([1, H]);
  for (let n = 0; n < T; n++) {
    const t = backwards ? T - 1 - n : n;
    const s = linear(state, W_h, b_h).data;
    step(t, backwards ? t + 1 : t - 1, a.data.subarray(t * width, (t + 1) * width), s, state.data);
    state = array([1, H], h.data.slice(t * H, (t + 1) * H));
  }
  return h;
}

// What a cell does at a step. t: the step, before: the one before it, a and s: as above, old: h_(t-1).
const CELLS = {
  // h_t = φ(a + s)
  rnn(T, H, at, config, keep) {
    const φ = {tanh: Math.tanh, relu, sigmoid}[config.nonlinearity];
    const h = keep.steps(`${at}.h`, T, H);
    const step = (t, before, a, s) => {
      for (let j = 0; j < H; j++) h.put(t, j, φ(a[j] + s[j]));
    };
    return {h: h.array, step};
  },

  // c_t = f c_(t-1) + i g,  h_t = o tanh(c_t), with i, f, o = σ and g = tanh of the four parts of a + s
  lstm(T, H, at, config, keep) {
    const [input, forget, candidate, output, c, h] = ["input", "forget", "candidate", "output", "c", "h"].map(name =>
      keep.steps(`${at}.${name}`, T, H));
    const step = (t, before, a, s) => {
      for (let j = 0; j < H; j++) {
        const i = input.put(t, j, sigmoid(a[j] + s[j]));
        const f = forget.put(t, j, sigmoid(a[H + j] + s[H + j]));
        const g = candidate.put(t, j, Math.tanh(a[2 * H + j] + s[2 * H + j]));
        const o = output.put(t, j, sigmoid(a[3 * H + j] + s[3 * H + j]));
        const old = before < 0 || before >= T ? 0 : c.array.data[before * H + j];
        const now = c.put(t, j, f * old + i * g);
        h.put(t, j, o * Math.tanh(now));
      }
    };
    return {h: h.array, step};
  },

  // h_t = (1 - z) n + z h_(t-1), with r, z = σ of the first two parts of a + s, and n = tanh(a_n + r s_n) of the third
  gru(T, H, at, config, keep) {
    const [reset, update, candidate, h] = ["reset", "update", "candidate", "h"].map(name => keep.steps(`${at}.${name}`, T, H));
    const step = (t, before, a, s, old) => {
      for (let j = 0; j < H; j++) {
        const r = reset.put(t, j, sigmoid(a[j] + s[j]));
        const z = update.put(t, j, sigmoid(a[H + j] + s[H + j]));
        const n = candidate.put(t, j, Math.tanh(a[2 * H + j] + r * s[2 * H + j]));
        h.put(t, j, (1 - z) * n + z * old[j]);
      }
    };
    return {h: h.array, step};
  },
};

// The rows of a (T, H) and b (T, H) side by side:  -> (T, 2H).
function sideBySide(a, b) {
  const [T, H] = a.shape, y = array([T, 2 * H]);
  for (let t = 0; t < T; t++) {
    y.data.set(a.data.subarray(t * H, (t + 1) * H), 2 * t * H);
    y.data.set(b.data.subarray(t * H, (t + 1) * H), (2 * t + 1) * H);
  }
  return y;
}
