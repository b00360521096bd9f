// The page's own script: asks the server for a screen, puts it in place, and sends what a person does.
// Runs inside Gradio's HTML component, which gives `element`, `server` (its two functions) and `upload`.
const root = element.querySelector(".studio");
const languages = navigator.languages?.length ? [...navigator.languages] : [navigator.language];
let polling = 0, asked = 0, words = {}, lost = false, kept = null;

// ---- asking -------------------------------------------------------------------------------------------------------
function place() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

async function ask(name, request) {
  const mine = ++asked;
  let answer;
  try {
    answer = await server[name]({ place: place(), languages, chosen: localStorage.getItem("language"), kept: request.quiet ? kept : null, ...request });
    if (answer === null || typeof answer !== "object" || !("html" in answer)) throw new Error("no answer");
  } catch (error) {
    connection(false);
    again(2000);
    return null;
  }
  connection(true);
  if (name === "show" && mine !== asked) return null; // something newer was asked for meanwhile
  settle(answer, request);
  return answer;
}

function settle(answer, request) {
  const to = new URLSearchParams(answer.place).toString();
  const moved = to !== new URLSearchParams(place()).toString();
  if (moved) history[request.replace ? "replaceState" : "pushState"](null, "", to ? "?" + to : location.pathname);
  words = answer.words;
  kept = answer.kept; // a message or a form that was refused stays until something else is done
  element.querySelector(".lost").textContent = words.lost;
  document.documentElement.lang = answer.language;
  document.title = answer.title;
  if (answer.refill) root.querySelectorAll("[data-touched]").forEach((field) => delete field.dataset.touched);
  const fresh = document.createElement("template");
  fresh.innerHTML = answer.html;
  morph(root, fresh.content);
  if (!request.quiet) root.querySelector(".steps [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  if (moved && !request.quiet) {
    scrollTo(0, 0);
    root.querySelector("h1")?.focus({ preventScroll: true });
  }
  if (answer.said) say(answer.said);
  root.querySelectorAll(".compare-slider input").forEach(slide);
  again(answer.poll);
}

function again(milliseconds) {
  clearTimeout(polling);
  if (milliseconds) polling = setTimeout(() => (document.hidden ? again(milliseconds) : ask("show", { quiet: true, replace: true })), milliseconds);
}

function connection(there) {
  if (there && lost) say(words.found ?? "");
  lost = !there;
  element.querySelector(".lost").hidden = there;
}

function say(text) {
  const live = element.querySelector(".said");
  live.textContent = text;
  live.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => live.classList.remove("shown"), 6000);
}

