import { Worker } from "bullmq";
import { query } from "./database.js";
import { connect, name } from "./queue.js";
import * as storage from "./storage.js";

const count = async ({ data }) => {
  const [notice] = await query("SELECT file FROM notices WHERE id = $1", [data.id]);
  const text = await storage.read(notice.file);
  await query("UPDATE notices SET lines = $2 WHERE id = $1", [data.id, text.split("\n").filter(Boolean).length]);
};

const worker = new Worker(name, count, { connection: connect() });
worker.on("failed", (job, error) => console.error(`job ${job?.id}:`, error));

process.on("SIGTERM", async () => {
  await worker.close();
  process.exit(0);
});
