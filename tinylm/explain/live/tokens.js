// From text to tokens and back, exactly as tinylm.data does it.

// Returns the ids of a text. Throws an Error that names a character the model does not know.
function encode(tokenizer, text) {
  if (tokenizer.kind === "char") return encodeCharacters(tokenizer, text);
  checkCharacters(text);
  return tokenizer.lowered ? encodeLowered(tokenizer, text) : encodeWords(tokenizer, text);
}

// Returns what a token spells.
function tokenText(tokenizer, id) {
  return prepared(tokenizer).texts[id];
}

// One id per character (code point).
function encodeCharacters(tokenizer, text) {
  const {ids} = prepared(tokenizer);
  return Array.from(text, (character, position) => {
    if (!ids.has(character)) throw new Error(`the model does not know the character ${named(character)} at position ${position}`);
    return ids.get(character);
  });
}

// One id per word, number, run of punctuation, newline or extra space; 0 for what the vocabulary lacks.
function encodeWords(tokenizer, text) {
  const {ids, pattern} = prepared(tokenizer);
  return (text.match(pattern) ?? []).map(word => ids.get(word) ?? 0);
}

// What a classifier reads: the first words of the text in lower case, with one space before each.
function encodeLowered(tokenizer, text) {
  const {pattern, spaces} = prepared(tokenizer);
  const words = (lowerCase(tokenizer, text).match(pattern) ?? []).map(piece => piece.replace(spaces, "")).filter(word => word);
  const found = encodeWords(tokenizer, words.map(word => " " + word).join("")).slice(0, tokenizer.longest);
  if (found.length === 0) throw new Error("the text is empty");
  return found;
}

// Capitals that Python's Unicode does not have yet stay as they are.
function lowerCase(tokenizer, text) {
  const {capitals} = prepared(tokenizer);
  return text.split(capitals).map((part, i) => (i % 2 ? part : part.toLowerCase())).join("");
}

function checkCharacters(text) {
  Array.from(text, (character, position) => {
    const point = character.codePointAt(0);
    if (point >= 0xd800 && point < 0xe000) throw new Error(`${named(character)} at position ${position} is no character`);
  });
}

function named(character) {
  const code = `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  return /^[\p{L}\p{N}\p{P}\p{S}]$/u.test(character) ? `"${character}" (${code})` : code;
}

const PREPARED = new WeakMap(); // what is made once for each tokenizer

function prepared(tokenizer) {
  if (!PREPARED.has(tokenizer)) PREPARED.set(tokenizer, tokenizer.kind === "char" ? preparedCharacters(tokenizer) : preparedWords(tokenizer));
  return PREPARED.get(tokenizer);
}

function preparedCharacters({characters}) {
  const texts = Array.from(characters);
  return {texts, ids: new Map(texts.map((text, id) => [text, id]))};
}

// The pattern is Python's, and so are its classes of characters, since a browser's Unicode is of another version.
function preparedWords({words, pattern, classes}) {
  const written = pattern.replace(/\\w|\\s|\\p\{M\}/g, name => classes[name]);
  return {
    texts: words,
    ids: new Map(words.map((word, id) => [word, id])),
    pattern: new RegExp(written, "gu"),
    spaces: new RegExp(`^[${classes["\\s"]}]+|[${classes["\\s"]}]+$`, "gu"),
    capitals: new RegExp(`((?![${classes["\\w"]}])\\p{Lu})`, "u"),
  };
}
