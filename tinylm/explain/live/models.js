// A model: its weights, its forward pass, and what the reader changes in it.

const FORWARD = {
  gpt,
  llama,
  rnn: (...args) => recurrentModel("rnn", ...args),
  lstm: (...args) => recurrentModel("lstm", ...args),
  gru: (...args) => recurrentModel("gru", ...args),
  "lstm-classifier": lstmClassifier,
  "transformer-classifier": transformerClassifier,
  ensemble,
};

const HEADS = {
  gpt: gptHead,
  llama: llamaHead,
  rnn: recurrentHead,
  lstm: recurrentHead,
  gru: recurrentHead,
  "transformer-classifier": encoderHead,
};

// Returns {kind, config, parameters} of what Python packed: parameters[name] = {shape, data}. Tied weights are one array under
// two names.
function loadModel(record) {
  const numbers = record.dtype === "float16" ? halves(bytesOf(record.weights)) : singles(bytesOf(record.weights));
  const parameters = {}, arrays = new Map();
  for (const [name, {shape, offset}] of Object.entries(record.parameters)) {
    const size = shape.reduce((a, b) => a * b, 1);
    if (!arrays.has(offset)) arrays.set(offset, array(shape, numbers.subarray(offset, offset + size)));
    parameters[name] = arrays.get(offset);
  }
  return {kind: record.kind, config: record.config, parameters};
}

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function singles(bytes) {
  const view = new DataView(bytes.buffer), numbers = new Float32Array(bytes.length / 4);
  for (let i = 0; i < numbers.length; i++) numbers[i] = view.getFloat32(4 * i, true);
  return numbers;
}

// There are only 65,536 different numbers of 16 bits, so each is computed once.
function halves(bytes) {
  const values = Float32Array.from({length: 1 << 16}, (_, bits) => half(bits)), numbers = new Float32Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i++) numbers[i] = values[bytes[2 * i] | (bytes[2 * i + 1] << 8)];
  return numbers;
}

// A float16: 1 bit for the sign, 5 for the exponent e, 10 for the fraction f: ±(1 + f/1024) 2^(e - 15), or ±(f/1024) 2^-14 if
// e is 0. (An e of 31 would be an infinity or a NaN, which are never packed.)
function half(bits) {
  const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
  const size = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
  return bits >> 15 ? -size : size;
}

// Runs the model on the ids of a text. Returns {values, parameters, milliseconds}: values[name] = {shape, data} for every
// activation, and the parameters that were used. An edit scales an activation, and all that follows is computed from that:
// {name, index, scale}, index being a head where there are heads, else a unit; or weights: {parameter, index, scale}, index
// being the place of one weight in the whole array. Without an index all of it is scaled.
function forward(model, ids, edits = []) {
  const start = performance.now(), values = {};
  checkIds(model.config, ids);
  const parameters = editedParameters(model.parameters, edits);
  const keep = keeper(values, edits);
  FORWARD[model.kind](model.config, name => parameters[name], ids, keep);
  for (const {name} of edits) if (name !== undefined && !(name in values)) throw new Error(`the model has no activation "${name}"`);
  return {values, parameters, milliseconds: performance.now() - start};
}

function checkIds({vocab_size, block_size}, ids) {
  if (ids.length === 0) throw new Error("the text is empty");
  if (block_size && ids.length > block_size)
    throw new Error(`the text has ${ids.length} tokens: expected at most ${block_size}, the model's context`);
  for (const id of ids)
    if (!(Number.isInteger(id) && id >= 0 && id < vocab_size)) throw new Error(`token ${id}: expected 0 to ${vocab_size - 1}`);
}