// ---- putting a screen in place: what did not change is left alone, so that focus, scrolling and typing stay ----------
function morph(old, fresh) {
  const keyed = new Map([...old.children].filter((one) => one.id).map((one) => [one.id, one]));
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const kept = wanted.id ? keyed.get(wanted.id) : same(at, wanted) && !at.id ? at : null;
    if (!kept) {
      old.insertBefore(wanted, at);
      continue;
    }
    if (kept === at) at = at.nextSibling;
    else old.insertBefore(kept, at);
    if (kept.nodeType !== 1) {
      if (kept.nodeValue !== wanted.nodeValue) kept.nodeValue = wanted.nodeValue;
    } else if (!kept.matches("[data-shown]")) patch(kept, wanted);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function patch(kept, wanted) {
  if (kept.isEqualNode(wanted) && !kept.querySelector("input, select, textarea")) return content(kept, wanted);
  attributes(kept, wanted);
  if (kept.nodeName === "SELECT") options(kept, wanted);
  else if (!kept.hasAttribute("data-keep")) morph(kept, wanted);
  content(kept, wanted);
}

function options(kept, wanted) {
  const named = (select) => [...select.options].map((one) => one.value + one.text).join();
  const chosen = kept.value;
  if (named(kept) === named(wanted)) return;
  kept.replaceChildren(...[...wanted.options].map((one) => one.cloneNode(true)));
  kept.value = chosen;
}

function same(one, other) {
  return one && one.nodeType === other.nodeType && one.nodeName === other.nodeName && !other.id;
}

const OURS = new Set(["style", "data-touched", "aria-busy"]); // what this script sets itself

function attributes(kept, wanted) {
  for (const { name } of [...kept.attributes])
    if (!wanted.hasAttribute(name) && !OURS.has(name) && !(name === "open" && kept.matches("details, dialog"))) kept.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (kept.getAttribute(name) !== value) kept.setAttribute(name, value);
}

function content(kept, wanted) {
  if (!kept.matches("input, textarea, select") || kept === document.activeElement || kept.dataset.touched) return;
  if (kept.type === "checkbox" || kept.type === "radio") kept.checked = wanted.checked;
  else if (kept.type !== "file" && kept.value !== wanted.value) kept.value = wanted.value;
}

// ---- what a person does ----------------------------------------------------------------------------------------------
function values(source) {
  const form = source.closest("form");
  const found = {};
  if (form)
    for (const field of form.elements) {
      if (!field.name || field.type === "file" || field.type === "submit" || field.type === "button") continue;
      if (field.type === "checkbox" && field.hasAttribute("data-many")) {
        found[field.name] ??= [];
        if (field.checked) found[field.name].push(field.value);
      } else if (field.type === "checkbox") found[field.name] = field.checked;
      else if (field.type !== "radio" || field.checked) found[field.name] = field.value;
    }
  return { ...found, ...source.dataset };
}

let doing = Promise.resolve();

function act(source) {
  if (source.matches("button[aria-busy]")) return; // a second click; a field that changes again is asked again
  source.setAttribute("aria-busy", "true");
  doing = doing.then(() => actNow(source)).catch(console.error); // one after the other: the last word is the last
}

async function actNow(source) {
  const dialog = source.closest("dialog"), form = source.closest("form");
  const sent = [...(form?.elements ?? [])].map((field) => [field, field.value, field.checked]);
  const request = { act: source.dataset.do ?? source.dataset.change, values: values(source) };
  const answer = await ask("act", request);
  source.removeAttribute("aria-busy");
  if (!answer) return;
  if (!answer.wrong) dialog?.close();
  for (const [field, value, checked] of sent)
    if (!answer.wrong && field.value === value && field.checked === checked) delete field.dataset.touched;
  root.querySelector("[role=alert] .first")?.focus();
}

element.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-go]");
  if (link && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
    event.preventDefault();
    history.pushState(null, "", link.getAttribute("href"));
    return ask("show", {}).then(() => { scrollTo(0, 0); root.querySelector("h1")?.focus({ preventScroll: true }); });
  }
  const opener = event.target.closest("[data-opens]");
  if (opener) return openDialog(opener);
  const closer = event.target.closest("[data-closes]");
  if (closer) return closer.closest("dialog").close();
  const language = event.target.closest("[data-language]");
  if (language) {
    localStorage.setItem("language", language.dataset.language);
    return ask("show", {});
  }
  const filler = event.target.closest("[data-fills]");
  if (filler) return fill(element.querySelector("#" + filler.dataset.fills), filler.dataset.text);
  const copier = event.target.closest("[data-copies]");
  if (copier) return navigator.clipboard?.writeText(copier.dataset.copies).then(() => say(words.copied));
  const doer = event.target.closest("button[data-do]");
  if (doer && doer.type !== "submit") return act(doer);
});

element.addEventListener("submit", (event) => {
  const doer = event.submitter?.dataset.do ? event.submitter : event.target.querySelector("[data-do]");
  event.preventDefault();
  if (doer) act(doer);
});

element.addEventListener("input", (event) => {
  event.target.dataset.touched = "1";
  if (event.target.closest(".compare-slider")) slide(event.target);
  if (event.target.closest(".cropper")) drawCrop(event.target.closest(".cropper"));
  const shown = event.target.dataset.shows && element.querySelector("#" + event.target.dataset.shows);
  if (shown) shown.textContent = event.target.value;
});

element.addEventListener("change", (event) => {
  if (event.target.type === "file") return send(event.target.closest("[data-upload]"), event.target.files);
  if (event.target.dataset.change) act(event.target);
});

addEventListener("popstate", () => ask("show", { replace: true }));
document.addEventListener("visibilitychange", () => !document.hidden && polling && ask("show", { quiet: true, replace: true }));

// ---- photos that are dropped or chosen ---------------------------------------------------------------------------------
for (const kind of ["dragover", "dragleave", "drop"])
  element.addEventListener(kind, (event) => {
    const zone = event.target.closest?.("[data-upload]");
    if (!zone) return;
    event.preventDefault();
    zone.classList.toggle("over", kind === "dragover");
    if (kind === "drop") send(zone, event.dataTransfer.files);
  });
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault()); // a miss opens no file

