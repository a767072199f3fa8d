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
  const steps = { ballot: !page.ballot || page.ballot === digest };
  steps.entry = entry[0] === BALLOT && hex(entry.slice(8)) === digest;
  const root = await rootOf(await sha256(LEAF, entry), given.position, given.size, given.proof.map(bytes));
  steps.proof = root !== null && hex(root) === given.root;
  steps.board = (given.election === undefined || given.election === page.election) && (given.contract === undefined || given.contract === page.contract);
  const heads = async (board, patience) => (await ask(`${board}/api/v1/heads/${given.size}`, patience)).root === given.root;
  steps.head = await heads("").catch(() => false);
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
  time.textContent = found ? time.dataset.time.replace("{ms}", milliseconds.toFixed(1)) : "";
}

async function run(read, value, good) {
  const { election, contract, boards, ballot } = section.dataset;
  const page = { election, contract, ballot, boards: boards.split(" ").filter((url) => url && new URL(url).origin !== location.origin) };
  let given;
  try {
    given = read(value);
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

async function readFile(file) {
  if (file.type.startsWith("image/")) {
    const codes = "BarcodeDetector" in window ? await new BarcodeDetector({ formats: ["qr_code"] }).detect(await createImageBitmap(file)).catch(() => []) : [];
    if (!codes.length) return show("no-qr");
    location.assign(`find?q=${encodeURIComponent(codes[0].rawValue)}`);
    return undefined;
  }
  let value;
  try {
    value = JSON.parse(await file.text());
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
  const input = drop.querySelector("input");
  input.addEventListener("change", () => input.files[0] && readFile(input.files[0]));
  for (const name of ["dragover", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      if (name === "drop" && event.dataTransfer.files[0]) readFile(event.dataTransfer.files[0]);
    });
  }
}
