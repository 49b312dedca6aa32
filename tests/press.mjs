// Opens a page in Chromium, presses its check button as a reader does, and prints what it shows, as a line of JSON.
// node press.mjs URL LANGUAGE PROFILE-DIRECTORY
import { spawn } from "node:child_process";

const [url, language, profile] = process.argv.slice(2);
const PATIENCE_MS = 40_000;
const flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --remote-debugging-pipe";
const chromium = spawn("chromium", [...flags.split(" "), `--accept-lang=${language}`, `--user-data-dir=${profile}`], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const giveUp = setTimeout(() => chromium.kill("SIGKILL"), PATIENCE_MS);
const [, , , to, from] = chromium.stdio;

const waiting = new Map();
let text = "";
from.setEncoding("utf8");
from.on("data", (chunk) => {
  const messages = (text + chunk).split("\0");
  text = messages.pop();
  for (const message of messages.map((message) => JSON.parse(message))) waiting.get(message.id)?.(message);
});

/** A command of the DevTools protocol, and its result. */
function ask(method, params = {}, sessionId = undefined) {
  const id = waiting.size + 1;
  to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  return new Promise((resolve) => waiting.set(id, ({ result, error }) => resolve(result ?? { error })));
}

const { targetId } = await ask("Target.createTarget", { url: "about:blank" });
const { sessionId } = await ask("Target.attachToTarget", { targetId, flatten: true });
const evaluate = async (expression) => (await ask("Runtime.evaluate", { expression, returnByValue: true }, sessionId)).result?.value;
const until = async (expression) => {
  for (;;) {
    const value = await evaluate(expression);
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};
await ask("Page.navigate", { url }, sessionId);
const place = `document.querySelector("[data-check]:not([hidden])")`;
await until(`document.readyState === "complete" && ${place} !== null`);
await evaluate(`${place}.querySelector("button").click()`);
await until(`${place}.querySelector("[data-verdict], .error") !== null`);
const told = await evaluate(`(() => {
  const place = ${place};
  return {
    verdict: place.querySelector("[data-verdict]")?.dataset.verdict ?? null,
    layers: [...place.querySelectorAll("[data-layer]")].map((layer) => layer.dataset.layer),
    text: place.innerText,
  };
})()`);
console.log(JSON.stringify(told));
clearTimeout(giveUp);
chromium.kill("SIGKILL");
