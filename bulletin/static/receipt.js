// Checks a receipt, or a ballot's proof, in the browser (docs/protocol.md, sections 2 and 11; RFC 9162, section 2.1.3.2). The server
// only sends data: what it says about itself is compared with what follows from the hashes, and with what other boards say.

const section = document.querySelector("section.check");
const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16));
const hex = (data) => Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
const isHex = (text, length) => typeof text === "string" && /^([0-9a-f]{2})*$/.test(text) && (!length || text.length === 2 * length);
const sha256 = async (...parts) => {
  const data = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
};

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);
const BALLOT = 4;
const MIRROR_PATIENCE = 4000; // milliseconds for a board elsewhere to answer

/** The root that an inclusion proof leads to; null if it has the wrong length. Positions are below 2^53. */
export async function rootOf(leaf, index, size, proof) {
  if (index >= size) return null;
  let [fn, sn, root] = [index, size - 1, leaf];
  for (const node of proof) {
    if (sn === 0) return null;
    if (fn % 2 || fn === sn) {
      root = await sha256(NODE, node, root);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
    } else {
      root = await sha256(NODE, root, node);
    }
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 ? root : null;
}

const PROVEN = (value) =>
  isHex(value.entry, 40) && isHex(value.head?.root, 32) && Array.isArray(value.proof) && value.proof.every((node) => isHex(node, 32)) &&
  Number.isSafeInteger(value.position) && Number.isSafeInteger(value.head?.size) && value.position >= 0;

/** What a receipt file says; throws where it is none. */
function readReceipt(value) {
  if (!PROVEN(value) || value.format !== "ballotboard/receipt/v1" || !isHex(value.ballot) || !value.board) throw new Error("not a receipt");
  const { ballot, entry, position, proof, head, board } = value;
  return { ballot, entry, position, proof, ...head, contract: board.contract, election: board.election };
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const CODE = /BBR:[A-Z2-7]+/;

/** The bytes of base32 without padding (RFC 4648); throws where it could be written in another way. */
function unbase32(text) {
  const found = [];
  let [bits, value] = [0, 0];
  for (const digit of text) {
    const place = DIGITS.indexOf(digit);
    if (place < 0) throw new Error("not base32");
    value = (value << 5) | place;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      found.push(value >> bits);
      value &= (1 << bits) - 1;
    }
  }
  if (bits >= 5 || value) throw new Error("not the one way to write it");
  return Uint8Array.from(found);
}

/** What a receipt's QR code says (section 11); throws where it is none. It has the ballot's hash, and not the ballot. */
async function readCode(given) {
  const text = given.replace(/\s/g, "").toUpperCase();
  if (!text.startsWith("BBR:")) throw new Error("not a code");
  const data = unbase32(text.slice(4));
  const sum = await sha256(new TextEncoder().encode("ballotboard/v1/receipt-code"), data.slice(0, -4));
  if (data.length < 153 || (data.length - 153) % 32 || data[0] !== 1 || hex(data.slice(-4)) !== hex(sum.slice(0, 4))) throw new Error("misread");
  const number = (at) => Number(new DataView(data.buffer).getBigUint64(at));
  const nodes = Array.from({ length: (data.length - 153) / 32 }, (_, n) => hex(data.slice(149 + 32 * n, 181 + 32 * n)));
  const entry = hex(data.slice(61, 101));
  const [position, size] = [number(101), number(109)];
  if (![position, size].every(Number.isSafeInteger)) throw new Error("too large");
  return {
    coded: true, hash: entry.slice(16), entry, position, proof: nodes, size, root: hex(data.slice(117, 149)),
    contract: hex(data.slice(9, 29)), election: hex(data.slice(29, 61)),
  };
}

/** What this board says of a ballot; throws where it says nothing that could be checked. */
function readAnswer(value) {
  if (!PROVEN(value) || !isHex(value.hash, 32)) throw new Error("no proof");
  const { hash, entry, position, proof, head } = value;
  return { hash, entry, position, proof, ...head };
}

async function ask(url, patience) {
  const answer = await fetch(url, { signal: patience ? AbortSignal.timeout(patience) : undefined, credentials: "omit" });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

/** Each step as true, false or null (not looked at), and how many other boards agree. */
export async function check(given, page) {
  const entry = bytes(given.entry);
  const digest = given.ballot === undefined ? given.hash : hex(await sha256(bytes(given.ballot)));
  const steps = { ballot: given.coded ? null : !page.ballot || page.ballot === digest };
  steps.entry = entry[0] === BALLOT && hex(entry.slice(8)) === digest;
  const root = await rootOf(await sha256(LEAF, entry), given.position, given.size, given.proof.map(bytes));
  steps.proof = root !== null && hex(root) === given.root;
  steps.board = (given.election === undefined || given.election === page.election) && (given.contract === undefined || given.contract === page.contract);
  const heads = async (board, patience) => (await ask(`${board}/api/v1/heads/${given.size}`, patience)).root === given.root;
  steps.head = await heads("").catch(() => (page.copy ? null : false)); // a static copy has not every head
  const answers = (await Promise.all(page.boards.map((board) => heads(board, MIRROR_PATIENCE).catch(() => null)))).filter((one) => one !== null);
  steps.mirrors = answers.length ? answers.every(Boolean) : null;
  return { steps, agree: answers.filter(Boolean).length, asked: answers.length, digest };
}

// ---- the page

function show(outcome, found, milliseconds) {
  const words = section.querySelector("[data-words]").dataset;
  section.querySelector(".outcome").hidden = false;
  for (const one of section.querySelectorAll("[data-outcome]")) one.hidden = one.dataset.outcome !== outcome;
  section.dataset.state = outcome;
  for (const line of section.querySelectorAll("[data-step]")) {
    const ok = found?.steps[line.dataset.step] ?? null;
    line.className = ok === null ? "skipped" : ok ? "good" : "bad";
    let text = ok === null ? words.skipped : ok ? words.yes : words.no;
    if (line.dataset.step === "mirrors" && found) {
      text = found.asked ? words.answers.replace("{agree}", found.agree).replace("{asked}", found.asked) : words.none;
    }
    line.querySelector("strong").textContent = text;
  }
  section.querySelector(".steps").hidden = !found;
  const time = section.querySelector("[data-time]");
  time.textContent = found ? time.dataset.time.replace("{ms}", milliseconds.toLocaleString(document.documentElement.lang, { maximumFractionDigits: 1 })) : "";
}

async function run(read, value, good) {
  const { election, contract, boards, ballot } = section.dataset;
  const page = { election, contract, ballot, copy: "copy" in section.dataset, boards: boards.split(" ").filter((url) => url && new URL(url).origin !== location.origin) };
  let given;
  try {
    given = await read(value);
  } catch {
    show("unreadable");
    return;
  }
  const start = performance.now();
  const found = await check(given, page);
  const { steps } = found;
  const wrong = Object.values(steps).includes(false);
  show(!steps.board ? "elsewhere" : wrong ? "bad" : good, found, performance.now() - start);
}

/** The texts of the QR codes in a picture: from the browser, where it can, else from the board. */
async function textsOf(file) {
  if ("BarcodeDetector" in window) {
    const codes = await new BarcodeDetector({ formats: ["qr_code"] }).detect(await createImageBitmap(file)).catch(() => []);
    if (codes.length) return codes.map((code) => code.rawValue);
  }
  const answer = await fetch("find/code", { method: "POST", body: file, credentials: "omit" }).catch(() => null);
  return answer?.ok ? (await answer.json()).texts : [];
}

async function readFile(file) {
  if (file.type.startsWith("image/") && file.type !== "image/svg+xml") {
    const texts = await textsOf(file);
    const code = texts.find((text) => CODE.test(text));
    if (code) return run(readCode, code, "good");
    if (!texts.length) return show("no-qr");
    location.assign(`find?q=${encodeURIComponent(texts[0])}`);
    return undefined;
  }
  const text = await file.text();
  const code = file.type === "image/svg+xml" ? text.match(CODE)?.[0] : text.trimStart().slice(0, 4).toUpperCase() === "BBR:" && text;
  if (code) return run(readCode, code, "good");
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return show("unreadable");
  }
  return run(readReceipt, value, "good");
}

if (section?.dataset.ballot) {
  ask(`/api/v1/ballots/${section.dataset.ballot}`)
    .then((value) => run(readAnswer, value, "recorded"))
    .catch(() => show("bad"));
} else if (section) {
  const drop = section.querySelector(".drop");
  drop.hidden = false;
  for (const input of drop.querySelectorAll("input")) {
    input.addEventListener("change", () => input.files[0] && readFile(input.files[0]));
  }
  for (const name of ["dragover", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      if (name === "drop" && event.dataTransfer.files[0]) readFile(event.dataTransfer.files[0]);
    });
  }
}
