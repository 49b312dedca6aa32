// Shows on the page what the script found: verdict, layers, what was not checked, and whose trust file it was.

import { isSupported } from "./ed25519.js";
import { BadTrust } from "./policy.js";
import { verify } from "./verify.js";

const VERDICT_CLASS = { valid: "complete", invalid: "recalled", "could-not-check": "partial" };
const MARK_CLASS = { good: "good", bad: "bad", unchecked: "warn" };
const TRUST_BYTES_MAX = 1024 * 1024;

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

/** The server's messages of the reader's language, `{name}` where something is named. */
class Words {
  constructor(messages) {
    this.messages = messages;
  }

  say(key, named = {}) {
    const message = this.messages[`check-${key}`] ?? key;
    return message.replace(/\{(\w+)\}/g, (whole, name) => (named[name] === undefined ? whole : printable(String(named[name]))));
  }
}

/** Reasons quote the bundle: whoever made it does not turn the reader's text around. */
const printable = (text) => text.replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");

async function fetched(url) {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer;
}

/** Checks the bundle that the place names, and shows the result in it. */
export async function show(place) {
  const words = new Words(await (await fetched(place.dataset.words)).json());
  const result = place.querySelector("[data-result]");
  result.replaceChildren(element("p", "soft", words.say("running")));
  if (!(await isSupported())) {
    result.replaceChildren(element("p", "error", words.say("no-ed25519")));
    return;
  }
  try {
    const bundle = await fetched(place.dataset.check);
    const bytes = new Uint8Array(await bundle.arrayBuffer());
    const trust = await (await fetched(place.dataset.trust)).text();
    const check = (text, isOwn) => tell(result, words, bytes, text, isOwn, check);
    await check(trust, false);
  } catch (error) {
    result.replaceChildren(element("p", "error", words.say("failed", { name: error.message })));
  }
}

async function tell(result, words, bytes, trust, isOwn, again) {
  const form = trustForm(words, trust, (text) => again(text, true));
  try {
    const report = await verify(bytes, trust);
    result.replaceChildren(verdict(words, report), layers(words, report), element("p", "small soft", words.say(isOwn ? "trust-yours" : "trust-ours")), form);
  } catch (error) {
    if (!(error instanceof BadTrust)) throw error;
    result.replaceChildren(element("p", "error", words.say("trust-bad", { at: error.message })), form);
  }
}

function verdict(words, { verdict: word, noBundle }) {
  const box = element("div", `verdict ${VERDICT_CLASS[word]}`);
  const symbol = { valid: "✓", invalid: "✗", "could-not-check": "?" }[word];
  const mark = element("span", "big", symbol);
  mark.setAttribute("aria-hidden", "true");
  const means = noBundle === undefined ? words.say(`verdict-${word}-means`) : words.say(`no-bundle-${noBundle.code}`, { at: noBundle.where });
  box.append(mark, element("strong", "", words.say(`verdict-${word}`)), element("p", "", means));
  box.dataset.verdict = word;
  return box;
}

function layers(words, report) {
  const list = element("ul", "list");
  for (const { layer, count, outcome, reasons, more } of report.layers) {
    const mark = element("span", `chip ${MARK_CLASS[outcome]}`, words.say(`outcome-${outcome}`));
    const item = element("li", "", element("span", "row", element("strong", "", words.say(`layer-${layer}`)), mark, element("span", "soft", String(count))));
    item.dataset.layer = `${layer} ${outcome} ${count}`;
    if (outcome === "good") item.append(element("span", "small soft", words.say(`layer-${layer}-means`)));
    for (const { code, ...named } of reasons) item.append(element("span", "small", words.say(`why-${code}`, named)));
    if (more > 0) item.append(element("span", "small", words.say("more", { count: more })));
    list.append(item);
  }
  return list;
}

/** Whom to believe is the reader's choice: the file can be pasted, or chosen. */
function trustForm(words, trust, onChosen) {
  const text = element("textarea", "mono");
  text.value = trust;
  text.id = "check-trust";
  text.spellcheck = false;
  const label = element("label", "", words.say("trust-text"));
  label.htmlFor = text.id;
  const file = element("input", "");
  file.type = "file";
  file.setAttribute("aria-label", words.say("trust-file"));
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (chosen !== undefined && chosen.size <= TRUST_BYTES_MAX) text.value = await chosen.text();
  });
  const button = element("button", "quiet", words.say("trust-again"));
  button.type = "button";
  button.addEventListener("click", () => onChosen(text.value));
  const fields = element("div", "stack", element("p", "small", words.say("trust-why")), label, text, file, button);
  return element("details", "", element("summary", "", words.say("trust-own")), fields);
}
