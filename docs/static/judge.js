// The box that docs/templates/judge.html draws. Nothing is fetched before its button is pressed;
// docs/static/judge-worker.mjs does the work, this shows it.
(() => {
  const TEXTS = {
    en: {
      ask: "Ask the judge", loading: "Loading the judge …", loaded: (now, all) => `${now} of ${all} MB`,
      empty: "There is nothing to judge yet: type a sentence.",
      labels: ["Unacceptable", "Acceptable"], probability: it => `Probability of acceptable: ${it}.`,
      cut: "The judge reads 64 tokens; what comes after them it did not see.",
      unknown: "The judge knows none of these characters: its verdict means nothing.",
      busy: "Leaving out one word after the other …",
      hangs: (word, label, it) => `It hangs on “${word}” most: without it, ${label} (${it}).`,
      counts: (word, it) => `No single word turns it; “${word}” counts most: without it, the probability is ${it}.`,
      about: "Below each word: the probability of acceptable without it. Framed: leaving it out turns the verdict.",
      old: "This browser cannot run the judge: it lacks WebAssembly with SIMD, which browsers have had since 2023.",
      file: "The judge needs a web server, of any kind: run python -m http.server in the folder of the site.",
      silent: "no answer for 30 seconds",
      lost: what => `The judge could not be loaded (${what}). Check the connection and press the button again.`,
      failed: what => `The judge stopped (${what}). Press the button to load it again.`,
    },
    pt: {
      ask: "Perguntar ao juiz", loading: "Carregando o juiz …", loaded: (now, all) => `${now} de ${all} MB`,
      empty: "Ainda não há o que julgar: digite uma frase.",
      labels: ["Inaceitável", "Aceitável"], probability: it => `Probabilidade de aceitável: ${it}.`,
      cut: "O juiz lê 64 tokens; o que vem depois deles ele não viu.",
      unknown: "O juiz não conhece nenhum desses caracteres: o veredicto não quer dizer nada.",
      busy: "Tirando uma palavra de cada vez …",
      hangs: (word, label, it) => `A palavra que mais pesa é “${word}”: sem ela, ${label} (${it}).`,
      counts: (word, it) => `Nenhuma palavra sozinha muda o veredicto; a que mais pesa é “${word}”: sem ela, a probabilidade é ${it}.`,
      about: "Sob cada palavra: a probabilidade de aceitável sem ela. Com moldura: tirá-la muda o veredicto.",
      old: "Este navegador não consegue rodar o juiz: falta WebAssembly com SIMD, que os navegadores têm desde 2023.",
      file: "O juiz precisa de um servidor web, qualquer um: rode python -m http.server na pasta do site.",
      silent: "30 segundos sem resposta",
      lost: what => `Não foi possível carregar o juiz (${what}). Verifique a conexão e aperte o botão de novo.`,
      failed: what => `O juiz parou (${what}). Aperte o botão para carregá-lo de novo.`,
    },
  };
  // a module with one SIMD instruction
  const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  const box = document.querySelector(".judge"), find = name => box.querySelector(name);
  const [form, field, button] = ["form", "textarea", "button"].map(find);
  const [progress, status, list] = ["progress", ".judge-answer", ".judge-words"].map(find);
  const language = document.documentElement.lang.slice(0, 2), text = TEXTS[language] ?? TEXTS.en;
  const number = new Intl.NumberFormat(language, {style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1});
  const megabytes = it => Math.ceil(it / 1e6);
  const labelOf = it => text.labels[it >= .5 ? 1 : 0], logit = it => Math.log(it / (1 - it));
  const offer = button.textContent;  // what the button says before
  const PATIENCE = 30_000;  // milliseconds without a byte after which a connection counts as lost
  let worker, ready = false, asked = 0, whole, patience;

  function element(name, content, kind = "") {
    const made = document.createElement(name);
    made.textContent = content;
    made.className = kind;
    return made;
  }

  function say(...lines) {  // text only: a sentence may hold HTML
    status.replaceChildren(...lines.filter(Boolean).map(one => typeof one === "string" ? element("p", one) : one));
  }

  function clear() { list.hidden = true; list.replaceChildren(); }

  function stop(line) {  // back to where the button loads the judge
    worker?.terminate();
    clearTimeout(patience);
    worker = undefined;
    ready = false;
    progress.hidden = true;
    button.textContent = offer;
    clear();
    say(line);
  }

  function missing() {  // what keeps this browser from running it
    const works = typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(SIMD));
    if (!works || !window.Worker || !window.DecompressionStream) return text.old;
    return location.protocol === "file:" ? text.file : "";
  }

  const failed = what => stop((ready ? text.failed : text.lost)(what));

  function load() {
    worker = new Worker(box.dataset.worker, {type: "module"});
    worker.onerror = event => { event.preventDefault(); failed(event.message || "judge-worker.mjs"); };
    worker.onmessage = ({data}) => {
      if (data.failed) failed(data.failed);
      else if (data.loaded) show(data.loaded);
      else if (data.ready) { ready = true; progress.hidden = true; button.textContent = text.ask; ask(); }
      else if (data.id === asked) (data.words ? showWords : showVerdict)(data);
    };
    worker.postMessage({files: new URL(box.dataset.files, location.href).href});
    progress.hidden = false;
    say(text.loading);
    show(0);
  }

  function show(loaded) {
    progress.value = loaded;
    clearTimeout(patience);
    if (loaded < progress.max) patience = setTimeout(failed, PATIENCE, text.silent);
    button.textContent = text.loaded(megabytes(loaded), megabytes(progress.max));
  }

  function ask() {
    clear();
    if (!field.value.trim()) return say(text.empty);
    worker.postMessage({id: ++asked, sentence: field.value});
  }

  function showVerdict({probability, empty, cut, unknown}) {
    if (empty) return say(text.empty);
    whole = probability;
    const verdict = element("p", "");
    verdict.append(element("strong", `${labelOf(probability)}.`), ` ${text.probability(number.format(probability))}`);
    say(verdict, cut && text.cut, unknown && text.unknown, text.busy);
  }

  function showWords({words}) {
    const judged = words.filter(one => one.probability !== null);
    const moved = one => logit(one.probability) - logit(whole);
    const most = some => [...some].sort((one, other) => Math.abs(moved(other)) - Math.abs(moved(one)))[0];
    const turns = one => one.probability !== null && labelOf(one.probability) !== labelOf(whole);
    const turning = most(judged.filter(turns)), strongest = most(judged), named = turning ?? strongest;
    status.lastChild.remove();  // busy
    if (named) {
      const {word, probability} = named, it = number.format(probability), label = labelOf(probability).toLowerCase();
      status.append(element("p", turning ? text.hangs(word, label, it) : text.counts(word, it)), element("p", text.about));
    }
    list.replaceChildren(...words.map(one => {
      const item = element("li", "", turns(one) ? "judge-turns" : "");
      item.append(element("span", one.word), element("small", one.probability === null ? "–" : number.format(one.probability)));
      if (one.probability === null) return item;
      const share = Math.min(1, Math.abs(moved(one) / moved(strongest)) || 0);
      item.style.setProperty("--share", `${Math.round(35 * share)}%`);
      item.style.setProperty("--tint", moved(one) > 0 ? "var(--judge-against)" : "var(--judge-for)");
      return item;
    }));
    list.hidden = false;
  }

  addEventListener("offline", () => worker && !ready && failed("offline"));
  form.addEventListener("submit", event => {
    event.preventDefault();
    if (ready) return ask();
    if (worker) return;  // it is being loaded
    if (!field.value.trim()) return say(text.empty);
    const problem = missing();
    if (problem) stop(problem); else load();
  });
  field.addEventListener("keydown", event => {  // Enter asks, Shift+Enter is a new line
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
})();
