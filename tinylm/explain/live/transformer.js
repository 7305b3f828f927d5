// Transformers: GPT, Llama, and the encoder of a classifier.
//
// keep(name, value) writes an activation down under its name, and returns it, changed if the reader has changed it. weights(name)
// gives a parameter by its name in the model, undefined if the model has none (a bias).

// x + attention(norm(x)), then x + mlp(norm(x)):  (T, C) -> (T, C).
function transformerBlock(x, at, layer, keep) {
  x = keep(`${at}.resid_pre`, x);
  const attended = attention(keep(`${at}.norm_1`, layer.norm_1(x)), `${at}.attn`, layer, keep);
  x = keep(`${at}.resid_mid`, add(x, attended));
  const moved = layer.mlp(keep(`${at}.norm_2`, layer.norm_2(x)), `${at}.mlp`, keep);
  return keep(`${at}.resid_post`, add(x, moved));
}

// Each head looks at the positions whose keys fit its query, and adds what it reads there, their values, to the stream.
function attention(x, at, layer, keep) {
  const projected = layer.project(x);
  const q = keep(`${at}.q`, projected.q), k = keep(`${at}.k`, projected.k), v = keep(`${at}.v`, projected.v);
  const [H, T, D] = q.shape, C = layer.output.shape[0];
  const shared = h => Math.floor(h / (H / k.shape[0])); // which key and value head serves query head h

  // scores[h, t, s] = q[h, t] · k[h, s] / √D
  let scores = array([H, T, T]);
  for (let h = 0; h < H; h++) product(head(q, h), head(k, shared(h)), head(scores, h), 1 / Math.sqrt(D));
  scores = keep(`${at}.scores`, scores);

  // pattern[h, t] = softmax over s of scores[h, t, s]
  const pattern = keep(`${at}.pattern`, softmax(scores, layer.causal));

  // z[h, t] = Σ_s pattern[h, t, s] v[h, s]
  let z = array([H, T, D]);
  for (let h = 0; h < H; h++) mixture(head(pattern, h), head(v, shared(h)), head(z, h));
  z = keep(`${at}.z`, z);

  // head_out[h, t] = W_o[:, h] z[h, t], with head h's columns of the output projection
  let headOut = array([H, T, C]);
  for (let h = 0; h < H; h++) product(head(z, h), columnsOf(layer.output, h * D, D), head(headOut, h));
  headOut = keep(`${at}.head_out`, headOut);

  // out[t] = Σ_h head_out[h, t] + b_o
  const out = array([T, C]);
  for (let i = 0; i < headOut.data.length; i++) out.data[i % (T * C)] += headOut.data[i];
  return keep(`${at}.out`, layer.outputBias === undefined ? out : addRow(out, layer.outputBias));
}

// Columns of y (T, ...) from `first` on, as heads:  -> (H, T, D).
function splitHeads(y, first, H, D) {
  const [T, width] = y.shape, heads = array([H, T, D]);
  for (let h = 0; h < H; h++)
    for (let t = 0; t < T; t++) {
      const from = t * width + first + h * D;
      heads.data.set(y.data.subarray(from, from + D), (h * T + t) * D);
    }
  return heads;
}

// The queries, keys and values that one projection makes side by side, each C wide.
function joinedHeads(x, W, b, H) {
  const y = linear(x, W, b), C = W.shape[0] / 3, D = C / H;
  return {q: splitHeads(y, 0, H, D), k: splitHeads(y, C, H, D), v: splitHeads(y, 2 * C, H, D)};
}

// W_2 act(W_1 x + b_1) + b_2
function feedForward(x, at, [W_1, b_1], activation, [W_2, b_2], keep) {
  const pre = keep(`${at}.pre`, linear(x, W_1, b_1));
  const hidden = keep(`${at}.hidden`, apply(activation, pre));
  return keep(`${at}.out`, linear(hidden, W_2, b_2));
}

