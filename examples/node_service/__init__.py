"""A Node.js service without the agent, and the proof that its requests are accounted and priced."""
