// A page as slides, where its address ends in ?slides: a heading and one cell at a time, the text when T is pressed.
(() => {
  if (!new URLSearchParams(location.search).has("slides")) return;
  const isEnglish = document.documentElement.lang.startsWith("en");
  const [back, on, text, leave] = isEnglish ? ["Back", "Next", "Text", "Leave"] : ["Voltar", "Avançar", "Texto", "Sair"];
  const BLOCKS = ".cell, [class*='highlight-'], .output-table, .table-wrapper, .judge, details";
  const slides = [], page = document.documentElement.classList;
  let now = 0;

  for (const section of document.querySelectorAll("article section")) {
    const heading = section.querySelector(":scope > :is(h1, h2, h3)"), before = slides.length;
    let said = [];
    for (const one of section.children) {
      if (one === heading || one.matches("section, .page-links, .tag_hide-input")) continue;
      said.push(one);
      if (one.matches(BLOCKS)) { slides.push([section, heading, ...said]); said = []; }
    }
    if (slides.length > before) slides.at(-1).push(...said);  // what is said after the last cell
    else slides.push([section, heading, ...said]);
    if (slides.length === before + 1 && !slides[before].some(one => one.matches(BLOCKS))) slides[before].isText = true;
  }

  function show(number) {
    now = Math.max(0, Math.min(number, slides.length - 1));
    document.querySelectorAll(".on-slide").forEach(one => one.classList.remove("on-slide"));
    for (let one = slides[now][0]; one.matches("section"); one = one.parentElement) one.classList.add("on-slide");
    slides[now].forEach(one => one.classList.add("on-slide"));
    page.toggle("slide-is-text", Boolean(slides[now].isText));
    place.textContent = `${now + 1} / ${slides.length}`;
    history.replaceState(null, "", `#${now + 1}`);
    scrollTo(0, 0);
  }

  const ACTIONS = {
    ArrowLeft: () => show(now - 1), PageUp: () => show(now - 1), Home: () => show(0),
    ArrowRight: () => show(now + 1), PageDown: () => show(now + 1), " ": () => show(now + 1), End: () => show(slides.length),
    t: () => page.toggle("slide-text"), Escape: () => location.assign(location.pathname),
  };
  const bar = document.createElement("nav"), place = document.createElement("output");
  bar.className = "slide-bar";
  for (const [label, key] of [[back, "ArrowLeft"], [on, "ArrowRight"], [text, "t"], [leave, "Escape"]]) {
    const button = Object.assign(document.createElement("button"), {textContent: label, type: "button", onclick: ACTIONS[key]});
    button.setAttribute("aria-keyshortcuts", key);
    bar.append(button);
  }
  bar.append(place);
  document.body.append(bar);
  page.add("slides");
  show(parseInt(location.hash.slice(1)) - 1 || 0);
  addEventListener("keydown", event => {  // not where keys mean something else
    const action = ACTIONS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("form, input, textarea, button, summary, a")) return;
    event.preventDefault();
    action();
  });
})();