// ---------------------------------------------------------------- GPT

function gpt(config, weights, ids, keep) {
  const embed = keep("embed", rowsOf(weights("transformer.wte.weight"), ids));
  const positions = keep("pos_embed", rowsOf(weights("transformer.wpe.weight"), ids.map((_, t) => t)));
  let x = add(embed, positions);
  for (let i = 0; i < config.n_layer; i++) x = transformerBlock(x, `h.${i}`, gptLayer(config, weights, `transformer.h.${i}`), keep);
  const last = keep("norm_f", gptHead.norm(config, weights, x));
  return keep("logits", gptHead.output(weights, last));
}

const gptHead = {
  norm: (config, weights, x) => layerNorm(x, weights("transformer.ln_f.weight"), weights("transformer.ln_f.bias"), config.norm_eps),
  output: (weights, x) => linear(x, weights("lm_head.weight")),
};

function gptLayer(config, weights, path) {
  const both = name => [weights(`${path}.${name}.weight`), weights(`${path}.${name}.bias`)];
  return {
    causal: true,
    norm_1: x => layerNorm(x, ...both("ln_1"), config.norm_eps),
    project: x => joinedHeads(x, ...both("attn.c_attn"), config.n_head),
    output: weights(`${path}.attn.c_proj.weight`),
    outputBias: weights(`${path}.attn.c_proj.bias`),
    norm_2: x => layerNorm(x, ...both("ln_2"), config.norm_eps),
    mlp: (x, at, keep) =>
      feedForward(x, at, both("mlp.c_fc"), config.activation === "gelu_tanh" ? geluTanh : gelu, both("mlp.c_proj"), keep),
  };
}

// ---------------------------------------------------------------- Llama

function llama(config, weights, ids, keep) {
  let x = keep("embed", rowsOf(weights("model.embed_tokens.weight"), ids));
  for (let i = 0; i < config.n_layer; i++) x = transformerBlock(x, `h.${i}`, llamaLayer(config, weights, `model.layers.${i}`), keep);
  const last = keep("norm_f", llamaHead.norm(config, weights, x));
  return keep("logits", llamaHead.output(weights, last));
}

const llamaHead = {
  norm: (config, weights, x) => rmsNorm(x, weights("model.norm.weight"), config.norm_eps),
  output: (weights, x) => linear(x, weights("lm_head.weight")),
};

function llamaLayer(config, weights, path) {
  const both = name => [weights(`${path}.${name}.weight`), weights(`${path}.${name}.bias`)];
  const heads = (x, name, count) => splitHeads(linear(x, ...both(`self_attn.${name}`)), 0, count, config.head_dim);
  return {
    causal: true,
    norm_1: x => rmsNorm(x, weights(`${path}.input_layernorm.weight`), config.norm_eps),
    project: x => ({
      q: apply(q => config.rope_attention ** 2 * q, rotated(heads(x, "q_proj", config.n_head), config)), // not 1 with YaRN scaling only
      k: rotated(heads(x, "k_proj", config.n_kv_head), config),
      v: heads(x, "v_proj", config.n_kv_head),
    }),
    output: weights(`${path}.self_attn.o_proj.weight`),
    outputBias: weights(`${path}.self_attn.o_proj.bias`),
    norm_2: x => rmsNorm(x, weights(`${path}.post_attention_layernorm.weight`), config.norm_eps),
    mlp: (x, at, keep) => gatedFeedForward(x, at, both("mlp.gate_proj"), both("mlp.up_proj"), both("mlp.down_proj"), keep),
  };
}

// W_down (silu(W_gate x) ⊙ W_up x)
function gatedFeedForward(x, at, [W_gate, b_gate], [W_up, b_up], [W_down, b_down], keep) {
  const gate = keep(`${at}.gate`, linear(x, W_gate, b_gate));
  const up = keep(`${at}.up`, linear(x, W_up, b_up));
  const hidden = keep(`${at}.hidden`, array(gate.shape, gate.data.map((g, i) => silu(g) * up.data[i])));
  return keep(`${at}.out`, linear(hidden, W_down, b_down));
}