// Each member with its own part of the weights, and their mean: of the logits of classifiers; of language models the logarithm
// of the mean probability.
function ensemble(config, weights, ids, keep) {
  const each = config.members.map((member, m) => {
    const inside = (name, value) => keep(`members.${m}.${name}`, value);
    inside.steps = (name, T, H) => keep.steps(`members.${m}.${name}`, T, H);
    return FORWARD[member.kind](member.config, name => weights(`members.${m}.${name}`), ids, inside);
  });
  const M = each.length, logits = array(each[0].shape), V = config.vocab_size;
  if (config.mean === "logits") {
    for (const {data} of each) data.forEach((v, i) => (logits.data[i] += v / M));
    if (config.prior && ids.every(id => id === 0)) logits.data.set(config.prior); // no word is known
    return keep("logits", logits);
  }
  const p = each.map(({shape, data}) => softmax(array([1, ...shape], data), false).data);
  for (let i = 0; i < ids.length * V; i++) logits.data[i] = Math.log(p.reduce((sum, q) => sum + q[i], 0) / M);
  return keep("logits", logits);
}

// ---------------------------------------------------------------- edits

function editedParameters(parameters, edits) {
  const edited = {...parameters};
  for (const {parameter, index, scale} of edits) {
    if (parameter === undefined) continue;
    const old = edited[parameter];
    if (old === undefined) throw new Error(`the model has no parameter "${parameter}"`);
    checkIndex(parameter, index, old.data.length);
    const changed = array(old.shape, old.data.slice());
    if (index === undefined) changed.data.forEach((v, i) => (changed.data[i] = v * scale));
    else changed.data[index] *= scale;
    for (const name of Object.keys(edited)) if (edited[name] === old) edited[name] = changed; // tied weights change together
  }
  return edited;
}

function checkIndex(name, index, count) {
  if (index !== undefined && !(Number.isInteger(index) && index >= 0 && index < count))
    throw new Error(`index ${index} of "${name}": expected 0 to ${count - 1}`);
}

// Returns keep(name, value) and keep.steps(name, T, H), which write activations down in `values` with their edits applied.
function keeper(values, edits) {
  const of = name => edits.filter(edit => edit.name === name);
  const keep = (name, value) => (values[name] = of(name).reduce((v, edit) => scaled(v, edit), value));
  keep.steps = (name, T, H) => {
    const steps = (values[name] = array([T, H])), scales = new Float64Array(H).fill(1);
    for (const {index, scale} of of(name)) {
      checkIndex(name, index, H);
      for (let j = 0; j < H; j++) if (index === undefined || index === j) scales[j] *= scale;
    }
    const put = (t, j, value) => {
      steps.data[t * H + j] = scales[j] * value;
      return steps.data[t * H + j];
    };
    return {array: steps, put};
  };
  return keep;
}

// A copy with one head (the first axis of three) or one unit (the last axis of fewer) scaled, or all of it.
function scaled(value, {name, index, scale}) {
  const {shape, data} = value, units = shape[shape.length - 1] ?? 1, heads = shape.length === 3;
  checkIndex(name, index, heads ? shape[0] : units);
  const of = i => (heads ? Math.floor(i / (data.length / shape[0])) : i % units);
  return array(shape, data.map((v, i) => (index === undefined || of(i) === index ? scale * v : v)));
}

// ---------------------------------------------------------------- the logit lens

// The logits that the final norm and the output layer make of one position of a residual stream (or of a recurrent layer's h):
// what the model would say if its later layers added nothing.  -> Float32Array (V), or (1) for a classifier.
function lens(model, run, name, position) {
  const member = name.match(/^members\.(\d+)\./), before = member ? member[0] : "";
  const {kind, config} = member ? model.config.members[Number(member[1])] : model;
  const stream = run.values[name], output = HEADS[kind];
  if (stream === undefined) throw new Error(`the model has no activation "${name}"`);
  if (output === undefined) throw new Error(`a ${kind} has no residual stream`);
  const [T, C] = stream.shape, weights = parameter => run.parameters[before + parameter];
  if (!(position >= 0 && position < T)) throw new Error(`position ${position}: expected 0 to ${T - 1}`);
  const row = array([1, C], stream.data.slice(position * C, (position + 1) * C));
  return output.output(weights, output.norm(config, weights, row)).data;
}
