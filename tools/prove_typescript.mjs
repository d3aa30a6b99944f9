// Runs the snippet of docs/evidence.ts against docs/evidence-vectors.json; see prove_typescript.sh.
import { readFileSync } from "node:fs";
import { Hasher, Lookups, encode, normalise, promptBlocks } from "./evidence.mjs";

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const hasher = new Hasher(vectors.key);
let checked = 0;
const failures = [];
const equal = (what, got, wanted) => {
  checked++;
  if (got !== wanted) failures.push(`${what}: got ${got}, wanted ${wanted}`);
};
const text = (given) => (typeof given === "string" ? given : given.repeat.repeat(given.times));

equal("key id", hasher.id, vectors.key_id);
for (const each of vectors.texts) {
  const given = text(each.text);
  const name = JSON.stringify(given.slice(0, 40));
  equal(`normalised ${name}`, normalise(given), text(each.normalised));
  const [exact, normal] = hasher.texts(given);
  equal(`exact ${name}`, exact, each.exact);
  equal(`normalised hash ${name}`, normal, each.normalised_hash);
}
for (const each of vectors.values) {
  equal(`encoded ${JSON.stringify(each.value)}`, encode(each.value).toString("hex"), each.encoded);
  equal(`value ${JSON.stringify(each.value)}`, hasher.value(each.value), each.hash);
}
for (const each of vectors.dates) equal(each.date, hasher.value(new Date(each.date)), each.hash);
const roles = { system: "s", user: "u" };
for (const each of vectors.prompts) {
  const parts = each.messages.map(({ role, content }) => ({ role: roles[role], text: content }));
  equal("prompt", promptBlocks(hasher, parts), each.blocks);
}
const lookups = new Lookups(hasher);
for (const { name, hit, key } of vectors.lookups.given) lookups.record(name, hit, key);
equal("lookups", lookups.attributes()["taximeter.cache.lookups"], vectors.lookups.attribute);

for (const failure of failures) console.log(failure);
console.log(`${checked} checks on node ${process.version}, ${failures.length} failed`);
process.exit(failures.length ? 1 : 0);