// Turns pair i of each row of heads (H, T, D) by the angle t f_i: (a, b) -> (a cos - b sin, a sin + b cos). A pair is the entries
// i and i + D/2 ("half"), or 2i and 2i + 1 ("interleaved").
function rotated(heads, config) {
  const [H, T, D] = heads.shape, y = array(heads.shape), half = config.rope_pairing === "half";
  for (let t = 0; t < T; t++)
    for (let i = 0; i < D / 2; i++) {
      const angle = t * config.frequencies[i], cos = Math.cos(angle), sin = Math.sin(angle);
      const first = half ? i : 2 * i, second = half ? i + D / 2 : 2 * i + 1;
      for (let h = 0; h < H; h++) {
        const row = (h * T + t) * D, a = heads.data[row + first], b = heads.data[row + second];
        y.data[row + first] = a * cos - b * sin;
        y.data[row + second] = a * sin + b * cos;
      }
    }
  return y;
}

// ---------------------------------------------------------------- the classifier

// logit = w · mean_t norm(encoder(√C embedding + position))_t + b: each position sees all others.
function transformerClassifier(config, weights, ids, keep) {
  const embed = keep("embed", rowsOf(weights("encoder.weight"), ids));
  const positions = keep("pos_embed", sinusoids(ids.length, config.n_embd));
  let x = add(apply(v => Math.sqrt(config.n_embd) * v, embed), positions);
  for (let i = 0; i < config.n_layer; i++)
    x = transformerBlock(x, `h.${i}`, encoderLayer(config, weights, `transformer_encoder.layers.${i}`), keep);
  const last = keep("norm_f", encoderHead.norm(config, weights, x));
  const [T, C] = last.shape, pooled = array([C]);
  last.data.forEach((v, i) => (pooled.data[i % C] += v / T));
  return decided(keep("pooled", pooled), weights, keep);
}

const encoderHead = {
  norm: (config, weights, x) =>
    layerNorm(x, weights("transformer_encoder.norm.weight"), weights("transformer_encoder.norm.bias"), config.norm_eps),
  output: (weights, x) => linear(x, weights("decoder.weight"), weights("decoder.bias")),
};

function encoderLayer(config, weights, path) {
  const both = name => [weights(`${path}.${name}.weight`), weights(`${path}.${name}.bias`)];
  const joined = [weights(`${path}.self_attn.in_proj_weight`), weights(`${path}.self_attn.in_proj_bias`)];
  return {
    causal: false,
    norm_1: x => layerNorm(x, ...both("norm1"), config.norm_eps),
    project: x => joinedHeads(x, ...joined, config.n_head),
    output: weights(`${path}.self_attn.out_proj.weight`),
    outputBias: weights(`${path}.self_attn.out_proj.bias`),
    norm_2: x => layerNorm(x, ...both("norm2"), config.norm_eps),
    mlp: (x, at, keep) => feedForward(x, at, both("linear1"), relu, both("linear2"), keep),
  };
}

// P[t, 2i] = sin(t / 10000^(2i/C)), P[t, 2i + 1] = cos(t / 10000^(2i/C)):  -> (T, C).
function sinusoids(T, C) {
  const y = array([T, C]);
  for (let t = 0; t < T; t++)
    for (let c = 0; c < C; c++) {
      const angle = t / 10000 ** ((c - (c % 2)) / C);
      y.data[t * C + c] = c % 2 ? Math.cos(angle) : Math.sin(angle);
    }
  return y;
}

// logit = w · pooled + b, an array without axes.
function decided(pooled, weights, keep) {
  const logit = linear(array([1, pooled.data.length], pooled.data), weights("decoder.weight"), weights("decoder.bias"));
  return keep("logits", array([], logit.data));
}