async function send(zone, files) {
  const chosen = [...files], bar = zone.querySelector("progress"), most = Number(zone.dataset.most ?? 1);
  const tooLarge = chosen.filter((file) => file.size > Number(zone.dataset.bytes));
  const wanted = chosen.filter((file) => file.size <= Number(zone.dataset.bytes)).slice(0, most);
  if (!wanted.length) return tooLarge.length && say(words.too_large.replace("{name}", tooLarge[0].name));
  bar.hidden = false;
  bar.max = wanted.length;
  bar.value = 0;
  const uploaded = [], failed = [...tooLarge.map((file) => file.name)], waiting = [...wanted];
  async function next() {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        const { path } = await upload(file);
        uploaded.push({ path, name: file.name });
      } catch (error) {
        failed.push(file.name);
      }
      bar.value += 1;
    }
  }
  await Promise.all([next(), next(), next()]);
  bar.removeAttribute("value");
  await ask("act", { act: zone.dataset.upload, values: { ...values(zone.querySelector("input")), ...zone.dataset, uploaded, failed, left: chosen.length - tooLarge.length - wanted.length } });
  bar.hidden = true;
  const input = zone.querySelector("input");
  if (input) input.value = "";
}

// ---- dialogs, the slider between two pictures, the crop ------------------------------------------------------------------
function openDialog(opener) {
  const dialog = element.querySelector("#" + opener.dataset.opens);
  if (!dialog) return;
  for (const [name, value] of Object.entries(opener.dataset)) {
    const field = dialog.querySelector(`[name="${name}"]`);
    if (field) Object.assign(field, { value }).dataset.touched = "1";
    const shown = dialog.querySelector(`[data-shown="${name}"]`);
    if (shown) shown.nodeName === "IMG" ? ((shown.src = value), (shown.alt = opener.dataset.alt ?? "")) : (shown.textContent = value);
  }
  dialog.showModal();
  const cropper = dialog.querySelector(".cropper");
  if (cropper) startCrop(cropper, opener.dataset);
}

element.addEventListener("click", (event) => event.target.nodeName === "DIALOG" && event.target.close()); // its backdrop

function fill(field, text) {
  field.value = (field.value.trim() ? field.value.trimEnd() + "\n" : "") + text;
  field.dataset.touched = "1";
  field.focus();
}

function slide(input) {
  input.closest(".compare-slider").style.setProperty("--at", input.value + "%");
}

function startCrop(cropper, { width, height, left, top, side }) {
  Object.assign(cropper.dataset, { width, height });
  const form = cropper.closest("form");
  form.elements.side.max = Math.min(width, height);
  form.elements.side.min = Math.min(64, form.elements.side.max);
  for (const [name, value] of Object.entries({ side, left, top })) {
    if (name !== "side") form.elements[name].max = (name === "left" ? width : height) - side;
    form.elements[name].value = value;
  }
  drawCrop(cropper);
}

function drawCrop(cropper) {
  const { side, left, top } = cropper.closest("form").elements;
  const { width, height } = cropper.dataset;
  left.max = width - side.value;
  top.max = height - side.value;
  const box = cropper.querySelector(".box").style;
  box.left = (100 * left.value) / width + "%";
  box.top = (100 * top.value) / height + "%";
  box.width = (100 * side.value) / width + "%";
  box.height = (100 * side.value) / height + "%";
}

element.addEventListener("pointerdown", (event) => {
  const box = event.target.closest(".cropper .box");
  if (!box) return;
  const cropper = box.closest(".cropper"), { left, top } = cropper.closest("form").elements;
  const scale = cropper.dataset.width / cropper.querySelector("img").clientWidth;
  const from = { x: event.clientX, y: event.clientY, left: Number(left.value), top: Number(top.value) };
  box.setPointerCapture(event.pointerId);
  box.onpointermove = (move) => {
    left.value = Math.round(from.left + (move.clientX - from.x) * scale);
    top.value = Math.round(from.top + (move.clientY - from.y) * scale);
    drawCrop(cropper);
  };
  box.onpointerup = () => (box.onpointermove = null);
});

ask("show", { replace: true });
