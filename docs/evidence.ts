// Taximeter's keyed hashes and cache evidence for a service in TypeScript (Node). The contract is in
// evidence.md; `make prove-typescript` runs this file against evidence-vectors.json.
import { createHmac } from "node:crypto";

const MAX_CHARS = 32_768;
const TRIM = ".,;:!?\u00bf\u00a1\u3002\u3001 ";
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/gu;

export type Value = null | boolean | number | string | Date | Value[] | { [name: string]: Value };

export class Hasher {
  readonly id: string; // goes beside every hash, as taximeter.evidence.key
  constructor(private readonly key: string) {
    this.id = this.digest("key-id").toString("hex").slice(0, 8);
  }
  /** A text as it is. */
  text(text: string): string {
    return this.hash("text\0", encodeText(text));
  }
  /** A text as it is, and normalised. */
  texts(text: string): [string, string] {
    return [this.text(text), this.text(normalise(text))];
  }
  /** Parameters of a statement: an array or an object. */
  value(value: Value): string {
    return this.hash("value\0", encode(value));
  }
  /** The next link of the chain over a prompt's blocks. */
  link(previous: Buffer, block: Buffer): Buffer {
    return this.digest("prompt\0", previous, block).subarray(0, 8);
  }
  private hash(domain: string, data: Buffer): string {
    return this.digest(domain, data).toString("hex").slice(0, 16);
  }
  private digest(domain: string, ...data: Buffer[]): Buffer {
    const hmac = createHmac("sha256", this.key).update("taximeter.v1." + domain);
    for (const part of data) hmac.update(part);
    return hmac.digest();
  }
}

export function normalise(text: string): string {
  const spaced = head(text).normalize("NFKC").toLowerCase().replace(SPACE, " ");
  const found = [...spaced];
  let start = 0;
  let end = found.length;
  while (start < end && TRIM.includes(found[start]!)) start++;
  while (end > start && TRIM.includes(found[end - 1]!)) end--;
  return found.slice(start, end).join("");
}

/** The first 32,768 characters (code points, not UTF-16 units). */
function head(text: string): string {
  return text.length <= MAX_CHARS ? text : [...text].slice(0, MAX_CHARS).join("");
}

function encodeText(text: string): Buffer {
  const length = text.length <= MAX_CHARS ? text.length : [...text].length;
  const data = Buffer.from(head(text), "utf8");
  return length <= MAX_CHARS ? data : Buffer.concat([data, Buffer.from(`\0${length}`)]);
}

function tagged(letter: string, data: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${letter}${data.length}:`), data]);
}

export function encode(value: Value): Buffer {
  if (value === null) return Buffer.from("n0:");
  if (typeof value === "boolean") return Buffer.from(value ? "b1:1" : "b1:0");
  if (typeof value === "string") return tagged("s", encodeText(value));
  if (typeof value === "number") {
    if (Number.isSafeInteger(value)) return tagged("i", Buffer.from(String(value)));
    const data = Buffer.alloc(8);
    data.writeDoubleBE(value);
    return tagged("f", data);
  }
  if (value instanceof Date) return tagged("t", Buffer.from(value.toISOString().slice(0, 10))); // a date
  if (Array.isArray(value)) return Buffer.concat([Buffer.from(`l${value.length}:`), ...value.map(encode)]);
  const names = Object.keys(value).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const items = names.flatMap((name) => [encode(name), encode(value[name]!)]);
  return Buffer.concat([Buffer.from(`d${names.length}:`), ...items]);
}

/** taximeter.prompt.blocks: role is t(ools), s(ystem), u(ser), a(ssistant), o (a tool's result) or x. */
export function promptBlocks(hasher: Hasher, parts: { role: string; text: string; marked?: boolean }[]): string {
  const found: string[] = [];
  let link: Buffer = Buffer.alloc(0);
  for (const { role, text, marked } of parts) {
    const points = [...text];
    let start = 0;
    do {
      if (found.length >= 96) return found.join(" ");
      const end = start + (found.length < 32 ? 512 : found.length < 64 ? 2048 : 4096);
      const block = Buffer.from(points.slice(start, end).join(""), "utf8");
      link = hasher.link(link, Buffer.concat([Buffer.from(role), block]));
      const star = marked && end >= points.length ? "*" : "";
      found.push(`${role}${Math.ceil(block.length / 4)}${star}:${link.toString("hex")}`);
      start = end;
    } while (start < points.length);
  }
  return found.join(" ");
}

/** The cache lookups of one request: set `attributes()` on its server span before it ends. */
export class Lookups {
  private readonly found = new Map<string, string[]>();
  private count = 0;
  private hits = 0;
  constructor(private readonly hasher: Hasher, private readonly limit = 64) {}
  record(cache: string, hit: boolean, key?: string): void {
    this.count++;
    this.hits += Number(hit);
    if (key === undefined || this.count > this.limit) return;
    const [exact, normal] = this.hasher.texts(key);
    const entry = (hit ? "+" : "-") + exact + (exact === normal ? "" : "/" + normal);
    const name = cache.replace(/[^A-Za-z0-9_.:-]/g, "_");
    this.found.set(name, [...(this.found.get(name) ?? []), entry]);
  }
  attributes(): Record<string, string | number> {
    const lookups = [...this.found].map(([name, entries]) => `${name}=${entries.join(",")}`).join(" ");
    return {
      "taximeter.request.cache.lookups": this.count,
      "taximeter.request.cache.hits": this.hits,
      ...(lookups && { "taximeter.cache.lookups": lookups, "taximeter.evidence.key": this.hasher.id }),
    };
  }
}
