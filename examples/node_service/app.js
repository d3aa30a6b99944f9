// A plain service of the plan's shape: nothing here knows of Taximeter or of OpenTelemetry.
const express = require("express");
const { Pool } = require("pg");
const OpenAI = require("openai").default;
const { createClient } = require("@supabase/supabase-js");

const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
const openai = new OpenAI();
const supabase = createClient(process.env.SUPABASE_URL, "local", {
  auth: { persistSession: false },
  realtime: { transport: require("ws") }, // Node.js before 22 has none of its own
});
const app = express();

app.get("/rooms/:hotel", async (req, res) => {
  const { rows } = await pool.query("SELECT id FROM rooms WHERE hotel = $1 ORDER BY id", [req.params.hotel]);
  const prices = [];
  for (const { id } of rows) {
    prices.push((await pool.query("SELECT price FROM prices WHERE room = $1", [id])).rows[0]); // N+1
  }
  res.json(prices);
});

app.get("/booking/:room", async (req, res) => {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await client.query("UPDATE rooms SET taken = taken + 1 WHERE id = $1", [req.params.room]);
    await client.query("COMMIT");
  } finally {
    client.release();
  }
  res.json({ booked: true });
});

app.get("/chat", async (req, res) => {
  const embedding = await openai.embeddings.create({ model: "text-embedding-3-small", input: String(req.query.q) });
  await pool.query("SELECT count(*) FROM rooms WHERE id > $1", [embedding.data.length]);
  const answer = await openai.chat.completions.create({
    model: "gpt-4o",
    messages: [{ role: "user", content: String(req.query.q) }],
  });
  res.json({ answer: answer.choices[0].message.content });
});

app.get("/supabase", async (_req, res) => {
  await supabase.from("rooms").select("*").eq("hotel", "a");
  await supabase.from("guests").insert({ name: "x" });
  await supabase.rpc("match_faq", { query: "x" });
  res.json({ done: true });
});

app.listen(Number(process.env.PORT), "127.0.0.1");
