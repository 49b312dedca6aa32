// A person's own key. WebCrypto makes it and never gives it out; IndexedDB keeps it; what it signs is written down here, by
// the ledger's own code as a WebAssembly module, from what stands in the form. Without a key the form goes as it is.

const ED25519 = { name: "Ed25519" };
const SALT_BYTES = 256 * 16;

const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// IndexedDB: one row for each key, { kid, party, aud, x, key }.

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function keys(mode) {
  const opening = indexedDB.open("suyuan", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("keys", { keyPath: "kid" });
  return (await done(opening)).transaction("keys", mode).objectStore("keys");
}

const keep = async (row) => done((await keys("readwrite")).put(row));
const kept = async () => done((await keys("readonly")).getAll());

// The module: a question and its answer are JSON, by address and length in the module's memory.

async function load(path) {
  // Without the session's cookie the answer may be kept for ever.
  const { instance } = await WebAssembly.instantiateStreaming(fetch(path, { credentials: "omit" }));
  const { memory, give, ask, release } = instance.exports;
  return (question) => {
    const bytes = new TextEncoder().encode(JSON.stringify(question));
    const room = give(bytes.length) >>> 0;
    if (room === 0) throw new Error("the form is too long");
    new Uint8Array(memory.buffer, room, bytes.length).set(bytes);
    const answer = BigInt.asUintN(64, ask(room, bytes.length));
    const [address, length] = [Number(answer >> 32n), Number(answer & 0xffffffffn)];
    const told = JSON.parse(new TextDecoder().decode(new Uint8Array(memory.buffer, address, length)));
    release(address, length);
    if (told.signing_input === undefined) throw new Error(told.error ?? JSON.stringify(told.refusals));
    return told;
  };
}

/// header.payload → header.payload.signature
async function sign(key, input) {
  const signature = await crypto.subtle.sign(ED25519, key, new TextEncoder().encode(input));
  return `${input}.${base64url(signature)}`;
}

async function post(path, pairs) {
  const answer = await fetch(path, { method: "POST", body: new URLSearchParams(pairs) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function set(form, fields) {
  for (const [name, value] of Object.entries(fields)) {
    const input = form.elements.namedItem(name) ?? form.appendChild(document.createElement("input"));
    Object.assign(input, { type: "hidden", name, value });
  }
}

/// Runs `prepare` before the form is sent, once at a time; where that fails, asks whether to send it all the same.
function beforeSending(form, prepare, failed) {
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    try {
      await prepare();
    } catch (error) {
      console.error(error);
      if (!failed()) return void (busy = false);
    }
    form.submit();
  });
  // Back from the next page: what was signed then is not what will be sent now.
  addEventListener("pageshow", () => (busy = false));
}

// /me/keys

async function enrolment(form) {
  const here = new Set((await kept()).map(({ kid }) => kid));
  let signs = false;
  for (const row of document.querySelectorAll("[data-kid]")) {
    row.querySelector(".here").hidden = !here.has(row.dataset.kid);
    signs ||= here.has(row.dataset.kid) && row.querySelector("form") !== null;
  }
  // One good key is enough for one browser.
  form.closest("section").hidden = signs;
  form.hidden = false;
  beforeSending(form, async () => {
    const pair = await crypto.subtle.generateKey(ED25519, false, ["sign", "verify"]);
    const x = base64url(await crypto.subtle.exportKey("raw", pair.publicKey));
    const { possession } = await post("/me/keys/challenge", [["key", x]]);
    const ask = await load(form.dataset.module);
    const { signing_input } = ask({ possession: { possession, key: x } });
    const pop = await sign(pair.privateKey, signing_input);
    await keep({ kid: possession.kid, party: possession.party, aud: possession.aud, key: pair.privateKey });
    await navigator.storage?.persist?.();
    set(form, { key: x, jti: possession.jti, pop });
  }, unable);
}

// /work/…

/// Now, as a clock on the wall and its offset (RFC 3339).
function now() {
  const at = new Date();
  const minutes = -at.getTimezoneOffset();
  const two = (number) => String(Math.trunc(Math.abs(number))).padStart(2, "0");
  const wall = new Date(at.getTime() + minutes * 60_000).toISOString().slice(0, 19);
  return `${wall}${minutes < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}

async function signing(form) {
  const good = new Set(form.dataset.keys.split(" "));
  const enrolled = (await kept()).find(({ kid }) => good.has(kid));
  if (enrolled === undefined) return;
  document.querySelector("#signs").hidden = false;
  beforeSending(form, async () => {
    // A browser that has a key sends no form unsigned: an empty signature is one that failed.
    set(form, { at: now(), signed: "", salts: "" });
    const { module, profile, step } = form.dataset;
    const typed = [...new FormData(form)].filter(([name]) => name !== "signed" && name !== "salts");
    const [ask, text, grounds] = await Promise.all([
      load(module),
      fetch(profile, { credentials: "omit" }).then((answer) => answer.text()),
      post(`${form.getAttribute("action")}/grounds`, typed),
    ]);
    const { kid, aud, party, key } = enrolled;
    const told = ask({
      record: {
        profile: text,
        step,
        typed,
        grounds,
        enrolled: { kid, aud, party },
        iat: Math.floor(Date.now() / 1000),
        salts: base64url(crypto.getRandomValues(new Uint8Array(SALT_BYTES))),
      },
    });
    set(form, { signed: await sign(key, told.signing_input), salts: told.salts });
    // The server says what is wrong.
  }, () => true);
}

/// Whether this browser can keep a key and sign with it.
async function able() {
  if (globalThis.indexedDB === undefined || globalThis.WebAssembly === undefined) return false;
  try {
    await crypto.subtle.generateKey(ED25519, false, ["sign", "verify"]);
    return true;
  } catch {
    return false;
  }
}

function unable() {
  document.querySelector("#unable").hidden = false;
  return false;
}

const [enrol, work] = [document.querySelector("form#enrol"), document.querySelector("form[data-keys]")];
if (enrol !== null && ((await able()) || unable())) await enrolment(enrol);
if (work !== null) await signing(work);
