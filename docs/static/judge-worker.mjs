// The judge, away from the page's own thread: what it loads, and what it answers.
// In:  {files, bytes} once, then {id, sentence}. Out: {loaded}, {ready}, {failed}, and by id {probability, ...}, {words}.
import {WordPiece} from "./wordpiece.mjs";

const LONGEST = 64, UNKNOWN = 100, AT_ONCE = 512;  // tokens the judge reads; [UNK]; tokens judged in one go
const OUTSIDE = "[\\p{P}\\p{S}]";                   // not part of a word at its ends, as in `words_of`
let onnx, session, wordpiece, newest = 0;

async function download(name, note) {  // a gzip file, whatever the server calls it
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${response.status} ${name.split("/").pop()}`);
  const counted = new TransformStream({transform(chunk, out) { note(chunk.length); out.enqueue(chunk); }});
  const plain = response.body.pipeThrough(counted).pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).arrayBuffer();
}

async function load(files) {
  let loaded = 0;
  const note = count => postMessage({loaded: loaded += count});
  const names = ["runtime.bin", "model.bin", "tokenizer.bin"];
  const [runtime, model, tokenizer] = await Promise.all(names.map(name => download(files + name, note)));
  onnx = await import(files + "runtime.mjs");
  onnx.env.wasm.numThreads = 1;  // more need headers that a plain server does not send
  onnx.env.wasm.wasmBinary = runtime;
  session = await onnx.InferenceSession.create(new Uint8Array(model), {executionProviders: ["wasm"]});
  wordpiece = new WordPiece(JSON.parse(new TextDecoder().decode(tokenizer)).model.vocab, LONGEST);
}

async function probabilities(rows) {  // of rows of equally many ids
  const shape = [rows.length, rows[0].length], ids = BigInt64Array.from(rows.flat(), BigInt);
  const {logits} = await session.run({
    input_ids: new onnx.Tensor("int64", ids, shape),
    attention_mask: new onnx.Tensor("int64", ids.slice().fill(1n), shape)});
  return rows.map((_, row) => 1 / (1 + Math.exp(logits.data[2 * row] - logits.data[2 * row + 1])));
}

function words(sentence) {  // where each starts and ends: `words_of`
  const chunks = [...sentence.matchAll(/\S+/g)].map(one => [one.index, one.index + one[0].length]);
  const found = chunks.map(([start, end]) => {
    const chunk = sentence.slice(start, end);
    const before = chunk.match(new RegExp(`^${OUTSIDE}*`, "u"))[0].length;
    const after = chunk.match(new RegExp(`${OUTSIDE}*$`, "u"))[0].length;
    return [start + before, end - after];
  }).filter(([start, end]) => start < end);
  return found.length ? found : chunks;
}

function without(sentence, start, end) {  // the change "deleted" of `what_if`
  const before = sentence.slice(0, start), after = sentence.slice(end);
  return before.trim() ? before.trimEnd() + after : after.trimStart();
}

async function leaveOut(sentence, id) {  // the probability without each word that is read, in small batches
  const all = words(sentence), unread = all.findIndex(([start]) => wordpiece.encode(`${sentence.slice(0, start)} .`).cut);
  const read = unread < 0 ? all : all.slice(0, unread);
  const rows = read.map(([start, end]) => wordpiece.encode(without(sentence, start, end)).ids);
  const found = Array(rows.length).fill(null);
  const byLength = [...rows.keys()].filter(row => rows[row].length > 2).sort((a, b) => rows[a].length - rows[b].length);
  while (byLength.length) {
    const length = rows[byLength[0]].length, most = Math.max(1, Math.floor(AT_ONCE / length));
    const next = byLength.findIndex(row => rows[row].length !== length);
    const batch = byLength.splice(0, Math.min(most, next < 0 ? most : next));
    (await probabilities(batch.map(row => rows[row]))).forEach((one, place) => found[batch[place]] = one);
    await new Promise(done => setTimeout(done));  // lets a newer question in
    if (id !== newest) return;
  }
  postMessage({id, words: read.map(([start, end], row) => ({word: sentence.slice(start, end), probability: found[row]}))});
}

async function answer(sentence, id) {
  const {ids, cut} = wordpiece.encode(sentence), own = ids.slice(1, -1);
  if (!own.length) return postMessage({id, empty: true});
  const [probability] = await probabilities([ids]);
  postMessage({id, probability, ids, cut, unknown: own.every(one => one === UNKNOWN)});
  await leaveOut(sentence, id);
}

onmessage = async ({data}) => {
  try {
    if (data.files) { await load(data.files); return postMessage({ready: true}); }
    newest = data.id;
    await answer(data.sentence, data.id);
  } catch (error) { postMessage({failed: String(error?.message ?? error)}); }
};
