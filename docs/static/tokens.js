// The box that docs/templates/tokens.html draws: what is typed, as tiles. Nothing is fetched before its button is pressed.
(() => {
  const LONGEST = 64;  // tokens, as everywhere in the package
  const box = document.querySelector("[data-vocabulary]"), find = name => box.querySelector(name);
  const [form, field, button, status, list] = ["form", "textarea", "button", ".judge-answer", ".judge-words"].map(find);
  let wordpiece, names;

  async function load() {
    const {WordPiece} = await import("./wordpiece.mjs");
    const response = await fetch(box.dataset.vocabulary);
    if (!response.ok) throw new Error(response.status);
    const plain = new Response(response.body.pipeThrough(new DecompressionStream("gzip")));
    const {vocab} = (await plain.json()).model;
    names = new Map(Object.entries(vocab).map(([token, id]) => [id, token]));
    wordpiece = new WordPiece(vocab, LONGEST);
  }

  function tile(id) {
    const item = document.createElement("li");
    for (const [kind, text] of [["span", names.get(id)], ["small", id]]) {
      item.append(Object.assign(document.createElement(kind), {textContent: text}));  // text: it may hold HTML
    }
    return item;
  }

  function show() {
    const {ids, cut} = wordpiece.encode(field.value);
    status.textContent = box.dataset.some.replace("{}", ids.length) + (cut ? ` ${box.dataset.cut}` : "");
    list.replaceChildren(...ids.map(tile));
    list.hidden = false;
  }

  form.addEventListener("submit", async event => {
    event.preventDefault();
    button.disabled = true;  // while it loads
    try {
      await load();
      field.addEventListener("input", show);
      show();
      field.focus();
      button.remove();
    } catch (error) {
      status.textContent = box.dataset.lost.replace("{}", error.message);
      button.disabled = false;
    }
  });
})();
