// WordPiece as BERT's uncased tokenizer does it (`tokenizers`: BertNormalizer, BertPreTokenizer, WordPiece).
// tests/test_page_judge.py compares the ids with those of Python.

const SPECIAL = /(\[(?:PAD|UNK|CLS|SEP|MASK)\])/;  // in a sentence they stand for the tokens they name
const CHINESE = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;
const DROPPED = /[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}]/gu;
const PUNCTUATION = /[!-\/:-@[-`{-~]|\p{P}/u;
const LONGEST = 100;  // characters of a word; longer ones are unknown

const lower = text => Array.from(text, one => one.toLowerCase()).join("");  // one by one: no final sigma

const normalize = text => lower(text.replace(DROPPED, "").replace(CHINESE, " $& ").normalize("NFD").replace(/\p{Mn}/gu, ""));

function* pieces(text) {  // words and single punctuation marks
  for (const chunk of text.split(/\p{White_Space}+/u)) {
    let word = "";
    for (const one of chunk) {
      if (!PUNCTUATION.test(one)) { word += one; continue; }
      if (word) yield word;
      yield one;
      word = "";
    }
    if (word) yield word;
  }
}

export class WordPiece {
  constructor(vocabulary, longest) {  // token → id, as in tokenizer.json; how many tokens the model reads
    this.ids = new Map(Object.entries(vocabulary));
    this.longest = longest;
  }

  tokens(word) {  // the longest beginning that is known, then the longest of the rest, ...
    const characters = Array.from(word), found = [];
    if (characters.length > LONGEST) return [this.ids.get("[UNK]")];
    for (let start = 0, end; start < characters.length; start = end) {
      let id;
      for (end = characters.length; end > start; end--) {
        id = this.ids.get((start ? "##" : "") + characters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.ids.get("[UNK]")];
      found.push(id);
    }
    return found;
  }

  *all(sentence) {
    for (const part of sentence.split(SPECIAL)) {
      if (SPECIAL.test(part)) yield this.ids.get(part);
      else for (const piece of pieces(normalize(part))) yield* this.tokens(piece);
    }
  }

  encode(sentence) {  // ids with [CLS] and [SEP]; was the sentence cut?
    const ids = [this.ids.get("[CLS]")];
    for (const id of this.all(sentence)) {
      if (ids.length === this.longest - 1) return {ids: [...ids, this.ids.get("[SEP]")], cut: true};
      ids.push(id);
    }
    return {ids: [...ids, this.ids.get("[SEP]")], cut: false};
  }
}
